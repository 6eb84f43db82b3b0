"""Redis against the lake, row by row: `python -m serving.leaderboards.reconcile --from DATE --to DATE [--json]`.

--nothing-exit CODE ends with that code instead of 2 where there was nothing to compare: an idle week is no failure of a
scheduled run, wrong use is.

Every board that Redis keeps in the span: settled periods with the newest settlement's `rankings`; all-time boards, and
boards of sessions that started in the span, with `answers`. Boards of periods without a settlement are listed as
skipped; so is a board that differs and has had answers which the lake's side cannot hold yet.

Steps: 1 see how far the lake is and wait until the global boards are as far; 2 compare; 3 look at Redis' boards that
the lake does not have; 4 wait until history has all that Redis had, and judge the differences by what came later.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg
import redis.exceptions
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from contracts import names
from contracts.boards import Board, Scope, boards_of
from contracts.corrections import Correction
from contracts.errors import BadInput, LakeboardError, SystemMissing
from contracts.periods import ENDING_PERIODS, midnight_us, parse_day, periods_touched, span
from contracts.ranking import HOUR_US, PERIOD_TICK_US
from contracts.settings import Settings, from_mapping
from lake.views import Lake
from lake.whole_boards import Answers, WholeBoard, settled_boards
from serving.boards.whole_boards import WholeBoards
from serving.leaderboards.comparison import Difference, Report, compare, places, without_joined
from serving.leaderboards.corrections import corrections_in_force

# Boards a step: enough for a pipeline, few enough for memory and a moving bar.
_BATCH_BOARDS = 500
# The relay delivers within seconds; longer means that it stands still.
_RELAY_WAIT_S = 60.0
# Quarters of an hour: every zone's midnight is a bound of one.
_BUCKET_US = 900_000_000
NOT_SETTLED = "not settled"
LATER_ANSWERS = "answers came after the lake's last look"
Period = tuple[str, date, str]
"""(period, first day, zone)."""


@dataclass(frozen=True, slots=True)
class Published:
    """The newest settlement of a period: its snapshot of `rankings`, and the last seq of each shard it knew."""

    snapshot_id: int
    last_seq: tuple[tuple[int, int], ...]


class Records:
    """What Postgres knows: settlements, zones, how far history is, and what came after a sequence number."""

    def __init__(self, connection: psycopg.Connection) -> None:
        self._sql = connection
        self._later: dict[tuple[tuple[int, int], ...], set[str]] = {}

    def boards_since_us(self) -> int:
        """The instant from which Redis keeps boards."""
        row = self._sql.execute("SELECT value FROM deployment WHERE key = 'boards_since_us'").fetchone()
        return int(row[0]) if row else 0

    def corrections(self) -> list[Correction]:
        """The corrections in force."""
        return corrections_in_force(self._sql)

    def zones(self) -> dict[str, str]:
        """quiz_id → zone."""
        return dict(self._sql.execute("SELECT quiz_id, zone FROM quizzes").fetchall())

    def settlements(self, first: date, last: date) -> dict[Period, Published]:
        """The newest settlement of each settled period that starts in first … last."""
        rows = self._sql.execute(
            "SELECT DISTINCT ON (p.period, p.start, p.zone) p.period, p.start, p.zone, "
            "(s.snapshots->>'rankings')::bigint, s.last_seq FROM settlement_periods p "
            "JOIN settlements s ON s.id = p.settlement_id WHERE p.start BETWEEN %s AND %s "
            "ORDER BY p.period, p.start, p.zone, p.version DESC",
            (first, last),
        ).fetchall()
        return {
            (period, start, zone): Published(snapshot, tuple(sorted((int(k), v) for k, v in seqs.items())))
            for period, start, zone, snapshot, seqs in rows
        }

    def wait_for_history(self, seqs: Sequence[int]) -> None:
        """Until history is at least at `seqs`. Raises SystemMissing after a minute."""

        def behind() -> bool:
            found: dict[int, int] = dict(
                self._sql.execute(
                    "SELECT shard, position FROM relay_position WHERE sink = 'history'"
                ).fetchall()
            )
            return any(found.get(shard, 0) < seq for shard, seq in enumerate(seqs))

        _wait(behind, "history")

    def boards_with_later_answers(self, last_seq: tuple[tuple[int, int], ...], shards: int) -> set[str]:
        """Keys of all boards that an answer above the given last seqs belongs to. Cost: those answers."""
        if last_seq not in self._later:
            known, keys = dict(last_seq), set()
            for shard in range(shards):
                rows = self._sql.execute(
                    "SELECT DISTINCT session_id, quiz_id, quiz_zone, occurred_at_us / %s FROM history "
                    "WHERE shard = %s AND seq > %s AND session_id IS NOT NULL",
                    (_BUCKET_US, shard, known.get(shard, 0)),
                ).fetchall()
                for session_id, quiz_id, zone, bucket in rows:
                    keys.add(names.session_board(session_id))
                    at = bucket * _BUCKET_US
                    keys.update(board.key for board in boards_of(Scope("global"), at, "UTC"))
                    keys.update(board.key for board in boards_of(Scope("quiz", quiz_id), at, zone))
            self._later[last_seq] = keys
        return self._later[last_seq]


def _wait(behind: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _RELAY_WAIT_S
    while behind():
        if time.monotonic() > deadline:
            raise SystemMissing(
                "system_missing",
                f"the relay does not bring {what} up to date",
                next_step="./lakeboard status",
            )
        time.sleep(0.1)


class Reconciler:
    """One run over a span of days. `advance` is told each number of boards done."""

    def __init__(
        self, live: WholeBoards, lake: Lake, records: Records, advance: Callable[[int], None] = lambda n: None
    ) -> None:
        self.live, self.lake, self.records, self.advance = live, lake, records, advance
        self.report = Report()
        self.shards = len(live.last_seqs())
        self._seen: set[str] = set()
        self._found: list[tuple[str, int, list[Difference], tuple[tuple[int, int], ...]]] = []

    def run(self, first: date, last: date) -> Report:
        """Compare and judge; see the module's steps."""
        since_us = self.records.boards_since_us()
        answers = Answers(self.lake, self.records.corrections())
        try:
            covered = answers.covered()
            _wait(lambda: self._global_boards_behind(covered), "the global boards")
            touched = periods_touched(first, last)
            settled = {
                item: found
                for item, found in self.records.settlements(
                    min((start for _, start in touched), default=first), last
                ).items()
                if (item[0], item[1]) in touched and span(*item).end_us > since_us
            }
            self._compare_settled(settled)
            sessions = answers.sessions()
            bounds = midnight_us(first, "UTC"), span("daily", last).end_us
            covered_seqs = tuple(sorted(covered.items()))
            self._compare_with_answers(answers, max(bounds[0], since_us), bounds[1], sessions, covered_seqs)
        finally:
            answers.close()
        self._compare_rest(set(touched), settled, set(sessions), covered_seqs)
        self._judge()
        return self.report

    def _global_boards_behind(self, covered: Mapping[int, int]) -> bool:
        return any(
            position < covered.get(shard, 0) for shard, position in enumerate(self.live.global_positions())
        )

    def _compare_settled(self, settled: Mapping[Period, Published]) -> None:
        by_settlement: dict[Published, list[Period]] = {}
        for item, published in settled.items():
            by_settlement.setdefault(published, []).append(item)
        for published, periods in by_settlement.items():
            for batch in _batches(settled_boards(self.lake, published.snapshot_id, sorted(periods))):
                boards = [Board(Scope.parse(b.scope), b.period, b.start, b.zone) for b in batch]
                frames = [(board.anchor_us, board.tick_us) for board in boards]
                self._compare(batch, [board.key for board in boards], frames, published.last_seq)

    def _compare_with_answers(
        self,
        answers: Answers,
        start_us: int,
        end_us: int,
        sessions: Mapping[str, tuple[int, int]],
        covered: tuple[tuple[int, int], ...],
    ) -> None:
        for batch in _batches(answers.boards(start_us, end_us)):
            frames = [
                sessions[board.scope.partition(":")[2]]
                if board.scope.startswith("session:")
                else (0, HOUR_US)
                for board in batch
            ]
            keys = [names.board(board.scope, board.period, board.start) for board in batch]
            self._compare(batch, keys, frames, covered)

    def _compare(
        self,
        batch: Sequence[WholeBoard],
        keys: Sequence[str],
        frames: Sequence[tuple[int, int]],
        last_seq: tuple[tuple[int, int], ...],
    ) -> None:
        for board, key, frame, packed in zip(batch, keys, frames, self.live.read(keys), strict=True):
            lake = {user: (rank, points, reached) for rank, user, points, reached in board.rows}
            if board.scope.startswith("session:"):
                packed = without_joined(packed, lake)
            self._keep(
                key, len(packed.keys() | lake.keys()), compare(key, places(packed, *frame), lake), last_seq
            )
        self.advance(len(batch))

    def _keep(
        self, key: str, rows: int, found: list[Difference], last_seq: tuple[tuple[int, int], ...]
    ) -> None:
        self._seen.add(key)
        if found:
            self._found.append((key, rows, found, last_seq))
        else:
            self.report.add(rows, found)

    def _compare_rest(
        self,
        touched: set[tuple[str, date]],
        settled: Mapping[Period, Published],
        sessions: set[str],
        covered: tuple[tuple[int, int], ...],
    ) -> None:
        """Redis' boards that the lake does not have: skipped where nothing was settled, else all rows differ."""
        zones = self.records.zones()
        for key in sorted(self.live.keys() - self._seen):
            scope_text, period, start_text = names.parse_board(key)
            scope, start = Scope.parse(scope_text), date.fromisoformat(start_text)
            zone = zones.get(scope.id, "UTC") if scope.kind == "quiz" else "UTC"
            last_seq = covered
            if period in ENDING_PERIODS:
                if (period, start) not in touched:
                    continue
                if (period, start, zone) not in settled:
                    self.report.skip(period, start_text, zone, NOT_SETTLED)
                    continue
                last_seq = settled[(period, start, zone)].last_seq
            elif scope.kind == "session" and scope.id in sessions:
                continue  # it started outside the span
            packed = self.live.read([key])[0]
            if scope.kind == "session":
                packed = without_joined(packed, ())
            if packed:
                # Anchor and tick of a session that the lake does not know do not matter: every row differs.
                found = compare(key, places(packed, 0, PERIOD_TICK_US[period]), {})
                self._keep(key, len(packed), found, last_seq)
            self.advance(1)

    def _judge(self) -> None:
        if not self._found:
            return
        self.records.wait_for_history(self.live.last_seqs())
        for key, rows, found, last_seq in self._found:
            if key in self.records.boards_with_later_answers(last_seq, self.shards):
                scope, period, start = names.parse_board(key)
                self.report.skip(f"{period} of {scope.partition(':')[0]}", start, "", LATER_ANSWERS)
            else:
                self.report.add(rows, found)


def _batches(boards: Iterable[WholeBoard]) -> Iterable[list[WholeBoard]]:
    iterator = iter(boards)
    while batch := list(islice(iterator, _BATCH_BOARDS)):
        yield batch


def reconcile(
    settings: Settings, first: date, last: date, advance: Callable[[int], None] = lambda n: None
) -> Report:
    """Compare the boards of first … last (UTC days, inclusive).

    Raises SystemMissing if Redis, Postgres or the lake does not answer, BadInput for a span that ends before it begins.
    """
    if last < first:
        raise BadInput("wrong_start", f"--to {last} is before --from {first}")
    if not settings.lake_warehouse:
        raise SystemMissing(
            "system_missing",
            f"profile {settings.profile} has no lake",
            next_step="./lakeboard up --profile full",
        )
    live = WholeBoards(settings.shards)
    try:
        with psycopg.connect(settings.postgres_url, autocommit=True, connect_timeout=5) as connection:
            lake = Lake(
                settings.postgres_url, settings.lake_warehouse, Path(settings.cache_dir or ".") / "lake"
            )
            return Reconciler(live, lake, Records(connection), advance).run(first, last)
    except (redis.exceptions.ConnectionError, psycopg.OperationalError, OSError) as error:
        raise SystemMissing(
            "system_missing", str(error).splitlines()[0], next_step="./lakeboard status"
        ) from error
    finally:
        live.close()


def main(argv: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> int:
    """Exit 0: equal; 1: differences; 2: wrong use, or nothing to compare (or --nothing-exit); 3: a system is missing."""
    parser = argparse.ArgumentParser(prog="reconcile", description="Redis against the lake, row by row")
    parser.add_argument("--from", dest="first", required=True, help="first UTC day, YYYY-MM-DD")
    parser.add_argument("--to", dest="last", required=True, help="last UTC day, inclusive")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--nothing-exit", type=int, default=2, metavar="CODE")
    args = parser.parse_args(argv)
    columns = (
        TextColumn("reconcile"),
        BarColumn(),
        TextColumn("{task.completed:.0f} boards"),
        TimeElapsedColumn(),
    )
    began = time.monotonic()
    try:
        terminal = Console(stderr=True)
        # In a log a bar is only an empty line.
        with Progress(
            *columns, console=terminal, transient=True, disable=not terminal.is_terminal
        ) as progress:
            task = progress.add_task("", total=None)
            report = reconcile(
                from_mapping(environment),
                parse_day(args.first),
                parse_day(args.last),
                lambda count: progress.advance(task, count),
            )
    except LakeboardError as error:
        print(f"lakeboard: {error.told}", file=sys.stderr)
        return error.exit_code
    document = {"from": args.first, "to": args.last, **report.to_dict()}
    document["seconds"] = round(time.monotonic() - began, 1)
    _print(document, args.json)
    return report.exit_code if report.boards else args.nothing_exit


def _print(document: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print(json.dumps(document))
        return
    print("  ".join(f"{name} {document[name]}" for name in ("boards", "rows", "differences", "seconds")))
    for one in document["examples"]:
        print(f"differs  {one['board']}  {one['user_id']}  redis {one['redis']}  lake {one['lake']}")
    for item in document["skipped"]:
        print(
            f"skipped  {item['period']} {item['start']} {item['zone']}  {item['boards']} boards: {item['why']}"
        )
    if not document["boards"]:
        print("nothing to compare: settle the span first")


if __name__ == "__main__":
    sys.exit(main())
