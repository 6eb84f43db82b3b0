"""/v1/insights over a real QuestDB: what is told is what was written; without it a clear code, and soon."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from contracts.periods import iso_ms
from serving.insights.over_time import SHOWN
from serving.quizzes.starter import starter_quizzes
from tests.serving.api_process import ApiProcess
from tests.serving.insights.filled import (
    MINUTE_US,
    MINUTES,
    QUIZZES,
    USERS,
    filled_questdb,
    misses,
    plays,
    questions,
)

pytestmark = pytest.mark.service
Told = tuple[ApiProcess, int]


@pytest.fixture(scope="module")
def told(
    tmp_path_factory: pytest.TempPathFactory, valkey_urls: list[str], new_postgres_url: Callable[[], str]
) -> Iterator[Told]:
    """An api over a QuestDB with half an hour of play."""
    folder = tmp_path_factory.mktemp("insights")
    with filled_questdb(folder / "questdb") as (questdb, newest_us):
        api = ApiProcess(folder / "api", valkey_urls, new_postgres_url(), questdb_http_url=questdb.url)
        yield api, newest_us
        questdb.kill()
        assert_told_to_be_away(api)
        api.stop()


def assert_told_to_be_away(api: ApiProcess) -> None:
    """With QuestDB gone: a code, at once; and the process takes play all the same."""
    time.sleep(3.5)  # what was read is kept for a moment
    for path in ("hot", "trending", "hardest", "pipeline"):
        began = time.monotonic()
        reply = httpx.get(f"{api.url}/v1/insights/{path}", timeout=10)
        assert (503, "system_missing") == (reply.status_code, reply.json()["code"])
        assert "QuestDB" in reply.json()["detail"] and reply.json()["next_step"]
        assert time.monotonic() - began < 8
    assert 200 == httpx.get(f"{api.url}/readyz").status_code


def get(told: Told, path: str, **query: object) -> dict[str, object]:
    return dict(httpx.get(f"{told[0].url}/v1/insights/{path}", params=query).raise_for_status().json())


def test_hot_now(told: Told) -> None:
    reply = get(told, "hot", minutes=60)
    newest = MINUTES - 1
    expected = sorted(((plays(n, newest), quiz) for n, quiz in enumerate(QUIZZES)), reverse=True)
    assert [(amount, quiz) for amount, quiz in expected] == [(e["amount"], e["id"]) for e in reply["entries"]]
    titles = {quiz.quiz_id: quiz.draft.title for quiz in starter_quizzes()}
    assert [titles[quiz] for _, quiz in expected] == [entry["name"] for entry in reply["entries"]]
    assert iso_ms(told[1] + MINUTE_US) == reply["window"]["end"] == reply["as_of"]
    assert MINUTES == len(reply["windows"])
    first = next(one for one in reply["series"] if one["id"] == QUIZZES[0])
    assert [plays(0, minute) for minute in range(MINUTES)] == first["amounts"]
    users = get(told, "hot", kind="users")
    assert (USERS[-1], "points", 10) == (users["entries"][0]["id"], users["measure"], len(users["entries"]))


def test_trending(told: Told) -> None:
    reply = get(told, "trending", minutes=20)
    top = reply["entries"][0]
    assert QUIZZES[-1] == top["id"] and top["gained"] == top["now"] - top["before"] > 1_000


def test_hardest_has_bounds(told: Told) -> None:
    reply = get(told, "hardest", minutes=60)
    assert questions() == [one["id"] for one in reply["entries"]]
    for number, one in enumerate(reply["entries"]):
        truth = sum(misses(number, minute) for minute in range(MINUTES))
        assert one["lower"] <= truth <= one["upper"] and one["windows"] == MINUTES
        assert one["name"]
    assert MINUTES == len(reply["play"]["answers"]) and all(
        answers > missed
        for answers, missed in zip(reply["play"]["answers"], reply["play"]["missed"], strict=True)
    )


def test_the_pipeline(told: Told) -> None:
    reply = get(told, "pipeline", minutes=20)
    by_line = {(line["measure"], line["source"]): line["points"] for line in reply["lines"]}
    points = by_line[("relay_lag_seconds", "1/kafka")]
    assert 60 <= len(points) <= 127 and all(1.6 <= value <= 2.3 for _, value in points)
    latest = {(one["measure"], one["source"]): one["value"] for one in reply["latest"]}
    assert {measure for measure, _ in {*by_line, *latest}} <= set(SHOWN)  # nothing of memory
    assert 1 == latest[("streams_running", "lakeboard-streams")]
    assert 31 == latest[("streams_watermark_age_seconds", "lakeboard-streams")]


def test_what_is_asked_wrongly_is_refused(told: Told, api: ApiProcess) -> None:
    for path in ("hot?kind=words'--", "hot?minutes=4", "hot?minutes=121", "pipeline?minutes=1441"):
        reply = httpx.get(f"{told[0].url}/v1/insights/{path}")
        assert (422, "invalid_field") == (reply.status_code, reply.json()["code"])
    # A stack without a QuestDB says which profile has one.
    reply = httpx.get(f"{api.url}/v1/insights/hot")
    assert (503, "system_missing") == (reply.status_code, reply.json()["code"])
    assert "full" in reply.json()["next_step"]
