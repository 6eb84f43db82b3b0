"""Buckets are even, SQL's is Python's, and the bound holds as often as it says."""

from __future__ import annotations

import random

import duckdb
import pytest

from contracts.sampling import BUCKETS, CONFIDENCE, bound_of, bucket, in_sample_sql, scaled

pytestmark = pytest.mark.unit


def test_dense_numbers_spread_evenly() -> None:
    counts = [0] * BUCKETS
    for number in range(1, 64_001):
        counts[bucket(number)] += 1
    assert min(counts) > 980 and max(counts) < 1_020


def test_duckdb_takes_the_same_users() -> None:
    numbers = [0, 1, 2**31, 2**32 - 1, *(random.Random(3).randrange(2**32) for _ in range(2_000))]
    found = duckdb.sql(
        f"SELECT n, {in_sample_sql('n')} FROM (SELECT unnest({numbers}::BIGINT[]) AS n)"
    ).fetchall()
    assert [(number, bucket(number) == 0) for number in numbers] == found


@pytest.mark.parametrize("there", [0, 1, 30, 500, 20_000])
def test_the_bound_holds_as_often_as_it_says(there: int) -> None:
    chance = random.Random(there)
    tries, held = 400, 0
    for _ in range(tries):
        seen = (
            sum(chance.randrange(BUCKETS) == 0 for _ in range(there))
            if there < 1_000
            else round(chance.gauss(there / BUCKETS, (there / BUCKETS * (1 - 1 / BUCKETS)) ** 0.5))
        )
        held += abs(scaled(seen) - there) <= bound_of(seen)
    # three standard errors of 400 tries below what is said
    assert held / tries >= CONFIDENCE - 3 * (CONFIDENCE * (1 - CONFIDENCE) / tries) ** 0.5
