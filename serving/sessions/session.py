"""What a session is: its phases, its hash as a typed value, its questions, and who answers. Values only."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from contracts import scoring

# Phases of a hosted session, in the order of its flow; a challenge is `open` from its creation to its end.
LOBBY, QUESTION, CLOSED, REVEAL, STANDINGS = "lobby", "question", "closed", "reveal", "standings"
PAUSED, PODIUM, ENDED, SEALED = "paused", "podium", "ended", "sealed"
OPEN = "open"
OVER = (ENDED, SEALED)
HOSTED, CHALLENGE = "hosted", "challenge"
# Field of the questions hash that keeps their order; `#` is not valid in an id, so no question can have this name.
ORDER_FIELD = "#order"
TIME_LIMIT_MS = 20_000


@dataclass(frozen=True, slots=True)
class Question:
    """One question as a session plays it. `answer` is one of `choices`, and both are texts that players see.

    A typed answer has no choices: `answer` and `also` are the spellings that are right. speech: what the browser speaks.
    media: {kind: picture or audio, url, alt}.
    """

    question_id: str
    prompt: str
    choices: tuple[str, ...]
    answer: str
    type: str
    tags: tuple[str, ...] = ()
    time_limit_ms: int = TIME_LIMIT_MS
    also: tuple[str, ...] = ()
    speech: str = ""
    language: str = "en"
    media: dict[str, str] | None = None

    def to_json(self) -> str:
        return json.dumps({name: getattr(self, name) for name in self.__slots__}, ensure_ascii=False)

    @staticmethod
    def from_json(text: str) -> Question:
        document = json.loads(text)
        lists = {name: tuple(document.get(name, ())) for name in ("choices", "tags", "also")}
        # What a newer version of ours has added is left out: during an update both serve a session.
        known = {name: value for name, value in document.items() if name in Question.__slots__}
        return Question(**{**known, **lists})


@dataclass(frozen=True, slots=True)
class Player:
    """Who answers."""

    user_id: str
    user_no: int


@dataclass(frozen=True, slots=True)
class Session:
    """A session's hash, typed. Instants are UTC µs of the server, 0 where there is none.

    `epoch` counts moves (of the host, or by the clock); `version` counts whatever a client can see change, answers and
    joins too, and is the `seq` of every push. `phase_at_us` is when the phase began, moved by pauses. `answered` counts
    answers to the question shown.
    """

    session_id: str
    quiz_id: str
    quiz_zone: str = "UTC"
    host_id: str = ""
    pin: str = ""
    origin: str = "live"
    state: str = LOBBY
    epoch: int = 0
    question_index: int = -1
    question_id: str = ""
    shown_at_us: int = 0
    deadline_us: int = 0
    started_at_us: int = 0
    tick_ms: int = 1000
    rule: str = scoring.DEFAULT_RULE
    questions: int = 0
    title: str = ""
    mode: str = HOSTED
    version: int = 0
    locked: bool = False
    phase_at_us: int = 0
    paused_from: str = ""
    paused_at_us: int = 0
    resumed_at_us: int = 0
    host_seen_us: int = 0
    removed: frozenset[str] = field(default=frozenset())
    answered: int = 0
    quiz_version: int = 1

    @property
    def over(self) -> bool:
        """Whether it has ended for good."""
        return self.state in OVER

    @staticmethod
    def from_hash(session_id: str, fields: Mapping[str, str], removed: Iterable[str] = ()) -> Session:
        """The session in a hash; fields that an imported session lacks are empty. `removed`: players the host removed."""

        def number(name: str, default: int = 0) -> int:
            return int(fields.get(name) or default)

        return Session(
            session_id,
            fields["quiz_id"],
            fields.get("quiz_zone", "UTC"),
            fields.get("host_id", ""),
            fields.get("pin", ""),
            fields.get("origin", "live"),
            fields["state"],
            number("epoch"),
            number("question_index", -1),
            fields.get("question_id", ""),
            number("shown_at_us"),
            number("deadline_us"),
            number("started_at_us"),
            number("tick_ms", 1000),
            fields.get("rule", scoring.DEFAULT_RULE),
            number("questions"),
            fields.get("title", ""),
            fields.get("mode", HOSTED),
            number("version"),
            fields.get("locked", "0") == "1",
            number("phase_at_us"),
            fields.get("paused_from", ""),
            number("paused_at_us"),
            number("resumed_at_us"),
            number("host_seen_us"),
            frozenset(removed),
            number("answered"),
            number("quiz_version", 1),
        )
