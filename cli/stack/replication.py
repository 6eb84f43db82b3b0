"""Replicas of the Valkey shards, and the sentinels that promote one when its primary is gone (docs/decisions/0010).

A shard is then two servers that can each be its primary; who is stands in files of the sentinels and is read from there
before every start, so that a server that was the primary comes back as a replica. Sentinel is the same program as the
server; it and the servers keep what they learn in their configuration files, which are therefore made once and then theirs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cli.stack.process import Process
from cli.stack.valkey import answers, binary, valkey

SENTINELS = 3
# Sentinels that must agree that a primary is gone: most of them, so that one that is cut off promotes nobody.
QUORUM = 2
# A primary that stalls shorter than this (a slow sync, a fork) stays; a machine that is gone costs this much longer.
DOWN_AFTER_MS = 3_000
# A promotion that does not get on is tried again after this.
FAILOVER_MS = 10_000
# A primary whose replica has been silent for so long takes no writes, instead of more that would be lost with it.
MOST_LAG_S = 10


@dataclass(frozen=True, slots=True)
class ReplicatedShard:
    """name: the shard's among the sentinels. ports: of the first primary and of its replica; `files`: the sentinels'."""

    name: str
    ports: tuple[int, int]
    files: tuple[Path, ...]

    def primary_port(self) -> int | None:
        """The primary's port as the sentinel with the newest promotion has written it down; None before there is a file."""
        newest: tuple[int, int] | None = None
        for file in self.files:
            text = file.read_text() if file.exists() else ""
            port = re.search(rf"^sentinel monitor {self.name} \S+ (\d+) ", text, re.MULTILINE)
            epoch = re.search(rf"^sentinel config-epoch {self.name} (\d+)", text, re.MULTILINE)
            if port:
                seen = (int(epoch[1]) if epoch else 0, int(port[1]))
                newest = max(newest or seen, seen)
        return newest[1] if newest else None

    def write_role(self, config: Path, port: int) -> None:
        """Put the server's role into its file: a replica of whoever is primary now. What else is there stays."""
        lines = config.read_text().splitlines() if config.exists() else []
        primary = self.primary_port()
        if primary is None:
            if config.exists():
                return
            primary = self.ports[0]
        lines = [line for line in lines if not line.startswith(("replicaof ", "slaveof "))]
        if port != primary:
            lines.append(f"replicaof 127.0.0.1 {primary}")
        config.parent.mkdir(parents=True, exist_ok=True)
        draft = config.with_suffix(".draft")
        draft.write_text("\n".join(lines) + "\n")
        draft.replace(config)


def replicated_valkey(
    name: str, folder: Path, port: int, shard: ReplicatedShard, options: Mapping[str, str]
) -> Process:
    """Defines one of a shard's two servers."""
    config = folder / "valkey.conf"
    own = {
        # CONTRACTS C2: without its replica a primary takes no writes.
        "min-replicas-to-write": "1",
        "min-replicas-max-lag": str(MOST_LAG_S),
        # Nothing else comes while a replica waits for its first copy; the default waits 5 s for more replicas.
        "repl-diskless-sync-delay": "0",
    }
    process = valkey(name, folder, port, {**options, **own})
    program, *arguments = process.command
    return replace(
        process,
        command=(program, str(config), *arguments),
        prepare=lambda: shard.write_role(config, port),
    )


def sentinel(
    name: str,
    folder: Path,
    port: int,
    shards: Sequence[ReplicatedShard],
    after: tuple[str, ...],
    down_after_ms: int = DOWN_AFTER_MS,
) -> Process:
    """Defines one sentinel of all shards. It ends before the servers do: their end is no reason to promote anybody."""
    config = folder / "sentinel.conf"

    def prepare() -> None:
        if config.exists():
            return
        lines = [f"port {port}", "bind 127.0.0.1", f"dir {folder}"]
        for shard in shards:
            lines += [
                f"sentinel monitor {shard.name} 127.0.0.1 {shard.ports[0]} {QUORUM}",
                f"sentinel down-after-milliseconds {shard.name} {down_after_ms}",
                f"sentinel failover-timeout {shard.name} {FAILOVER_MS}",
            ]
        folder.mkdir(parents=True, exist_ok=True)
        draft = config.with_suffix(".draft")
        draft.write_text("\n".join(lines) + "\n")
        draft.replace(config)

    return Process(
        name=name,
        command=(str(binary()), str(config), "--sentinel"),
        folder=folder,
        port=port,
        after=after,
        prepare=prepare,
        ready=lambda: answers(port),
    )
