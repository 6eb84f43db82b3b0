"""The records of sketches: their keys' bytes, what is refused, and windows that nest."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import BadInput
from contracts.sketched import (
    BELOW,
    DIMENSIONS,
    KEEP_US,
    LEVEL_US,
    LEVELS,
    SUBJECTS,
    SketchKey,
    SketchRecord,
    parse_key,
    parse_record,
    subject_of,
    window_start_us,
)

pytestmark = pytest.mark.unit


@dataclass(frozen=True)
class Answer:
    quiz_id: str = "z1"
    question_id: str = "7"
    question_type: str = "choice"
    skill_tags: tuple[str, ...] = ("verbs", "word:ice-cream")


def test_a_key_has_the_bytes_that_flink_writes() -> None:
    key = SketchKey("missed_words", "minute", 1_740_000_000_000_000)
    assert key.encode() == b'{"kind":"missed_words","level":"minute","window_start_us":1740000000000000}'
    assert parse_key(key.encode()) == key
    assert key.window_end_us == 1_740_000_060_000_000


def test_a_record_comes_back_and_flinks_has_the_rest_empty() -> None:
    key = SketchKey("missed_words", "hour", 7_200_000_000)
    record = SketchRecord(key, 9, "TEJTSw==", ("a", "b"), 2, 14, (7_200_000_000,))
    assert parse_record(key.encode(), record.encode()) == record
    flinks = {**json.loads(record.encode()), "heaviest": None}
    for name in ("late", "late_through", "parts"):
        del flinks[name]
    assert parse_record(key.encode(), json.dumps(flinks).encode()) == SketchRecord(key, 9, "TEJTSw==")


@pytest.mark.parametrize(
    "key",
    [
        None,
        b"",
        b"[]",
        b"{}",
        b'{"kind":"missed_words","level":"year","window_start_us":0}',
        b'{"kind":"other","level":"day","window_start_us":0}',
        b'{"kind":"missed_words","level":"day","window_start_us":"x"}',
    ],
)
def test_other_keys_are_refused(key: bytes | None) -> None:
    with pytest.raises(BadInput) as raised:
        parse_key(key)
    assert raised.value.code == "bad_sketch"


@pytest.mark.parametrize("value", [b"", b"null", b"[]", b"{}", b'{"answers":"many","sketch":""}'])
def test_other_values_are_refused(value: bytes) -> None:
    with pytest.raises(BadInput) as raised:
        parse_record(SketchKey("missed_words", "day", 0).encode(), value)
    assert raised.value.code == "bad_sketch"


def test_subjects_of_an_answer() -> None:
    assert [subject_of(Answer(), subject) for subject in SUBJECTS] == ["z1/7", "z1", "choice", "ice-cream"]
    assert subject_of(Answer(skill_tags=()), "word") is None


def test_kinds_are_apart_and_a_replica_loads_few_windows() -> None:
    assert len({dimension.kind for dimension in DIMENSIONS}) == len(DIMENSIONS)
    assert sum(KEEP_US[level] // LEVEL_US[level] for level in LEVELS) == 568


@pytest.mark.property
@given(st.integers(0, 2**52), st.sampled_from(sorted(BELOW)))
def test_windows_nest(instant_us: int, level: str) -> None:
    start, below = window_start_us(level, instant_us), window_start_us(BELOW[level], instant_us)
    assert start <= below <= instant_us < below + LEVEL_US[BELOW[level]] <= start + LEVEL_US[level]
