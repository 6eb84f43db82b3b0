"""Kafka → lake → settled boards of a whole file of answers, by phase: `python -m benchmarks.ingest_settle --answers FILE`.

Claim: all of EdNet (251,822 lines, 2017-09 to 2019-11) is ingested and settled in under 10 minutes on 2 cores. Starts
its own Postgres, Kafka and HDFS in a temporary folder, writes the events as the relay would (untimed), stands in for
the api's barriers, and runs `spark_jobs.settle` as a process. Prints one JSON document.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from kafka import KafkaProducer

from cli.answer_files import read
from cli.places import ROOT
from cli.stack.layout import layout_from
from contracts import names
from contracts.events import ANSWER_TYPE, BARRIER_TYPE, AnswerEvent, BarrierEvent, encode, encode_barrier
from contracts.identity import HashRing, answers_partition, barrier_id, event_id
from contracts.periods import span
from contracts.scoring import points
from serving.migrations.upgrade import upgrade
from tests.services.daemons import start_hdfs, start_kafka, start_postgres

SHARDS = 2
KEY = "benchmark"


class Outboxes:
    """What the relay would send: seq 1, 2, 3 … a shard, each record with its headers."""

    def __init__(self, bootstrap: str) -> None:
        self.producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=50, batch_size=262_144)
        self.seq: dict[int, int] = defaultdict(int)
        self.sent_barriers: set[tuple[str, str]] = set()

    def send(self, kind: str, shard: int, user_id: str, value: bytes) -> None:
        self.seq[shard] += 1
        beside = {names.HEADER_TYPE: kind, names.HEADER_SHARD: shard, names.HEADER_SEQ: self.seq[shard]}
        self.producer.send(
            names.ANSWERS,
            key=user_id.encode() or None,
            value=value,
            headers=[(name, str(text).encode()) for name, text in beside.items()],
            partition=answers_partition(user_id) if user_id else 0,
        )

    def send_barriers(self, zone: str, days: list[str]) -> None:
        for day in days:
            if (zone, day) in self.sent_barriers:
                continue
            self.sent_barriers.add((zone, day))
            bounds = span("daily", date.fromisoformat(day), zone)
            for shard in range(SHARDS):
                event = BarrierEvent(barrier_id(zone, day, shard), zone, day, bounds.start_us, bounds.end_us)
                self.send(BARRIER_TYPE, shard, "", encode_barrier(event))
        self.producer.flush()


def events(lines: Iterable[dict[str, Any]]) -> Iterator[AnswerEvent]:
    """The counted answers of sorted import lines: the first of each (session, question, user)."""
    seen: set[str] = set()
    numbers: dict[str, int] = {}
    for line in lines:
        ident = event_id(line["session_id"], line["question_id"], line["user_id"])
        if ident in seen:
            continue
        seen.add(ident)
        yield AnswerEvent(
            event_id=ident,
            origin="import",
            user_no=numbers.setdefault(line["user_id"], len(numbers) + 1),
            session_tick_ms=1000,
            quiz_zone="UTC",
            quiz_version=1,
            question_type="imported",
            points=points(line["rule"], line["correct"], line["elapsed_ms"], line["time_limit_ms"]),
            **{**line, "skill_tags": tuple(line["skill_tags"])},
        )


@contextmanager
def barriers_api(outboxes: Outboxes) -> Iterator[str]:
    """Stands in for the api's internal route; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            outboxes.send_barriers(body["zone"], body["days"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def settle(folder: Path, addresses: dict[str, str], first: date, last: date) -> tuple[float, dict[str, Any]]:
    """Run the job as `./lakeboard settle` does; (wall seconds, its document)."""
    key = folder / "importer_key"
    key.write_text(KEY)
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "spark_jobs.settle", f"--from={first}", f"--to={last}"]
        + [f"--{name}={value}" for name, value in addresses.items()]
        + [f"--importer-key-file={key}", f"--jars={layout_from(os.environ).jars('spark')}"]
        + [f"--local-dir={folder / 'spark'}", f"--shards={SHARDS}"],
        stdout=subprocess.PIPE,
        cwd=ROOT,
    )
    took = time.monotonic() - begun
    document = json.loads(done.stdout) if done.stdout else {}
    return took, {"exit": done.returncode, **document}


def main() -> int:
    parser = argparse.ArgumentParser(prog="ingest_settle", description=__doc__)
    parser.add_argument("--answers", type=Path, required=True, help="a file of `replay --format ednet`")
    parser.add_argument("--warehouse", choices=("hdfs", "file"), default="hdfs")
    args = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ingest_settle")))
        postgres, kafka = start_postgres(folder / "postgres"), start_kafka(folder / "kafka")
        stack.callback(postgres.stop)
        stack.callback(kafka.stop)
        warehouse = f"file://{folder}/warehouse"
        if args.warehouse == "hdfs":
            hdfs = start_hdfs(folder / "hdfs")
            stack.callback(hdfs.stop)
            warehouse = f"{hdfs.url}/lakeboard/warehouse"
        url = postgres.new_database()
        upgrade(url)
        outboxes, ring = Outboxes(kafka.url), HashRing(SHARDS)
        lines, _ = read(args.answers, "ednet", "speed@1")
        begun = time.monotonic()
        for event in events(lines):
            outboxes.send(ANSWER_TYPE, ring.shard_of(event.quiz_id), event.user_id, encode(event))
        outboxes.producer.flush()
        produced = time.monotonic() - begun
        first, last = (
            datetime.fromtimestamp(line["occurred_at_us"] / 1e6, UTC).date() for line in (lines[0], lines[-1])
        )
        api = stack.enter_context(barriers_api(outboxes))
        addresses = {
            "postgres-url": url, "kafka-bootstrap": kafka.url, "warehouse": warehouse, "api-url": api,
        }  # fmt: skip
        took, document = settle(folder, addresses, first, last)
        again, second = settle(folder, addresses, first, last)
    print(
        json.dumps(
            {
                "answers": document.get("records"),
                "days": (last - first).days + 1,
                "periods_settled": len(document.get("settled", ())),
                "exit": document["exit"],
                "produce_s": round(produced, 1),
                "settle_s": round(took, 1),
                "phases_s": document.get("seconds"),
                "again_s": round(again, 1),
                "again_settled": len(second.get("settled", ())),
                "again_phases_s": second.get("seconds"),
                "processors": os.cpu_count(),
                "load": [round(value, 1) for value in os.getloadavg()],
            },
            indent=1,
        )
    )
    return int(document["exit"])


if __name__ == "__main__":
    sys.exit(main())
