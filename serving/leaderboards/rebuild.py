"""Redis' boards made again from the record: `python -m serving.leaderboards.rebuild [--since DATE] [--json]`.

The record is the archive (the lake), history (Postgres) and, behind it, the outbox; what an answer counts is as
corrections in force have it. Answers may come in meanwhile: none is lost, none doubled.
--since DATE first moves `boards_since` back to the first instant of that day's week or month, so that Redis keeps them.

Steps: 1 one rebuild at a time (advisory lock); 2 move `boards_since`, if asked; 3 for each shard: make its quiz and
session boards anew beside the live ones, from history and the outbox up to a seq, and put them in place in parts, each
by a script that does nothing if the seq has moved (then the rest of the outbox is added and it is tried again); 4 for
each shard: its global boards likewise, from history alone, and in the same script the position of each source becomes
what they hold: the relay goes on from there.
A crash leaves whole boards, some made anew and some not, and unnamed copies that the next rebuild deletes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any

import psycopg
import redis.exceptions
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from contracts import names
from contracts.errors import BrokenContract, LakeboardError, Retryable, SystemMissing
from contracts.events import ANSWER_TYPE, AnswerEvent
from contracts.periods import first_day, midnight_us, parse_day
from contracts.ranking import POINTS_MAX, pack
from contracts.settings import Settings, ShardAddress, from_mapping
from serving.boards.outbox import Entry, Outbox
from serving.boards.swapping import BoardSwap
from serving.history.whole_record import WholeRecord
from serving.leaderboards import staleness
from serving.leaderboards.corrections import corrections_in_force, counting
from serving.play.record import board_ticks
from serving.relay.to_global_boards import additions_of
from serving.relay.to_history import SINK, History

# Entries read at once: a few MB.
_READ_ENTRIES = 5_000
# Boards a script puts in place: about 5 ms of the shard.
_PART_BOARDS = 1_000
# Tries for one part: each takes a millisecond or two, so only a shard that never pauses uses them up.
_TRIES = 2_000
_LOCK = 0x7265_6275
_GLOBAL = names.board("global", "", "").partition("::")[0] + ":"
Advance = Callable[[int], None]
PointsOf = Callable[[AnswerEvent], int | None]


class Totals:
    """Points and greatest ticks by board and user. Pure; adding answers in any order gives the same."""

    def __init__(self) -> None:
        self._boards: dict[str, dict[str, tuple[int, int]]] = {}

    def add(self, board: str, user_id: str, points: int, ticks: int) -> None:
        """One answer's share: points are summed, and ticks count if there are points."""
        users = self._boards.setdefault(board, {})
        old_points, old_ticks = users.get(user_id, (0, 0))
        users[user_id] = (
            min(old_points + points, POINTS_MAX),
            max(old_ticks, ticks) if points else old_ticks,
        )

    def keys(self) -> set[str]:
        """Every board with an answer."""
        return set(self._boards)

    def packed(self, board: str, users: set[str] | None = None) -> dict[str, int]:
        """Packed scores of a board's users, or of some of them."""
        found = self._boards.get(board, {})
        return {user: pack(*found[user]) for user in (found if users is None else users)}


class ShardRebuild:
    """One shard's quiz and session boards."""

    def __init__(
        self,
        shard: int,
        address: ShardAddress,
        settings: Settings,
        since_us: int,
        points_of: PointsOf,
        advance: Advance,
    ) -> None:
        self.history, self.outbox, self.swap = (
            WholeRecord(settings, shard),
            Outbox(address),
            BoardSwap(address),
        )
        self.shard, self.since_us, self.advance = shard, since_us, advance
        self.points_of = points_of
        self.totals = Totals()
        self.seq = 0

    def close(self) -> None:
        self.history.close()
        self.outbox.close()
        self.swap.close()

    def run(self) -> int:
        """Make and place all boards of the shard; how many."""
        # The live keys first: a board that appears later begins empty and is right.
        live = {key for key in self.swap.live_keys() if not key.startswith(_GLOBAL)}
        end = self.history.position()
        if end > self.swap.last_seq():
            raise BrokenContract(
                "position_lost",
                f"shard {self.shard}: history is at {end}, the outbox at {self.swap.last_seq()}",
                next_step="restore the shard from its append-only file; see docs/runbooks",
            )
        for entries in _all_after(self.history, self.seq, end):
            self._take(entries)
        self._catch_up()
        keys = sorted(live | self.totals.keys())
        waiting = set(keys)
        self.swap.write_made((key, self.totals.packed(key)) for key in keys)
        for start in range(0, len(keys), _PART_BOARDS):
            self._place(keys[start : start + _PART_BOARDS], waiting)
        return len(keys)

    def _place(self, part: list[str], waiting: set[str]) -> None:
        for _ in range(_TRIES):
            if self.swap.swap_own(part, self.seq):
                waiting.difference_update(part)
                return
            touched = self._catch_up()
            self.swap.write_made(
                (key, self.totals.packed(key, users)) for key, users in touched.items() if key in waiting
            )
        raise Retryable("overloaded", f"shard {self.shard} never pauses; rebuild when there is less play")

    def _catch_up(self) -> dict[str, set[str]]:
        """Take what came after `seq`: from the outbox, or from history if it was trimmed; users touched by board."""
        touched: dict[str, set[str]] = {}
        while entries := self._next():
            for key, users in self._take(entries).items():
                touched.setdefault(key, set()).update(users)
        return touched

    def _next(self) -> list[Entry]:
        entries = self.outbox.read_after(self.seq, _READ_ENTRIES)
        if entries and entries[0].seq != self.seq + 1:
            entries = self.history.read_after(self.seq, _READ_ENTRIES)
        if not entries and self.swap.last_seq() > self.seq:
            entries = self.history.read_after(self.seq, _READ_ENTRIES)
        return entries

    def _take(self, entries: list[Entry]) -> dict[str, set[str]]:
        touched: dict[str, set[str]] = {}
        for entry in entries:
            if entry.seq != self.seq + 1:
                raise BrokenContract(
                    "sequence_gap", f"shard {self.shard}: seq {self.seq + 1} is not in the record"
                )
            self.seq = entry.seq
            if entry.type != ANSWER_TYPE:
                continue
            event = entry.answer()
            points = self.points_of(event)
            if points is None:
                continue
            for key, ticks in board_ticks(event, self.since_us):
                self.totals.add(key, event.user_id, points, ticks)
                touched.setdefault(key, set()).add(event.user_id)
        self.advance(len(entries))
        return touched


def _all_after(history: History, position: int, end: int) -> Iterator[list[Entry]]:
    while position < end:
        entries = history.read_after(position, min(_READ_ENTRIES, end - position))
        if not entries:
            raise BrokenContract("sequence_gap", f"history lacks seq {position + 1}")
        yield entries
        position = entries[-1].seq


class GlobalRebuild:
    """The global boards of all shards, from history alone."""

    def __init__(
        self,
        addresses: Sequence[ShardAddress],
        settings: Settings,
        since_us: int,
        points_of: PointsOf,
        advance: Advance,
    ) -> None:
        self.points_of = points_of
        self.swaps = [BoardSwap(address) for address in addresses]
        self.histories = [WholeRecord(settings, shard) for shard in range(len(addresses))]
        self.totals = [Totals() for _ in addresses]
        self.positions = [0] * len(addresses)
        self.since_us, self.advance = since_us, advance

    def close(self) -> None:
        for swap in self.swaps:
            swap.close()
        for history in self.histories:
            history.close()

    def run(self) -> int:
        """Make and place them; how many (a board counts once a shard)."""
        live = [{key for key in swap.live_keys() if key.startswith(_GLOBAL)} for swap in self.swaps]
        self._catch_up()
        for swap, total in zip(self.swaps, self.totals, strict=True):
            swap.write_made((key, total.packed(key)) for key in sorted(total.keys()))
        waiting = set(range(len(self.swaps)))
        for _ in range(_TRIES):
            for target, touched in enumerate(self._catch_up()):
                if target in waiting:
                    total = self.totals[target]
                    self.swaps[target].write_made((key, total.packed(key, us)) for key, us in touched.items())
                    keys = sorted(live[target] | total.keys())
                    if self.swaps[target].swap_global(keys, self.positions):
                        waiting.remove(target)
            if not waiting:
                return sum(len(keys | total.keys()) for keys, total in zip(live, self.totals, strict=True))
        raise Retryable("overloaded", "the relay never pauses; rebuild when there is less play")

    def _catch_up(self) -> list[dict[str, set[str]]]:
        """Take what history has by now; the users touched, by target and board."""
        touched: list[dict[str, set[str]]] = [{} for _ in self.totals]
        for source, history in enumerate(self.histories):
            end = history.position(SINK)
            for batch in _all_after(history, self.positions[source], end):
                # Late answers touched no board when they came; a rebuild is where they enter.
                entries = [replace(one, mode="import") if one.mode == "late" else one for one in batch]
                parts = additions_of(entries, self.since_us, len(self.totals), self.points_of)
                for target, additions in enumerate(parts):
                    for a in additions:
                        for board, ticks in zip(a.boards, a.ticks, strict=True):
                            self.totals[target].add(board, a.user_id, a.points, ticks)
                            touched[target].setdefault(board, set()).add(a.user_id)
                self.advance(len(entries))
            self.positions[source] = end
        return touched


def _move_since(sql: psycopg.Connection, since: date | None) -> int:
    """Step 2: the instant in force, moved back if `since` asks for it."""
    row = sql.execute("SELECT value FROM deployment WHERE key = 'boards_since_us'").fetchone()
    current = int(row[0]) if row else 0
    if since is None:
        return current
    wanted = min(midnight_us(first_day(period, since), "UTC") for period in ("weekly", "monthly"))
    if wanted >= current:
        return current
    # Waits for imports that leave an answer out of a board: they hold the row until it is recorded.
    sql.execute("UPDATE deployment SET value = %s WHERE key = 'boards_since_us'", (str(wanted),))
    return wanted


def rebuild(
    settings: Settings,
    since: date | None = None,
    advance: Advance = lambda n: None,
    only_if_stale: bool = False,
) -> dict[str, Any]:
    """Make all of Redis' boards again. Raises SystemMissing, Retryable (too much play), BrokenContract.

    only_if_stale: do nothing unless an adjustment has said that boards lack what it published.
    """
    began = time.monotonic()
    try:
        with psycopg.connect(settings.postgres_url, autocommit=True, connect_timeout=5) as sql:
            sql.execute("SELECT pg_advisory_lock(%s)", (_LOCK,))
            stale = staleness.why(sql)
            if only_if_stale and stale is None:
                return {"boards": 0, "entries": 0, "stale": None, "seconds": 0.0}
            since_us = _move_since(sql, since)
            points_of = counting(corrections_in_force(sql))
            boards, seqs = 0, []
            for shard, address in enumerate(settings.shards):
                one = ShardRebuild(shard, address, settings, since_us, points_of, advance)
                try:
                    one.swap.forget_made()
                    boards += one.run()
                    seqs.append(one.seq)
                finally:
                    one.close()
            everybody = GlobalRebuild(settings.shards, settings, since_us, points_of, advance)
            try:
                boards += everybody.run()
            finally:
                everybody.close()
            staleness.made_again(sql, stale, list(map(min, seqs, everybody.positions)))
    except (redis.exceptions.ConnectionError, psycopg.OperationalError) as error:
        raise SystemMissing(
            "system_missing", str(error).splitlines()[0], next_step="./lakeboard status"
        ) from error
    return {
        "boards": boards,
        "entries": sum(seqs),
        "boards_since_us": since_us,
        "stale": stale,
        "seconds": round(time.monotonic() - began, 1),
    }


def main(argv: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> int:
    """Exit 0: done; 1: the record is broken; 2: wrong use; 3: a system is missing."""
    parser = argparse.ArgumentParser(prog="rebuild", description="Redis' boards, made again from the record")
    parser.add_argument("--since", help="keep boards from this day's week and month on, YYYY-MM-DD")
    parser.add_argument(
        "--if-stale", action="store_true", help="only if an adjustment has published what boards lack"
    )
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    columns = (TextColumn("rebuild"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        since = parse_day(args.since) if args.since else None
        terminal = Console(stderr=True)
        # In a log a bar is only an empty line.
        with Progress(
            *columns, console=terminal, transient=True, disable=not terminal.is_terminal
        ) as progress:
            task = progress.add_task("", total=None)
            document = rebuild(
                from_mapping(environment), since, lambda count: progress.advance(task, count), args.if_stale
            )
    except LakeboardError as error:
        print(f"lakeboard: {error.told}", file=sys.stderr)
        return error.exit_code
    if args.json:
        print(json.dumps(document))
    else:
        print("  ".join(f"{name} {value}" for name, value in document.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
