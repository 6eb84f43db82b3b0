"""`board`: the API's reply, as a table or as it is."""

from __future__ import annotations

import json
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.commands.jobs import run_job_for_document
from cli.doors import ask, client, layout
from cli.environments import say


def board(
    scope: Annotated[
        str, typer.Argument(help="global, quiz:ID, class:ID, tag:NAME, or session:ID (all_time alone).")
    ],
    period: Annotated[str | None, typer.Argument(help="daily, weekly, monthly or all_time.")] = None,
    start: Annotated[
        str | None, typer.Argument(help="The period's first day, YYYY-MM-DD, or current.")
    ] = None,
    from_: Annotated[str | None, typer.Option("--from", help="A range's begin: an instant or a day.")] = None,
    to: Annotated[str | None, typer.Option("--to", help="Its end, exclusive: an instant or a day.")] = None,
    k: Annotated[int, typer.Option("--k", help="Rows from the top.")] = 10,
    around: Annotated[
        str | None, typer.Option(help="A user (or other subject) to show with neighbours.")
    ] = None,
    m: Annotated[int, typer.Option("--m", help="Neighbours above and below.")] = 5,
    users: Annotated[str | None, typer.Option(help="Users whose ranks to tell, with commas.")] = None,
    zone: Annotated[
        str | None, typer.Option(help="Zone that days of a range are read in; default the scope's.")
    ] = None,
    accuracy: Annotated[
        str, typer.Option(help="exact, or fast: an estimate of a range from one user in 64, with its bound.")
    ] = "exact",
    settlement: Annotated[str | None, typer.Option(help="As this settlement left it.")] = None,
    as_of: Annotated[str | None, typer.Option("--as-of", help="As it was published at this instant.")] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Ingest what Kafka has first; takes a minute.")
    ] = False,
    explain: Annotated[bool, typer.Option("--explain", help="Say where each part is from.")] = False,
    subject: Annotated[
        str, typer.Option(help="Who is ranked: user, quiz, question (its id is QUIZ/QUESTION) or word.")
    ] = "user",
    measure: Annotated[str, typer.Option(help="What is counted: points, plays or misses.")] = "points",
    json_: Annotated[bool, typer.Option("--json", help="The API's reply on standard output.")] = False,
) -> None:
    """Show a board, where it comes from and how exact it is.

    Redis counts users' points; other subjects and measures come from the lake, as of its last ingest.

    \b
    Examples:
      ./lakeboard board global daily current
      ./lakeboard board quiz:part-1 monthly 2017-09-01 --k 20 --around k013
      ./lakeboard board global --from 2026-01-15 --to 2026-02-10T12:00:00+01:00 --explain
      ./lakeboard board global --from 2026-01-01 --to 2026-04-01 --as-of 2026-04-02T00:00:00Z --users u1,u2
      ./lakeboard board class:5f0c weekly current --subject question --measure misses
    """
    asked: dict[str, object] = {"k": k, "m": m, "around": around, "users": users, "explain": explain or None}
    asked |= {"settlement": settlement, "as_of": as_of, "subject": subject, "measure": measure}
    if period and start and not (from_ or to or zone or accuracy != "exact"):
        path = "/".join(quote(part, safe=":") for part in (scope, period, start))
    elif from_ and to and not (period or start):
        path = quote(scope, safe=":")
        asked.update({"from": from_, "to": to, "zone": zone, "accuracy": accuracy})
    else:
        say(
            "ask for SCOPE PERIOD START, or for SCOPE --from T --to T [--zone Z] [--accuracy exact|fast]; "
            "both take --settlement ID or --as-of T, --users, --subject, --measure, --fresh and --explain"
        )
        raise typer.Exit(2)
    if fresh:
        _ingest_first()
    with client(layout()) as http:
        params = {name: value for name, value in asked.items() if value is not None}
        reply = ask(http, "GET", f"/v1/leaderboards/{path}", params=params)
    if json_:
        print(json.dumps(reply))
        return
    print_board(reply)
    if "explain" in reply:
        print_explained(reply["explain"])


def _ingest_first() -> None:
    """Ends the command where that fails: a board as of an earlier ingest is not what was asked for."""
    code, _ = run_job_for_document("ingest_answers", [])
    if code:
        say("what Kafka has could not be ingested: the board would not be fresh")
        raise typer.Exit(code)


def print_explained(explained: dict[str, Any]) -> None:
    """The parts of a board with their sources, neighbours of one source (and zone, if there are several) in one row."""
    table = Table("from", "to", "source", "whole", title="where it comes from")
    rows: list[list[Any]] = []
    for part in sorted(explained["parts"], key=lambda part: part["zone"] or ""):
        days = 1 if part["day"] or part["month"] else 0
        source = (part["source"], part["zone"])
        if rows and rows[-1][2] == source and rows[-1][3] and days:
            rows[-1][1], rows[-1][3] = part["to"], rows[-1][3] + 1
        else:
            rows.append([part["from"], part["to"], source, days])
    for begin, end, (source, zone), days in rows:
        unit = "months" if source == "user_months" else "days"
        whole = f"{days} {unit}{f' of {zone}' if zone else ''}" if days else ""
        table.add_row(begin, end, source, whole)
    figures = (explained[name] for name in ("files", "bytes", "rows", "elapsed_ms"))
    table.caption = "{} files · {} bytes · {} rows at most · {} ms".format(*figures)
    Console().print(table)


def print_board(reply: dict[str, Any]) -> None:
    """A board as a table, with where it comes from below it."""
    console = Console()
    provenance = reply["provenance"]
    title = f"{reply['scope']} {reply['period']} {reply['start']}"
    if reply.get("end"):
        title += f" … {reply['end']}"
    caption = (
        f"{reply['participants']} participants · {provenance['state']} · {provenance['source']}, "
        f"{provenance['exactness']} · as of {provenance['as_of']}"
    )
    if provenance.get("bound"):
        bound = provenance["bound"]
        caption += f" · ranks and participants ± {bound['value']:g} users ({bound['confidence']:.0%})"
    if provenance.get("settlement"):
        caption += f" · settlement {provenance['settlement']}"
    heads = reply["subject"], reply["measure"]
    console.print(_table(reply["entries"], title, caption, heads))
    if reply.get("around"):
        console.print(_table(reply["around"], "around", "", heads))
    if reply.get("ranks"):
        there = [rank["entry"] for rank in reply["ranks"] if rank["entry"]]
        console.print(_table(there, "ranks", "", heads))
        absent = [rank["user_id"] for rank in reply["ranks"] if not rank["entry"]]
        if absent:
            console.print(f"not on the board: {', '.join(absent)}", markup=False)


def _table(entries: list[dict[str, Any]], title: str, caption: str, heads: tuple[str, str]) -> Table:
    """Rows that fit a terminal of 80 columns: long ids give way to names."""
    named = any(entry["name"] for entry in entries)
    table = Table(title=escape(title), caption=escape(caption) or None, box=SIMPLE_HEAD, title_justify="left")
    table.add_column("rank", justify="right")
    table.add_column(heads[0], no_wrap=True, overflow="ellipsis", max_width=10 if named else 40)
    if named:
        table.add_column("name", no_wrap=True, overflow="ellipsis")
    table.add_column(heads[1], justify="right")
    table.add_column("reached at", no_wrap=True)
    for entry in entries:
        names = (entry["user_id"], entry["name"]) if named else (entry["user_id"],)
        cells = (entry["rank"], *names, entry["points"], entry["reached_at"])
        table.add_row(*("" if cell is None else escape(str(cell)) for cell in cells))
    return table
