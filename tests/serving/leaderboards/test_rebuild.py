"""Redis made again from the record: whatever was broken, and while answers come in, equal to the model."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
import pytest
from redis import Redis

from contracts import corrections, names
from contracts.settings import Settings
from serving.boards.shards import script_text
from serving.boards.swapping import BoardSwap
from serving.boards.whole_boards import WholeBoards
from serving.leaderboards.comparison import places, without_joined
from serving.leaderboards.rebuild import Totals, main, rebuild
from serving.leaderboards.reconcile import reconcile
from spark_jobs import publish
from tests import model
from tests.serving.recorded import Recorded
from tests.serving.relay_stack import arrivals
from tests.small_lake import SmallLake

pytestmark = pytest.mark.service


def settings_of(record: Recorded) -> Settings:
    return Settings(valkey_urls=tuple(record.valkey_urls), postgres_url=record.postgres_url, profile="live")


def assert_equal_to_the_model(record: Recorded, counted: list[model.Answer]) -> int:
    """Every board of the model is in Redis row for row, and Redis has no other; how many."""
    expected = model.all_boards(counted)
    starts = {answer.session_id: answer.session_started_at_us for answer in counted}
    live = WholeBoards(record.valkey_urls)
    by_key = {names.board(*name): (name, rows) for name, rows in expected.items()}
    assert by_key.keys() == live.keys()
    zones = {f"quiz:{answer.quiz_id}": answer.zone for answer in counted}
    for (key, (name, rows)), packed in zip(by_key.items(), live.read(list(by_key)), strict=True):
        scope, period, start = name
        if scope.startswith("session:"):
            packed = without_joined(packed, [row.user_id for row in rows])
            frame = (starts[scope.partition(":")[2]], model.SECOND_US)
        else:
            zone = zones.get(scope, "UTC")
            frame = (model.anchor_of(period, date.fromisoformat(start), zone), model.TICKS[period])
        wanted = {row.user_id: (row.rank, row.points, row.reached_at_us) for row in rows}
        assert wanted == places(packed, *frame), key
    live.close()
    return len(expected)


def clients(record: Recorded) -> list[Any]:
    return [Redis.from_url(url) for url in record.valkey_urls]


def test_broken_boards_are_whole_again(record: Recorded, capsys: pytest.CaptureFixture[str]) -> None:
    answers = model.play(21, users=25, sessions=8)
    record.play(answers)
    record.relay()
    counted = model.counted(arrivals(answers))
    count = assert_equal_to_the_model(record, counted)
    joined = None
    for client in clients(record):
        for number, key in enumerate(sorted(client.scan_iter(names.boards_pattern()))):
            if number % 3 == 0:
                client.delete(key)
            elif number % 3 == 1:
                client.zadd(key, {"intruder": 4_194_304_000 + number})
        # Somebody who only joined stays; a board that the record does not know goes; so do left copies.
        if client.exists(names.session("s1")):
            client.hset(names.session_players("s1"), "joined", "Jo")
            joined = client
        client.zadd(names.board("quiz:none", "daily", "2024-03-30"), {"ghost": 1})
        client.zadd(names.rebuilt_board(names.board("global", "daily", "2024-03-30")), {"left": 1})
    settings = settings_of(record)
    assert 0 == main(["--json"], settings.to_env())
    document = json.loads(capsys.readouterr().out)
    assert document["boards"] >= count and document["entries"] == len(counted)
    assert count == assert_equal_to_the_model(record, counted)
    assert joined is not None and 0 == joined.zscore(names.session_board("s1"), "joined")
    assert [] == [key for client in clients(record) for key in client.scan_iter(names.rebuilt_pattern())]
    # The relay goes on from the positions that the rebuild left.
    more = model.play(22, users=25, sessions=4, prefix="more-")
    record.play(more)
    record.relay()
    assert_equal_to_the_model(record, counted + model.counted(arrivals(more)))


def test_answers_that_come_in_meanwhile_count_once(record: Recorded) -> None:
    first = model.play(23, users=25, sessions=8)
    record.play(first)
    counted = model.counted(arrivals(first))
    waves = [model.play(30 + n, users=8, sessions=3, prefix=f"w{n}-") for n in range(40)]
    finished, failures = threading.Event(), []

    def relay() -> None:
        with record.relays() as relays:
            while not finished.is_set():
                for one in relays:
                    one.step()

    def send() -> None:
        try:
            for wave in waves:
                record.play(wave)
        except BaseException as error:
            failures.append(error)
            raise

    relaying, sending = threading.Thread(target=relay), threading.Thread(target=send)
    relaying.start()
    sending.start()
    rebuilds = 0
    while sending.is_alive():
        for client in clients(record):
            # Broken on purpose, so that a rebuild which placed nothing would be seen.
            for key in list(client.scan_iter(names.boards_pattern()))[:3]:
                client.zadd(key, {"intruder": 4_194_304_000})
        rebuild(settings_of(record))
        rebuilds += 1
    sending.join()
    # No rebuild after the last answer: it would mend what the one before had lost.
    finished.set()
    relaying.join()
    record.relay()
    assert [] == failures and rebuilds >= 1
    for wave in waves:
        counted += arrivals(wave)
    assert_equal_to_the_model(record, model.counted(counted))


def test_answers_between_making_and_placing_a_board_count_once(
    record: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time boards have been made anew, answers come in (and reach the global boards) before they are placed."""
    first = model.play(25, users=15, sessions=5)
    record.play(first)
    record.relay()
    arrived = [arrivals(first)]
    waves = [model.play(80 + n, users=15, sessions=2, prefix=f"w{n}-") for n in range(6)]
    write_made = BoardSwap.write_made

    def write_then_play(self: BoardSwap, boards: Any) -> None:
        write_made(self, boards)
        if waves:
            wave = waves.pop()
            # Old sessions and boards too, with questions of their own.
            wave += [replace(a, question_id=f"more-{len(waves)}") for a in first[:20]]
            record.play(wave)
            record.relay()
            arrived.append(arrivals(wave))

    monkeypatch.setattr(BoardSwap, "write_made", write_then_play)
    # The global boards meet only the waves that the shards' own boards have left.
    for _ in range(2):
        rebuild(settings_of(record))
    assert [] == waves
    counted = model.counted([answer for part in arrived for answer in part])
    assert_equal_to_the_model(record, counted)


@pytest.mark.parametrize("which", ["own", "global"])
def test_placing_is_refused_when_an_answer_came_between(
    record: Recorded, which: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One wave just before the first placing: the script finds that something moved, and the next try has it."""
    first = model.play(26, users=15, sessions=5)
    record.play(first)
    record.relay()
    wave = [replace(a, question_id="between") for a in first]
    place, replies = getattr(BoardSwap, f"swap_{which}"), []

    def play_then_place(self: BoardSwap, keys: Any, expected: Any) -> bool:
        if not replies:
            record.play(wave)
            record.relay()
        replies.append(place(self, keys, expected))
        return bool(replies[-1])

    monkeypatch.setattr(BoardSwap, f"swap_{which}", play_then_place)
    rebuild(settings_of(record))
    assert False in replies and True in replies
    assert_equal_to_the_model(record, model.counted(arrivals(first) + arrivals(wave)))


def test_since_brings_back_what_redis_left_out(record: Recorded) -> None:
    answers = model.play(24, users=10, sessions=4)
    with psycopg.connect(record.postgres_url) as sql:
        sql.execute("UPDATE deployment SET value = '1900000000000000' WHERE key = 'boards_since_us'")
    record.play(answers)
    record.relay()
    settings = settings_of(record)
    live = WholeBoards(record.valkey_urls)
    assert {"all_time"} == {names.parse_board(key)[1] for key in live.keys()}  # noqa: SIM118
    found = rebuild(settings, date(2024, 3, 30))
    assert 1709251200_000_000 == found["boards_since_us"]
    assert_equal_to_the_model(record, model.counted(arrivals(answers)))


def test_a_script_that_finds_another_seq_writes_nothing(record: Recorded) -> None:
    client = clients(record)[0]
    client.set("counter-of-a-test", 5)
    client.zadd("made", {"a": 1})
    client.zadd("live", {"b": 2})
    swap = client.register_script(script_text("swap_boards"))
    keys = ["counter-of-a-test", "made", "live", "live"]
    assert [b"moved", b"5"] == swap(keys=keys, args=[1, "equal", 4])
    assert [b"moved", b"5"] == swap(keys=keys, args=[1, "equal", 6])
    assert [b"moved", b"5"] == swap(keys=keys, args=[1, "at_most", 4])
    assert [(b"b", 2.0)] == client.zrange("live", 0, -1, withscores=True)
    assert [b"swapped"] == swap(keys=keys, args=[1, "at_most", 9])
    assert (b"9", [(b"a", 1.0)]) == (
        client.get("counter-of-a-test"),
        client.zrange("live", 0, -1, withscores=True),
    )


def test_totals_do_not_depend_on_the_order() -> None:
    shares = [
        ("b", "u", 5, 3),
        ("b", "u", 0, 9),
        ("b", "v", 0, 1),
        ("b", "u", 2, 1),
        ("c", "u", 2**31 - 1, 0),
    ]
    found = []
    for order in (shares, shares[::-1]):
        totals = Totals()
        for share in order:
            totals.add(*share)
        totals.add("c", "u", 10, 0)
        found.append((totals.packed("b"), totals.packed("c"), totals.packed("b", {"v"})))
    assert found[0] == found[1]
    assert 7 * 2**22 + 2**22 - 1 - 3 == found[0][0]["u"]
    assert {"v": 0} == found[0][2]


def test_boards_follow_a_correction_once_it_is_in_force(
    record: Recorded, small_lake: SmallLake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = model.play(23, users=12, sessions=6)
    record.play(answers)
    record.relay()
    small_lake.take()
    counted = model.counted(arrivals(answers))
    cheat = counted[0].user_id
    fair = [answer for answer in counted if answer.user_id != cheat]
    settings = replace(settings_of(record), lake_warehouse=small_lake.warehouse, cache_dir=str(tmp_path))
    removal = corrections.Correction(1, corrections.REMOVAL, 1, "a script", user_id=cheat)

    def differences() -> int:
        return reconcile(settings, date(2024, 3, 25), date(2024, 4, 7)).differences

    with psycopg.connect(record.postgres_url, autocommit=True) as sql:
        sql.execute("INSERT INTO corrections VALUES (1, %s)", [corrections.encode(removal)])
        rebuild(settings)
        assert_equal_to_the_model(record, counted)  # decided, and not published yet
        publish.put_in_force(sql, [1])
        publish.boards_are_stale(sql, "1")
    assert differences() > 0
    assert 0 == main(["--if-stale", "--json"], settings.to_env())
    assert "1" == json.loads(capsys.readouterr().out)["stale"]
    assert_equal_to_the_model(record, fair)
    assert 0 == differences()
    assert 0 == main(["--if-stale", "--json"], settings.to_env())
    assert 0 == json.loads(capsys.readouterr().out)["boards"]
