"""A month of history leaves Postgres for the lake: proven first, readable over the boundary, and able to come back.

The tests of this module are one story, in order: real shards, relay, Kafka, ingest, Spark and Postgres.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from contracts import names
from contracts.errors import BadInput, BrokenContract, SystemMissing
from contracts.events import ANSWER_TYPE, decode
from contracts.identity import event_id
from contracts.settings import Settings
from contracts.settlements import PeriodVersion, Settlement
from serving.boards.shards import Shards
from serving.connections import Connections
from serving.history import archive
from serving.history.pages import page_of
from serving.history.restore import restore
from serving.leaderboards.rebuild import rebuild
from serving.play.barriers import write_barriers
from serving.play.boards_since import move_back
from serving.play.importing import Importer
from serving.play.record import AnswerBatcher
from serving.play.sealing import Sealer
from serving.relay.relay import ShardRelay
from tests import model
from tests.services.daemons import start_valkey
from tests.serving.leaderboards.test_rebuild import assert_equal_to_the_model
from tests.serving.recorded import Recorded, recorded
from tests.serving.relay_stack import arrivals, body_of

if TYPE_CHECKING:
    from tests.spark_jobs.broker import Broker
    from tests.spark_jobs.conftest import Lake

pytestmark = [pytest.mark.engine]
MONTH = date(2024, 3, 1)
MONTH_END_US = int(datetime(2024, 4, 1, tzinfo=UTC).timestamp()) * 1_000_000
ZONES = ("UTC", "Europe/Paris", "America/New_York")


@dataclass
class Story:
    """A record, what was counted, and how much of history Kafka has."""

    record: Recorded
    lake: Lake
    broker: Broker
    settings: Settings
    relays: list[ShardRelay]
    counted: list[model.Answer] = field(default_factory=list)
    sent: dict[int, int] = field(default_factory=dict)

    def relay(self) -> None:
        """With relays that live as long as the story: they remember which partitions they have made."""
        while any(one.step() for one in self.relays):
            pass

    def send(self, hold_back: int = 0) -> None:
        """To Kafka what history has and Kafka has not, but the last entries of shard 1."""
        with psycopg.connect(self.record.postgres_url) as sql:
            rows = sql.execute("SELECT shard, seq, type, event FROM history ORDER BY shard, seq").fetchall()
        last = max(seq for shard, seq, _, _ in rows if shard == 1)
        new = [
            (kind, decode(bytes(event)).user_id if kind == ANSWER_TYPE else "", shard, seq, bytes(event))
            for shard, seq, kind, event in rows
            if seq > self.sent.get(shard, 0) and not (shard == 1 and seq > last - hold_back)
        ]
        self.broker.send(new)
        for _, _, shard, seq, _ in new:
            self.sent[shard] = seq

    def ingest(self) -> None:
        from spark_jobs.ingest_answers import ingest

        ingest(
            self.lake.spark,
            postgres_url=self.lake.postgres_url,
            bootstrap=self.broker.bootstrap,
            checkpoint=f"{self.lake.warehouse}/_checkpoints/archive",
        )

    def archive(self, **more: Any) -> dict[str, Any]:
        from spark_jobs.archive_month import archive_month

        return archive_month(self.lake.spark, self.lake.postgres_url, MONTH, **more)

    def partition_is_there(self) -> bool:
        row = self.sql("SELECT to_regclass(%s)", names.history_partition(MONTH))[0]
        return row[0] is not None

    def sql(self, query: str, *values: Any) -> list[Any]:
        with psycopg.connect(self.record.postgres_url, autocommit=True) as sql:
            found = sql.execute(query, values)
            return found.fetchall() if found.description else []

    def with_connections(self, ask: Callable[[Connections], Awaitable[Any]]) -> Any:
        async def run() -> Any:
            connections = Connections.of(self.settings)
            await connections.postgres.open()
            try:
                return await ask(connections)
            finally:
                await connections.close()

        return asyncio.run(run())

    def pages(self, user: str, limit: int) -> list[tuple[int, str, int]]:
        """A user's whole history, page by page: (occurred_at_us, event_id, points)."""

        async def read(connections: Connections) -> list[Any]:
            found: list[Any] = []
            before = None
            while True:
                rows = await page_of(connections, user, before, limit)
                found += [(row["occurred_at_us"], row["event_id"], row["points"]) for row in rows]
                if len(rows) < limit:
                    return found
                before = (rows[-1]["occurred_at_us"], rows[-1]["event_id"])

        return list(self.with_connections(read))

    def same_as_the_model(self, limit: int = 3) -> None:
        """Every user's history, newest first, none twice, none lacking."""
        users = sorted({answer.user_id for answer in self.counted})
        for user in users:
            expected = sorted(
                (
                    (a.occurred_at_us, event_id(a.session_id, a.question_id, a.user_id), model.points_of(a))
                    for a in self.counted
                    if a.user_id == user
                ),
                reverse=True,
            )
            assert expected == self.pages(user, limit), user

    def import_again(self, answers: list[model.Answer]) -> dict[str, Any]:
        """Through an importer that asks the archive, as the api's does; the story's relays run meanwhile."""

        async def send(connections: Connections) -> dict[str, Any]:
            batcher = AnswerBatcher(connections.shards)
            batcher.start()
            importer = Importer(
                connections.shards,
                batcher,
                connections.sql,
                archived=partial(archive.repeats, connections),
            )
            request = asyncio.create_task(importer.import_body(body_of(answers)))
            while not request.done():
                await asyncio.to_thread(self.relay)
                await asyncio.sleep(0.01)
            await batcher.stop()
            return request.result()

        return dict(self.with_connections(send))


@pytest.fixture(scope="module")
def story(lake: Lake, broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    lake.empty(broker)
    folder: Path = tmp_path_factory.mktemp("archive")
    daemons = [start_valkey(folder / f"valkey_{number}") for number in (1, 2)]
    record = recorded([daemon.url for daemon in daemons], lake.postgres_url)
    settings = Settings(
        valkey_urls=tuple(record.valkey_urls),
        postgres_url=record.postgres_url,
        lake_warehouse=lake.warehouse,
        cache_dir=str(folder / "cache"),
    )
    relays = [ShardRelay(shard, record.valkey_urls, record.postgres_url) for shard in range(2)]
    found = Story(record, lake, broker, settings, relays)
    found.sql("TRUNCATE history, relay_position, sessions, users CASCADE")
    answers = model.play(61, users=14, sessions=9)
    record.play(answers)
    found.counted = model.counted(arrivals(answers))
    assert {True, False} == {answer.occurred_at_us < MONTH_END_US for answer in found.counted}
    asyncio.run(_barriers(record))
    found.relay()
    yield found
    for one in relays:
        one.close()
    found.sql("TRUNCATE history, relay_position, sessions, users CASCADE")
    for daemon in daemons:
        daemon.stop()


async def _barriers(record: Recorded) -> None:
    shards = Shards(record.valkey_urls)
    for zone in ZONES:
        await write_barriers(shards, zone, [date(2024, 3, 30), date(2024, 3, 31)], time.time_ns() // 1_000)
    await shards.close()


def _seal(story: Story) -> int:
    """As the relay does it, 49 hours later."""

    async def run() -> int:
        shards = Shards(story.record.valkey_urls)

        async def position(shard: int) -> int:
            return story.relays[shard].progress.history

        later = time.time_ns() // 1_000 + 49 * 3_600 * 1_000_000
        sealer = Sealer(shards, story.record.postgres_url, lambda: later, position)
        sealed = [await sealer.seal_quiet(shard) for shard in range(2)]
        await shards.close()
        return sum(sealed)

    return asyncio.run(run())


def _settled(story: Story) -> None:
    """The month's settlement, as `settle` inserts it; its boards are no concern of the archive."""
    from spark_jobs.publish import insert_settlement

    with psycopg.connect(story.lake.postgres_url, autocommit=True) as sql:
        periods = tuple(PeriodVersion("monthly", MONTH, zone, 1) for zone in ZONES)
        insert_settlement(sql, Settlement("1", MONTH, MONTH, "speed@1", "period_ended", periods, {}, {}))


def test_a_month_that_is_not_ready_or_not_proven_stays(story: Story) -> None:
    story.send(hold_back=2)
    story.ingest()
    assert {"state": "not_ready", "why": ["the month has not ended"]} == {
        name: value
        for name, value in story.archive(now_us=lambda: MONTH_END_US).items()
        if name in ("state", "why")
    }
    why = story.archive()["why"]
    assert 4 == len(why), why
    sessions = {answer.session_id for answer in story.counted if answer.occurred_at_us < MONTH_END_US}
    assert "the month is not settled in zone America/New_York" == why[0]
    assert f"{len(sessions)} sessions are not sealed" == why[3].partition(":")[0]
    assert 9 == _seal(story)
    _settled(story)
    # One of the two entries that the lake lacks is of the month: a barrier.
    with pytest.raises(BrokenContract, match=r"shard 1, seq 0 to 9999: history has (\d+), the lake"):
        story.archive()
    assert story.partition_is_there()
    story.send()
    story.ingest()
    changed = (
        "UPDATE history SET event = set_byte(event, 40, get_byte(event, 40) # 1) WHERE shard = 1 AND seq = %s"
    )
    place = story.sql("SELECT min(seq) FROM history_2024_03 WHERE shard = 1")[0][0]
    story.sql(changed, place)
    with pytest.raises(BrokenContract, match="shard 1, seq 0 to 9999: the bytes differ"):
        story.archive()
    story.sql(changed, place)
    assert story.partition_is_there()
    assert "ready" == story.archive(dry_run=True)["state"]
    assert story.partition_is_there() and [] == story.sql("SELECT 1 FROM archived_months")


@pytest.mark.parametrize("step", ["user_sessions", "dropping"])
def test_a_run_that_dies_leaves_everything_readable(story: Story, step: str) -> None:
    def die(finished: str) -> None:
        if finished == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        story.archive(after=die)
    assert story.partition_is_there() and [] == story.sql("SELECT 1 FROM archived_months")
    story.same_as_the_model(limit=50)


def test_the_month_is_in_the_lake_and_pages_go_over_the_boundary(story: Story) -> None:
    of_month = [answer for answer in story.counted if answer.occurred_at_us < MONTH_END_US]
    entries = story.sql("SELECT count(*) FROM history_2024_03")[0][0]
    done = story.archive()
    assert ("archived", entries, len(of_month)) == (done["state"], done["entries"], done["answers"])
    assert len({(answer.user_id, answer.session_id) for answer in of_month}) == done["sessions"]
    assert not story.partition_is_there()
    again = story.archive()
    assert ("archived", entries) == (again["state"], again["entries"])
    assert len(story.counted) - len(of_month) == story.sql("SELECT count(points) FROM history")[0][0]
    story.same_as_the_model()


def test_boards_cannot_be_kept_from_before_by_guessing(story: Story) -> None:
    """Which answers an archived month has is not known to Postgres: only a rebuild may move `boards_since` there."""

    async def nothing() -> None:
        return None

    async def ask(connections: Connections) -> None:
        async with connections.sql() as sql, sql.transaction(force_rollback=True):
            await sql.execute(
                "UPDATE deployment SET value = %s WHERE key = 'boards_since_us'", (str(MONTH_END_US),)
            )
            await move_back(sql, MONTH_END_US - 1, nothing)

    with pytest.raises(BadInput, match="check_failed"):
        story.with_connections(ask)


def test_an_import_repeats_what_is_archived_and_adds_what_is_new(story: Story) -> None:
    of_month = [answer for answer in story.counted if answer.occurred_at_us < MONTH_END_US]
    reply = story.import_again(of_month[:40])
    assert (0, 40, 0) == (reply["counted"], reply["repeated"], reply["refused"])
    points = [model.points_of(answer) for answer in arrivals(of_month[:40])]
    assert points == [line["points"] for line in reply["lines"]]
    new = replace(of_month[0], question_id="never-asked", correct=True, elapsed_ms=1)
    # The relays have made the month's partition before, and it is gone: they make it again.
    assert 1 == story.import_again([new])["counted"]
    story.counted.append(new)
    assert story.partition_is_there()
    story.same_as_the_model()
    with pytest.raises(BrokenContract, match="the lake does not hold the month"):
        story.archive()
    story.send()
    story.ingest()
    before = story.sql("SELECT entries, checksum FROM archived_months")[0]
    assert before[0] + 1 == story.archive()["entries"]
    assert not story.partition_is_there()
    story.same_as_the_model()


def test_what_is_restored_is_shown_once_and_stays_until_released(story: Story) -> None:
    user = story.counted[0].user_id
    mine = [a for a in story.counted if a.user_id == user and a.occurred_at_us < MONTH_END_US]
    done = restore(story.settings, "user", user)
    assert (len(mine), len(mine), ["2024-03"]) == (done["answers"], done["inserted"], done["months"])
    assert 0 == restore(story.settings, "user", user)["inserted"]
    session = story.counted[-1].session_id
    more = restore(story.settings, "session", session)
    assert 0 < more["inserted"] <= more["answers"]
    with pytest.raises(BadInput, match="not_found"):
        restore(story.settings, "user", "nobody")
    story.same_as_the_model()
    kept = story.archive()
    assert ("not_ready", "2 restored") == (kept["state"], kept["why"][0][:10])
    entries = story.sql("SELECT entries FROM archived_months")[0][0]
    # A row that was changed while it was back is not the archive's: it is not dropped in silence.
    changed = (
        "UPDATE history_2024_03 SET event = set_byte(event, 40, get_byte(event, 40) # 1) WHERE event_id = %s"
    )
    ident = event_id(mine[0].session_id, mine[0].question_id, user)
    story.sql(changed, ident)
    with pytest.raises(BrokenContract, match="rows put back are not those of the lake"):
        story.archive(release=True)
    story.sql(changed, ident)
    released = story.archive(release=True)
    assert ("archived", entries) == (released["state"], released["entries"])
    assert [] == story.sql("SELECT 1 FROM restored")
    story.same_as_the_model()


def test_boards_are_rebuilt_from_the_lake_where_history_has_none(story: Story) -> None:
    restore(story.settings, "user", story.counted[0].user_id)
    document = rebuild(story.settings)
    assert document["boards"] > 0
    assert_equal_to_the_model(story.record, story.counted)


def test_a_process_without_the_lake_says_so(story: Story) -> None:
    user = story.counted[0].user_id
    live = replace(story, settings=replace(story.settings, lake_warehouse="", profile="live"))
    with pytest.raises(SystemMissing, match="are archived, and profile live has no lake"):
        live.pages(user, 50)
