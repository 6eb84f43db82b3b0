"""The slow, obvious model of the streams: what every window must say, straight from the answers.

    python -m tests.flink_jobs.model        writes expected.txt again (the windows of `fixed_answers`)

Nothing of flink_jobs is used here: rules are written out once more, on purpose.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from random import Random

from contracts import events, identity, names

EXPECTED = Path(__file__).with_name("expected.txt")
SECOND_US = 1_000_000
# (kind, scope, level, window_start_us) → (window_end_us, rows by place: subject, amount, reached_at_us)
Rows = list[tuple[str, int, int | None]]
Windows = dict[tuple[str, str, str, int], tuple[int, Rows]]
# (kind, window_start_us) → rows by place: subject, plays, expected, score
Trending = dict[tuple[str, int], list[tuple[str, int, float, float]]]


def word_of(tags: Sequence[str]) -> str | None:
    """As contracts.names.word_of."""
    return next((tag[5:] for tag in tags if tag.startswith("word:") and len(tag) > 5), None)


def spans(level: str, at_us: int, window_s: int) -> Iterator[tuple[int, int]]:
    """[start, end) of the windows of a level that hold an instant, in µs."""
    minute, at = window_s, at_us // SECOND_US
    size, slide = {
        "minute": (minute, minute),
        "ten_minutes": (10 * minute, 2 * minute),
        "hour": (60 * minute, 10 * minute),
        "day": (86_400, 10 * minute),
    }[level]
    if level == "day":
        start = at // 86_400 * 86_400
        end = at // slide * slide + slide
        while end <= start + 86_400:
            yield start * SECOND_US, end * SECOND_US
            end += slide
        return
    start = at // slide * slide
    while start > at - size:
        yield start * SECOND_US, (start + size) * SECOND_US
        start -= slide


def subjects(item: events.AnswerEvent) -> Iterator[tuple[str, str, str, int]]:
    """(kind, scope, subject, amount) to which one answer adds."""
    yield "users", "global", item.user_id, item.points
    yield "users", f"quiz:{item.quiz_id}", item.user_id, item.points
    yield "quizzes", "global", item.quiz_id, 1
    miss = 0 if item.correct else 1
    yield "questions", "global", f"{item.quiz_id}/{item.question_id}", miss
    yield "types", "global", item.question_type, miss
    if (word := word_of(item.skill_tags)) is not None:
        yield "words", "global", word, miss


def windows_of(
    answers: Iterable[events.AnswerEvent], until_us: int, window_s: int = 60, k: int = 10
) -> Windows:
    """The top k of every window that ends at `until_us` or before; of a day so far, its newest."""
    sums: dict[tuple[str, str, str, int, int], dict[str, tuple[int, int | None]]] = defaultdict(dict)
    for item in answers:
        reached = item.occurred_at_us // SECOND_US * SECOND_US if item.points else None
        for level in ("minute", "ten_minutes", "hour", "day"):
            for start, end in spans(level, item.occurred_at_us, window_s):
                if end > until_us:
                    continue
                for kind, scope, subject, amount in subjects(item):
                    board = sums[kind, scope, level, start, end]
                    before, at = board.get(subject, (0, None))
                    if kind == "users" and reached is not None:
                        at = reached if at is None else max(at, reached)
                    board[subject] = (before + amount, at)
    found: Windows = {}
    for (kind, scope, level, start, end), board in sorted(sums.items(), key=lambda one: one[0]):
        rows = [(subject, *total) for subject, total in board.items() if total[0] or kind == "users"]
        rows.sort(key=lambda row: row[0].encode(), reverse=True)
        rows.sort(key=lambda row: (-row[1], row[2] or 0))
        if rows:
            found[kind, scope, level, start] = (end, rows[:k])
    return found


def score_of(x: int, y: int, all_x: int, all_y: int) -> float:
    """Li & Ma 1983, equation 17, with alpha = all_x / all_y; 0 where x is not above what is expected."""
    if not all_y or x * all_y <= y * all_x:
        return 0.0
    alpha = all_x / all_y
    on = x * math.log((1 + alpha) / alpha * x / (x + y))
    off = y * math.log((1 + alpha) * y / (x + y)) if y else 0.0
    return math.sqrt(2 * max(0.0, on + off))


def trending_of(answers: Sequence[events.AnswerEvent], until_us: int, window_s: int = 60) -> Trending:
    """The top 10 of growth in every ten minutes that end at `until_us` or before, against the six before them."""
    plays: dict[tuple[str, int], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for item in answers:
        for _, end in spans("ten_minutes", item.occurred_at_us, window_s):
            plays["quizzes", end][item.quiz_id] += 1
            if (word := word_of(item.skill_tags)) is not None:
                plays["words", end][word] += 1
    ten_us = 10 * window_s * SECOND_US
    found: Trending = {}
    for (kind, end), now in plays.items():
        if end > until_us:
            continue
        past = [
            plays[kind, end - step * ten_us] for step in range(1, 7) if (kind, end - step * ten_us) in plays
        ]
        all_x, all_y = sum(now.values()), sum(sum(one.values()) for one in past)
        rows = []
        for subject, x in now.items():
            y = sum(one.get(subject, 0) for one in past)
            score = score_of(x, y, all_x, all_y)
            if x >= 10 and score >= 3:
                rows.append((subject, x, y * all_x / all_y, score))
        rows.sort(key=lambda row: row[0].encode(), reverse=True)
        rows.sort(key=lambda row: (-row[3], -row[1]))
        if rows:
            found[kind, end - ten_us] = rows[:10]
    return found


def text_of(windows: Windows, trending: Trending) -> str:
    """One line a window, sorted: what two runs are compared by. Scores to nine digits."""
    lines = []
    for (kind, scope, level, start), (end, rows) in windows.items():
        shown = " ".join(f"{subject}={amount}@{reached or '-'}" for subject, amount, reached in rows)
        lines.append(f"{level} {start} {end} {kind} {scope}: {shown}")
    for (kind, start), growth in trending.items():
        shown = " ".join(f"{subject}={x}/{wanted:.6f}#{score:.6f}" for subject, x, wanted, score in growth)
        lines.append(f"trending {start} {kind}: {shown}")
    return "".join(line + "\n" for line in sorted(lines))


# The fixed play: 2026-03-02, six minutes of play in two hours and a burst of one quiz at their end.
DAY_US = 1_772_409_600 * SECOND_US
CLOSED_US = DAY_US + (12 * 60 + 30) * 60 * SECOND_US


def an_answer(
    number: int, at_us: int, quiz: str, user: int, question: int, random: Random
) -> events.AnswerEvent:
    """One live answer of the fixed play."""
    correct = random.random() < 0.6
    session, user_id, question_id = f"s{number}", f"User{user}", f"{question}"
    tags = ("verbs", names.word_tag(f"Wörd {question}")) if question % 3 else ("verbs",)
    return events.AnswerEvent(
        event_id=identity.event_id(session, question_id, user_id),
        origin="live",
        occurred_at_us=at_us,
        user_id=user_id,
        user_no=user,
        session_id=session,
        session_started_at_us=at_us,
        session_tick_ms=10,
        quiz_id=quiz,
        quiz_zone="UTC",
        quiz_version=1,
        question_id=question_id,
        question_type=("choice", "typed")[question % 2],
        skill_tags=tags,
        choice=None,
        correct=correct,
        elapsed_ms=random.randrange(20_000),
        time_limit_ms=20_000,
        rule="speed@1",
        points=500 + random.randrange(3) if correct else 0,
    )


def fixed_answers() -> list[events.AnswerEvent]:
    """240 answers in order of time."""
    random, number, found = Random(7), 0, []
    for minute, plays in ((600, {"a": 20, "b": 12}), (629, {"a": 22, "b": 12}), (630, {"a": 9}),
                          (659, {"a": 20, "b": 12, "c": 3}), (721, {"a": 24, "b": 60}), (729, {"a": 20, "c": 26})):  # fmt: skip
        for quiz, count in plays.items():
            for _ in range(count):
                number += 1
                at = DAY_US + minute * 60 * SECOND_US + random.randrange(60 * SECOND_US)
                question = 7 if quiz == "c" else random.randrange(5)
                found.append(an_answer(number, at, quiz, random.randrange(14), question, random))
    return sorted(found, key=lambda item: item.occurred_at_us)


def closing_answers() -> list[events.AnswerEvent]:
    """One answer on each partition, so late that all windows of the fixed play close, and its own stay open."""
    random, found = Random(8), dict[int, events.AnswerEvent]()
    for user in range(1_000):
        item = an_answer(10_000 + user, CLOSED_US + 11 * SECOND_US, "z", user, 1, random)
        found.setdefault(identity.answers_partition(item.user_id, identity.ANSWER_PARTITIONS), item)
    return [found[number] for number in range(identity.ANSWER_PARTITIONS)]


def expected_text() -> str:
    """What the streams say of the fixed play once `closing_answers` have come."""
    answers = fixed_answers()
    return text_of(windows_of(answers, CLOSED_US), trending_of(answers, CLOSED_US))


if __name__ == "__main__":
    EXPECTED.write_text(expected_text(), "utf-8")
