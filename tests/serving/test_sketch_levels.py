"""Hours and days of sketches: every answer is in once, whatever came late, twice, out of order or was lost on the way."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts import events, identity
from contracts.sketched import (
    BY_KIND,
    DAY_US,
    HOUR_US,
    KEEP_US,
    LEVELS,
    MINUTE_US,
    SketchKey,
    SketchRecord,
    window_start_us,
)
from serving.relay.sketch_levels import GRACE_US, MOST_WAIT_US, Levels
from sketches import windows
from sketches.distinct import Distinct
from sketches.frequent_items import FrequentItems
from sketches.quantiles import Quantiles

DAY = 20_000 * DAY_US
KIND = "missed_words"
FAR = 2**60


def answer(number: int, at: int) -> events.AnswerEvent:
    return events.AnswerEvent(
        event_id=identity.event_id(f"s{number}", "1", "u"),
        origin="live",
        occurred_at_us=at,
        user_id=f"u{number % 7}",
        user_no=number % 7,
        session_id=f"s{number}",
        session_started_at_us=at,
        session_tick_ms=10,
        quiz_id=f"z{number % 2}",
        quiz_zone="UTC",
        quiz_version=1,
        question_id=str(number % 5),
        question_type="choice",
        skill_tags=(f"word:w{number % 6}",),
        choice=None,
        correct=number % 4 == 0,
        elapsed_ms=100 * number,
        time_limit_ms=20_000,
        rule="speed@1",
        points=0,
    )


def flinks(kind: str, start: int, answers: list[events.AnswerEvent]) -> SketchRecord:
    """A minute as Flink writes it, from the answers that came in time."""
    sketch = windows.empty(BY_KIND[kind])
    windows.add(BY_KIND[kind], sketch, answers)
    heaviest = ("w1", "w2") if kind == KIND else ()
    return SketchRecord(SketchKey(kind, "minute", start), len(answers), windows.as_text(sketch), heaviest)


class Topic:
    """Both topics as the loop reads them, and what it writes; every reader folds the same records."""

    def __init__(self, kinds: Iterable[str] = (KIND,)) -> None:
        self.kinds = tuple(kinds)
        self.levels = Levels()
        self.offset = 0
        self.log: list[tuple[bytes, bytes | None, int]] = []
        self.late_log: list[tuple[bytes, int]] = []

    def write(self, key: SketchKey, value: bytes | None) -> None:
        self.log.append((key.encode(), value, self.offset))
        self.levels.apply(*self.log[-1])
        self.offset += 2  # a transaction's mark takes an offset too

    def flink(self, start: int, answers: list[events.AnswerEvent]) -> None:
        for kind in self.kinds:
            record = flinks(kind, start, answers)
            self.write(record.key, record.encode())

    def late(self, one: events.AnswerEvent) -> None:
        self.late_log.append((events.encode(one), len(self.late_log)))
        self.levels.apply_late(*self.late_log[-1])

    def turn(self, now: int, *, lost: bool = False, delete: bool = True) -> int:
        """One pass; lost: the process died before the commit."""
        due = self.levels.due(now)
        gone = self.levels.expired(now, FAR, FAR) if delete else []
        if not lost:
            for record in due:
                self.write(record.key, record.encode())
            for key in gone:
                if key not in {record.key for record in due}:
                    self.write(key, None)
        return len(due)

    def restart(self) -> None:
        self.levels = Levels()
        for record in self.log:
            self.levels.apply(*record)
        for one in self.late_log:
            self.levels.apply_late(*one)

    def record(self, level: str, at: int, kind: str = KIND) -> SketchRecord | None:
        held = self.levels.held.get(SketchKey(kind, level, window_start_us(level, at)))
        return held.record if held else None

    def sketch(self, level: str, at: int, kind: str = KIND) -> windows.Sketch:
        return self.levels.held[SketchKey(kind, level, window_start_us(level, at))].sketch()


def counted(answers: list[events.AnswerEvent], kind: str = KIND) -> bytes:
    return base64.b64decode(flinks(kind, 0, answers).sketch)


@pytest.mark.unit
def test_hours_wait_for_their_end_and_days_for_theirs() -> None:
    topic = Topic()
    answers = [answer(number, DAY + number * MINUTE_US) for number in range(120)]
    for one in answers:
        topic.flink(one.occurred_at_us, [one])
    assert topic.turn(DAY + HOUR_US + GRACE_US - 1) == 0
    assert topic.turn(DAY + HOUR_US + GRACE_US) == 1
    assert topic.turn(DAY + HOUR_US + GRACE_US) == 0, "a repeat writes nothing"
    hour = topic.record("hour", DAY)
    assert hour is not None and (hour.answers, len(hour.parts), hour.late) == (60, 60, 0)
    assert topic.sketch("hour", DAY).to_bytes() == counted(answers[:60])
    assert topic.turn(DAY + DAY_US + GRACE_US) == 2
    day = topic.record("day", DAY)
    assert day is not None and (day.answers, day.parts) == (120, (DAY, DAY + HOUR_US))
    assert topic.sketch("day", DAY).to_bytes() == counted(answers), "to the byte (CONTRACTS E3)"
    assert set(day.heaviest) == {"w1", "w2"}


@pytest.mark.unit
def test_a_minute_that_comes_after_its_hour_or_day_is_added_once() -> None:
    topic = Topic()
    answers = [answer(number, DAY + number * MINUTE_US) for number in range(5)]
    topic.flink(DAY, answers[:1])
    topic.turn(DAY + DAY_US + GRACE_US, delete=False)
    for number in (1, 2, 1, 0):
        topic.flink(DAY + number * MINUTE_US, answers[number : number + 1])
    assert topic.turn(DAY + DAY_US + GRACE_US, delete=False) == 2
    assert topic.turn(DAY + DAY_US + GRACE_US) == 0
    for level in ("hour", "day"):
        assert topic.sketch(level, DAY).to_bytes() == counted(answers[:3])


@pytest.mark.unit
def test_late_answers_go_into_all_levels_that_are_there() -> None:
    topic = Topic(BY_KIND)
    answers = [answer(number, DAY + number) for number in range(12)]
    topic.flink(DAY, answers[:4])
    for one in answers[4:6]:
        topic.late(one)
    topic.late(answers[4])  # Flink sends at least once
    assert topic.turn(DAY + MINUTE_US) == len(BY_KIND)
    assert topic.sketch("minute", DAY).to_bytes() == counted(answers[:6])
    minute = topic.record("minute", DAY)
    assert minute is not None and (minute.answers, minute.late, minute.late_through) == (6, 2, 3)
    topic.turn(DAY + DAY_US + GRACE_US, delete=False)
    topic.late(answers[6])  # the minute, the hour and the day are there
    assert topic.turn(DAY + DAY_US + GRACE_US, delete=False) == 3 * len(BY_KIND)
    now = DAY + 2 * DAY_US + HOUR_US
    while topic.turn(now) or topic.record("minute", DAY):
        pass
    topic.turn(now)
    assert topic.record("minute", DAY) is None and topic.record("hour", DAY) is None
    topic.late(answers[7])  # the day alone
    assert topic.turn(now) == len(BY_KIND)
    topic.restart()
    assert topic.turn(now) == 0
    whole = answers[:8]
    assert topic.sketch("day", DAY).to_bytes() == counted(whole)
    for kind, one in (("participants", Distinct), ("heavy_words", FrequentItems), ("elapsed_ms", Quantiles)):
        expected = windows.empty(BY_KIND[kind])
        windows.add(BY_KIND[kind], expected, whole)
        found = topic.sketch("day", DAY, kind)
        assert isinstance(found, one)
        if isinstance(found, Distinct):
            assert found.estimate() == expected.estimate()  # type: ignore[union-attr, call-arg]
        elif isinstance(found, FrequentItems):
            assert found.heaviest("word", 99) == expected.heaviest("word", 99)  # type: ignore[union-attr]
        else:
            assert [found.quantile(rank) for rank in (0.1, 0.5, 0.9)] == [
                expected.quantile(rank)  # type: ignore[union-attr]
                for rank in (0.1, 0.5, 0.9)
            ]


@pytest.mark.unit
def test_a_minute_of_late_answers_alone_is_made() -> None:
    topic = Topic()
    topic.late(answer(1, DAY + 5))
    assert topic.turn(DAY + MINUTE_US) == len(BY_KIND)
    assert topic.sketch("minute", DAY).to_bytes() == counted([answer(1, DAY)])
    topic.flink(DAY, [answer(2, DAY)])  # Flink's own comes after it, without the late one
    assert topic.turn(DAY + MINUTE_US) == 1
    assert topic.sketch("minute", DAY).to_bytes() == counted([answer(1, DAY), answer(2, DAY)])
    topic.turn(DAY + DAY_US + GRACE_US)
    assert topic.sketch("day", DAY).to_bytes() == counted([answer(1, DAY), answer(2, DAY)])


@pytest.mark.unit
def test_what_expires() -> None:
    topic = Topic()
    topic.flink(DAY, [answer(1, DAY)])
    minute = SketchKey(KIND, "minute", DAY)
    old = DAY + KEEP_US["minute"] + 1
    assert topic.levels.expired(old, FAR, FAR) == [], "its hour is not there"
    topic.turn(old, delete=False)
    assert topic.levels.expired(old - 1, FAR, FAR) == []
    assert topic.levels.expired(old, FAR, FAR) == [minute]
    assert topic.levels.expired(old, 0, FAR) == [], "QuestDB has not got it"
    assert topic.levels.expired(old, FAR, 0) == [], "the lake has not got it"
    assert topic.levels.expired(DAY + KEEP_US["minute"] + MOST_WAIT_US, FAR, 0) == [minute]
    topic.turn(DAY + DAY_US + GRACE_US)
    late = DAY + KEEP_US["day"]
    assert topic.levels.expired(late, FAR, FAR) == [SketchKey(KIND, "hour", DAY)]
    topic.turn(late)
    assert topic.levels.expired(late + 1, FAR, FAR) == [SketchKey(KIND, "day", DAY)]


@pytest.mark.unit
def test_records_that_fit_nothing_are_counted() -> None:
    topic = Topic()
    key = SketchKey(KIND, "minute", DAY)
    for record in ((b"{}", b"{}"), (key.encode(), b"[]"), (None, None), (b"x", None)):
        topic.levels.apply(*record, 0)
    topic.levels.apply_late(b"no event", 0)
    topic.levels.apply_late(None, 1)
    assert topic.levels.skipped == 6 and topic.levels.late_end == 2
    assert topic.levels.due(FAR) == []


def steps() -> Iterator[st.SearchStrategy[tuple[str, int]]]:
    for name in ("flink", "again", "late", "late_again", "turn", "lost", "restart"):
        yield st.tuples(st.just(name), st.integers(0, 10**6))


@pytest.mark.property
@settings(max_examples=120, deadline=None)
@given(st.lists(st.one_of(*steps()), max_size=40))
def test_every_answer_is_in_the_day_once(plan: list[tuple[str, int]]) -> None:
    """Minutes of three hours in any order, repeats, late answers, passes, lost passes and restarts, by a plain list."""
    topic = Topic()
    now = DAY + MINUTE_US
    in_time: dict[int, list[events.AnswerEvent]] = {}
    late: list[events.AnswerEvent] = []
    for number, (step, value) in enumerate(plan):
        start = DAY + value % 6 * 31 * MINUTE_US
        if step == "flink" and start not in in_time:
            in_time[start] = [answer(number, start), answer(1000 + number, start + 1)]
            topic.flink(start, in_time[start])
        elif step == "again" and start in in_time:
            topic.flink(start, in_time[start])
        elif step == "late" and start in in_time:
            # A row is late only once its window has closed: Flink has written the minute.
            late.append(answer(2000 + number, start + 2))
            topic.late(late[-1])
        elif step == "late_again" and late:
            topic.late(late[value % len(late)])
        elif step in ("turn", "lost"):
            now += value % 4 * 20 * MINUTE_US
            topic.turn(now, lost=step == "lost")
        elif step == "restart":
            topic.restart()
    now = max(now, DAY + DAY_US + GRACE_US)
    for _ in range(4):
        topic.turn(now, delete=False)
    assert topic.turn(now, delete=False) == 0, "it comes to rest"
    everything = [one for answers in in_time.values() for one in answers] + late
    if everything:
        assert topic.sketch("day", DAY).to_bytes() == counted(everything)
        day = topic.record("day", DAY)
        assert day is not None and (day.answers, day.late) == (len(everything), len(late))
    for level in LEVELS:
        for key, held in topic.levels.held.items():
            if (key.kind, key.level) == (KIND, level):
                inside = [
                    one for one in everything if key.window_start_us <= one.occurred_at_us < key.window_end_us
                ]
                assert held.sketch().to_bytes() == counted(inside)
