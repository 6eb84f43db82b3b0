"""Estimates over any range of whole minutes, from all levels at once, against plain counts."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts import events
from contracts.sketched import BY_KIND, DAY_US, HOUR_US, KEEP_US, MINUTE_US, SketchKey, SketchRecord
from serving.insights.approx import Approx
from serving.insights.sketch_store import SketchStore
from serving.relay.sketch_levels import GRACE_US
from sketches import windows
from tests.serving.insights.sketched import inside, minutes_of, misses, play, quantile, topic_of
from tests.serving.test_sketch_levels import answer

DAY = 20_000 * DAY_US
NOW = DAY + 4 * DAY_US + 7 * HOUR_US + 31 * MINUTE_US
PLAYED = play(3, DAY, [*Random(1).sample(range(6000), 300), *range(6120, 6210)])


def filled(records: list[tuple[bytes, bytes | None]]) -> SketchStore:
    store = SketchStore()
    for offset, record in enumerate(records):
        store.apply(*record, offset)
    assert store.skipped == 0
    return store


TOPIC = topic_of(PLAYED, NOW)
STORE = filled(TOPIC)
ASKS = Approx(STORE)


def lakes(store: SketchStore, kind: str, start: int, end: int) -> list[windows.Sketch]:
    """What the lake has of a range's missing windows."""
    found = []
    for level, at in store.select(kind, start, end, NOW).missing:
        length = SketchKey(kind, level, at).window_end_us
        sketch = windows.empty(BY_KIND[kind])
        windows.add(BY_KIND[kind], sketch, inside(PLAYED, at, length))
        found.append(sketch)
    return found


@pytest.mark.property
@settings(max_examples=60, deadline=None)
@given(st.integers(0, 6210), st.integers(1, 6210))
def test_every_range_holds_the_truth(first: int, length: int) -> None:
    start = DAY + first * MINUTE_US
    end = start + length * MINUTE_US
    there = inside(PLAYED, start, end)
    for kind in ("missed_questions", "missed_words", "missed_types"):
        truth = misses(there, kind)
        chosen, more = STORE.select(kind, start, end, NOW), lakes(STORE, kind, start, end)
        for key in [*sorted(truth)[:3], "nobody"]:
            found = ASKS.count(chosen, key, more)
            assert found.total == sum(truth.values())
            # So few keys in so many counters: a collision in every row would be a fault, not chance.
            assert found.estimate.value == truth[key]
            assert found.estimate.lower <= truth[key] <= found.estimate.upper
    truth = misses(there, "heavy_words")
    chosen, more = STORE.select("heavy_words", start, end, NOW), lakes(STORE, "heavy_words", start, end)
    heavy, total, _ = ASKS.heaviest(chosen, 2, more)
    assert [(one.key, one.estimate.value) for one in heavy] == sorted(
        truth.items(), key=lambda item: (-item[1], item[0])
    )[:2]
    assert total == sum(truth.values())
    chosen, more = STORE.select("participants", start, end, NOW), lakes(STORE, "participants", start, end)
    users, _, _ = ASKS.distinct(chosen, more)
    assert abs(users.value - len({one.user_id for one in there})) <= 8
    chosen, more = STORE.select("elapsed_ms", start, end, NOW), lakes(STORE, "elapsed_ms", start, end)
    asked = ASKS.quantiles(chosen, [0.1, 0.5, 0.99], more)
    assert asked.count == len(there)
    for one in asked.quantiles:
        truth_ms = quantile([answer.elapsed_ms for answer in there], one.rank)
        assert one.lower <= truth_ms <= one.upper or asked.count > 60
    assert len(asked.quantiles) == (3 if there else 0)


@pytest.mark.unit
def test_levels_are_those_that_the_topic_keeps() -> None:
    held = STORE.held()
    assert held["day"] == 4 * len(BY_KIND)
    assert 0 < held["minute"] <= 151 * len(BY_KIND), "two hours, and what has no hour yet"
    chosen = STORE.select("missed_words", DAY, NOW, NOW)
    assert not chosen.missing, "whole days, the last hours and minutes are here"
    assert {level for level, _ in chosen.windows} == {"day", "hour", "minute"}
    old = STORE.select("missed_words", DAY + 5 * MINUTE_US, DAY + 2 * HOUR_US, NOW)
    assert old.missing and not old.windows


@pytest.mark.unit
def test_a_window_in_its_time_that_is_not_here_had_no_play() -> None:
    empty = SketchStore()
    assert empty.as_of_us is None
    for start, end in ((NOW - HOUR_US, NOW), (NOW - KEEP_US["day"] + DAY_US, NOW)):
        chosen = empty.select("missed_words", start // DAY_US * DAY_US, end // DAY_US * DAY_US + DAY_US, NOW)
        assert not chosen.windows and not chosen.missing
        assert Approx(empty).count(chosen, "run").total == 0
    ancient = empty.select("missed_words", DAY - 500 * DAY_US, DAY - 499 * DAY_US, NOW)
    assert ancient.missing == (("day", DAY - 500 * DAY_US),)


@pytest.mark.unit
def test_what_no_level_above_has_taken_yet_is_counted_once() -> None:
    """Minutes whose hour is not there, and one that came after its hour and after its day."""
    answers = play(9, DAY, range(120))
    log = topic_of(answers, DAY + HOUR_US + GRACE_US, ["missed_words"])
    store = filled(log)
    truth = misses(answers, "missed_words")
    for end in (DAY + DAY_US, DAY + 2 * HOUR_US):
        assert (
            Approx(store).count(store.select("missed_words", DAY, end, NOW), "run").estimate.value
            == truth["run"]
        )
    merged = filled(topic_of(answers, DAY + DAY_US + GRACE_US, ["missed_words"]))
    late = play(10, DAY, [130])
    (record,) = minutes_of(late, ["missed_words"])
    merged.apply(record.key.encode(), record.encode(), 10**6)
    both = misses(answers + late, "missed_words")
    chosen = merged.select("missed_words", DAY, DAY + DAY_US, DAY + DAY_US)
    assert Approx(merged).count(chosen, "run").estimate.value == both["run"]
    assert ("minute", DAY + 130 * MINUTE_US) in chosen.windows


@pytest.mark.unit
def test_late_answers_widen_until_they_are_in() -> None:
    store = SketchStore()
    (record,) = minutes_of(play(1, DAY, [0]), ["missed_words"])
    store.apply(record.key.encode(), record.encode(), 0)
    late = [answer(number, DAY + number) for number in (1, 7, 13)]  # all of word w1, of users u1, u0, u6
    for offset, one in enumerate([*late, late[0]]):
        store.apply_late(events.encode(one), offset)
    asks = Approx(store)
    missed = sum(not one.correct for one in late)
    found = asks.count(store.select("missed_words", DAY, DAY + MINUTE_US, NOW), "w1")
    assert (found.late, found.estimate.upper) == (missed, found.estimate.value + missed)
    users, pending, _ = asks.distinct(store.select("participants", DAY, DAY + MINUTE_US, NOW))
    assert (users.value, users.upper, pending) == (0, 3, 3)
    other = asks.count(store.select("missed_words", DAY + MINUTE_US, DAY + 2 * MINUTE_US, NOW), "w1")
    assert other.late == 0
    taken = replace(record, late=3, late_through=4)
    store.apply(taken.key.encode(), taken.encode(), 1)
    assert asks.count(store.select("missed_words", DAY, DAY + MINUTE_US, NOW), "w1").late == 0
    store.apply(record.key.encode(), record.encode(), 2)  # Flink wrote it again, without them
    assert asks.count(store.select("missed_words", DAY, DAY + MINUTE_US, NOW), "w1").late == missed


@pytest.mark.unit
def test_blocks_of_days_are_made_anew_when_one_is_written_again() -> None:
    answers = play(4, DAY, range(0, 40 * 1440, 1440), each=4)
    now = DAY + 41 * DAY_US
    log = topic_of(answers, now)
    store = filled(log)
    asks = Approx(store)
    chosen = store.select("participants", DAY, DAY + 40 * DAY_US, now)
    assert len(chosen.windows) == 40
    first = asks.distinct(chosen)[0]
    assert first == asks.distinct(chosen)[0]
    assert abs(first.value - len({one.user_id for one in answers})) <= 4
    day = SketchKey("participants", "day", DAY + 20 * DAY_US)
    more = [f"new{number}" for number in range(50)]
    sketch = windows.of_counts(BY_KIND["participants"], dict.fromkeys([*more], 1))
    written = SketchRecord(day, 50, windows.as_text(sketch), parts=(day.window_start_us,))
    store.apply(day.encode(), written.encode(), 10**6)
    second = asks.distinct(store.select("participants", DAY, DAY + 40 * DAY_US, now))[0]
    assert second.value >= first.value + 40


@pytest.mark.unit
def test_records_that_fit_nothing_are_counted_and_change_nothing() -> None:
    store = filled(TOPIC[:9])
    key, _ = TOPIC[0]
    wrong = windows.as_text(windows.empty(BY_KIND["participants"]))
    for record in (
        (b"x", b"{}"),
        (None, None),
        (key, b"[]"),
        (key, b'{"answers": 1, "sketch": "AAAA"}'),
        (SketchKey("missed_words", "day", 0).encode(), f'{{"answers":1,"sketch":"{wrong}"}}'.encode()),
    ):
        store.apply(*record, 99)
    store.apply_late(b"{}", 0)
    assert store.skipped == 6
    assert store.held() == filled(TOPIC[:9]).held()
