"""`board`: the API's reply, as a table or as it is."""

from __future__ import annotations

import json
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.doors import ask, client, layout


def board(
    scope: Annotated[str, typer.Argument(help="global, quiz:ID or session:ID.")],
    period: Annotated[str, typer.Argument(help="daily, weekly, monthly or all_time.")],
    start: Annotated[str, typer.Argument(help="The period's first day, YYYY-MM-DD, or current.")],
    k: Annotated[int, typer.Option("--k", help="Rows from the top.")] = 10,
    around: Annotated[str | None, typer.Option(help="A user to show with neighbours.")] = None,
    m: Annotated[int, typer.Option("--m", help="Neighbours above and below.")] = 5,
    settlement: Annotated[str | None, typer.Option(help="As a settlement published it.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="The API's reply on standard output.")] = False,
) -> None:
    """Show a board, where it comes from and how exact it is.

    \b
    Examples:
      ./lakeboard board global daily current
      ./lakeboard board quiz:part-1 monthly 2017-09-01 --k 20 --around k013
    """
    asked = {"k": k, "m": m, "around": around, "settlement": settlement}
    path = "/".join(quote(part, safe=":") for part in (scope, period, start))
    with client(layout()) as http:
        params = {name: value for name, value in asked.items() if value is not None}
        reply = ask(http, "GET", f"/v1/leaderboards/{path}", params=params)
    if json_:
        print(json.dumps(reply))
    else:
        print_board(reply)


def print_board(reply: dict[str, Any]) -> None:
    """A board as a table, with where it comes from below it."""
    console = Console()
    provenance = reply["provenance"]
    title = f"{reply['scope']} {reply['period']} {reply['start']}"
    caption = (
        f"{reply['participants']} participants · {provenance['state']} · {provenance['source']}, "
        f"{provenance['exactness']} · as of {provenance['as_of']}"
    )
    if provenance.get("settlement"):
        caption += f" · settlement {provenance['settlement']}"
    console.print(_table(reply["entries"], title, caption))
    if reply.get("around"):
        console.print(_table(reply["around"], "around", ""))


def _table(entries: list[dict[str, Any]], title: str, caption: str) -> Table:
    table = Table(
        "rank", "user", "name", "points", "reached at", title=escape(title), caption=escape(caption) or None
    )
    for entry in entries:
        cells = (entry["rank"], entry["user_id"], entry["name"], entry["points"], entry["reached_at"])
        table.add_row(*("" if cell is None else escape(str(cell)) for cell in cells))
    return table
