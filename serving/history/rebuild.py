"""Postgres' history made again from the record: `python -m serving.history.rebuild [--json]`.

The record behind history is the lake and, beyond its last look, the outbox. Rows that are there stay as they are; what
is missing comes back under its (shard, seq) with the same bytes, and with it the users, quizzes and sessions that
answers name. Names, titles, PINs and hosts are in no answer: what Postgres has lost of those is gone, and whether an
answer was late is told by no copy either. Months that were archived stay in the lake.

Steps, for each shard: 1 read the lake's entries 1, 2, 3 …, and where history was further, the outbox's; 2 insert each
batch with what it names, and move the sink's position where it is behind, in one transaction; 3 read the batch back and
compare its bytes. What is newer is the relay's to bring. A crash leaves whole batches with their position; a repeat
inserts what is missing. Raises BrokenContract(sequence_gap) where the record itself has a gap.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from typing import Any

import psycopg
import redis.exceptions
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from sqlalchemy.exc import SQLAlchemyError

from contracts.errors import BrokenContract, LakeboardError, SystemMissing
from contracts.events import ANSWER_TYPE
from contracts.settings import Settings, from_mapping
from serving.boards.outbox import Entry, Outbox
from serving.history.archive import archived_months_now, check_readable
from serving.leaderboards.settled_boards import room, the_lake
from serving.migrations.upgrade import upgrade
from serving.relay.to_history import COLUMNS, SINK, History, row_of

# Entries a transaction: some MB.
_BATCH = 2_000
Advance = Callable[[int], None]


class Record:
    """One shard's entries from the lake, then from the outbox, in order and without a gap."""

    def __init__(self, settings: Settings, shard: int) -> None:
        self.shard = shard
        self._lake = room("lake.archived_entries").ArchivedEntries(the_lake(settings), shard, None)
        self._outbox = Outbox(settings.shards[shard])

    def close(self) -> None:
        self._lake.close()
        self._outbox.close()

    def knows_session(self, session_id: str) -> bool:
        """Whether the session still runs on the shard."""
        return self._outbox.has_session(session_id)

    def behind(self, position: int) -> bool:
        """Whether the shard's outbox ends before a position that history or the lake already has."""
        return self._outbox.last_seq() < position

    def waiting(self, position: int) -> Iterator[list[Entry]]:
        """What the outbox has beyond a position."""
        while entries := self._outbox.read_after(position, _BATCH):
            yield entries
            position = entries[-1].seq

    def batches(self, position: int) -> Iterator[list[Entry]]:
        """Everything from seq 1 to the lake's last, or to history's position where that is further.

        What lies beyond is the relay's to bring. Raises BrokenContract(sequence_gap).
        """
        last = 0
        while True:
            entries = [Entry(e.seq, e.type, e.event, e.mode) for e in self._lake.read_after(last, _BATCH)]
            if (not entries or entries[0].seq != last + 1) and last < position:
                entries = [one for one in self._outbox.read_after(last, _BATCH) if one.seq <= position]
            whole = [one for place, one in enumerate(entries, last + 1) if one.seq == place]
            if not whole:
                if last < position or entries:
                    raise BrokenContract(
                        "sequence_gap",
                        f"shard {self.shard}: seq {last + 1} is neither in the lake nor in the outbox",
                        next_step="./lakeboard job ingest_answers brings what Kafka has into the lake; then again",
                    )
                return
            last = whole[-1].seq
            yield whole


def _insert(
    history: History, shard: int, entries: Sequence[Entry], archived: set[date], runs: Callable[[str], bool]
) -> tuple[int, int, int]:
    """Steps 2 and 3: (rows that were missing, users, quizzes and sessions that were, rows that differ afterwards).

    runs: whether a session still runs on the shard.
    """
    rows = [
        row for row in (row_of(shard, one) for one in entries) if row[4].date().replace(day=1) not in archived
    ]
    history.make_partitions(rows)
    columns, sql = ", ".join(COLUMNS), history.connection()
    with sql.transaction(), sql.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE IF NOT EXISTS again (LIKE history) ON COMMIT DELETE ROWS")
        with cursor.copy(f"COPY again ({columns}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        cursor.execute(
            f"INSERT INTO history ({columns}) SELECT {columns} FROM again ON CONFLICT (event_id, occurred_at) DO NOTHING"
        )
        inserted = cursor.rowcount
        # With the rows: a relay that stands at the old position finds it moved (fenced), never its own rows.
        cursor.execute(
            "UPDATE relay_position SET position = %s WHERE sink = %s AND shard = %s AND position < %s",
            (entries[-1].seq, SINK, shard, entries[-1].seq),
        )
        named = _insert_named(sql, shard, entries, runs)
    found = sql.execute(
        "SELECT seq, event FROM history WHERE shard = %s AND seq BETWEEN %s AND %s",
        (shard, entries[0].seq, entries[-1].seq),
    ).fetchall()
    there = {seq: bytes(event) for seq, event in found}
    return inserted, named, sum(there.get(row[1]) != row[6] for row in rows)


def _insert_named(
    sql: psycopg.Connection, shard: int, entries: Sequence[Entry], runs: Callable[[str], bool]
) -> int:
    """Users, quizzes and sessions that answers name and Postgres lacks; how many."""
    events = [one.answer() for one in entries if one.type == ANSWER_TYPE]
    if not events:
        return 0
    users = {event.user_id: event for event in events}
    quizzes = {event.quiz_id: event for event in events}
    sessions = {event.session_id: event for event in events}
    count = 0
    with sql.transaction(), sql.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO users (user_id, user_no, origin) OVERRIDING SYSTEM VALUE VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
            [(user, event.user_no, event.origin) for user, event in users.items()],
        )
        count += max(cursor.rowcount, 0)
        cursor.executemany(
            "INSERT INTO quizzes (quiz_id, zone, origin) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
            [(quiz, event.quiz_zone, event.origin) for quiz, event in quizzes.items()],
        )
        count += max(cursor.rowcount, 0)
        cursor.executemany(
            "INSERT INTO quiz_rules (quiz_id, rule) VALUES (%s, %s) ON CONFLICT DO NOTHING",
            sorted({(event.quiz_id, event.rule) for event in events}),
        )
        missing = cursor.execute(
            "SELECT id FROM unnest(%s::text[]) AS id WHERE NOT EXISTS (SELECT 1 FROM sessions WHERE session_id = id)",
            (list(sessions),),
        ).fetchall()
        for (session_id,) in missing:
            event = sessions[session_id]
            cursor.execute(
                "INSERT INTO sessions (session_id, quiz_id, origin, shard, started_at_us, tick_ms, rule, sealed_at) VALUES "
                "(%s, %s, %s, %s, %s, %s, %s, CASE WHEN %s THEN NULL ELSE now() END) ON CONFLICT DO NOTHING",
                (
                    session_id, event.quiz_id, event.origin, shard, event.session_started_at_us,
                    event.session_tick_ms, event.rule, runs(session_id),
                ),
            )  # fmt: skip
        # A number that is given out again would be two users' in the lake.
        cursor.execute(
            "SELECT setval(pg_get_serial_sequence('users', 'user_no'), "
            "greatest((SELECT max(user_no) FROM users), 1), (SELECT max(user_no) FROM users) IS NOT NULL)"
        )
    return count + len(missing)


def rebuild(settings: Settings, advance: Advance = lambda n: None) -> dict[str, Any]:
    """Make history whole. Raises SystemMissing, BrokenContract(sequence_gap)."""
    if not settings.lake_warehouse:
        raise SystemMissing(
            "system_missing",
            f"profile {settings.profile} has no lake: its history is Postgres alone",
            next_step="restore Postgres from a back-up",
        )
    began = time.monotonic()
    entries = inserted = named = differences = 0
    behind: list[int] = []
    try:
        upgrade(settings.postgres_url)
        archived = archived_months_now(settings.postgres_url).months
        check_readable(settings, [date.min])
        for shard in range(len(settings.shards)):
            record, history = Record(settings, shard), History(settings.postgres_url, shard)
            try:
                last = position = history.position()
                for batch in record.batches(position):
                    missing, new, differ = _insert(history, shard, batch, set(archived), record.knows_session)
                    entries, inserted, named = entries + len(batch), inserted + missing, named + new
                    differences += differ
                    last = max(last, batch[-1].seq)
                    advance(len(batch))
                for batch in record.waiting(last):  # the relay brings these rows, but no users
                    with history.connection().transaction():
                        named += _insert_named(history.connection(), shard, batch, record.knows_session)
                if record.behind(last):
                    behind.append(shard)
            finally:
                record.close()
                history.close()
    except (redis.exceptions.ConnectionError, psycopg.OperationalError, SQLAlchemyError, OSError) as error:
        raise SystemMissing(
            "system_missing", str(error).splitlines()[0], next_step="./lakeboard status"
        ) from error
    return {
        "entries": entries,
        "inserted": inserted,
        "users_quizzes_sessions": named,
        "archived_months": [f"{month:%Y-%m}" for month in archived],
        "shards_behind": behind,
        "differences": differences,
        "seconds": round(time.monotonic() - began, 1),
    }


def main(argv: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> int:
    """Exit 0: history equals the record; 1: it differs, or the record has a gap; 3: a system is missing."""
    parser = argparse.ArgumentParser(prog="rebuild postgres", description="History, again from the record")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    columns = (SpinnerColumn(), TextColumn("rebuild postgres"), MofNCompleteColumn(), TimeElapsedColumn())
    try:
        terminal = Console(stderr=True)
        # In a log a bar is only an empty line.
        with Progress(
            *columns, console=terminal, transient=True, disable=not terminal.is_terminal
        ) as progress:
            task = progress.add_task("", total=None)
            document = rebuild(from_mapping(environment), lambda count: progress.advance(task, count))
    except LakeboardError as error:
        print(f"lakeboard: {error.told}", file=sys.stderr)
        return error.exit_code
    print(
        json.dumps(document)
        if args.json
        else "  ".join(f"{name} {value}" for name, value in document.items())
    )
    return 0 if document["differences"] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
