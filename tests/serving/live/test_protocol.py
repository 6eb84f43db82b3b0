"""live.v1 as it is written down: the files are current, and what a server really sends in played sessions fits them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from clients.live_client import LiveClient, Message, Refused
from serving.api_documents import FOLDER, asyncapi, documents
from serving.live import messages
from serving.live.messages import as_document
from serving.live.phases import phase_message
from serving.sessions.session import Question, Session
from tests.serving.api_process import ApiProcess
from tests.serving.live.test_play import Table, right_choice


@pytest.mark.unit
def test_the_committed_files_are_current() -> None:
    for name, text in documents().items():
        assert text == (FOLDER / name).read_text(encoding="utf-8"), "run python -m serving.api_documents"


def _refs(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        for value in node.values():
            yield from _refs(value)
    elif isinstance(node, list):
        for value in node:
            yield from _refs(value)


@pytest.mark.unit
def test_every_reference_of_the_asyncapi_file_leads_somewhere() -> None:
    document = asyncapi()
    found = set(_refs(document))
    assert len(found) > 40
    for ref in found:
        at: Any = document
        for step in ref.removeprefix("#/").split("/"):
            at = at[step]
        assert at, ref


@pytest.mark.unit
def test_every_close_code_is_explained() -> None:
    ours = {
        value for name, value in vars(messages).items() if name.startswith("CLOSE_") and name != "CLOSE_CODES"
    }
    assert ours <= messages.CLOSE_CODES.keys() == {int(code) for code in asyncapi()["x-close-codes"]}
    assert set(messages.FINAL_CODES) < ours


class Recorder(LiveClient):
    """A client that keeps every message as it came."""

    def __init__(self, api: ApiProcess, token: str) -> None:
        super().__init__(api.url.replace("http", "ws") + "/v1/live", token)
        self.seen: list[Message] = []

    def _take(self, message: Message) -> None:
        self.seen.append(message)
        super()._take(message)


async def _hosted(api: ApiProcess) -> list[list[Message]]:
    """Two questions of a hosted session, with a pause, a lock, a repeat and refusals."""
    table = Table(api, "Ada", "Grace")

    async def lead(move: str) -> None:
        (await asyncio.to_thread(table.host, move)).raise_for_status()

    async with (
        Recorder(api, table.players[0]["token"]) as ada,
        Recorder(api, table.session["token"]) as host,
    ):
        assert (await ada.until("lobby"))["pin"] == table.session["pin"]
        await ada.ping()
        await lead("lock")
        for _ in range(2):
            await lead("next")
            question = await ada.until("question")
            await lead("pause")
            assert (await ada.until("paused"))["left_ms"] <= 20_000
            with pytest.raises(Refused, match="session_paused"):
                await ada.answer(question["question_id"], right_choice(question))
            await lead("resume")
            assert (await ada.until("question"))["deadline_us"] > question["deadline_us"]
            first = await ada.answer(question["question_id"], right_choice(question))
            again = await ada.answer(question["question_id"], "something else")
            assert again["repeat"] and (first["points"], first["rank"]) == (again["points"], again["rank"])
            await lead("close")
            # `closed` may be passed over: a socket gets the newest phase only.
            assert (await ada.until("reveal"))["answer"] == right_choice(question)
            await lead("standings")
            await ada.until("standings")
        with pytest.raises(Refused, match="forbidden"):
            await host.answer("x", "y")
        for _ in range(11):
            await lead("next")
        await host.until("podium")
        await lead("end")
        await ada.until("ended")
        await host.until("ended")
        return [ada.seen, host.seen]


async def _challenge(api: ApiProcess) -> list[Message]:
    """A whole challenge of one player."""
    table = Table(api)
    made = table.client.post("/v1/sessions", json={"quiz_id": "starter-a1", "open_for_s": 600}).json()
    seat = table.client.post(f"/v1/sessions/{made['session_id']}/join", json={"name": "Ada"}).json()
    async with Recorder(api, seat["token"]) as ada:
        assert made["session_id"] == (await ada.until("challenge"))["session_id"]
        total, step = 0, await ada.next()
        while step["type"] == "question":
            total += (await ada.answer(step["question_id"], right_choice(step)))["points"]
            step = await ada.next()
        assert ("finished", 12) == (step["type"], step["questions"])
        board = await ada.until("board")
        while board["entries"][0]["points"] < total:
            board = await ada.until("board")
        assert total == board["entries"][0]["points"] >= 12 * 500
        return ada.seen


@pytest.mark.service
def test_every_message_that_is_sent_fits_the_asyncapi_file(api: ApiProcess) -> None:
    document = json.loads((FOLDER / "live.v1.asyncapi.json").read_text(encoding="utf-8"))
    checks = {
        name: Draft202012Validator({**message["payload"], "components": document["components"]})
        for name, message in document["components"]["messages"].items()
    }
    kinds: set[str] = set()
    for seen in (*asyncio.run(_hosted(api)), asyncio.run(_challenge(api))):
        for message in seen:
            checks[message["type"]].validate(message)
            kinds.add(message["type"])
            assert ("answer" in message) == (message["type"] == "reveal")
        assert "welcome" == seen[0]["type"]
        for name in ("epoch", "seq"):
            numbers = [m[name] for m in seen if name in m and (name == "epoch" or m["type"] == "board")]
            assert sorted(numbers) == numbers, name
    # Everything that a server sends was really seen, but for the moment between closing and revealing.
    closed = replace(Session("s1", "quiz"), state="closed", question_id="q1")
    question = Question("q1", "Which?", ("a", "b"), "a", "definition_to_word")
    checks["closed"].validate(as_document(phase_message(closed, question, 1)))
    assert {message.__struct_config__.tag for message in messages.FROM_SERVER} == kinds | {"closed"}
