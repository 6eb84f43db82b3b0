"""Archived answers of a user or a session, back in Postgres: `python -m serving.history.restore --user ID [--json]`.

They are rows of `history` again, with the same place and bytes; the archive keeps its own, and readers show an answer
once. The mark in `restored` keeps `archive_month` off the month until it is run with --release.

Steps: 1 wait for the archive's lock, so that no month is dropped meanwhile; 2 read the lake; 3 in one transaction, mark
and insert what is not there. A crash before the end leaves nothing; a repeat inserts nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import psycopg
from sqlalchemy.exc import SQLAlchemyError

from contracts import names
from contracts.errors import BadInput, LakeboardError, SystemMissing
from contracts.identity import checked_id
from contracts.settings import Settings, from_mapping
from serving.boards.outbox import Entry
from serving.history.archive import archived_months_now, check_readable
from serving.leaderboards.settled_boards import room, the_lake
from serving.relay.to_history import COLUMNS, History, row_of

KINDS = {"user": "user_id", "session": "session_id"}


def restore(settings: Settings, kind: str, ident: str) -> dict[str, Any]:
    """Put back all archived answers of one user or session; how many, and how many were not there.

    Raises BadInput(not_found) if none is archived, SystemMissing if a system is away.
    """
    try:
        with psycopg.connect(settings.postgres_url, autocommit=True, connect_timeout=5) as sql:
            sql.execute("SELECT pg_advisory_lock(%s)", (zlib.crc32(names.ARCHIVE_LOCK.encode()),))
            months = archived_months_now(settings.postgres_url).months
            check_readable(settings, months)
            positions: dict[int, int] = dict(
                sql.execute("SELECT shard, position FROM relay_position WHERE sink = 'history'").fetchall()
            )
            # Kafka, and with it the lake, may be ahead of history: what the relay will bring is the relay's.
            found = [
                one
                for one in _archived(settings, months, kind, ident)
                if one.seq <= positions.get(one.shard, 0)
            ]
            if not found:
                raise BadInput("not_found", f"no answer of {kind} {ident} is archived", status=404)
            rows = [row_of(one.shard, Entry(one.seq, one.type, one.event, one.mode)) for one in found]
            inserted = _insert(settings.postgres_url, sql, kind, ident, rows)
    except psycopg.OperationalError as error:
        raise SystemMissing(
            "system_missing", str(error).splitlines()[0], next_step="./lakeboard status"
        ) from error
    of_months = sorted({f"{row[4]:%Y-%m}" for row in rows})
    return {"kind": kind, "id": ident, "answers": len(rows), "inserted": inserted, "months": of_months}


def _archived(settings: Settings, months: Sequence[date], kind: str, ident: str) -> list[Any]:
    if not months:
        return []
    try:
        lake = the_lake(settings)
        return list(room("lake.archived_entries").answers_of(lake, months, KINDS[kind], ident))
    except (OSError, SQLAlchemyError) as error:
        raise SystemMissing(
            "system_missing", f"the lake does not answer: {error!r}"[:300], next_step="./lakeboard status"
        ) from error


def _insert(
    postgres_url: str, sql: psycopg.Connection, kind: str, ident: str, rows: Sequence[tuple[Any, ...]]
) -> int:
    """Step 3; how many rows were not there."""
    partitions = History(postgres_url, 0)
    try:
        partitions.make_partitions(rows)
    finally:
        partitions.close()
    columns = ", ".join(COLUMNS)
    by_month = Counter(row[4].date().replace(day=1) for row in rows)
    with sql.transaction(), sql.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO restored (kind, id, month, answers) VALUES (%s, %s, %s, %s) "
            "ON CONFLICT (kind, id, month) DO UPDATE SET answers = excluded.answers",
            [(kind, ident, month, count) for month, count in sorted(by_month.items())],
        )
        cursor.execute("CREATE TEMPORARY TABLE incoming (LIKE history) ON COMMIT DROP")
        with cursor.copy(f"COPY incoming ({columns}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        cursor.execute(
            f"INSERT INTO history ({columns}) SELECT {columns} FROM incoming "
            "ON CONFLICT (event_id, occurred_at) DO NOTHING"
        )
        return cursor.rowcount


def main(argv: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> int:
    """Exit 0: they are in Postgres; 2: none is archived, or wrong use; 3: a system is missing."""
    parser = argparse.ArgumentParser(prog="restore", description="Archived answers, back in Postgres")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--user", help="all archived answers of this user")
    which.add_argument("--session", help="all archived answers of this session")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    kind = "user" if args.user is not None else "session"
    try:
        ident = checked_id(args.user if kind == "user" else args.session, f"{kind}_id")
        document = restore(from_mapping(environment), kind, ident)
    except LakeboardError as error:
        print(f"lakeboard: {error.told}", file=sys.stderr)
        return error.exit_code
    if args.json:
        print(json.dumps(document))
    else:
        months = ", ".join(document["months"])
        print(f"{document['answers']} answers of {months}, {document['inserted']} of them put back")
    return 0


if __name__ == "__main__":
    sys.exit(main())
