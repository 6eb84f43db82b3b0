"""`boards_since`: the instant from which Redis keeps boards; it only ever moves back (DESIGN 4).

Moving it: 1 lock the row (an import that would leave an answer out of a board holds it FOR SHARE until it is recorded);
2 wait until history has every outbox; 3 refuse if the record has an answer that a board kept from now on would lack;
4 write. A crash before 4 leaves it where it was.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import psycopg

from contracts.boards import Scope, boards_of, kept_in_redis
from contracts.errors import BadInput, SystemMissing
from contracts.periods import period_start, span

_DAY_US = 86_400_000_000
# Every zone's offset is a multiple of a quarter of an hour: answers of one quarter share all their boards.
_QUARTER_US = 900_000_000
_LOCK_WAIT_MS = 15_000


async def read(sql: psycopg.AsyncConnection, *, hold: bool = False) -> int:
    """The instant in force. hold: nobody moves it until the caller's transaction ends."""
    text = "SELECT value FROM deployment WHERE key = 'boards_since_us'" + (" FOR SHARE" if hold else "")
    found = await (await sql.execute(text)).fetchone()
    return int(found[0]) if found else 0


def left_out(occurred_at_us: int, zone: str, new_us: int, old_us: int) -> bool:
    """Whether a board of an answer is kept from `new_us` and was not from `old_us`. Pure."""
    boards = [
        *boards_of(Scope("quiz", "any"), occurred_at_us, zone),
        *boards_of(Scope("global"), occurred_at_us, "UTC"),
    ]
    return any(kept_in_redis(board, new_us) and not kept_in_redis(board, old_us) for board in boards)


def _earliest_us(new_us: int) -> int:
    """Before this instant no board, in any zone, ends after `new_us`."""
    at = max(new_us - _DAY_US, 0)
    starts = [
        span(period, period_start(period, at, "UTC"), "UTC").start_us for period in ("weekly", "monthly")
    ]
    return min(starts) - _DAY_US


async def _any_left_out(sql: psycopg.AsyncConnection, new_us: int, old_us: int) -> bool:
    sessions = await sql.execute(
        "SELECT 1 FROM history WHERE session_started_at_us >= %s AND session_started_at_us < %s LIMIT 1",
        (new_us, old_us),
    )
    if await sessions.fetchone():
        return True
    quarters = await sql.execute(
        "SELECT DISTINCT quiz_zone, occurred_at_us / %s FROM history WHERE type = 'answer.v1' "
        "AND occurred_at >= to_timestamp(%s / 1000000.0) AND occurred_at < to_timestamp(%s / 1000000.0)",
        (_QUARTER_US, _earliest_us(new_us), old_us),
    )
    if any([left_out(quarter * _QUARTER_US, zone, new_us, old_us) async for zone, quarter in quarters]):
        return True
    return await _any_archived(sql, new_us, old_us)


async def _any_archived(sql: psycopg.AsyncConnection, new_us: int, old_us: int) -> bool:
    """Whether an archived month may have such an answer: its boards are a rebuild's, which reads the lake too."""
    found = await (await sql.execute("SELECT month FROM archived_months")).fetchall()
    months = [span("monthly", month, "UTC") for (month,) in found]
    if any(one.start_us < old_us and one.end_us > _earliest_us(new_us) for one in months):
        return True
    if not months:
        return False
    sessions = await sql.execute(
        "SELECT 1 FROM sessions WHERE sealed_at IS NOT NULL AND started_at_us >= %s AND started_at_us < %s LIMIT 1",
        (new_us, old_us),
    )
    return await sessions.fetchone() is not None


async def move_back(
    sql: psycopg.AsyncConnection, since_us: int, history_has_all: Callable[[], Awaitable[None]]
) -> int:
    """The instant in force afterwards. Raises BadInput(check_failed, 409) where boards would lack answers."""
    async with sql.transaction():
        await sql.execute(f"SET LOCAL lock_timeout = {_LOCK_WAIT_MS}")
        try:
            row = await (
                await sql.execute(
                    "SELECT value FROM deployment WHERE key = 'boards_since_us' FOR UPDATE"
                )  # 1
            ).fetchone()
        except psycopg.errors.LockNotAvailable as error:
            raise SystemMissing("system_missing", "imports hold boards_since; send it again") from error
        assert row is not None, "the migration writes boards_since_us"
        current = int(row[0])
        if since_us >= current:
            return current
        await history_has_all()  # 2
        if await _any_left_out(sql, since_us, current):  # 3
            raise BadInput(
                "check_failed",
                "the record has answers in that span that Redis left out",
                status=409,
                next_step=f"./lakeboard rebuild redis --since {period_start('daily', since_us)}",
            )
        await sql.execute(
            "UPDATE deployment SET value = %s WHERE key = 'boards_since_us'", (str(since_us),)
        )  # 4
    return since_us
