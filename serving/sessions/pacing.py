"""What comes by the clock: when a session is looked at next, and which move is due then. Pure.

A question closes at its deadline and is revealed at once, whoever is there. The rest is the host's; while the host is
away the session goes on by itself, so that players are never left hanging.
"""

from __future__ import annotations

from serving.sessions import machine
from serving.sessions.machine import Move
from serving.sessions.session import (
    CLOSED,
    OPEN,
    PAUSED,
    PODIUM,
    QUESTION,
    REVEAL,
    STANDINGS,
    Question,
    Session,
)

SECOND_US = 1_000_000
# An answer received in time may still be on its way to the shard; closing at once would refuse it.
CLOSE_GRACE_US = 300_000
# A host whose phone sleeps or whose page reloads is back within this; then they find their session as they left it.
HOST_AWAY_US = 30 * SECOND_US
# How long each phase stays up without a host: time to read the right answer, then the first ten rows.
WITHOUT_HOST_US = {
    REVEAL: 8 * SECOND_US,
    STANDINGS: 6 * SECOND_US,
    PODIUM: 60 * SECOND_US,
    # Paused on purpose: far longer, but not for ever.
    PAUSED: 600 * SECOND_US,
}
# A host who is there is looked for again after this; it also bounds how late an absence is noticed.
LOOK_AGAIN_US = 5 * SECOND_US


def look_at_us(session: Session) -> int | None:
    """The first instant at which something may be due by itself; None in the lobby and after the end."""
    if session.state in (QUESTION, OPEN):
        return session.deadline_us + CLOSE_GRACE_US
    if session.state == CLOSED:
        return session.phase_at_us
    wait_us = WITHOUT_HOST_US.get(session.state)
    if wait_us is None:
        return None
    return (session.paused_at_us if session.state == PAUSED else session.phase_at_us) + wait_us


def due(
    session: Session, questions: list[Question], host_here: bool, now_us: int
) -> tuple[Move | None, int | None]:
    """(move, look again): the move that is due now, or None and when to look again (None: never by itself)."""
    at = look_at_us(session)
    if at is None or now_us < at:
        return None, at
    if session.state in WITHOUT_HOST_US:
        if host_here:
            return None, now_us + LOOK_AGAIN_US
        back_by = session.host_seen_us + HOST_AWAY_US
        if now_us < back_by:
            return None, back_by
    if session.state == OPEN:
        return machine.end(session, questions, now_us), None
    step = machine.resume if session.state == PAUSED else machine.advance
    return step(session, questions, now_us), None
