"""A shard that is full: its outbox, its memory, its disk. What is refused is refused whole, and counts when sent again."""

from __future__ import annotations

import asyncio
import json
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import httpx
import psycopg
import pytest
import websockets
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from cli.stack.process import Running, free_port, launch
from cli.stack.valkey import valkey
from contracts import names
from contracts.settings import Settings
from tests.serving.api_process import IMPORTER_KEY, ApiProcess
from tests.serving.live.test_play import Table, code, right_choice
from tests.serving.relay_stack import forget_leases, start_relay, wait_until

pytestmark = pytest.mark.faults
# Answers that the outbox takes in these tests.
OUTBOX_ENTRIES = 4


@dataclass
class Full:
    """One shard, its server and an api over it; `stack` is what a relay needs."""

    api: ApiProcess
    server: Running
    redis: Any
    stack: dict[str, str]

    @contextmanager
    def relay(self) -> Iterator[None]:
        """A relay until the outbox is empty."""
        forget_leases(self.stack)
        process = start_relay(self.stack)
        try:
            yield
            wait_until(lambda: self.redis.xlen(names.outbox()) == 0)
            assert process.poll() is None
        finally:
            process.kill()
            process.wait()

    def history(self) -> int:
        with psycopg.connect(self.stack["LAKEBOARD_POSTGRES_URL"]) as sql:
            found = sql.execute("SELECT count(*) FROM history").fetchone()
        assert found is not None
        return int(found[0])

    def kept(self) -> tuple[int, int, Any]:
        """(counter, entries of the outbox, last id): what half a write would set apart."""
        last = self.redis.xrevrange(names.outbox(), count=1)
        return int(self.redis.get(names.outbox_seq()) or 0), self.redis.xlen(names.outbox()), last


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory, new_postgres_url: Callable[[], str]) -> Iterator[Full]:
    """Each test leaves it with an empty outbox and room again."""
    folder, port = tmp_path_factory.mktemp("full"), free_port()
    process = valkey("valkey", folder / "valkey", port)
    # A file-size limit then is a failed write, as on a full disk, and no signal.
    command = ("sh", "-c", "trap '' XFSZ; exec \"$@\"", "sh", *process.command)
    server = launch(replace(process, command=command), folder / "valkey.log")
    url, postgres_url = f"redis://127.0.0.1:{port}/0", new_postgres_url()
    api = ApiProcess(folder / "api", [url], postgres_url, outbox_most_entries=OUTBOX_ENTRIES)
    stack = Settings(profile="live", valkey_urls=(url,), postgres_url=postgres_url).to_env()
    yield Full(api, server, Redis.from_url(url), stack)
    api.stop()
    server.kill()


async def over_socket(api: ApiProcess, token: str, question: dict[str, Any]) -> dict[str, Any]:
    """The first reply to an answer, without a client that sends it again."""
    address = api.url.replace("http", "ws") + "/v1/live?token=" + token
    async with websockets.connect(address) as socket:
        sent = {"question_id": question["question_id"], "choice": right_choice(question), "ref": "r"}
        await socket.send(json.dumps({"type": "answer", **sent}))
        while True:
            message: dict[str, Any] = json.loads(await asyncio.wait_for(socket.recv(), 20))
            if message.get("ref") == "r":
                return message


def table_of(full: Full, *players: str) -> tuple[Table, dict[str, Any]]:
    table = Table(full.api, *players)
    table.client.timeout = httpx.Timeout(30)
    table.host("next").raise_for_status()
    return table, table.current()


def test_a_full_outbox_takes_no_new_answer_until_the_relay_has_emptied_it(full: Full) -> None:
    table, question = table_of(full, *"ABCDEF")
    right = right_choice(question)
    first = [table.answer(player, question, right).json() for player in range(OUTBOX_ENTRIES)]
    assert all(result["points"] > 0 for result in first)
    before = full.kept()

    refused = table.answer(4, question, right)
    assert (503, "outbox_full") == code(refused) and "send it again" in refused.json()["next_step"]
    told = asyncio.run(over_socket(full.api, table.players[5]["token"], question))
    assert ("error", "outbox_full", 503) == (told["type"], told["code"], told["status"])
    line = {
        "occurred_at_us": time.time_ns() // 1000 - 10**6, "user_id": "u", "session_id": "full_1", "quiz_id": "full",
        "question_id": "q", "correct": True, "elapsed_ms": 1,
    }  # fmt: skip
    imported = table.client.post(
        "/v1/import/answers", content=json.dumps(line), headers={"X-API-Key": IMPORTER_KEY}
    )
    assert (503, "outbox_full") == code(imported)
    # What was kept is told again, and nothing else was written.
    again = table.answer(0, question, right).json()
    assert again["repeat"] and again["points"] == first[0]["points"]
    assert before == full.kept()

    with full.relay():
        wait_until(lambda: table.answer(4, question, right).status_code == 200)
        told = asyncio.run(over_socket(full.api, table.players[5]["token"], question))
        assert told["type"] == "result" and not told["repeat"]
        reply = table.client.post(
            "/v1/import/answers", content=json.dumps(line), headers={"X-API-Key": IMPORTER_KEY}
        )
        assert 1 == reply.json()["counted"]
    assert full.history() == full.kept()[0]


def test_at_the_memory_limit_nothing_new_is_taken_and_the_relay_makes_room(full: Full) -> None:
    table, question = table_of(full, "Ada", "Grace")
    right = right_choice(question)
    assert table.answer(0, question, right).json()["points"] > 0
    before = full.kept()
    full.redis.config_set("maxmemory", 1)
    try:
        refused = table.answer(1, question, right)
        assert (503, "memory_full") == code(refused) and "redis-full" in refused.json()["next_step"]
        told = asyncio.run(over_socket(full.api, table.players[1]["token"], question))
        assert ("error", "memory_full", 503) == (told["type"], told["code"], told["status"])
        late = table.client.post("/v1/join", json={"pin": table.session["pin"], "name": "Late"})
        assert (503, "memory_full") == code(late)
        made = table.client.post("/v1/sessions", json={"quiz_id": "starter-a1"})
        assert (503, "memory_full") == code(made)
        # No half of an answer: neither its key nor its points, and the counter fits the outbox.
        assert before == full.kept()
        assert 1 == full.redis.hlen(names.session_answers(table.id))
        board = table.client.get(f"/v1/leaderboards/session:{table.id}/all_time/current").json()
        assert 0 == board["entries"][1]["points"]
        # Who plays goes on to the end, and the relay, also a new one, empties the outbox.
        table.host("close").raise_for_status()
        with full.relay():
            pass
        assert full.history() == full.kept()[0]
    finally:
        full.redis.config_set("maxmemory", 0)
    table.host("next").raise_for_status()
    question = table.current()
    assert table.answer(1, question, right_choice(question)).json()["points"] > 0
    with full.relay():
        pass


def test_on_a_full_disk_the_shard_stops_and_loses_nothing_that_it_told(full: Full) -> None:
    """`appendfsync always` ends a server that cannot write; so nobody is told of what is not on the disk."""
    table, question = table_of(full, "Ada", "Grace")
    right = right_choice(question)
    first = table.answer(0, question, right).json()
    before = full.kept()
    limits = resource.prlimit(full.server.pid, resource.RLIMIT_FSIZE)
    [log] = full.server.process.folder.glob("appendonlydir/*.incr.aof")
    resource.prlimit(full.server.pid, resource.RLIMIT_FSIZE, (log.stat().st_size + 50, limits[1]))
    assert (503, "system_missing") == code(table.answer(1, question, right))
    assert full.server.ended()
    with pytest.raises(RedisConnectionError):
        full.redis.ping()
    assert "AOF" in full.server.log.read_text()
    # Room again, and the supervisor starts it: what was told is there, the rest is not.
    full.server.start()
    assert before == full.kept()
    again = table.answer(0, question, right).json()
    assert again["repeat"] and again["points"] == first["points"]
    told = asyncio.run(over_socket(full.api, table.players[1]["token"], question))
    assert told["type"] == "result" and told["points"] > 0 and not told["repeat"]
    with full.relay():
        pass
    assert full.history() == full.kept()[0]


def test_a_snapshot_that_failed_stops_writes_until_one_succeeds(full: Full) -> None:
    """The disk is full for the snapshot first: the server goes on and refuses to write (MISCONF)."""
    table, question = table_of(full, "Ada", "Grace")
    right = right_choice(question)
    assert table.answer(0, question, right).json()["points"] > 0
    before, limits = full.kept(), resource.prlimit(full.server.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(full.server.pid, resource.RLIMIT_FSIZE, (10, limits[1]))
    full.redis.bgsave()
    wait_until(lambda: full.redis.info("persistence")["rdb_last_bgsave_status"] == "err")
    resource.prlimit(full.server.pid, resource.RLIMIT_FSIZE, limits)
    refused = table.answer(1, question, right)
    assert (503, "disk_full") == code(refused) and "redis-full" in refused.json()["next_step"]
    told = asyncio.run(over_socket(full.api, table.players[1]["token"], question))
    assert ("error", "disk_full") == (told["type"], told["code"])
    made = table.client.post("/v1/sessions", json={"quiz_id": "starter-a1"})
    assert (503, "disk_full") == code(made)
    assert before == full.kept()
    full.redis.bgsave()
    wait_until(lambda: full.redis.info("persistence")["rdb_last_bgsave_status"] == "ok")
    assert table.answer(1, question, right).json()["points"] > 0
    with full.relay():
        pass
