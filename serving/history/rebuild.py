"""Postgres' history made again from the record: `python -m serving.history.rebuild [--json]`.

The record behind history is the lake and, beyond its last look, the outbox. Rows that are there stay as they are; what
is missing comes back under its (shard, seq) with the same bytes, and with it the users, quizzes and sessions that
answers name. Names, titles, PINs and hosts are in no answer: what Postgres has lost of those is gone, and whether an
answer was late is told by no copy either. Months that were archived stay in the lake.

Steps, for each shard: 1 read the lake's entries 1, 2, 3 … and then the outbox's, to the last one that history should
have; 2 insert each batch with what it names, in one transaction; 3 read the batch back and compare its bytes; 4 move the
position of the sink, if it is behind. A crash leaves whole batches; a repeat inserts what is missing.
Raises BrokenContract(sequence_gap) before 2 where the record itself has a gap.
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
from contracts.events import ANSWER_TYPE, AnswerEvent, decode
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
        self._outbox = Outbox(settings.valkey_urls[shard])

    def close(self) -> None:
        self._lake.close()
        self._outbox.close()

    def knows_session(self, session_id: str) -> bool:
        """Whether the session still runs on the shard."""
        return self._outbox.has_session(session_id)

    def batches(self) -> Iterator[list[Entry]]:
        """Everything from seq 1 to the shard's last. Raises BrokenContract(sequence_gap)."""
        last, position = self._outbox.last_seq(), 0
        while position < last:
            entries = [Entry(e.seq, e.type, e.event, e.mode) for e in self._lake.read_after(position, _BATCH)]
            if not entries or entries[0].seq != position + 1:
                entries = self._outbox.read_after(position, _BATCH)
            whole = [one for place, one in enumerate(entries, position + 1) if one.seq == place]
            if not whole:
                raise BrokenContract(
                    "sequence_gap",
                    f"shard {self.shard}: seq {position + 1} is neither in the lake nor in the outbox",
                    next_step="./lakeboard job ingest_answers brings what Kafka has into the lake; then again",
                )
            position = whole[-1].seq
            yield whole


def _insert(history: History, shard: int, entries: Sequence[Entry], archived: set[date]) -> tuple[int, int]:
    """Steps 2 and 3: (rows that were missing, rows that differ afterwards)."""
    rows = [
        row for row in (row_of(shard, one) for one in entries) if row[4].date().replace(day=1) not in archived
    ]
    if not rows:
        return 0, 0
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
    found = sql.execute(
        "SELECT seq, event FROM history WHERE shard = %s AND seq BETWEEN %s AND %s",
        (shard, entries[0].seq, entries[-1].seq),
    ).fetchall()
    there = {seq: bytes(event) for seq, event in found}
    return inserted, sum(there.get(row[1]) != row[6] for row in rows)


def _insert_named(
    sql: psycopg.Connection, shard: int, events: Sequence[AnswerEvent], runs: Callable[[str], bool]
) -> int:
    """Users, quizzes and sessions that answers name and Postgres lacks; how many. runs: whether a session does."""
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
    try:
        upgrade(settings.postgres_url)
        archived = archived_months_now(settings.postgres_url).months
        check_readable(settings, [date.min])
        for shard in range(len(settings.valkey_urls)):
            record, history = Record(settings, shard), History(settings.postgres_url, shard)
            try:
                last = 0
                for batch in record.batches():
                    missing, differ = _insert(history, shard, batch, set(archived))
                    events = [decode(one.event) for one in batch if one.type == ANSWER_TYPE]
                    if events:
                        named += _insert_named(history.connection(), shard, events, record.knows_session)
                    entries, inserted, differences = (
                        entries + len(batch),
                        inserted + missing,
                        differences + differ,
                    )
                    last = batch[-1].seq
                    advance(len(batch))
                if history.position() < last:
                    history.connection().execute(
                        "UPDATE relay_position SET position = %s WHERE sink = %s AND shard = %s AND position < %s",
                        (last, SINK, shard, last),
                    )
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
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("", total=None)
            document = rebuild(from_mapping(environment), lambda count: progress.advance(task, count))
    except LakeboardError as error:
        print(
            f"lakeboard: {error.code}: {error.detail}" + (f"; {error.next_step}" if error.next_step else ""),
            file=sys.stderr,
        )
        return error.exit_code
    print(
        json.dumps(document)
        if args.json
        else "  ".join(f"{name} {value}" for name, value in document.items())
    )
    return 0 if document["differences"] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
