"""Every error that leaves a part of Lakeboard, with a stable code.

    LakeboardError
    ├── Retryable        wait and repeat, bounded: a system is away or busy
    │   └── SystemMissing    a system that is needed does not answer (exit 3, HTTP 503)
    └── Terminal         stop, answer or dead-letter with the reason; repeating changes nothing
        ├── BadInput         what came from outside is wrong (exit 2, HTTP 4xx)
        └── BrokenContract   two parts disagree (a gap in seq, a lost position): a person must act

Codes are part of the protocol: scripts and clients compare them, so they are never renamed. The HTTP form is
RFC 9457 (problem details); this module builds the document and does no I/O.
"""

from __future__ import annotations

from typing import Any, ClassVar


class LakeboardError(Exception):
    """An error with fields. `code` is stable; `detail` names the thing and its value; `next_step` says what to do."""

    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1

    def __init__(self, code: str, detail: str, *, next_step: str = "", status: int | None = None) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.next_step = next_step
        self.http_status = self.status if status is None else status

    @property
    def told(self) -> str:
        """One line for a terminal: the code, what happened, what to do."""
        return f"{self.code}: {self.detail}" + (f"; {self.next_step}" if self.next_step else "")


class Retryable(LakeboardError):
    """Repeat it unchanged after a pause; give up after a bounded number of tries."""

    status = 503
    exit_code = 3


class SystemMissing(Retryable):
    """A system (Valkey, Postgres, Kafka …) does not answer; `./lakeboard status` shows which."""


class Terminal(LakeboardError):
    """Repeating it changes nothing."""


class BadInput(Terminal):
    """Input from outside that breaks a rule; nothing of it was written."""

    status = 422
    exit_code = 2


class BrokenContract(Terminal):
    """An assumption between two parts does not hold. The loop that finds it stops and alarms."""


# code → title. A code that is not here may not be answered (a repository test holds the routes to it).
TITLES: dict[str, str] = {
    "bad_request": "The request cannot be read",
    "malformed_line": "The line is not one JSON object",
    "malformed_body": "The body is not valid JSON",
    "unknown_field": "A field is not part of this message",
    "missing_field": "A field that is needed is missing",
    "invalid_field": "A field has a value outside its range",
    "body_too_large": "The body is larger than the limit",
    "invalid_id": "An id has a character or a length that is not allowed",
    "future_time": "The time lies in the future",
    "negative_elapsed": "The time taken is negative",
    "unknown_rule": "There is no such scoring rule",
    "points_overflow": "The board would pass its highest count of points",
    "unknown_session": "There is no such session",
    "unknown_question": "The session has no such question",
    "unknown_quiz": "There is no such quiz",
    "unknown_version": "The quiz has no such version",
    "unknown_course": "There is no such course",
    "too_many_courses": "This user has as many courses as one may have",
    "quiz_archived": "The quiz is archived",
    "quiz_published": "A published quiz can only be archived: answers refer to it",
    "quiz_incomplete": "The quiz cannot be published yet",
    "too_many_quizzes": "This user has as many quizzes as one may have",
    "edit_conflict": "Somebody else has changed this meanwhile",
    "precondition_required": "The request must say which state it changes",
    "bad_encoding": "The text is in no encoding that can be read",
    "nothing_to_import": "There is no line to import",
    "unsupported_media": "This is no picture or recording of a kind that can be shown",
    "unknown_user": "There is no such user",
    "unknown_pin": "No open session has this PIN",
    "unknown_class": "There is no such class",
    "unknown_join_code": "No open class has this code",
    "class_full": "The class has all the members it takes",
    "too_many_classes": "This user leads as many classes as one may",
    "session_quiz_mismatch": "The session belongs to another quiz",
    "session_ended": "The session has ended",
    "session_sealed": "The session is sealed",
    "session_paused": "The session is paused",
    "session_locked": "The host has locked the session",
    "session_full": "The session has all the players it takes",
    "player_removed": "The host has removed this player",
    "session_conflict": "The session is not in a state that allows this",
    "question_closed": "The question is not open",
    "stale": "The state this was decided on is no longer current",
    "repeat": "This question was already answered",
    "unauthenticated": "No valid token was given",
    "forbidden": "The token's role does not allow this",
    "account_needed": "This needs an account",
    "cross_site": "Another site's page may not ask for this",
    "wrong_login": "The name or the password is wrong",
    "wrong_password": "The password is wrong",
    "weak_password": "The password is too easy to guess",
    "wrong_ticket": "The ticket is not valid",
    "login_name_taken": "The log-in name is taken",
    "has_account": "The player has an account already",
    "sign_up_closed": "Accounts are made by an admin here",
    "last_admin": "Somebody must stay admin",
    "unknown_key": "There is no such key",
    "too_many_keys": "The account has all the keys it may have",
    "address_refused": "This address may not come in",
    "would_lock_out": "The rule would shut out whoever makes it",
    "unknown_network": "There is no rule for this network",
    "too_many_rules": "There are as many rules as there may be",
    "wrong_image": "The file is no picture that is taken",
    "not_found": "There is nothing at this address",
    "method_not_allowed": "This address does not take this method",
    "unsupported_protocol": "The socket speaks another protocol",
    "draining": "This process takes no new sockets",
    "too_many_requests": "Too many requests",
    "unknown_scope": "This is not a board's scope",
    "wrong_start": "This is not the first day of a period",
    "unknown_period": "This is not a period",
    "range_too_large": "The range has more rows than one request may read",
    "board_not_kept": "Redis does not keep this board and there is no lake in this profile",
    "unknown_settlement": "There is no such settlement",
    "unknown_correction": "There is no such correction, or it no longer holds",
    "too_many_corrections": "More corrections hold than one board may have",
    "unknown_zone": "This is not an IANA time zone",
    "period_not_ended": "The period has not ended",
    "system_missing": "A system that is needed does not answer",
    "replica_behind": "This process' copy of the streams is too far behind",
    "overloaded": "Too much is waiting; try again shortly",
    "outbox_full": "The record takes no new answers until its relay has caught up",
    "memory_full": "A shard is at its memory limit",
    "disk_full": "A shard cannot write to its disk",
    "internal": "Something went wrong inside",
    "bad_event": "The record does not fit the event's schema",
    "bad_sketch": "The bytes are not a sketch of the expected kind",
    "sequence_gap": "A sequence number is missing or repeated",
    "position_lost": "The outbox ends before the position already read",
    "fenced": "Another process has taken over this position",
    "incomplete_day": "A day's answers have not all arrived",
    "check_failed": "A check of the data failed",
}


def problem(error: LakeboardError, *, instance: str = "", **extra: Any) -> dict[str, Any]:
    """The RFC 9457 document of an error: type, title, status, detail, code, and next_step where there is one."""
    document: dict[str, Any] = {
        "type": f"urn:lakeboard:problem:{error.code}",
        "title": TITLES.get(error.code, error.code),
        "status": error.http_status,
        "detail": error.detail,
        "code": error.code,
    }
    if error.next_step:
        document["next_step"] = error.next_step
    if instance:
        document["instance"] = instance
    document.update(extra)
    return document
