"""Points of one answer: pure, integer, never negative, from the event's raw inputs alone (CONTRACTS B1).

A rule is never changed: a new one gets a new version, since `points` is stamped into the event for ever.
"""

from __future__ import annotations

from collections.abc import Callable

from contracts.errors import BadInput

SPEED_BASE = 500
SPEED_BONUS = 500
DEFAULT_RULE = "speed@1"


def _correct_1(correct: bool, elapsed_ms: int, time_limit_ms: int) -> int:
    return 1 if correct else 0


def _speed_1(correct: bool, elapsed_ms: int, time_limit_ms: int) -> int:
    if not correct or elapsed_ms > time_limit_ms:
        return 0
    return SPEED_BASE + (SPEED_BONUS * (time_limit_ms - elapsed_ms)) // time_limit_ms


RULES: dict[str, Callable[[bool, int, int], int]] = {"correct@1": _correct_1, "speed@1": _speed_1}


def points(rule: str, correct: bool, elapsed_ms: int, time_limit_ms: int) -> int:
    """Points of one answer under `rule` (`name@version`).

    elapsed_ms ≥ 0 and time_limit_ms ≥ 1, both in ms. Raises BadInput: unknown_rule, negative_elapsed,
    invalid_field (a limit below 1).
    """
    score = RULES.get(rule)
    if score is None:
        raise BadInput("unknown_rule", f"rule {rule!r} is not one of {', '.join(sorted(RULES))}")
    if elapsed_ms < 0:
        raise BadInput("negative_elapsed", f"elapsed_ms is {elapsed_ms}; it must be at least 0")
    if time_limit_ms < 1:
        raise BadInput("invalid_field", f"time_limit_ms is {time_limit_ms}; it must be at least 1")
    return score(correct, elapsed_ms, time_limit_ms)
