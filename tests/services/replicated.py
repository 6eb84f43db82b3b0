"""A shard with a replica and three sentinels, made of the stack's own definitions, on free ports."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from cli.stack.process import Running, free_port, launch
from cli.stack.replication import SENTINELS, ReplicatedShard, replicated_valkey, sentinel
from contracts.settings import Settings

NAME = "valkey_1"
# Shorter than the stack's: a test must not wait for it, and nothing here stalls so long by itself.
DOWN_AFTER_MS = 1_000


@dataclass
class Replicated:
    """Both servers by port, and the sentinels."""

    servers: dict[int, Running]
    sentinels: list[Running]
    shard: ReplicatedShard

    def settings(self, postgres_url: str = "", wait_ms: int = 500) -> Settings:
        """One shard, found through the sentinels; a write waits for its replica."""
        return Settings(
            profile="live",
            valkey_urls=("redis://127.0.0.1:1/0",),  # nobody: the sentinels know better
            valkey_sentinels=tuple(f"127.0.0.1:{one.process.port}" for one in self.sentinels),
            valkey_primaries=(NAME,),
            valkey_wait_replicas=1,
            valkey_wait_ms=wait_ms,
            postgres_url=postgres_url,
        )

    def client(self, port: int) -> Any:
        return Redis(port=port, decode_responses=True)

    def role(self, port: int) -> str:
        """master, slave, or empty while the server does not answer."""
        try:
            with self.client(port) as client:
                found = client.info("replication")
                linked = found["role"] == "master" or found["master_link_status"] == "up"
                return str(found["role"]) if linked else ""
        except RedisError:
            return ""

    def ports(self) -> tuple[int, int]:
        """(primary, the other one), as the sentinels see it now."""
        with self.client(self.sentinels[0].process.port or 0) as one:
            primary = int(one.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)[1])
        return primary, next(port for port in self.servers if port != primary)

    def wait_whole(self, seconds: float = 30) -> None:
        """Until a primary has its replica, and the sentinels know both and one another."""
        deadline = time.monotonic() + seconds
        while not self._whole():
            assert time.monotonic() < deadline, f"not whole: {[(p, self.role(p)) for p in self.servers]}"
            time.sleep(0.05)

    def _whole(self) -> bool:
        if sorted(self.role(port) for port in self.servers) != ["master", "slave"]:
            return False
        if self.role(self.ports()[0]) != "master":
            return False
        for one in self.sentinels:
            with Redis(port=one.process.port or 0, decode_responses=True) as client:
                state: Any = client.sentinel_master(NAME)
                replicas: Any = client.sentinel_slaves(NAME)
            linked = [r for r in replicas if not (r["is_sdown"] or r["is_odown"] or r["is_disconnected"])]
            if state["num-other-sentinels"] != SENTINELS - 1 or len(linked) != 1:
                return False
        return True

    def freeze(self, port: int) -> None:
        """Stop a server from running, as a machine that hangs does."""
        os.kill(self.servers[port].pid, signal.SIGSTOP)

    def thaw(self, port: int) -> None:
        os.kill(self.servers[port].pid, signal.SIGCONT)


@contextmanager
def replicated_shard(folder: Path) -> Iterator[Replicated]:
    """A whole one; everything is ended afterwards, the sentinels first."""
    ports = (free_port(), free_port())
    names = [f"sentinel_{number}" for number in range(1, SENTINELS + 1)]
    shard = ReplicatedShard(NAME, ports, tuple(folder / name / "sentinel.conf" for name in names))
    servers: dict[int, Running] = {}
    sentinels: list[Running] = []
    try:
        for number, port in enumerate(ports, 1):
            process = replicated_valkey(f"valkey-{number}", folder / f"valkey-{number}", port, shard, {})
            servers[port] = launch(process, folder / f"valkey-{number}.log")
        found = Replicated(servers, sentinels, shard)
        deadline = time.monotonic() + 20
        while (
            found.role(ports[1]) != "slave"
        ):  # sentinels look for replicas at once, and then only every 10 s
            assert time.monotonic() < deadline
            time.sleep(0.05)
        for name in names:
            process = sentinel(name, folder / name, free_port(), [shard], (), DOWN_AFTER_MS)
            sentinels.append(launch(process, folder / f"{name}.log"))
        found.wait_whole()
        yield found
    finally:
        for one in (*sentinels, *servers.values()):
            one.kill()
