"""`rescore`: another rule, a cheater's answers, or taking either back; then what Redis keeps follows."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from cli.commands.jobs import run_job_for_document
from cli.environments import say


def rescore(
    rule: Annotated[str | None, typer.Option(help="Score the answers by this rule, NAME@V.")] = None,
    remove_user: Annotated[str | None, typer.Option(help="Take this user's answers off the boards.")] = None,
    undo: Annotated[int | None, typer.Option(help="Take back the correction of this number.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Publish what was decided and waits.")] = False,
    first: Annotated[str | None, typer.Option("--from", help="First UTC day, YYYY-MM-DD.")] = None,
    last: Annotated[str | None, typer.Option("--to", help="Last UTC day, inclusive; it has ended.")] = None,
    quiz: Annotated[str | None, typer.Option(help="Only answers of this quiz.")] = None,
    reason: Annotated[str | None, typer.Option(help="Why: it stays with the settlement.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say who moves; publish nothing.")] = False,
    csv: Annotated[str | None, typer.Option(help="Write every row that moves into this file.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Score answers of the past again. Look with --dry-run first; --undo takes a correction back.

    \b
    Examples:
      ./lakeboard rescore --rule correct@1 --quiz part-1 --from 2026-01-01 --to 2026-01-31 --dry-run --csv moves.csv
      ./lakeboard rescore --rule correct@1 --quiz part-1 --from 2026-01-01 --to 2026-01-31 --reason 'as announced'
      ./lakeboard rescore --remove-user k013 --from 2026-01-01 --to 2026-01-31 --reason 'a script answered'
      ./lakeboard rescore --undo 2
    """
    if sum((rule is not None, remove_user is not None, undo is not None, resume)) != 1:
        say("say one of --rule, --remove-user, --undo, --resume")
        raise typer.Exit(2)
    given = {
        "rule": rule, "remove-user": remove_user, "retract": undo, "from": first, "to": last, "quiz": quiz,
        "reason": reason, "csv": csv,
    }  # fmt: skip
    arguments = [f"--{name}={value}" for name, value in given.items() if value is not None]
    arguments += [f"--{name}" for name, on in (("resume", resume), ("dry-run", dry_run)) if on]
    code, document = run_job_for_document("score_again", arguments)
    if document is None:
        raise typer.Exit(code)
    if json_:
        print(json.dumps(document))
    else:
        _print(document)
    raise typer.Exit(code)


def _print(document: dict[str, Any]) -> None:
    """What moves, in short and by the rows that move farthest."""
    changes = document["changes"]
    if changes is None:
        say(
            "no settled board has such answers; live ones follow"
            if document["corrections"]
            else "nothing moves"
        )
        return
    head = f"{changes['rows']} rows of {changes['boards']} boards move, {changes['users']} users"
    table = Table("board", "user", "rank", "→", "points", "→", title=head, title_justify="left")
    for row in changes["farthest"]:
        cells = (row["rank_before"], row["rank_after"], row["points_before"], row["points_after"])
        before_after = ["–" if cell is None else str(cell) for cell in cells]
        table.add_row(f"{row['scope']} {row['period']} {row['start']}", row["user_id"], *before_after)
    caption = "a look: nothing was published" if document["dry_run"] else ""
    if document["settlements"]:
        caption = f"published as settlement {', '.join(document['settlements'])}, correction {document['corrections']}"
    table.caption = caption + (f" · all rows in {document['csv']}" if document["csv"] else "")
    Console().print(table)
