"""A board = subject × measure × scope × period (CONTRACTS B2); parsing and the boards that one answer touches."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from contracts import names
from contracts.errors import BadInput
from contracts.identity import checked_id, valid_id
from contracts.names import word_of, word_tag
from contracts.periods import ENDING_PERIODS, EPOCH_DAY, period_start, span
from contracts.ranking import PERIOD_TICK_US

SUBJECTS = ("user", "quiz", "question", "word")
MEASURES = ("points", "plays", "misses")
SCOPE_KINDS = ("global", "quiz", "session", "tag", "class")


@dataclass(frozen=True, slots=True)
class Scope:
    """`global`, or a kind and an id. `str(scope)` is the form in names, routes and the lake."""

    kind: str
    id: str = ""

    def __str__(self) -> str:
        return f"{self.kind}:{self.id}" if self.id else self.kind

    @staticmethod
    def parse(text: str) -> Scope:
        """Raises BadInput(unknown_scope) for anything but `global` or `quiz|session|tag|class:ID`."""
        kind, _, ident = text.partition(":")
        if text == "global":
            return Scope("global")
        if kind in SCOPE_KINDS[1:] and valid_id(ident):
            return Scope(kind, ident)
        raise BadInput(
            "unknown_scope",
            f"{text[:80]!r} is not a scope",
            next_step="write global, quiz:ID, session:ID, tag:NAME or class:ID",
        )


@dataclass(frozen=True, slots=True)
class Counting:
    """What a board counts: whose (subject) and what (measure). Redis and `rankings` have users' points alone."""

    subject: str = "user"
    measure: str = "points"

    @property
    def users_points(self) -> bool:
        return (self.subject, self.measure) == ("user", "points")

    @staticmethod
    def parse(subject: str, measure: str) -> Counting:
        """Raises BadInput(invalid_field) for what is not a subject or measure."""
        if subject not in SUBJECTS:
            raise BadInput("invalid_field", f"subject: {subject[:40]!r} is not user, quiz, question or word")
        if measure not in MEASURES:
            raise BadInput("invalid_field", f"measure: {measure[:40]!r} is not points, plays or misses")
        return Counting(subject, measure)

    def checked_id(self, text: str, field: str) -> str:
        """A subject's id: of a user or quiz, QUIZ/QUESTION, as quizzes number their own questions, or a word's slug.

        Raises BadInput(invalid_id).
        """
        if self.subject == "word":
            if text != word_of([word_tag(text)]):
                raise BadInput(
                    "invalid_id", f"{field} {text[:80]!r} is not a word as it is kept: `ice-cream`"
                )
            return text
        if self.subject != "question":
            return checked_id(text, field)
        quiz, separator, question = text.partition("/")
        if not (separator and valid_id(quiz) and valid_id(question)):
            raise BadInput("invalid_id", f"{field} {text[:80]!r} must be QUIZ/QUESTION")
        return text


USERS_POINTS = Counting()


@dataclass(frozen=True, slots=True)
class Board:
    """One board: its scope, period, first local day and zone; anchor and tick follow from them."""

    scope: Scope
    period: str
    start: date
    zone: str = "UTC"
    subject: str = "user"
    measure: str = "points"

    @property
    def key(self) -> str:
        return names.board(str(self.scope), self.period, self.start)

    @property
    def anchor_us(self) -> int:
        return span(self.period, self.start, self.zone).start_us

    @property
    def tick_us(self) -> int:
        return PERIOD_TICK_US[self.period]


def boards_of(scope: Scope, occurred_at_us: int, zone: str) -> list[Board]:
    """The day, week, month and all-time board of a scope that an answer at this instant belongs to."""
    ending = [
        Board(scope, period, period_start(period, occurred_at_us, zone), zone) for period in ENDING_PERIODS
    ]
    return [*ending, Board(scope, "all_time", EPOCH_DAY, zone)]


def kept_in_redis(board: Board, boards_since_us: int) -> bool:
    """Redis keeps boards of periods that end after `boards_since`, and all-time boards (DESIGN 4)."""
    return span(board.period, board.start, board.zone).end_us > boards_since_us
