"""The Redis shards: one client each, the ring that owns quizzes, and every script call.

Scripts decide (their first comments are the law); this module only lays out KEYS and ARGV and reads replies.
Reading boards is `serving/boards/boards.py`; the relay's side of the outbox is `serving/boards/outbox.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from contracts import names
from contracts.events import ANSWER_TYPE, BARRIER_TYPE
from contracts.identity import HashRing
from contracts.settings import OUTBOX_MOST_ENTRIES, ShardAddress
from serving.boards.acknowledged import ScriptRunner
from serving.boards.clients import address_of, client_of, close_client
from serving.boards.recorder import Recorder

_HERE = Path(__file__).parent
COUNTED = "counted"
REPEAT = "repeat"
OUTBOX_FULL = "outbox_full"
LIVE, IMPORT, LATE = "live", "import", "late"
# Scripts in flight a shard: the second runs while the first one's append is synced.
IN_FLIGHT = 2
# Quizzes whose shard is remembered: a hash an answer otherwise.
REMEMBERED_QUIZZES = 65_536
# Roles whose sockets a session counts.
ROLES_PRESENT = ("host", "player")


@lru_cache
def script_text(name: str) -> str:
    """The Lua source of one of this room's scripts."""
    return (_HERE / f"{name}.lua").read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class AnswerToRecord:
    """One answer as the script takes it.

    mode: live, import, or late (a sealed session, checked by the caller: outbox entry alone). epoch: the session's
    epoch it was scored under, "" unless live. boards: (Redis key, ticks) of each board. rank_board: the key among
    them whose total and rank the reply carries, or "". detail: what a report of the session tells of it (`detail_of`), or "".
    handler: who records it and tells its own sockets of it; other handlers with a socket of the session are told by the
    script. None: nobody is told.
    """

    session_id: str
    quiz_id: str
    question_id: str
    user_id: str
    points: int
    occurred_at_us: int
    correct: bool
    event: bytes
    boards: tuple[tuple[str, int], ...]
    mode: str = LIVE
    epoch: str = ""
    rank_board: str = ""
    detail: str = ""
    handler: str | None = None

    @property
    def run(self) -> tuple[Any, ...]:
        """What an answer has in common with those of its run, as the script takes it."""
        boards = tuple([key for key, _ in self.boards])
        return self.mode, self.session_id, self.quiz_id, self.epoch, self.rank_board, self.handler, boards


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an answer. status: counted, repeat (the first one's result), or a code of contracts.errors."""

    status: str
    points: int
    occurred_at_us: int
    seq: int
    correct: bool
    total_packed: int | None = None
    rank: int | None = None

    @property
    def kept(self) -> bool:
        return self.status in (COUNTED, REPEAT)


@dataclass
class _Keys:
    """The distinct keys of one call and their indices, counted from 1 as Lua does."""

    keys: list[str]
    index: dict[str, int] = field(default_factory=dict)

    def of(self, key: str) -> int:
        found = self.index.get(key)
        if found is None:
            self.keys.append(key)
            found = self.index[key] = len(self.keys)
        return found


def arguments_of(
    batch: Sequence[AnswerToRecord], outbox_entries: int = OUTBOX_MOST_ENTRIES
) -> tuple[list[str], list[Any]]:
    """KEYS and ARGV of record_answers.lua for a batch."""
    keys = _Keys([names.outbox(), names.outbox_seq(), names.idle_sessions()])
    argv: list[Any] = [0, outbox_entries]
    for run, answers in groupby(batch, key=attrgetter("run")):
        argv[0] += 1
        those = list(answers)
        argv += _run_arguments(run, keys)
        argv.append(len(those))
        for a in those:
            argv += (
                names.duplicate_field(a.question_id, a.user_id),
                a.question_id,
                a.user_id,
                a.points,
                a.occurred_at_us,
                int(a.correct),
                a.event,
                a.detail,
            )
            argv += [ticks for _, ticks in a.boards]
    return keys.keys, argv


def _run_arguments(run: tuple[Any, ...], keys: _Keys) -> list[Any]:
    mode, session_id, quiz_id, epoch, rank_board, handler, boards = run
    return [
        mode,
        keys.of(names.session(session_id)),
        keys.of(names.session_answers(session_id)),
        session_id,
        quiz_id,
        epoch,
        ANSWER_TYPE,
        keys.of(rank_board) if rank_board else 0,
        keys.of(names.session_handlers(session_id)) if handler is not None else 0,
        names.channel(session_id) if handler is not None else "",
        handler or "",
        len(boards),
        *(keys.of(board) for board in boards),
    ]


def _outcome(reply: bytes) -> Outcome:
    status, points, occurred, seq, correct, packed, rank = reply.decode().split("|")
    return Outcome(
        status,
        int(points),
        int(occurred),
        int(seq),
        correct == "1",
        int(packed) if packed else None,
        int(rank) or None,
    )


def _session_arguments(session_id: str, fields: Mapping[str, Any]) -> tuple[list[str], list[Any]]:
    """KEYS and ARGV of create_session.lua."""
    argv: list[Any] = [session_id]
    for name, value in fields.items():
        argv += (name, value)
    return [names.session(session_id), names.idle_sessions()], argv


class Shards:
    """Clients of all shards, in order of their numbers. Opens nothing until the first call.

    Every call that writes what somebody is told of raises SystemMissing if too few replicas have it: it is not undone,
    and the same call again is harmless and gets the first one's result.
    """

    def __init__(self, shards: Sequence[str | ShardAddress], *, replicas: bool = False) -> None:
        """replicas: clients of the replicas, for reading alone."""
        self.replicas = replicas
        self.addresses = [address_of(shard) for shard in shards]
        # Workers send batches and readers share the rest; at the bound a caller fails, so it is far above what runs.
        self.clients: list[Redis] = [
            client_of(one, max_connections=1_024, replica=replicas) for one in self.addresses
        ]
        self._scripts = [
            ScriptRunner(client, one) for client, one in zip(self.clients, self.addresses, strict=True)
        ]
        script = script_text("record_answers")
        self.recorders = [Recorder(one, script, IN_FLIGHT) for one in self.addresses]
        self.ring = HashRing(len(shards))
        self._owner = lru_cache(maxsize=REMEMBERED_QUIZZES)(self.ring.shard_of)

    def __len__(self) -> int:
        return len(self.clients)

    def shard_of(self, quiz_id: str) -> int:
        """The shard that owns a quiz, its sessions and their boards."""
        return self._owner(quiz_id)

    async def close(self) -> None:
        for recorder in self.recorders:
            recorder.close()
        for client in self.clients:
            await close_client(client)

    async def call(self, shard: int, name: str, keys: Sequence[str], argv: Sequence[Any]) -> Any:
        """Run one of this room's scripts; its reply, once it is acknowledged."""
        return await self._scripts[shard].run(script_text(name), keys, argv)

    def send_batch(
        self,
        shard: int,
        batch: Sequence[AnswerToRecord],
        slot: int,
        done: Callable[[list[Outcome] | Exception], None],
    ) -> None:
        """Records a batch that belongs to one shard; `done` gets the outcomes in the batch's order. A repeat is harmless.

        slot: below IN_FLIGHT; batches in flight at the same time have different ones.
        """

        def answered(replies: list[Any] | Exception) -> None:
            done(replies if isinstance(replies, Exception) else [_outcome(reply) for reply in replies])

        keys, argv = arguments_of(batch, self.addresses[shard].outbox_entries)
        self.recorders[shard].send(slot, keys, argv, answered)

    async def record(self, shard: int, batch: Sequence[AnswerToRecord]) -> list[Outcome]:
        """The same for a caller that waits."""
        found: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()

        def done(outcomes: list[Outcome] | Exception) -> None:
            if found.done():
                return
            if isinstance(outcomes, Exception):
                found.set_exception(outcomes)
            else:
                found.set_result(outcomes)

        self.send_batch(shard, batch, 0, done)
        return await found

    async def create_session(self, shard: int, session_id: str, fields: Mapping[str, Any]) -> str:
        """Create a session's hash: created, or there."""
        keys, argv = _session_arguments(session_id, fields)
        return (await self.call(shard, "create_session", keys, argv)).decode()

    async def create_sessions(self, shard: int, sessions: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
        """Create many sessions' hashes in one round trip; those that are there stay as they are."""
        calls = [_session_arguments(session_id, fields) for session_id, fields in sessions]
        await self._scripts[shard].run_many(script_text("create_session"), calls)

    async def write_barriers(
        self, shard: int, barriers: Sequence[tuple[str, bytes]]
    ) -> list[tuple[str, int]]:
        """Put (field `zone|day`, event bytes) into the outbox, each once: (written | there, seq) for each."""
        keys = [names.outbox(), names.outbox_seq(), names.barriers()]
        argv: list[Any] = [BARRIER_TYPE]
        for pair in barriers:
            argv += pair
        return [(status.decode(), int(seq)) for status, seq in await self.call(shard, "barrier", keys, argv)]

    async def join_session(
        self, shard: int, session_id: str, user_id: str, name: str, most_players: int
    ) -> str:
        """Put a player on a session's list and board: joined, or why not (unknown, ended, locked, full, removed)."""
        keys = [
            names.session(session_id),
            names.session_players(session_id),
            names.session_board(session_id),
            names.session_removed(session_id),
        ]
        argv = [user_id, name, most_players, names.channel(session_id)]
        return (await self.call(shard, "join_session", keys, argv)).decode()

    async def mark_sealed(self, shard: int, session_id: str, quiet_since_us: int) -> tuple[str, int]:
        """First step of sealing: (sealed, seq to wait for), (active, 0) or (gone, 0)."""
        keys = [names.session(session_id), names.outbox_seq(), names.idle_sessions()]
        status, seq = await self.call(shard, "seal", keys, [quiet_since_us, session_id])
        return status.decode(), int(seq)

    async def quiet_sessions(self, shard: int, before_us: int, limit: int) -> list[str]:
        """Sessions whose last write is before an instant, oldest first."""
        found: Any = await self.clients[shard].zrangebyscore(
            names.idle_sessions(), "-inf", before_us, start=0, num=limit
        )
        return [member.decode() for member in found]

    async def forget_session(self, shard: int, session_id: str) -> None:
        """Last step of sealing: delete the session's keys; its board stays until its period leaves Redis."""
        async with self.clients[shard].pipeline(transaction=True) as pipe:
            pipe.delete(
                names.session_answers(session_id),
                names.session_questions(session_id),
                names.session_players(session_id),
                names.session_removed(session_id),
                names.session_places(session_id),
                names.session_handlers(session_id),
                *(names.session_present(session_id, role) for role in ROLES_PRESENT),
                names.session(session_id),
            )
            pipe.zrem(names.idle_sessions(), session_id)
            pipe.zrem(names.due_sessions(), session_id)
            await pipe.execute()

    async def last_seq(self, shard: int) -> int:
        """The last sequence number a shard gave out."""
        return int(await self.clients[shard].get(names.outbox_seq()) or 0)
