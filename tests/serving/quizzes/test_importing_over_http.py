"""Lists and media over HTTP: bytes as they come, what is refused, and that a look stores nothing."""

from __future__ import annotations

import struct
import zlib

import httpx
import pytest

from serving.quizzes.draft import QuizDraft
from tests.serving.api_process import ApiProcess
from tests.serving.live.test_play import code
from tests.serving.quizzes.authors import author, made, publish, quiz, save
from tests.serving.quizzes.test_draft import GOOD

pytestmark = pytest.mark.service
LIST = "apple\ta round fruit\npear\ta green fruit\n"


@pytest.fixture(scope="module")
def ada(api: ApiProcess) -> httpx.Client:
    return author(api, "Ada")


def look(client: httpx.Client, data: bytes, **asked: str) -> httpx.Response:
    return client.post(
        "/v1/quizzes/import", content=data, params=asked, headers={"Content-Type": "text/plain"}
    )


def png(colour: int = 0) -> bytes:
    """A picture of one pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    pixel = zlib.compress(bytes([0, colour]))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixel) + chunk(b"IEND", b"")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_list_is_looked_at_then_saved_whole(ada: httpx.Client, encoding: str) -> None:
    one = made(ada, quiz(questions=[]))
    found = (
        look(ada, LIST.encode(encoding), types="definition_to_word,typed_spelling").raise_for_status().json()
    )
    assert (True, "words", 2, 4, []) == (
        found["complete"], found["format"], found["words"], len(found["questions"]), found["errors"],
    )  # fmt: skip
    assert [] == ada.get(f"/v1/quizzes/{one['quiz_id']}/draft").json()["draft"]["questions"], (
        "a look stores nothing"
    )
    draft = quiz(*[row["question"] for row in found["questions"]])
    saved = save(ada, one["quiz_id"], draft, 1).raise_for_status().json()
    assert [] == saved["problems"]
    csv = ada.get(f"/v1/quizzes/{one['quiz_id']}/draft.csv").raise_for_status()
    again = look(ada, csv.content).json()
    assert ("questions", True) == (again["format"], again["complete"])
    same = QuizDraft.model_validate(saved["draft"]).questions
    assert [question.model_dump() for question in same] == [row["question"] for row in again["questions"]]
    assert 1 == publish(ada, one["quiz_id"], 2).json()["version"]


def test_lines_in_error_are_told_and_left_out(ada: httpx.Client) -> None:
    found = look(ada, b"apple\ta round fruit\npear\n\nplum\ta plum\nfig\ta soft fruit\n").json()
    assert not found["complete"] and [(2, "one_column"), (4, "answer_in_prompt")] == [
        (error["line"], error["code"]) for error in found["errors"]
    ]
    assert [1, 5] == [row["line"] for row in found["questions"]]


def test_what_cannot_be_read_has_stable_codes(api: ApiProcess, ada: httpx.Client) -> None:
    assert (422, "bad_encoding") == code(look(ada, "für\tx\n".encode("latin-1")))
    assert "line 2" in look(ada, "a\tb\nfür\tx\n".encode("latin-1")).json()["detail"]
    assert (422, "nothing_to_import") == code(look(ada, b""))
    assert (422, "invalid_field") == code(look(ada, b"a\tb", types="essay"))
    assert (422, "invalid_field") == code(look(ada, b"a\tb", format="xlsx"))
    assert (413, "body_too_large") == code(look(ada, b"a,b\n" * 6_000))
    assert (413, "body_too_large") == code(look(ada, b"x" * 1_100_000))
    nobody = httpx.Client(base_url=api.url)
    assert (401, "unauthenticated") == code(look(nobody, b"a\tb"))
    one = made(ada)["quiz_id"]
    assert (404, "unknown_quiz") == code(author(api, "Bob").get(f"/v1/quizzes/{one}/draft.csv"))


def test_no_cell_of_an_export_is_a_formula(ada: httpx.Client) -> None:
    evil = '=HYPERLINK("http://x","y")'
    question = {
        **GOOD["definition_to_word"],
        "type": "definition_to_word",
        "prompt": evil,
        "answer": "@x",
        "wrong": ["-1", "+1"],
    }
    one = made(ada, quiz(question))
    text = ada.get(f"/v1/quizzes/{one['quiz_id']}/draft.csv").content.decode("utf-8-sig")
    assert "'=HYPERLINK" in text and "'@x" in text and "'-1 | +1" in text
    kept = look(ada, text.encode()).json()["questions"][0]["question"]
    assert (evil, "@x", ["-1", "+1"]) == (kept["prompt"], kept["answer"], kept["wrong"])


def test_media_are_known_by_their_bytes_and_named_by_their_digest(api: ApiProcess, ada: httpx.Client) -> None:
    picture = ada.post("/v1/media", content=png()).json()
    assert "picture" == picture["kind"] and picture == ada.post("/v1/media", content=png()).json()
    assert picture["url"] != ada.post("/v1/media", content=png(9)).json()["url"]
    shown = httpx.get(api.url + picture["url"])
    assert (png(), "image/png") == (shown.content, shown.headers["content-type"])
    assert "immutable" in shown.headers["cache-control"]
    recording = ada.post("/v1/media", content=b"ID3" + bytes(100)).json()
    assert "audio" == recording["kind"] and recording["url"].endswith(".mp3")
    for content in (
        b"",
        b"<svg onload='alert(1)'/>",
        b"<html><script>",
        b"GIF89a",
        b"\x89PNG",
        b"MZ" + bytes(99),
        b"RIFF" + bytes(99),
    ):
        assert (415, "unsupported_media") == code(ada.post("/v1/media", content=content))
    assert (413, "body_too_large") == code(ada.post("/v1/media", content=b"ID3" + bytes(5 * 1024 * 1024)))
    assert (401, "unauthenticated") == code(httpx.post(f"{api.url}/v1/media", content=png()))
