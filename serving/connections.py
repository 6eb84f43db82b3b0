"""The systems an api process talks to, made once at start and passed in; nothing connects at import.

Valkey clients give bytes (`shards`, for answers and boards) or text (`texts`, for session hashes) over the same shards.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg_pool import AsyncConnectionPool, PoolTimeout
from redis.asyncio import Redis

from contracts.errors import SystemMissing
from contracts.identity import HashRing
from contracts.settings import Settings
from serving.boards.acknowledged import ScriptRunner
from serving.boards.boards import Boards
from serving.boards.clients import client_of, close_client
from serving.boards.shards import Shards
from serving.breaker import Breaker
from serving.quizzes.shown import Quizzes
from serving.users.profiles import Profiles

# Enough for the slow paths of one process; play itself does not use Postgres.
POSTGRES_CONNECTIONS = 8
# Text connections a shard: enough to keep a shard busy over round trips; more only queues there instead of here.
VALKEY_CONNECTIONS = 64
# Longer than any burst takes; then the shard is as good as away.
VALKEY_WAIT_S = 10.0
# How long a request waits for Postgres before it says that it is missing; a running session never waits for it.
POSTGRES_WAIT_S = 2.0


@dataclass
class Connections:
    """Clients of one process. `replicas`: boards as the shards' replicas have them, None where there are none.

    `session_shards` remembers where a session lives (it never moves while it runs), `quiz_zones` a quiz's zone (fixed
    when the quiz was made), so that their boards can be read while Postgres is down; `rules` has (until, rules) by quiz.
    """

    settings: Settings
    shards: Shards
    boards: Boards
    replicas: Boards | None
    texts: list[Redis]
    ring: HashRing
    postgres: AsyncConnectionPool
    session_shards: dict[str, int] = field(default_factory=dict)
    quiz_zones: dict[str, str] = field(default_factory=dict)
    rules: dict[str, tuple[float, tuple[str, ...]]] = field(default_factory=dict)
    postgres_breaker: Breaker = field(default_factory=Breaker)
    profiles: Profiles = field(init=False)
    quizzes: Quizzes = field(init=False)

    def __post_init__(self) -> None:
        scripts = [
            ScriptRunner(client, address)
            for client, address in zip(self.texts, self.settings.shards, strict=True)
        ]
        self.profiles = Profiles(scripts, self.sql, self.settings.media_base_url)
        self.quizzes = Quizzes(scripts, self.sql, self.ring.shard_of)

    @staticmethod
    def of(settings: Settings) -> Connections:
        """Makes the clients; none of them connects yet."""
        shards = Shards(settings.shards)
        return Connections(
            settings=settings,
            shards=shards,
            boards=Boards(shards),
            replicas=Boards(Shards(settings.shards, replicas=True)) if settings.valkey_sentinels else None,
            # Callers wait for a connection: while thousands of sockets connect, waiting is the bound.
            texts=[
                client_of(one, text=True, max_connections=VALKEY_CONNECTIONS, wait_s=VALKEY_WAIT_S)
                for one in settings.shards
            ],
            ring=shards.ring,
            postgres=AsyncConnectionPool(
                settings.postgres_url,
                min_size=0,
                max_size=POSTGRES_CONNECTIONS,
                timeout=POSTGRES_WAIT_S,
                open=False,
                # A connection from before a restart of Postgres is thrown away instead of failing a request.
                check=AsyncConnectionPool.check_connection,
                # Back-off grows during an outage; after this it starts again, so that play joins soon after.
                reconnect_timeout=5,
                kwargs={"autocommit": True, "connect_timeout": 2},
            ),
        )

    @asynccontextmanager
    async def sql(self) -> AsyncIterator[psycopg.AsyncConnection]:
        """A Postgres connection in autocommit. Raises SystemMissing if the server does not answer, at once if it just has not."""
        missing = SystemMissing(
            "system_missing", "Postgres does not answer", next_step="see ./lakeboard status"
        )
        if not self.postgres_breaker.allows():
            raise missing
        try:
            async with self.postgres.connection() as connection:
                self.postgres_breaker.succeeded()
                yield connection
        except (psycopg.OperationalError, PoolTimeout) as error:
            self.postgres_breaker.failed()
            raise missing from error

    def secret(self, name: str) -> str:
        """The secret in the file `name`. Raises SystemMissing naming the file."""
        path = Path(self.settings.secrets_dir) / name
        try:
            return path.read_text().strip()
        except OSError as error:
            raise SystemMissing(
                "system_missing", f"secret {path} cannot be read", next_step="./lakeboard up makes it"
            ) from error

    async def close(self) -> None:
        """Closes every client."""
        self.boards.close()
        await self.shards.close()
        if self.replicas is not None:
            self.replicas.close()
            await self.replicas.shards.close()
        for client in self.texts:
            await close_client(client)
        await self.postgres.close()
