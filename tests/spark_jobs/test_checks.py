"""Checks of the record itself: each thing that must be unique is missed by none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.spark_jobs.conftest import Lake

pytestmark = [pytest.mark.engine]
SHAPE = "event_id STRING, kafka_partition INT, kafka_offset BIGINT, shard INT, seq BIGINT, user_id STRING, user_no BIGINT"
# Places on both sides of a bitmap's end, and the first offset, 0.
GOOD: list[tuple[Any, ...]] = [
    ("a", 0, 0, 0, 1, "u", 1),
    ("b", 0, 1, 1, 1, "u", 1),
    ("c", 1, 0, 0, 32_768, "v", 2),
    ("d", 1, 32_768, 0, 32_769, "V", 3),
]


@pytest.mark.parametrize(
    "more,broken",
    [
        ((), []),
        (("a", 2, 9, 0, 2, "u", 1), ["event_id unique"]),
        (("e", 1, 32_768, 0, 2, "u", 1), ["(partition, offset) unique"]),
        (("e", 2, 9, 0, 32_769, "u", 1), ["(shard, seq) unique"]),
        (("e", 2, 9, 0, 2, "u", 4), ["one number a user"]),
        (("e", 2, 9, 0, 2, "w", 1), ["one user a number"]),
    ],
)
def test_a_repeat_in_the_record_is_seen(lake: Lake, more: tuple[Any, ...], broken: list[str]) -> None:
    from spark_jobs.checks import check_answers

    rows = GOOD + ([more] if more else [])
    found = {check.name: check.bad for check in check_answers(lake.spark.createDataFrame(rows, SHAPE))}
    assert [f"answers: {name}" for name in broken] == [name for name, bad in found.items() if bad]
    assert set(found.values()) <= {0, 1}
