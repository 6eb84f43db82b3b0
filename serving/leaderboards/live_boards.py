"""Boards that Redis holds, in the one reply shape: global, quiz and session, while live or not yet settled."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import psycopg
from redis.exceptions import RedisError

from contracts import names
from contracts.boards import Board, Scope
from contracts.errors import BadInput, LakeboardError, SystemMissing
from contracts.periods import iso_ms
from contracts.ranking import reached_at_us, unpack
from contracts.replies import NOBODY, BoardReply, Entry, Provenance, Shown, UserRank, Wanted
from contracts.settlements import state_of
from serving.boards.boards import Boards, Place
from serving.connections import Connections
from serving.sessions.answering import Answering
from serving.sessions.store import now_us

LOG = logging.getLogger(__name__)
# A replica that hangs is passed over after this; the board then comes from the primary.
REPLICA_WAIT_S = 0.5
# Quizzes whose zone one process remembers: about 15 MB; beyond, the oldest is asked for again.
REMEMBERED_ZONES = 100_000
# A rule that is new for a quiz shows after this long; shorter asks Postgres for each board.
RULES_FOR_S = 10.0


async def names_of(connections: Connections, ids: Iterable[str], subject: str = "user") -> dict[str, Shown]:
    """id → what a row shows (a quiz' title; questions have none); what nobody can say is left out: it is still the board."""
    wanted = sorted(set(ids))
    if subject == "user":
        return await connections.profiles.shown(wanted)
    if subject != "quiz" or not wanted:
        return {}
    try:
        async with connections.sql() as sql:
            found = await sql.execute("select quiz_id, title from quizzes where quiz_id = any(%s)", [wanted])
            return {row[0]: Shown(row[1]) for row in await found.fetchall() if row[1]}
    except (LakeboardError, psycopg.Error):
        return {}


# Rows that are read are read again, and an instant as text is half of what a row costs.
_reached = lru_cache(maxsize=16_384)(iso_ms)


def entry(place: Place, anchor_us: int, tick_us: int, known: Mapping[str, Shown]) -> Entry:
    """A place as a reply's row."""
    points, ticks = unpack(place.packed)
    reached = None if ticks is None else _reached(reached_at_us(anchor_us, ticks, tick_us))
    return Entry(place.rank, place.user_id, points, reached, *known.get(place.user_id, NOBODY))


@dataclass(frozen=True, slots=True)
class SessionFrame:
    """What a session's board needs of it, fixed when the session was created."""

    quiz_id: str
    zone: str
    started_at_us: int
    tick_us: int
    rule: str


async def session_of(connections: Connections, answering: Answering, session_id: str) -> SessionFrame:
    """From the session's shard; once it is sealed, from its row: its board stays as long as others of its time.

    Raises BadInput(unknown_session, 404).
    """
    try:
        session, _ = await answering.state(session_id, fresh=True)
    except BadInput as unknown:
        async with connections.sql() as sql:
            found = await sql.execute(
                "select s.quiz_id, q.zone, s.started_at_us, s.tick_ms::bigint * 1000, s.rule from sessions s"
                " join quizzes q using (quiz_id) where s.session_id = %s and s.sealed_at is not null",
                [session_id],
            )
            row = await found.fetchone()
        if row is None:
            raise unknown
        return SessionFrame(*row)
    return SessionFrame(
        session.quiz_id, session.quiz_zone, session.started_at_us, session.tick_ms * 1000, session.rule
    )


async def kept_by_redis(connections: Connections, ends_us: Sequence[int]) -> list[bool]:
    """Whether Redis keeps boards that end at these instants. Raises SystemMissing where nobody can say.

    While Postgres is away the relay's copies on the shards answer: each may be later than the truth, never earlier, so
    what they let through is kept, and what they do not is not known.
    """
    try:
        async with connections.sql() as sql:
            found = await sql.execute("select value from deployment where key = 'boards_since_us'")
            row = await found.fetchone()
            since_us = int(row[0]) if row else 0
        return [end_us > since_us for end_us in ends_us]
    except SystemMissing:
        copies = [await client.get(names.boards_since()) for client in connections.texts]
        known = [int(copy) for copy in copies if copy is not None]
        if not known or not all(end_us > min(known) for end_us in ends_us):
            raise
        return [True for _ in ends_us]


async def rules_of(connections: Connections, quiz_id: str | None) -> tuple[str, ...]:
    """The rules that ever scored an answer of a quiz, or of any (None); empty while Postgres is down: not known."""
    key = quiz_id or ""
    known = connections.rules.get(key)
    if known and known[0] > time.monotonic():
        return known[1]
    where = "" if quiz_id is None else "where quiz_id = %s"
    try:
        async with connections.sql() as sql:
            found = await sql.execute(
                f"select distinct rule from quiz_rules {where} order by 1", [quiz_id] if quiz_id else []
            )
            rules = tuple(row[0] for row in await found.fetchall())
    except (LakeboardError, psycopg.Error):
        return ()
    if len(connections.rules) >= REMEMBERED_ZONES:
        connections.rules.pop(next(iter(connections.rules)))
    connections.rules[key] = (time.monotonic() + RULES_FOR_S, rules)
    return rules


async def _source(connections: Connections, quiz_id: str | None, stale: bool) -> tuple[Boards, int | None]:
    """The boards to read, and, where they are replicas', whole seconds since these heard of their primary."""
    if stale and connections.replicas is not None:
        try:
            async with asyncio.timeout(REPLICA_WAIT_S):
                heard_s = await connections.replicas.heard_s(quiz_id)
        except (RedisError, OSError, TimeoutError) as error:
            LOG.warning("replicas_not_read error=%s", error)
        else:
            if heard_s is not None:
                return connections.replicas, heard_s
    return connections.boards, None


async def read_board(
    connections: Connections,
    board: Board,
    anchor_us: int,
    tick_us: int,
    quiz_id: str | None,
    wanted: Wanted,
    rules: tuple[str, ...],
    stale: bool = False,
) -> BoardReply:
    """The reply from Redis. `quiz_id` owns the board's shard; None means a global board over all shards.

    stale: replicas may be read. What was acknowledged is on them too; the rest is as of when they heard of their primary.
    """
    asked_us = now_us()
    boards, heard_s = await _source(connections, quiz_id, stale)
    key = names.board(str(board.scope), board.period, board.start)
    user_id = wanted.user_id
    page = await boards.page(key, quiz_id, wanted.k, user_id, wanted.m, wanted.users)
    shown = [*page.top, *page.around, *(place for place in page.places if place)]
    known = await connections.profiles.shown([place.user_id for place in shown])
    rows = tuple(entry(place, anchor_us, tick_us, known) for place in page.around)
    ranks = tuple(
        UserRank(user, entry(place, anchor_us, tick_us, known) if place else None)
        for user, place in zip(wanted.users, page.places, strict=True)
    )
    now = now_us()
    return BoardReply(
        scope=str(board.scope),
        period=board.period,
        start=str(board.start),
        entries=tuple(entry(place, anchor_us, tick_us, known) for place in page.top),
        participants=page.participants,
        provenance=Provenance(
            "redis",
            "exact",
            iso_ms(now if heard_s is None else asked_us - (heard_s + 1) * 1_000_000),
            state_of(board.period, board.start, board.zone, now, False),
            rules,
            replica=heard_s is not None,
        ),
        me=next((row for row in rows if row.user_id == user_id), None),
        around=rows,
        ranks=ranks,
    )


async def zone_of_scope(connections: Connections, scope: Scope) -> str:
    """The scope's zone: part of its boards' names, so it is never guessed.

    Raises BadInput(unknown_quiz), and SystemMissing while Postgres is down and this process has not seen the quiz.
    """
    if scope.kind != "quiz":
        return "UTC"
    zones = connections.quiz_zones
    if scope.id not in zones:
        async with connections.sql() as sql:
            found = await sql.execute("select zone from quizzes where quiz_id = %s", [scope.id])
            row = await found.fetchone()
        if row is None:
            raise BadInput("unknown_quiz", f"there is no quiz {scope.id!r}", status=404)
        if len(zones) >= REMEMBERED_ZONES:
            zones.pop(next(iter(zones)))
        zones[scope.id] = str(row[0])
    return zones[scope.id]
