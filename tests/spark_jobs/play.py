"""Seeded days of play for the lake's tests, and the slow, obvious model of their boards."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date

from contracts.boards import Scope, boards_of
from contracts.events import ANSWER_TYPE, BARRIER_TYPE, AnswerEvent, BarrierEvent, encode, encode_barrier
from contracts.identity import barrier_id, event_id, user_shard
from contracts.periods import midnight_us, span
from contracts.ranking import Total, floor_reached, rank

Record = tuple[str, str, int, int, bytes]
BoardKey = tuple[str, date, str]
"""(period, first day, scope)."""


@dataclass
class Outboxes:
    """What the shards would have recorded: seq 1, 2, 3 … a shard, in the order of the calls."""

    shards: int = 2
    seq: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    sent_barriers: set[tuple[str, date]] = field(default_factory=set)

    def record(self, shard: int, kind: str, user_id: str, value: bytes) -> Record:
        self.seq[shard] += 1
        return (kind, user_id, shard, self.seq[shard], value)

    def answers(self, events: list[AnswerEvent]) -> list[Record]:
        return [
            self.record(user_shard(e.user_id, self.shards), ANSWER_TYPE, e.user_id, encode(e)) for e in events
        ]

    def barriers(self, zone: str, wanted: list[date]) -> list[Record]:
        records = []
        for day in wanted:
            if (zone, day) in self.sent_barriers:
                continue
            self.sent_barriers.add((zone, day))
            bounds = span("daily", day, zone)
            for shard in range(self.shards):
                ident = barrier_id(zone, day.isoformat(), shard)
                event = BarrierEvent(ident, zone, day.isoformat(), bounds.start_us, bounds.end_us)
                records.append(self.record(shard, BARRIER_TYPE, "", encode_barrier(event)))
        return records


def answer(number: int, user: int, occurred_at_us: int, quiz: str, zone: str, points: int) -> AnswerEvent:
    """One answer; ids differ by case, so that an order that ignores case is found out."""
    user_id, session, question = ("u" if user % 2 else "U") + str(user // 2), f"s{number}", f"q{number % 7}"
    return AnswerEvent(
        event_id(session, question, user_id),
        "import",
        occurred_at_us,
        user_id,
        user + 1,
        session,
        occurred_at_us,
        1000,
        quiz,
        zone,
        1,
        question,
        "imported",
        ("t",),
        None,
        points > 0,
        1000,
        60000,
        "speed@1",
        points,
    )


def days_of_play(
    seed: int, count: int, first: date, length_days: int, users: int = 25, offset: int = 0
) -> list[AnswerEvent]:
    """Answers with many equal points and seconds, over two quizzes in two zones, out of order."""
    rng, begin = random.Random(seed), midnight_us(first, "UTC")
    events = []
    for number in range(offset, offset + count):
        second = rng.randrange(length_days * 24 * 6) * 600
        quiz, zone = rng.choice([("part-1", "UTC"), ("part-2", "Europe/Paris")])
        instant = begin + second * 1_000_000 + rng.randrange(3) * 400_000
        events.append(
            answer(number, rng.randrange(users), instant, quiz, zone, rng.choice([0, 0, 500, 500, 750]))
        )
    return events


def model(events: list[AnswerEvent]) -> dict[BoardKey, list[tuple[int, str, int, int | None]]]:
    """Every daily, weekly and monthly board of the answers: rows (rank, user_id, points, reached_at_us)."""
    sums: dict[tuple[BoardKey, int, int], dict[str, list[int]]] = defaultdict(dict)
    for event in events:
        for scope, zone in ((Scope("global"), "UTC"), (Scope("quiz", event.quiz_id), event.quiz_zone)):
            for board in boards_of(scope, event.occurred_at_us, zone):
                if board.period == "all_time":
                    continue
                key = ((board.period, board.start, str(scope)), board.anchor_us, board.tick_us)
                total = sums[key].setdefault(event.user_id, [0, -1])
                total[0] += event.points
                if event.points > 0:
                    total[1] = max(total[1], event.occurred_at_us)
    boards = {}
    for (key, anchor_us, tick_us), users in sums.items():
        totals = [
            Total(user, points, floor_reached(reached, anchor_us, tick_us) if points else None)
            for user, (points, reached) in users.items()
        ]
        boards[key] = [(r.rank, r.user_id, r.points, r.reached_at_us) for r in rank(totals)]
    return boards
