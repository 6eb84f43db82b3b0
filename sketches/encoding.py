"""The envelope of a sketch's bytes: what it is and with what parameters it was made, then its counters.

Layout, little-endian: magic `LBSK`, version u8, kind u8, parameter length u16, parameters (packed by the kind),
payload length u32, CRC-32 u32 of everything before it and of the payload, payload. A reader that finds another
kind, version or sum raises BadInput(bad_sketch): two sketches are merged only when their headers are equal, since
counters of other widths or seeds add up to nonsense without an error.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from contracts.errors import BadInput

MAGIC = b"LBSK"
VERSION = 1
# Numbers on the wire: never reused.
KIND_COUNT_MIN = 1
KIND_FREQUENT_ITEMS = 2
KIND_QUANTILES = 3
KIND_DISTINCT = 4
_HEAD = struct.Struct("<4sBBH")
_TAIL = struct.Struct("<II")
# 64 MiB: a Count-Min of epsilon 1e-6 would be 109 MB; larger than this is a corrupt length, not a sketch of ours.
MAX_PAYLOAD_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Envelope:
    """One sketch taken apart: `kind`, its packed `parameters`, and its `payload` of counters."""

    kind: int
    parameters: bytes
    payload: bytes


def wrap(envelope: Envelope) -> bytes:
    """The bytes that travel and rest. Equal envelopes give equal bytes."""
    if len(envelope.payload) > MAX_PAYLOAD_BYTES:
        raise BadInput("bad_sketch", f"payload of {len(envelope.payload)} bytes is above {MAX_PAYLOAD_BYTES}")
    head = _HEAD.pack(MAGIC, VERSION, envelope.kind, len(envelope.parameters)) + envelope.parameters
    length = struct.pack("<I", len(envelope.payload))
    crc = zlib.crc32(envelope.payload, zlib.crc32(head + length))
    return head + length + struct.pack("<I", crc) + envelope.payload


def unwrap(data: bytes, kind: int) -> Envelope:
    """The envelope in `data`. Raises BadInput(bad_sketch) if it is cut, altered, or of another kind or version."""
    if len(data) < _HEAD.size:
        raise BadInput("bad_sketch", f"{len(data)} bytes are too few for a header")
    magic, version, found_kind, parameter_length = _HEAD.unpack_from(data)
    if magic != MAGIC:
        raise BadInput("bad_sketch", "the bytes do not begin as a sketch does")
    if version != VERSION:
        raise BadInput(
            "bad_sketch", f"version {version}, this code reads {VERSION}", next_step="update the reader"
        )
    if found_kind != kind:
        raise BadInput("bad_sketch", f"kind {found_kind}, wanted {kind}")
    body = _HEAD.size + parameter_length
    if len(data) < body + _TAIL.size:
        raise BadInput("bad_sketch", "the header is cut")
    payload_length, crc = _TAIL.unpack_from(data, body)
    payload = data[body + _TAIL.size :]
    if payload_length != len(payload):
        raise BadInput("bad_sketch", f"payload of {len(payload)} bytes, header says {payload_length}")
    if zlib.crc32(payload, zlib.crc32(data[: body + 4])) != crc:
        raise BadInput("bad_sketch", "the checksum does not match")
    return Envelope(found_kind, data[_HEAD.size : body], payload)
