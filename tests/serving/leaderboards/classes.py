"""Classes for tests of their boards: stays put into Postgres as they are, and boards by SQL of its own over the answers."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import duckdb
import psycopg
import pyarrow as pa

from contracts.periods import FOREVER_US, iso_ms
from serving.access.tokens import ACCESS, HOST, Identity, sign
from tests import model
from tests.serving.api_process import JWT_KEY
from tests.serving.leaderboards.test_any_range import _IDS, _MEASURES, DAY_US, counted_table
from tests.serving.recorded import Recorded


@dataclass(frozen=True)
class StayOf:
    """A stay as it is put in; left_us None while it lasts."""

    user_id: str
    joined_us: int
    left_us: int | None


def accounts_of(postgres_url: str, users: list[str]) -> dict[str, dict[str, str]]:
    """Accounts of users, new ones too, logged in: the headers of each. By SQL: a password takes its time to hash."""
    roles = ("player", "host")
    with psycopg.connect(postgres_url) as sql, sql.cursor() as cursor:
        for query in (
            "INSERT INTO users (user_id, name, origin) SELECT u, u, 'live' FROM unnest(%s::text[]) u ON CONFLICT DO NOTHING",
            "INSERT INTO accounts (user_id, login_name, roles) SELECT u, u, '{player,host}' FROM unnest(%s::text[]) u",
            "INSERT INTO logins (login_id, user_id, expires_at) SELECT u, u, now() + interval '1 day' FROM unnest(%s::text[]) u",
        ):
            cursor.execute(query, (users,))
    found = {}
    for user in users:
        identity = Identity(user, HOST, kind=ACCESS, roles=roles, login_id=user)
        found[user] = {"Authorization": f"Bearer {sign(identity, JWT_KEY)}"}
    return found


def put_class(record: Recorded, class_id: str, stays: list[StayOf], owner: str = "owner") -> None:
    """Make a class with exactly these stays; one that is there gets them instead of its own."""
    with psycopg.connect(record.postgres_url) as sql:
        sql.execute(
            "INSERT INTO classes (class_id, name, owner_id) VALUES (%s, 'c', %s)"
            " ON CONFLICT (class_id) DO UPDATE SET version = classes.version + 1",
            (class_id, owner),
        )
        sql.execute("DELETE FROM class_members WHERE class_id = %s", (class_id,))
        for stay in stays:
            done = sql.execute(
                "INSERT INTO class_members (class_id, user_id, user_no, joined_at_us, left_at_us)"
                " SELECT %s, user_id, user_no, %s, %s FROM users WHERE user_id = %s",
                (class_id, stay.joined_us, stay.left_us, stay.user_id),
            )
            assert done.rowcount == 1, stay


def random_stays(chance: random.Random, users: list[str], first_us: int, days: int) -> list[StayOf]:
    """Stays of about two thirds of the users: all the time, from midnight, in mid-day, ended, come back, within one day."""
    found = []
    for user in users:
        at = first_us + chance.randrange(days * DAY_US)
        midnight = at - at % DAY_US
        kind = chance.randrange(9)
        if kind < 2:
            found.append(StayOf(user, first_us - 400 * DAY_US, None))
        elif kind == 2:
            found.append(StayOf(user, midnight, None))
        elif kind == 3:
            found.append(StayOf(user, at, None))
        elif kind == 4:
            found.append(StayOf(user, first_us - DAY_US, at))
        elif kind == 5:
            found += [
                StayOf(user, first_us - DAY_US, at),
                StayOf(user, at + chance.randrange(DAY_US), None),
            ]
        elif kind == 6:
            found.append(StayOf(user, midnight, midnight + DAY_US))
        elif kind == 7:
            found += [StayOf(user, midnight, at), StayOf(user, at, at + chance.randrange(1, 2 * DAY_US))]
    return [stay for stay in found if stay.left_us is None or stay.joined_us < stay.left_us]


def counted_by(answers: list[model.Answer], stays: list[StayOf]) -> duckdb.DuckDBPyConnection:
    """A DuckDB with the counted answers that were given by members while they were, as the table `counted`."""
    connection = counted_table(answers)
    rows = [{"member": one.user_id, "low": one.joined_us, "high": one.left_us or FOREVER_US} for one in stays]
    kinds = [("member", pa.string()), ("low", pa.int64()), ("high", pa.int64())]
    connection.register("stays", pa.Table.from_pylist(rows, schema=pa.schema(kinds)))
    connection.execute(
        "CREATE TABLE theirs AS SELECT * FROM counted WHERE EXISTS (SELECT 1 FROM stays WHERE member = user_id"
        " AND occurred_at_us >= low AND occurred_at_us < high)"
    )
    connection.execute("DROP TABLE counted")
    connection.execute("ALTER TABLE theirs RENAME TO counted")
    return connection


def class_board(
    counted: duckdb.DuckDBPyConnection,
    low_us: int,
    high_us: int,
    tick_us: int = 1_000_000,
    counting: tuple[str, str] = ("user", "points"),
) -> list[tuple[Any, ...]]:
    """The rows that a reply shows: (rank, id, value, reached_at)."""
    subject, measure = counting
    scored = "correct AND elapsed_ms <= 60000"
    instant = (
        f"max(occurred_at_us) FILTER ({scored}) // {tick_us} * {tick_us}" if measure == "points" else "NULL"
    )
    found = counted.execute(
        f"SELECT row_number() OVER (ORDER BY value DESC, reached ASC NULLS LAST, id::BLOB DESC), id, value, reached FROM ("
        f"SELECT {_IDS[subject]} AS id, ({_MEASURES[measure]})::BIGINT AS value, {instant} AS reached FROM counted "
        f"WHERE occurred_at_us >= {low_us} AND occurred_at_us < {high_us} GROUP BY 1) ORDER BY 1"
    ).fetchall()
    return [(place, one, value, None if at is None else iso_ms(at)) for place, one, value, at in found]
