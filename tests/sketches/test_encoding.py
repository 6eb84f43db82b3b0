"""The bytes of every kind of sketch: golden vectors, and what is refused with a code."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import BadInput
from sketches.count_min import CountMin
from sketches.distinct import Distinct
from sketches.encoding import (
    KIND_COUNT_MIN,
    KIND_DISTINCT,
    KIND_FREQUENT_ITEMS,
    KIND_QUANTILES,
    Envelope,
    unwrap,
    wrap,
)
from sketches.frequent_items import FrequentItems
from sketches.quantiles import Quantiles

VECTORS = json.loads(Path(__file__).parents[1].joinpath("vectors", "sketches.json").read_text("utf-8"))
READERS: dict[int, Callable[[bytes], Any]] = {
    KIND_COUNT_MIN: CountMin.from_bytes,
    KIND_FREQUENT_ITEMS: FrequentItems.from_bytes,
    KIND_DISTINCT: Distinct.from_bytes,
    KIND_QUANTILES: Quantiles.from_bytes,
}


def fresh(kind: int) -> CountMin | FrequentItems | Distinct | Quantiles:
    """The sketch of the vectors, made anew."""
    if kind == KIND_QUANTILES:
        quantiles = Quantiles.from_size(VECTORS["quantiles"]["k"])
        quantiles.update_many(VECTORS["values"])
        return quantiles
    if kind == KIND_DISTINCT:
        distinct = Distinct.from_size(VECTORS["distinct"]["lg_size"])
        for key, _ in VECTORS["rows"]:
            distinct.update("word", key)
        return distinct
    counted: CountMin | FrequentItems
    if kind == KIND_COUNT_MIN:
        counted = CountMin.from_error(VECTORS["count_min"]["epsilon"], VECTORS["count_min"]["delta"])
    else:
        counted = FrequentItems.from_size(VECTORS["frequent_items"]["lg_size"])
    for key, weight in VECTORS["rows"]:
        counted.update("word", key, weight)
    return counted


def golden(kind: int) -> bytes:
    names = {1: "count_min", 2: "frequent_items", 3: "quantiles", 4: "distinct"}
    return bytes.fromhex(VECTORS[names[kind]]["bytes"])


@pytest.mark.unit
@pytest.mark.parametrize("kind", READERS)
def test_bytes_are_those_of_the_vectors(kind: int) -> None:
    assert golden(kind) == fresh(kind).to_bytes()
    assert golden(kind) == READERS[kind](golden(kind)).to_bytes()


@pytest.mark.unit
def test_vectors_read_back_as_they_were_counted() -> None:
    count_min = CountMin.from_bytes(golden(KIND_COUNT_MIN))
    frequent = FrequentItems.from_bytes(golden(KIND_FREQUENT_ITEMS))
    for key, weight in VECTORS["rows"]:
        assert count_min.estimate("word", key).value == weight
        assert frequent.estimate("word", key).value == weight
    assert Distinct.from_bytes(golden(KIND_DISTINCT)).estimate().value == len(VECTORS["rows"])
    quantiles = Quantiles.from_bytes(golden(KIND_QUANTILES))
    assert [quantiles.quantile(rank).value for rank in (0, 0.5, 0.8, 1)] == [0, 7, 900, 2**31 - 1]  # type: ignore[union-attr]


def refused(kind: int, data: bytes) -> str:
    with pytest.raises(BadInput) as raised:
        READERS[kind](data)
    assert raised.value.code == "bad_sketch"
    return raised.value.detail


@pytest.mark.unit
@pytest.mark.parametrize("kind", READERS)
def test_another_version_kind_seed_or_size_is_refused(kind: int) -> None:
    data = golden(kind)
    envelope = unwrap(data, kind)
    assert "version 2" in refused(kind, data[:4] + b"\x02" + data[5:])
    other = next(number for number in READERS if number != kind)
    assert f"kind {other}" in refused(kind, golden(other))
    seeded = envelope.parameters[:-8] + struct.pack("<Q", 77)
    assert "seed" in refused(kind, wrap(Envelope(kind, seeded, envelope.payload)))
    # The size, or of Count-Min the exponent of ε.
    at = 7 if kind == KIND_COUNT_MIN else 0
    sized = envelope.parameters[:at] + bytes([envelope.parameters[at] ^ 2]) + envelope.parameters[at + 1 :]
    refused(kind, wrap(Envelope(kind, sized, envelope.payload)))
    refused(kind, wrap(Envelope(kind, envelope.parameters[:-1], envelope.payload)))
    refused(kind, wrap(Envelope(kind, envelope.parameters, envelope.payload[:-3])))
    refused(kind, wrap(Envelope(kind, envelope.parameters, b"")))
    refused(kind, wrap(Envelope(kind, envelope.parameters, envelope.payload + b"more")))
    # The payload of another kind under this one's header.
    refused(kind, wrap(Envelope(kind, envelope.parameters, unwrap(golden(other), other).payload)))


@pytest.mark.property
@pytest.mark.parametrize("kind", READERS)
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_corrupt_bytes_are_a_coded_error(kind: int, data: st.DataObject) -> None:
    whole = golden(kind)
    if data.draw(st.booleans()):
        corrupt = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        at = data.draw(st.integers(0, len(whole) - 1))
        corrupt = whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
    refused(kind, corrupt)
