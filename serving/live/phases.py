"""What a session's clients are shown of it: pure. The right answer is in a message only once it is revealed."""

from __future__ import annotations

from typing import Any

from contracts.periods import iso_ms
from serving.live import messages
from serving.live.messages import Phase
from serving.sessions import challenge
from serving.sessions.challenge import Place
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


def _base(session: Session, now_us: int) -> dict[str, Any]:
    return {
        "session_id": session.session_id,
        "seq": session.version,
        "epoch": session.epoch,
        "now_us": now_us,
        "title": session.title,
        "mode": session.mode,
        "pin": session.pin,
        "locked": session.locked,
        "questions": session.questions,
        "question_index": session.question_index,
    }


def _asked(question: Question) -> dict[str, Any]:
    return {
        "question_id": question.question_id,
        "question_type": question.type,
        "prompt": question.prompt,
        "choices": list(question.choices),
        "speech": question.speech,
        "language": question.language,
        "media": messages.Media(**question.media) if question.media else None,
    }


def phase_message(session: Session, question: Question | None, now_us: int) -> Phase:
    """The push that shows a session's phase. `question`: the one that `session.question_id` names."""
    base = _base(session, now_us)
    if session.state == QUESTION and question is not None:
        return messages.Shown(
            **base,
            **_asked(question),
            shown_at_us=session.shown_at_us,
            deadline_us=session.deadline_us,
            deadline=iso_ms(session.deadline_us),
            time_limit_ms=question.time_limit_ms,
        )
    if session.state == CLOSED and question is not None:
        return messages.Closed(**base, **_asked(question))
    if session.state == REVEAL and question is not None:
        return messages.Revealed(**base, **_asked(question), answer=question.answer)
    if session.state == PAUSED:
        left_ms = None
        if session.paused_from == QUESTION:
            left_ms = max(session.deadline_us - session.paused_at_us, 0) // 1000
        return messages.Paused(**base, left_ms=left_ms)
    if session.state == OPEN:
        return messages.Challenge(**base, deadline_us=session.deadline_us)
    if session.over:
        return messages.Ended(**base)
    plain: dict[str, type[Phase]] = {STANDINGS: messages.Standings, PODIUM: messages.Podium}
    return plain.get(session.state, messages.Lobby)(**base)


def own_question(session: Session, question: Question, place: Place, now_us: int) -> messages.Shown:
    """A challenge's question as it is shown to one player, with that player's own clock."""
    deadline_us = challenge.deadline_us(session, question, place)
    return messages.Shown(
        **{**_base(session, now_us), "question_index": place.index},
        **_asked(question),
        shown_at_us=place.shown_at_us,
        deadline_us=deadline_us,
        deadline=iso_ms(deadline_us),
        time_limit_ms=question.time_limit_ms,
    )
