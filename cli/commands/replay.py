"""`replay`: a file of answers through the import route, lane by lane, so that the earliest of two answers counts."""

from __future__ import annotations

import json
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from tenacity import retry, retry_if_exception, stop_after_delay, wait_random_exponential

from cli.answer_files import FORMATS, Unreadable, boards_since_us, read, requests_of
from cli.doors import ask, client, layout
from cli.environments import say
from contracts.errors import LakeboardError, SystemMissing
from contracts.scoring import DEFAULT_RULE, RULES

# Lines a request: a few scripts' worth; a request repeated after a cut stays short.
REQUEST_LINES = 500
# Requests in flight: two api processes and two shards are busy with four; more only wait.
LANES = 4
# A killed api or Valkey has come back in seconds; two minutes without an answer are for a person.
GIVE_UP_S = 120.0
LONGEST_PAUSE_S = 10.0
SHOWN_REFUSALS = 20


def replay(
    file: Annotated[Path, typer.Argument(help="csv, gzip or not.", exists=True, dir_okay=False)],
    form: Annotated[str, typer.Option("--format", help="ednet or csv.")],
    rule: Annotated[str, typer.Option(help="Scoring rule, NAME@V.")] = DEFAULT_RULE,
    keep_boards: Annotated[
        bool, typer.Option("--keep-boards", help="Keep the file's days, weeks and months in Redis too.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Send a file of answers through the import route. Exit 1: some lines were refused.

    \b
    Example:
      ./lakeboard replay answers.csv.gz --format csv --keep-boards
    """
    if form not in FORMATS or rule not in RULES:
        say(f"--format is one of {', '.join(FORMATS)}; --rule is one of {', '.join(RULES)}")
        raise typer.Exit(2)
    lines, bad = read(file, form, rule)
    if not lines:
        say(f"{file} holds no answer that can be read ({len(bad)} lines that cannot)")
        raise typer.Exit(2)
    say(f"{len(lines)} answers read, sorted by time; {len(bad)} lines cannot be read")
    if keep_boards:
        with client(layout()) as http:
            ask(http, "POST", "/v1/import/boards_since", json={"since_us": boards_since_us(lines)})
    began = time.monotonic()
    counts, refusals = send(lines)
    seconds = time.monotonic() - began
    _report(len(lines), bad, counts, refusals, seconds, json_)
    raise typer.Exit(1 if bad or counts["refused"] else 0)


def send(lines: list[dict[str, Any]]) -> tuple[Counter[str], list[dict[str, Any]]]:
    """Sends all lines; returns counts (counted, repeated, refused) and the first refusals."""
    counts: Counter[str] = Counter({"counted": 0, "repeated": 0, "refused": 0})
    refusals: list[dict[str, Any]] = []
    guard = Lock()
    columns = (TextColumn("replay"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    terminal = Console(stderr=True)
    # In a log a bar is only an empty line.
    with Progress(*columns, console=terminal, transient=True, disable=not terminal.is_terminal) as progress:
        task = progress.add_task("", total=len(lines))

        def run_lane(lane: int, bodies: list[bytes]) -> None:
            with client(layout(), lane) as http:
                for body in bodies:
                    reply = _send_one(http, body)
                    refused = [line for line in reply["lines"] if line["status"] == "refused"]
                    with guard:
                        counts.update({name: reply[name] for name in counts})
                        texts = body.split(b"\n")
                        refusals.extend(
                            {**line, "text": texts[line["line"] - 1].decode()[:200]}
                            for line in refused[: SHOWN_REFUSALS - len(refusals)]
                        )
                        progress.advance(task, body.count(b"\n") + 1)

        with ThreadPoolExecutor(LANES) as pool:
            for done in [
                pool.submit(run_lane, lane, bodies)
                for lane, bodies in enumerate(requests_of(lines, LANES, REQUEST_LINES))
            ]:
                done.result()
    return counts, refusals


def _passes(error: BaseException) -> bool:
    """Whether a pause may help: a system is missing, or the gateway or the api says that it is too much."""
    return isinstance(error, SystemMissing) or (
        isinstance(error, LakeboardError) and error.code in ("http_429", "too_many_requests")
    )


@retry(
    retry=retry_if_exception(_passes),
    wait=wait_random_exponential(max=LONGEST_PAUSE_S),
    stop=stop_after_delay(GIVE_UP_S),
    reraise=True,
)
def _send_one(http: Any, body: bytes) -> Any:
    """One request, sent again unchanged until it is answered: a repeat changes nothing."""
    return ask(http, "POST", "/v1/import/answers", content=body)


def _report(
    read_lines: int,
    bad: list[Unreadable],
    counts: Counter[str],
    refusals: list[dict[str, Any]],
    seconds: float,
    as_json: bool,
) -> None:
    document = {
        "answers": read_lines,
        **counts,
        "unreadable": len(bad),
        "seconds": round(seconds, 1),
        "answers_per_s": round(read_lines / max(seconds, 0.001)),
        "refusals": refusals,
        "unreadable_lines": [{"line": item.line, "detail": item.detail} for item in bad[:SHOWN_REFUSALS]],
    }
    for item in bad[:SHOWN_REFUSALS]:
        say(f"line {item.line}: {item.detail}")
    for refusal in refusals:
        say(f"refused {refusal['code']}: {refusal['detail']} {refusal['text']}")
    if as_json:
        print(json.dumps(document))
    else:
        print("  ".join(f"{name} {value}" for name, value in document.items() if not isinstance(value, list)))
