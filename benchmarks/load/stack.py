"""A stack of a benchmark's own on the disk that the clone is on, its processes' time and memory, and what it has kept."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import httpx
import psutil
import psycopg
from kafka import KafkaConsumer, TopicPartition

from cli.places import ROOT
from cli.stack.layout import Layout, layout_from
from contracts import names
from contracts.identity import ANSWER_PARTITIONS, HashRing
from serving.boards.whole_boards import WholeBoards
from tests.end_to_end.whole_stack import LEFT_OUT, free_offset

DRAIN_LIMIT_S = 300.0
QUIZZES_A_SHARD = 4


class Stack:
    """A running stack: where its doors are, and what its processes have used."""

    def __init__(self, layout: Layout, profile: str) -> None:
        self.layout = layout
        self.settings = layout.settings(profile)
        self.key = {"X-API-Key": layout.secrets["importer_key"]}

    def processes(self) -> dict[str, list[psutil.Process]]:
        """Each process of the stack with its children, by name."""
        rows = json.loads((self.layout.run / "stack.json").read_text())["processes"]
        found = {}
        for row in rows:
            process = psutil.Process(row["pid"])
            found[row["name"]] = [process, *process.children(recursive=True)]
        return found

    def processor_s(self) -> dict[str, float]:
        """Processor seconds of each process so far, and of this one, the generator."""
        used = {}
        for name, family in self.processes().items():
            times = [one.cpu_times() for one in family if one.is_running()]
            used[name] = sum(one.user + one.system for one in times)
        own = psutil.Process().cpu_times()
        return {**used, "generator": own.user + own.system}

    def api_memory(self) -> int:
        """Bytes of all api processes (resident, without what they share)."""
        families = [family for name, family in self.processes().items() if name.startswith("api_")]
        return sum(one.memory_full_info().uss for family in families for one in family)

    def sql(self) -> psycopg.Connection:
        """The stack's Postgres."""
        return psycopg.connect(self.settings.postgres_url, autocommit=True)


@contextmanager
def own_stack(profile: str, *options: str, apis: int = 2) -> Iterator[Stack]:
    """`up` in a folder beside the clone's data (never in memory), `down --purge` at the end, Ctrl-C included."""
    folder = Path(os.environ.get("LAKEBOARD_HOME", ROOT / ".lakeboard"))
    folder.mkdir(parents=True, exist_ok=True)
    home = Path(tempfile.mkdtemp(prefix="bench-", dir=folder))
    env = {**os.environ, "LAKEBOARD_HOME": str(home), "LAKEBOARD_PORT_OFFSET": str(free_offset())}
    env.setdefault("LAKEBOARD_CACHE_DIR", str(ROOT / ".lakeboard" / "cache"))

    def run(*arguments: str) -> None:
        subprocess.run([str(ROOT / "lakeboard"), *arguments], env=env, check=True, stdout=sys.stderr)

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, end)
    try:
        leave = ["--without", LEFT_OUT] if profile == "full" else []
        run("up", "--profile", profile, *leave, *options)
        if apis != 2:
            run("scale", "api", str(apis))
        yield Stack(layout_from(env), profile)
    finally:
        run("down", "--purge")
        shutil.rmtree(home, ignore_errors=True)


def even_quizzes(stack: Stack) -> list[str]:
    """Names of as many quizzes on each shard: a quiz' sessions lie on its shard."""
    ring = HashRing(len(stack.settings.valkey_urls))
    by_shard: dict[int, list[str]] = defaultdict(list)
    for number in range(100):
        by_shard[ring.shard_of(f"bench-{number}")].append(f"bench-{number}")
    return [name for at in range(QUIZZES_A_SHARD) for name in (names[at] for names in by_shard.values())]


def add_quiz(sql: psycopg.Connection, quiz_id: str, questions: int) -> None:
    """A quiz of so many questions whose right answer is `right`."""
    sql.execute(
        "INSERT INTO quizzes (quiz_id, title, origin, version, question_count) VALUES (%s, 'Load', 'bench', 1, %s)",
        [quiz_id, questions],
    )
    sql.execute(
        "INSERT INTO quiz_versions (quiz_id, version, document, digest) SELECT %s, 1, jsonb_build_object("
        "'title', 'Load', 'questions', jsonb_agg(jsonb_build_object('question_id', 'q' || n, 'type', 'definition_to_word',"
        " 'prompt', 'a prompt of ordinary length ' || n, 'answer', 'right', 'wrong',"
        " jsonb_build_array('wrong', 'worse', 'worst'), 'tags', jsonb_build_array('bench')) ORDER BY n)), ''"
        " FROM generate_series(0, %s - 1) AS n",
        [quiz_id, questions],
    )


def until_relayed(stack: Stack) -> float:
    """Seconds until history and the global boards have every entry. Raises TimeoutError after five minutes."""
    live, began = WholeBoards(stack.settings.shards), time.monotonic()
    try:
        with stack.sql() as sql:
            query = "SELECT position FROM relay_position WHERE sink = 'history' ORDER BY shard"
            while True:
                history = [row[0] for row in sql.execute(query)]
                if history == live.global_positions() == live.last_seqs():
                    return time.monotonic() - began
                if time.monotonic() - began > DRAIN_LIMIT_S:
                    raise TimeoutError(f"history is at {history}, the outboxes at {live.last_seqs()}")
                time.sleep(0.1)
    finally:
        live.close()


Acknowledged = dict[tuple[str, str, str], int]
"""(session, question, user) → points, as the reply said."""


def compare(stack: Stack, acknowledged: Acknowledged, sessions: Iterable[str]) -> dict[str, int]:
    """How what was acknowledged differs from what is kept, after the relay has drained.

    Counts of: acknowledged answers that history lacks, or has with other points; answers that history has more than once;
    answers there that nobody was told of; sessions whose board in Redis has other totals than history; entries of the
    outboxes (their last numbers) that history lacks.
    """
    kept: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    with stack.sql() as sql:
        query = "SELECT session_id, question_id, user_id, points FROM history WHERE type = 'answer.v1'"
        for session, question, user, points in sql.execute(query):
            kept[session, question, user].append(points)
        rows = sql.execute(
            "SELECT shard, count(*), count(DISTINCT seq), max(seq) FROM history GROUP BY shard"
        ).fetchall()
    live = WholeBoards(stack.settings.shards)
    seqs = live.last_seqs()
    live.close()
    gaps = sum(seqs) - sum(row[2] for row in rows) + sum(row[1] - row[2] for row in rows)
    return {
        "lost": sum(key not in kept for key in acknowledged),
        "changed": sum(key in kept and kept[key][0] != points for key, points in acknowledged.items()),
        "twice": sum(len(found) > 1 for found in kept.values()),
        "untold": len(kept.keys() - acknowledged.keys()),
        "boards_differ": _boards_that_differ(stack, kept, list(sessions)),
        "outbox_gaps": gaps,
    }


def until_in_kafka(stack: Stack) -> float:
    """Seconds until the topic's committed records are the outboxes' numbers. Raises TimeoutError, naming how many lack.

    (shard, seq) of every record is read, so that none can stand for another; a repeat is an error of its own.
    """
    live, began = WholeBoards(stack.settings.shards), time.monotonic()
    wanted = {(shard, seq) for shard, last in enumerate(live.last_seqs()) for seq in range(1, last + 1)}
    live.close()
    consumer = KafkaConsumer(
        bootstrap_servers=stack.settings.kafka_bootstrap,
        isolation_level="read_committed",
        group_id=None,
        auto_offset_reset="earliest",
    )
    consumer.assign([TopicPartition(names.ANSWERS, number) for number in range(ANSWER_PARTITIONS)])
    found: set[tuple[int, int]] = set()
    try:
        while found != wanted:
            for records in consumer.poll(timeout_ms=500).values():
                for record in records:
                    headers = dict(record.headers)
                    entry = int(headers[names.HEADER_SHARD]), int(headers[names.HEADER_SEQ])
                    if entry in found or entry not in wanted:
                        raise RuntimeError(f"Kafka has {entry} twice, or too soon")
                    found.add(entry)
            if time.monotonic() - began > DRAIN_LIMIT_S:
                raise TimeoutError(f"Kafka lacks {len(wanted - found)} of {len(wanted)} answers")
    finally:
        consumer.close()
    return time.monotonic() - began


def _boards_that_differ(
    stack: Stack, kept: dict[tuple[str, str, str], list[int]], sessions: Sequence[str]
) -> int:
    """Session boards in Redis whose users' points are not the sums of history."""
    sums: dict[str, dict[str, int]] = {session: defaultdict(int) for session in sessions}
    for (session, _, user), points in kept.items():
        if session in sums:
            sums[session][user] += points[0]
    different = 0
    with httpx.Client(base_url=f"http://127.0.0.1:{stack.settings.api_ports[0]}", timeout=60) as http:
        for session, expected in sums.items():
            board = http.get(
                f"/v1/leaderboards/session:{session}/all_time/current", params={"k": 1000}
            ).json()
            found = {row["user_id"]: row["points"] for row in board["entries"] if row["points"]}
            different += found != {user: points for user, points in expected.items() if points}
    return different
