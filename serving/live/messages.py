"""Protocol `live.v1`: every message of the play socket, its close codes, and how frames are read and written.

JSON, one object a text frame; `type` says which. What a client sends is refused if it has a field that is not here.
`docs/api/live.v1.asyncapi.json` is generated from this module (`serving/api_documents.py`).

Order: `seq` numbers what a session's clients can see change, over all handlers; of two pushes the higher one is newer,
and numbers are left out, since only the newest state is sent. A client that comes back says `epoch` (of the last phase it
saw) and `seq` (of the last board) in the address, and gets what is newer.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from contracts.errors import BadInput, LakeboardError, problem

PROTOCOL = "live.v1"

# Close codes, in the range that applications may use; the number's end is HTTP's.
CLOSE_PROTOCOL = 4400
CLOSE_UNAUTHENTICATED = 4401
CLOSE_REMOVED = 4403
CLOSE_UNKNOWN_SESSION = 4404
CLOSE_SLOW = 4408
CLOSE_DRAINING = 4503
# RFC 6455's registry: try again later.
CLOSE_AWAY = 1013
# The same: what the client saw last no longer counts.
CLOSE_RESTARTED = 1012
# code → (what it means, what a client does).
CLOSE_CODES: dict[int, tuple[str, str]] = {
    1001: ("the server goes away", "come back after a jittered pause"),
    1009: ("the frame is larger than 4,096 bytes", "mend the client"),
    CLOSE_RESTARTED: ("the server restarts, or has less than it showed", "come back after a jittered pause"),
    CLOSE_AWAY: ("the session's shard does not answer", "come back after a jittered pause"),
    CLOSE_PROTOCOL: (f"the client speaks none of: {PROTOCOL}", "reload the page"),
    CLOSE_UNAUTHENTICATED: ("the token is forged, expired or not ours", "join again"),
    CLOSE_REMOVED: ("the host removed the player", "stay away until the host lets the player in"),
    CLOSE_UNKNOWN_SESSION: ("there is no such session, or it is sealed", "join another"),
    CLOSE_SLOW: ("the client did not read what it was sent", "come back after a jittered pause"),
    CLOSE_DRAINING: ("this handler takes no sockets any more", "ask for another handler, come back"),
}
# A client does not come back after these by itself.
FINAL_CODES = (CLOSE_PROTOCOL, CLOSE_UNAUTHENTICATED, CLOSE_REMOVED, CLOSE_UNKNOWN_SESSION)

Short = Annotated[str, msgspec.Meta(max_length=64)]


class _In(msgspec.Struct, forbid_unknown_fields=True, tag_field="type"):
    """What a client sends; `ref` comes back with the reply and is stored nowhere."""


class AnswerMessage(_In, tag="answer"):
    """A player's answer: the text of one of the choices, or what was typed. Sent again unchanged it gets the first result."""

    question_id: Short
    choice: Annotated[str, msgspec.Meta(max_length=200)]
    ref: Short = ""


class NextMessage(_In, tag="next"):
    """In a challenge: show me my next question. While one is open it is shown again, its clock running on."""

    ref: Short = ""


class PingMessage(_In, tag="ping"):
    """Asks for a `pong`, so that a client sees a dead line before the next question."""

    ref: Short = ""


class Out(msgspec.Struct, forbid_unknown_fields=True, tag_field="type", kw_only=True):
    """What the server sends."""


class Phase(Out, kw_only=True):
    """What every phase of a session says. `now_us` is the server's clock (UTC µs) when it was written."""

    session_id: str
    seq: int
    epoch: int
    now_us: int
    title: str
    mode: str
    pin: str
    locked: bool
    questions: int
    question_index: int


class Lobby(Phase, tag="lobby", kw_only=True):
    """Players come in; the host has not started."""


class Media(msgspec.Struct, forbid_unknown_fields=True):
    """What a question shows or plays. kind: picture or audio; url: on this server; alt: for who cannot see or hear it."""

    kind: str
    url: str
    alt: str


class Asked(Phase, kw_only=True):
    """A question as it is asked; the right answer is in none of it.

    question_type: a name of contracts/question_types.py. Without choices the answer is typed. speech: what the page has
    spoken by the browser's voice for `language` (BCP 47), empty if nothing; where there is no voice it is shown.
    """

    question_id: str
    question_type: str
    prompt: str
    choices: list[str]
    speech: str
    language: str
    media: Media | None


class Shown(Asked, tag="question", kw_only=True):
    """A question takes answers until its deadline. In a challenge it is this player's own, and answers `next`."""

    shown_at_us: int
    deadline_us: int
    deadline: str
    time_limit_ms: int
    ref: str = ""


class Closed(Asked, tag="closed", kw_only=True):
    """The question takes no answers any more; the right one follows."""


class Revealed(Asked, tag="reveal", kw_only=True):
    """The right answer, after the question was closed everywhere."""

    answer: str


class Standings(Phase, tag="standings", kw_only=True):
    """Time to look at the board before the next question."""


class Paused(Phase, tag="paused", kw_only=True):
    """The clock stands still; `left_ms` is what an open question has left, null if none is open."""

    left_ms: int | None


class Podium(Phase, tag="podium", kw_only=True):
    """All questions are over; the board is final."""


class Ended(Phase, tag="ended", kw_only=True):
    """The session is over for good."""


class Challenge(Phase, tag="challenge", kw_only=True):
    """A self-paced challenge is open until `deadline_us`; each player asks for questions with `next`."""

    deadline_us: int


class Finished(Out, tag="finished", kw_only=True):
    """In a challenge: this player has been shown every question."""

    session_id: str
    questions: int
    ref: str = ""


class BoardRow(msgspec.Struct, forbid_unknown_fields=True):
    """One player's place; `rank` counts from 1 over the players who are shown."""

    rank: int
    user_id: str
    name: str | None
    points: int


class Board(Out, tag="board", kw_only=True):
    """The session's first rows, how many play and are connected, and how many answered. At most four a second.

    `answered` counts answers to the question shown now (shown last, once it is closed); in a challenge, all of them.
    """

    session_id: str
    seq: int
    participants: int
    connected: int
    answered: int
    entries: list[BoardRow]


class Result(Out, tag="result", kw_only=True):
    """What an answer was worth, once the shard has synced it; total and rank are on the session's board.

    `repeat`: the question was answered before, and this is the first answer's result.
    """

    question_id: str
    points: int
    correct: bool
    total: int
    rank: int | None
    repeat: bool
    ref: str = ""


class Welcome(Out, tag="welcome", kw_only=True):
    """The first message: who the socket is, where it is, and what this player has already answered.

    `answered` is the question shown now, if this player has answered it, and `last_result` what that was worth.
    """

    protocol: str
    handler: str
    role: str
    user_id: str
    name: str
    session_id: str
    seq: int
    epoch: int
    answered: str | None
    last_result: Result | None


class Pong(Out, tag="pong", kw_only=True):
    """The reply to `ping`."""

    now_us: int
    ref: str = ""


class Error(Out, tag="error", kw_only=True):
    """A problem document (RFC 9457) with the `ref` it answers. `status` 500 and above: send it again unchanged."""

    code: str
    title: str
    status: int
    detail: str
    next_step: str = ""
    ref: str = ""


FROM_CLIENT: tuple[type[_In], ...] = (AnswerMessage, NextMessage, PingMessage)
PHASES: tuple[type[Phase], ...] = (
    Lobby,
    Shown,
    Closed,
    Revealed,
    Standings,
    Paused,
    Podium,
    Ended,
    Challenge,
)
FROM_SERVER: tuple[type[Out], ...] = (Welcome, *PHASES, Finished, Board, Result, Pong, Error)
Request = AnswerMessage | NextMessage | PingMessage
_DECODER = msgspec.json.Decoder(Request)
_ENCODER = msgspec.json.Encoder()


def decode(frame: str | bytes) -> Request:
    """The message in a frame. Raises BadInput: malformed_body, unknown_field, missing_field or invalid_field."""
    try:
        return _DECODER.decode(frame)
    except msgspec.ValidationError as error:
        text = str(error)
        if "unknown field" in text:
            code = "unknown_field"
        elif "missing required field" in text:
            code = "missing_field"
        else:
            code = "invalid_field"
        raise BadInput(code, text[:200]) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadInput("malformed_body", f"the frame is not JSON: {error}"[:200], status=400) from error


def encode(message: Out) -> bytes:
    """A message's JSON; a push is encoded once for all its receivers."""
    return _ENCODER.encode(message)


def as_document(message: Out) -> dict[str, Any]:
    """A message as a dict, for a route that shows it."""
    return dict(msgspec.to_builtins(message))


def error_message(error: LakeboardError, ref: str = "") -> Error:
    """An error as a message: the problem document, with the `ref` it answers."""
    document = problem(error)
    return Error(
        code=error.code,
        title=document["title"],
        status=error.http_status,
        detail=error.detail,
        next_step=error.next_step,
        ref=ref,
    )
