"""Every type of question played: the right answer is told by nothing before the reveal, and the record has what it must."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from contracts import names
from contracts.events import AnswerEvent, decode
from contracts.question_types import LISTENING, QUESTION_TYPES, TYPED_SPELLING, WORD_TO_DEFINITION
from serving.boards.outbox import Outbox
from tests.serving.api_process import ApiProcess
from tests.serving.live.test_play import bearer, code
from tests.serving.quizzes.authors import author, publish, published, question, quiz, save
from tests.serving.quizzes.test_draft import GOOD

pytestmark = pytest.mark.service
# No other text of a game has it by chance.
RIGHT = "zyzzyva"
MEANING = "a zyzzogeton of the tropics"


def right_of(kind: str) -> str:
    return MEANING if kind in (WORD_TO_DEFINITION, LISTENING) else RIGHT


def question_of(kind: str, number: int) -> dict[str, Any]:
    """A question of a kind whose right answer is `right_of(kind)`."""
    found = {**GOOD[kind], "type": kind, "answer": right_of(kind), "tags": [f"n{number}"], "also": []}
    if kind in (WORD_TO_DEFINITION, LISTENING):
        found["prompt"] = RIGHT
    return found


class Play:
    """A hosted session of a quiz, with players who listen on sockets."""

    def __init__(self, api: ApiProcess, client: httpx.Client, quiz_id: str, players: int = 1) -> None:
        self.client = httpx.Client(base_url=api.url, timeout=10)
        reply = client.post("/v1/sessions", json={"quiz_id": quiz_id}).raise_for_status()
        self.session = reply.json()
        self.id = self.session["session_id"]
        self.players = [
            self.client.post("/v1/join", json={"pin": self.session["pin"], "name": f"P{n}"}).json()
            for n in range(players)
        ]
        self.address = api.url.replace("http", "ws") + "/v1/live?token="

    def move(self, kind: str) -> None:
        self.client.post(
            f"/v1/sessions/{self.id}/{kind}", headers=bearer(self.session["token"])
        ).raise_for_status()

    def current(self) -> dict[str, Any]:
        return dict(self.client.get(f"/v1/sessions/{self.id}").json()["current"])

    def answer(self, choice: str, player: int = 0) -> httpx.Response:
        return self.client.post(
            f"/v1/sessions/{self.id}/answers",
            headers=bearer(self.players[player]["token"]),
            json={"question_id": self.current()["question_id"], "choice": choice},
        )


def events_of(valkey_urls: list[str], session_id: str) -> list[AnswerEvent]:
    """The session's answers in the outboxes, in order."""
    found = []
    for url in valkey_urls:
        outbox = Outbox(url)
        after, batch = 0, outbox.read_after(0, 1_000)
        while batch:
            # Others' entries are none of this test's; some tests of batches write what is no event.
            own = [entry.event for entry in batch if session_id.encode() in entry.event]
            found += [decode(event) for event in own]
            after = batch[-1].seq
            batch = outbox.read_after(after, 1_000)
        outbox.close()
    return found


def test_every_type_is_played_and_tells_nothing_before_the_reveal(
    api: ApiProcess, valkey_urls: list[str]
) -> None:
    ada = author(api, "types")
    ordered = list(QUESTION_TYPES)
    draft = quiz(*[question_of(kind, number) for number, kind in enumerate(ordered)])
    one = published(ada, draft)
    play = Play(api, ada, one["quiz_id"], players=2)
    ids = {q["type"]: q["question_id"] for q in one["draft"]["questions"]}
    tokens = (play.players[0]["token"], play.session["token"])
    with connect(play.address + tokens[0]) as player, connect(play.address + tokens[1]) as host:
        through_all(play, ids, [player, host])
    play.move("end")
    review = play.client.get(
        f"/v1/sessions/{play.id}/review", headers=bearer(play.players[0]["token"])
    ).json()
    assert [right_of(kind) for kind in ordered] == [row["answer"] for row in review["questions"]]
    events = events_of(valkey_urls, play.id)
    assert 2 * len(ordered) == len(events)
    for event in events:
        assert event.question_id == ids[event.question_type] and 1 == event.quiz_version
        assert {"A1", f"n{ordered.index(event.question_type)}", names.word_tag(RIGHT)} <= set(
            event.skill_tags
        )


def through_all(play: Play, ids: dict[str, str], lines: list[Any]) -> None:
    """Every question, answered right by one and wrong by the other, with all that is heard and asked meanwhile."""
    for kind in QUESTION_TYPES:
        play.move("next")
        shown = play.current()
        assert (kind, ids[kind]) == (shown["question_type"], shown["question_id"])
        assert (shown["choices"] == []) == (kind == TYPED_SPELLING)
        assert (shown["speech"] == RIGHT) == (kind == LISTENING)
        heard = [json.loads(line.recv(5)) for line in lines for _ in range(1)]
        while not all(
            message["type"] == "question" and message["question_id"] == ids[kind] for message in heard
        ):
            heard = [
                message if message.get("question_id") == ids[kind] else json.loads(line.recv(5))
                for message, line in zip(heard, lines, strict=True)
            ]
        for message in (shown, *heard, report_row(play, ids[kind])):
            told_nothing(kind, message)
        right = play.answer(right_of(kind).upper() if kind == TYPED_SPELLING else right_of(kind))
        assert right.json()["correct"] and right.json()["points"] > 0
        wrong = "zzz" if kind == TYPED_SPELLING else next(c for c in shown["choices"] if c != right_of(kind))
        assert not play.answer(wrong, 1).json()["correct"]
        play.move("close")
        assert right_of(kind) == play.current()["answer"]
        row = report_row(play, ids[kind])
        assert right_of(kind) == row["answer"] and wrong == row["most_chosen_wrong"]
        assert 1 == next(choice["count"] for choice in row["choices"] if choice["right"])


def report_row(play: Play, question_id: str) -> dict[str, Any]:
    report = play.client.get(f"/v1/sessions/{play.id}/report", headers=bearer(play.session["token"])).json()
    return next(row for row in report["questions"] if row["question_id"] == question_id)


def told_nothing(kind: str, message: dict[str, Any]) -> None:
    """Nothing but the choices, in which it stands like the others, has the right answer; a typed one is nowhere."""
    rest = {name: value for name, value in message.items() if name not in ("choices", "speech", "prompt")}
    assert right_of(kind) not in json.dumps(rest), rest
    assert right_of(kind) not in (message.get("prompt"), message.get("speech"))
    if kind == TYPED_SPELLING:
        assert RIGHT not in json.dumps(message)


def test_the_order_of_choices_is_each_sessions_own(api: ApiProcess) -> None:
    ada = author(api, "orders")
    one = published(ada, quiz(question(RIGHT, wrong=["a", "b", "c"])))
    places = []
    for _ in range(30):
        play = Play(api, ada, one["quiz_id"], players=0)
        play.move("next")
        places.append(play.current()["choices"].index(RIGHT))
    assert {0, 1, 2, 3} == set(places), "by chance: missed once in 1,300 runs"


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("  ZyzzyVA ", "ZyzzyVA"),
        ("a" * 64, "a" * 64),
        ("a|b|c", "a|b|c"),
        ('"};\\n', '"};\\n'),
        ("=1+1", "=1+1"),
    ],
)
def test_what_was_typed_is_kept(api: ApiProcess, valkey_urls: list[str], typed: str, kept: str) -> None:
    ada = author(api, "typing")
    play = Play(api, ada, published(ada, quiz(question_of(TYPED_SPELLING, 0)))["quiz_id"])
    play.move("next")
    assert play.answer(typed).json()["correct"] == (kept == "ZyzzyVA")
    assert [kept] == [event.choice for event in events_of(valkey_urls, play.id)]
    play.move("close")
    row = report_row(play, play.current()["question_id"])
    assert row["most_chosen_wrong"] == (None if kept == "ZyzzyVA" else kept)
    csv = play.client.get(
        f"/v1/sessions/{play.id}/report?format=csv", headers=bearer(play.session["token"])
    ).text
    assert "\n=1+1" not in csv and ",=1+1" not in csv


@pytest.mark.parametrize("typed", ["", "  ", "\u0000", "a" * 65, "b" * 200])
def test_what_cannot_be_a_typed_answer_is_refused(api: ApiProcess, typed: str) -> None:
    ada = author(api, "refused")
    play = Play(api, ada, published(ada, quiz(question_of(TYPED_SPELLING, 0)))["quiz_id"])
    play.move("next")
    assert (422, "invalid_field") == code(play.answer(typed))
    assert play.answer(RIGHT).json()["points"] > 0


def test_a_running_session_keeps_its_version(api: ApiProcess, valkey_urls: list[str]) -> None:
    ada = author(api, "versions")
    one = published(ada, quiz(question("apple"), question("plum")))
    play = Play(api, ada, one["quiz_id"])
    play.move("next")
    assert play.answer("apple").json()["correct"]
    ids = [q["question_id"] for q in one["draft"]["questions"]]
    changed = quiz(
        question("grape", question_id=ids[0]), question("melon", question_id=ids[1]), title="Other fruit"
    )
    save(ada, one["quiz_id"], changed, one["revision"]).raise_for_status()
    assert 2 == publish(ada, one["quiz_id"], one["revision"] + 1).json()["version"]
    play.move("next")
    assert "plum" in play.current()["choices"] and "Fruit" == play.current()["title"]
    assert play.answer("plum").json()["correct"]
    later = Play(api, ada, one["quiz_id"])
    later.move("next")
    assert "grape" in later.current()["choices"] and later.answer("grape").json()["correct"]
    assert [1, 1] == [event.quiz_version for event in events_of(valkey_urls, play.id)]
    assert [2] == [event.quiz_version for event in events_of(valkey_urls, later.id)]
