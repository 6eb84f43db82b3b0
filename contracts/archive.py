"""The archive: what a month of history must equal in the lake before it may leave Postgres, and what keeps it.

A row's checksum is the first 60 bits of SHA-256 over `{shard}/{seq}/` and the event's bytes, so that a row under another
place is another row; 60 bits fit every engine's BIGINT. Sums of it over blocks of seq are compared: equal counts and
sums, and with them every (shard, seq) and every byte, but for a chance of 2^-60 a block.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import date
from typing import NamedTuple

from contracts.errors import BadInput
from contracts.periods import parse_day

# Seqs a block: small enough that a person finds what differs, large enough that a month has a few hundred.
BLOCK_SEQS = 10_000
_HEX_DIGITS = 15


class Block(NamedTuple):
    """Rows of one (shard, seq div BLOCK_SEQS): how many, and the sum of their checksums."""

    entries: int
    checksum: int


Blocks = Mapping[tuple[int, int], Block]


def row_checksum(shard: int, seq: int, event: bytes) -> int:
    """60 bits of SHA-256 over a row's place and bytes."""
    return int(hashlib.sha256(f"{shard}/{seq}/".encode() + event).hexdigest()[:_HEX_DIGITS], 16)


def postgres_checksum() -> str:
    """`row_checksum` of a row of `history`, as SQL for Postgres: a bigint."""
    place = "convert_to(shard || '/' || seq || '/', 'UTF8')"
    digits = f"substr(encode(sha256({place} || event), 'hex'), 1, {_HEX_DIGITS})"
    return f"('x' || {digits})::bit({_HEX_DIGITS * 4})::bigint"


def total(blocks: Blocks) -> Block:
    """All blocks as one."""
    return Block(sum(b.entries for b in blocks.values()), sum(b.checksum for b in blocks.values()))


def differences(history: Blocks, lake: Blocks) -> list[str]:
    """What differs, a line a block in order; empty if the two are equal."""
    found = []
    for key in sorted(history.keys() | lake.keys()):
        ours, theirs = history.get(key, Block(0, 0)), lake.get(key, Block(0, 0))
        if ours == theirs:
            continue
        shard, block = key
        first = block * BLOCK_SEQS
        place = f"shard {shard}, seq {first} to {first + BLOCK_SEQS - 1}"
        counts = f"history has {ours.entries}, the lake {theirs.entries}"
        found.append(f"{place}: {counts if ours.entries != theirs.entries else 'the bytes differ'}")
    return found


def parse_month(text: str) -> date:
    """The first day of a month written YYYY-MM. Raises BadInput(invalid_field)."""
    if len(text) != 7:
        raise BadInput("invalid_field", f"{text[:40]!r} is not a month such as 2026-01")
    return parse_day(f"{text}-01")
