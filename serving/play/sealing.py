"""Sealing: 48 h after its last write a session's keys leave Redis; what comes later takes the slow path (CONTRACTS A3).

Steps: 1 mark it on the shard (the script then refuses); 2 wait until history has its entries; 3 write its row in
Postgres (this waits for imports that hold it FOR SHARE); 4 delete the keys. A crash after any step repeats from 1.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import psycopg

from contracts import names
from contracts.errors import SystemMissing
from serving.boards.shards import Shards
from serving.sessions.report_sources import at_seal

QUIET_US = 48 * 3_600 * 1_000_000
# Sessions a round and shard: sealing is never urgent, play is.
_ROUND = 200
# How long a round waits for history; a session that is marked and no more is finished by a later round.
HISTORY_WAIT_S = 30.0


def _text(fields: dict[bytes, bytes]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in fields.items()}


class Sealer:
    """Seals quiet sessions of one shard. `now` is the clock; `history_position` says how far history is.

    after: told each finished step (marked, history, row); tests crash there.
    """

    def __init__(
        self,
        shards: Shards,
        postgres_url: str,
        now: Callable[[], int],
        history_position: Callable[[int], Awaitable[int]],
        *,
        wait_s: float = HISTORY_WAIT_S,
        after: Callable[[str], None] = lambda step: None,
    ) -> None:
        self.shards = shards
        self.postgres_url = postgres_url
        self.now = now
        self.history_position = history_position
        self.wait_s = wait_s
        self._after = after

    async def seal_quiet(self, shard: int) -> int:
        """Seal what has been quiet long enough; how many. Raises SystemMissing while history does not follow."""
        before = self.now() - QUIET_US
        sealed = 0
        for session_id in await self.shards.quiet_sessions(shard, before, _ROUND):
            sealed += await self.seal(shard, session_id, before)
        return sealed

    async def seal(self, shard: int, session_id: str, quiet_since_us: int) -> bool:
        """Seal one session; False if it was written to again."""
        client: Any = self.shards.clients[shard]
        fields = await client.hgetall(names.session(session_id))
        status, seq = await self.shards.mark_sealed(shard, session_id, quiet_since_us)
        if status == "active":
            return False
        if status == "sealed":
            self._after("marked")  # 1
            await self._wait_for_history(shard, seq)  # 2
            self._after("history")
            players = await client.hkeys(names.session_players(session_id))
            removed = await client.smembers(names.session_removed(session_id))
            kept = at_seal(
                _text(fields), [one.decode() for one in players], [one.decode() for one in removed]
            )
            await self._write_row(shard, session_id, _text(fields), kept)  # 3
            self._after("row")
        await self.shards.forget_session(shard, session_id)  # 4
        return True

    async def _wait_for_history(self, shard: int, seq: int) -> None:
        deadline = time.monotonic() + self.wait_s
        while await self.history_position(shard) < seq:
            if time.monotonic() > deadline:
                raise SystemMissing("system_missing", f"history of shard {shard} has not come to {seq}")
            await asyncio.sleep(0.05)

    async def _write_row(self, shard: int, session_id: str, fields: dict[str, str], kept: str) -> None:
        async with await psycopg.AsyncConnection.connect(self.postgres_url, autocommit=True) as sql:
            await sql.execute(
                "INSERT INTO sessions (session_id, quiz_id, quiz_version, pin, host_id, origin, shard, started_at_us, tick_ms, "
                "rule, at_seal, sealed_at) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, now()) "
                "ON CONFLICT (session_id) DO UPDATE SET sealed_at = coalesce(sessions.sealed_at, now()), "
                "at_seal = coalesce(sessions.at_seal, excluded.at_seal)",
                (
                    session_id,
                    fields.get("quiz_id", ""),
                    fields.get("quiz_version") or "1",
                    fields.get("pin"),
                    fields.get("host_id"),
                    fields.get("origin", "live"),
                    shard,
                    fields.get("started_at_us", "0"),
                    fields.get("tick_ms", "1000"),
                    fields.get("rule", "speed@1"),
                    kept,
                ),
            )
