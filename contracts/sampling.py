"""Estimates of boards: one of 64 buckets of users, scaled up, with a binomial bound (DESIGN 3). Pure.

A user's bucket is the top six bits of user_no · 2654435761 mod 2^32 (multiplicative hashing by the golden ratio; Knuth,
The Art of Computer Programming 3, 6.4): every engine has these integers, and dense numbers spread evenly. Users of
bucket 0 are the sample. Their points are summed in full, so the points of a shown user are exact; counts of users
(participants, and those ahead of a rank) are the sample's times 64.
"""

from __future__ import annotations

from math import ceil, sqrt

BUCKETS = 64
CONFIDENCE = 0.95
# The standard normal's quantile for that confidence, both sides.
Z = 1.959963984540054
_MULTIPLIER, _WORD, _BUCKET_SPAN = 2_654_435_761, 1 << 32, (1 << 32) // BUCKETS


def bucket(user_no: int) -> int:
    """The bucket of a user, 0 … 63."""
    return user_no * _MULTIPLIER % _WORD // _BUCKET_SPAN


def in_sample_sql(column: str) -> str:
    """`bucket(user_no) == 0` as DuckDB's SQL; a negative number, of a user the lake has not met, counts by its size."""
    return f"(abs({column})::UBIGINT * {_MULTIPLIER}::UBIGINT % {_WORD} < {_BUCKET_SPAN})"


def scaled(in_sample: int) -> int:
    """How many users there are, estimated from how many are in the sample."""
    return in_sample * BUCKETS


def bound_of(in_sample: int) -> int:
    """How far `scaled(in_sample)` may be off, for CONFIDENCE, each figure by itself.

    A count x of the sample is binomial (N, 1/64). The score interval (Wilson 1927) solved for N, whose upper side is
    the wider one: N ≤ (2x + z²q + sqrt((2x + z²q)² − 4x²)) / 2p, with p = 1/64, q = 1 − p. Anyone's rank counts fewer
    users than there are, so its bound is no larger.
    """
    p = 1 / BUCKETS
    middle = 2 * in_sample + Z * Z * (1 - p)
    upper = (middle + sqrt(middle * middle - 4 * in_sample * in_sample)) / (2 * p)
    return ceil(upper - scaled(in_sample))
