"""Moves of a session, run: by its host, and by the clock (the run layer of `machine.py` and `pacing.py`)."""

from __future__ import annotations

from typing import Protocol

import psycopg

from contracts.errors import BadInput, LakeboardError
from serving.metrics import MOVES
from serving.sessions import machine, pacing
from serving.sessions.machine import Move
from serving.sessions.opening import Opening
from serving.sessions.session import CLOSED, ENDED, Session
from serving.sessions.store import SessionStore, now_us


class Presence(Protocol):
    """What hosting asks of the sockets' side."""

    async def host_here(self, shard: int, session: Session) -> bool:
        """Whether the session's host has an open socket on any handler."""


class Hosting:
    """Decides and writes moves; a move that another one overtook is a conflict, not a second step."""

    def __init__(self, store: SessionStore, opening: Opening) -> None:
        self.store = store
        self.opening = opening

    async def move(self, session_id: str, kind: str, epoch: int | None = None) -> Session:
        """The host's move `kind` (a name in machine.MOVES); the session after it.

        `epoch`, if given, is what the host saw: a move sent again after its reply was lost is then a conflict, and not
        a second question skipped. Raises BadInput: session_ended, session_sealed, session_paused, session_conflict.
        """
        session = await self.store.load(session_id)
        self._seen(session, epoch)
        questions = await self.store.questions(session_id)
        fields = machine.MOVES[kind](session, questions, now_us())
        session = await self._write(session, fields, "host")
        if session.state == CLOSED and kind in ("close", "advance"):
            # Its own move, after the closing one is written: nobody can answer what is about to be told.
            fields = machine.reveal(session, questions, now_us())
            if await self.store.move(session, fields):
                await self._after(session, fields, "host")
            # If not, the clock has done it.
            session = await self.store.load(session_id)
        return session

    async def remove(self, session_id: str, user_id: str, back: bool = False) -> Session:
        """Removes a player, or lets them in again (`back`). Raises BadInput(unknown_user) for one who never joined."""
        session = await self.store.load(session_id)
        if user_id not in await self.store.players(session_id):
            raise BadInput("unknown_user", f"{user_id[:80]!r} did not join session {session_id}", status=404)
        if back:
            return await self._write(session, machine.readmit(session, user_id), "host", readmit=user_id)
        return await self._write(session, machine.remove(session, user_id), "host", remove=user_id)

    async def run_due(self, shard: int, session_id: str, presence: Presence) -> None:
        """Does what is due in a session by the clock, or says when to look again. Losing a race to the host is fine."""
        # It was found there: no other shard needs to be asked, or to be up.
        self.store.remember(session_id, shard)
        try:
            session = await self.store.load(session_id)
        except BadInput:  # sealed and gone
            await self.store.look_again(shard, session_id, 0, None)
            return
        questions = await self.store.questions(session_id)
        here = session.state in pacing.WITHOUT_HOST_US and await presence.host_here(shard, session)
        now = now_us()
        move, again_us = pacing.due(session, questions, here, now)
        if move is None:
            await self.store.look_again(shard, session_id, session.epoch, again_us, now if here else None)
        elif move and await self.store.move(session, move):
            await self._after(session, move, "clock")

    def _seen(self, session: Session, epoch: int | None) -> None:
        if epoch is not None and epoch != session.epoch:
            raise BadInput(
                "session_conflict",
                f"session {session.session_id} is at epoch {session.epoch}, the move was for {epoch}",
                status=409,
                next_step="look at the session again",
            )

    async def _write(
        self, session: Session, fields: Move, by: str, remove: str = "", readmit: str = ""
    ) -> Session:
        if not fields:
            return session
        moved = await self.store.move(session, {**fields, "host_seen_us": now_us()}, remove, readmit)
        if not moved:
            raise BadInput(
                "session_conflict",
                f"session {session.session_id} moved on at the same moment",
                status=409,
                next_step="look at the session again",
            )
        await self._after(session, fields, by)
        return await self.store.load(session.session_id)

    async def _after(self, session: Session, fields: Move, by: str) -> None:
        MOVES.labels(by).inc()
        if fields.get("state") == ENDED:
            await self.opening.forget_pin(session)
            await self._note_end(session.session_id)

    async def _note_end(self, session_id: str) -> None:
        """Postgres learns of the end if it is there; sealing writes the row in any case."""
        try:
            async with self.store.connections.sql() as sql:
                await sql.execute("update sessions set ended_at = now() where session_id = %s", [session_id])
        except (LakeboardError, psycopg.Error):
            pass
