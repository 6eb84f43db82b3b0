"""Answers recorded and relayed inside the test's process: no api, no relay process, nothing to wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg

from serving.migrations.upgrade import upgrade
from serving.relay.relay import ShardRelay
from tests import model
from tests.serving.relay_stack import body_of, importer_of


@dataclass
class Recorded:
    """Two shards and a database; `play` imports answers, `relay` brings them to history and the global boards."""

    valkey_urls: Sequence[str]
    postgres_url: str

    def play(self, answers: list[model.Answer]) -> int:
        """Import answers as one request; how many counted."""

        async def send() -> int:
            addresses = {
                "LAKEBOARD_VALKEY_URLS": ",".join(self.valkey_urls),
                "LAKEBOARD_POSTGRES_URL": self.postgres_url,
            }
            async with importer_of(addresses) as importer:
                reply = await importer.import_body(body_of(answers))
                assert reply["refused"] == 0, reply
                return int(reply["counted"])

        return asyncio.run(send())

    @contextmanager
    def relays(self) -> Iterator[list[ShardRelay]]:
        """The relay of each shard, to be stepped."""
        found = [
            ShardRelay(shard, self.valkey_urls, self.postgres_url) for shard in range(len(self.valkey_urls))
        ]
        yield found
        for one in found:
            one.close()

    def relay(self) -> None:
        """Step every relay until nothing moves."""
        with self.relays() as relays:
            while any(one.step() for one in relays):
                pass


def recorded(valkey_urls: Sequence[str], postgres_url: str, boards_since_us: int = 0) -> Recorded:
    """A fresh record over empty shards and an empty database."""
    upgrade(postgres_url)
    with psycopg.connect(postgres_url) as sql:
        sql.execute("UPDATE deployment SET value = %s WHERE key = 'boards_since_us'", (str(boards_since_us),))
    return Recorded(valkey_urls, postgres_url)
