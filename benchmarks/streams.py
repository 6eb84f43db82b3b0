"""The streams job at its limit: a filled topic read through every window, and how soon a window is in QuestDB.

    ./lakeboard bench streams [--answers 10000000 --rate 50000 --players 250000 --quizzes 5000 --parallelism 2]
                              [--without sketches|trending|health …] [--live-s 180 --live-rate 1000] [--no-duckdb]

Claims: 50,000 answers/s through all streams together, steadily, from a topic filled before; 99 % of a window's rows in
QuestDB within 5 s of the watermark. What is measured:

1 fill: benchmarks/load/many_answers (arithmetic, so the same in every run) into Kafka by Flink;
2 read: the job as it is submitted, on the stack's own cluster (RocksDB), checkpoints in a local folder; a sample a second
  of the answers that its source has read. `answers_per_s` counts from the first to the last; `steady_per_s` is the
  rate that nine tenths of the ten-second spans reach. `--without` leaves one file out, to see what it costs;
3 equal: every top 10 of every window that closed, against the same windows by plain SQL in DuckDB over the same answers as
  JSON lines, and how long that takes (`duckdb_s`; it reads a file at rest, keeps nothing and has no late answers);
4 live: answers of now, windows of 5 s, the relay's writer and a QuestDB: from the watermark's passing (the ticker is
  15 s behind the clock, which is slower than the answers' 10 s) to when a row can be read.

Prints one JSON document; exit 1 if a window differs or a claim does not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from rich.console import Console

from benchmarks.load.many_answers import Play, duckdb_top, in_duckdb
from cli.places import ROOT
from cli.stack.layout import layout_from
from contracts import names, tsdb
from contracts.sketched import BY_KIND
from flink_jobs.statements import OPTIONAL_FILES, TICKER_BEHIND_S
from flink_jobs.submit import get
from serving.relay.questdb import Questdb
from serving.relay.to_questdb import run as write_to_questdb
from sketches import windows
from tests.services.daemons import Daemon, FlinkDaemon, start_flink, start_kafka, start_questdb

RATE_CLAIM, LATENCY_CLAIM_S = 50_000, 5.0
LEVELS = ("minute", "ten_minutes", "hour", "day")
_SHOW = Console(stderr=True)
# Nothing read for this long before the end: the job stands still.
STANDS_STILL_S = 120.0
LIVE_WINDOW_S = 5


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The arguments; exit 2 on wrong ones."""
    parser = argparse.ArgumentParser(prog="bench streams", description=__doc__.splitlines()[0])
    parser.add_argument("--answers", type=int, default=10_000_000)
    parser.add_argument("--rate", type=int, default=50_000, help="answers a second of event time")
    parser.add_argument("--players", type=int, default=250_000, help="all of them play all the time")
    parser.add_argument("--quizzes", type=int, default=5_000)
    parser.add_argument("--parallelism", type=int, default=2)
    parser.add_argument("--taskmanager-mb", type=int, default=6_000, help="all memory of the TaskManager")
    optional = [file.removesuffix(".sql") for file in OPTIONAL_FILES]
    parser.add_argument("--without", action="append", default=[], choices=optional)
    parser.add_argument("--live-s", type=int, default=180, help="0: no live part")
    parser.add_argument("--live-rate", type=int, default=1_000)
    parser.add_argument("--no-duckdb", action="store_true", help="no comparison")
    return parser.parse_args(argv)


def in_flink(module: str, *arguments: str) -> str:
    """Standard output of a module in Flink's environment."""
    command = [str(layout_from(os.environ).python("flink")), "-m", module, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{module} ended with {done.returncode}:\n{done.stderr[-4000:]}")
    return done.stdout


def connector() -> str:
    """Flink's Kafka connector."""
    return str(next(layout_from(os.environ).jars("flink").glob("flink-sql-connector-kafka-*.jar")))


def fill(play: Play, bootstrap: str) -> float:
    """Put all answers into the topic; seconds."""
    began = time.monotonic()
    sizes = {"answers": play.answers, "rate": play.rate, "players": play.players, "quizzes": play.quizzes}
    arguments = [f"--{name}={value}" for name, value in sizes.items()]
    where = (f"--bootstrap={bootstrap}", f"--connector-jar={connector()}")
    in_flink("benchmarks.load.prefill", *where, *arguments)
    return time.monotonic() - began


def submit(flink: FlinkDaemon, bootstrap: str, folder: Path, *more: str) -> str:
    """The running job's id. More than a first checkpoint is not waited for."""
    where = (f"--bootstrap={bootstrap}", f"--connector-jar={connector()}", f"--rest-url={flink.url}")
    out = in_flink("flink_jobs.submit", *where, f"--checkpoint-dir={folder}/checkpoints", "--fresh", *more)
    return str(json.loads(out.splitlines()[-1])["job"])


class Progress(threading.Thread):
    """A sample a second of (time, answers read), beginning before the job is submitted."""

    def __init__(self, flink: FlinkDaemon, wanted: int) -> None:
        super().__init__(daemon=True)
        self.samples: list[tuple[float, int]] = []
        self.resident_bytes = 0
        self._flink, self._wanted = flink, wanted

    def run(self) -> None:
        """Until all is read or nothing moves."""
        source, moved = "", time.monotonic()
        while time.monotonic() - moved < STANDS_STILL_S:
            time.sleep(1.0)
            try:
                source = source or self._source()
                if not source:
                    moved = time.monotonic()
                    continue
                count = self._read(source)
            except (OSError, LookupError, ValueError):
                continue
            except Exception as error:  # a reply that is not there yet
                _SHOW.print(f"no sample: {error!r}")
                continue
            if not self.samples or count > self.samples[-1][1]:
                moved = time.monotonic()
            if count:
                self.samples.append((time.monotonic(), count))
            self.resident_bytes = max(self.resident_bytes, resident(self._flink.taskmanager.pid))
            if count >= self._wanted:
                return

    def _source(self) -> str:
        """Path of the sources' metric that counts records, once the job is there."""
        for job in get(self._flink.url, "/jobs/overview")["jobs"]:
            for vertex in get(self._flink.url, f"/jobs/{job['jid']}")["vertices"]:
                if "answers" not in vertex["name"] or "Source: KafkaSource" not in vertex["name"]:
                    continue
                path = f"/jobs/{job['jid']}/vertices/{vertex['id']}/subtasks/metrics"
                known = [metric["id"] for metric in get(self._flink.url, path)]
                counts = [
                    name for name in known if name.startswith("Source") and name.endswith("numRecordsIn")
                ]
                named = [name for name in counts if "answers" in name]
                if named:
                    return f"{path}?get={named[0]}&agg=sum"
        return ""

    def _read(self, path: str) -> int:
        return int(get(self._flink.url, path)[0]["sum"])


def resident(pid: int) -> int:
    """Resident bytes of a process and its children (the TaskManager is started by a shell)."""
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
            if int(stat.parent.name) == pid or int(fields[1]) == pid:
                total += int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError):
            continue
    return total


def rates(samples: list[tuple[float, int]]) -> dict[str, float]:
    """answers_per_s over all, steady_per_s: what nine tenths of the ten-second spans reach."""
    (first, low), (last, high) = samples[0], samples[-1]
    spans, start = [], 0
    for index, (at, count) in enumerate(samples):
        began, before = samples[start]
        if at - began >= 10:
            spans.append((count - before) / (at - began))
            start = index
    steady = statistics.quantiles(spans, n=10)[0] if len(spans) > 1 else (spans or [0.0])[0]
    return {"answers_per_s": (high - low) / max(last - first, 1e-9), "steady_per_s": steady}


def published(bootstrap: str, until_us: int) -> dict[tuple[str, str, str, int, int, int], tuple[Any, ...]]:
    """(level, kind, scope, window start, end, place) → (subject, amount, reached) of what the job says up to then."""
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    partitions = [TopicPartition(topic, 0) for topic in (names.TOPK, names.TOPK_QUIZZES)]
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    found = {}
    quiet = time.monotonic() + 20
    while time.monotonic() < quiet:
        for records in consumer.poll(timeout_ms=1000).values():
            quiet = time.monotonic() + 20
            for record in records:
                row = json.loads(record.value)
                if row["kind"] != "health" and row["window_end_us"] <= until_us:
                    key = (
                        row["level"],
                        row["kind"],
                        row["scope"],
                        row["window_start_us"],
                        row["window_end_us"],
                    )
                    found[*key, row["place"]] = (row["subject_id"], row["amount"], row["reached_at_us"])
    consumer.close()
    return found


def compare(play: Play, bootstrap: str, folder: Path) -> dict[str, Any]:
    """The job's rows beside DuckDB's."""
    connection = in_duckdb(play, folder)
    wanted, seconds = {}, {}
    for level in LEVELS:
        began = time.monotonic()
        rows = duckdb_top(connection, level, play.closed_us)
        seconds[level] = time.monotonic() - began
        for kind, scope, start, end, subject, amount, reached, place in rows:
            wanted[level, kind, scope, start, end, place] = (subject, amount, reached)
    found = published(bootstrap, play.closed_us)
    differences = [key for key in wanted.keys() | found.keys() if wanted.get(key) != found.get(key)]
    for key in sorted(differences)[:5]:
        _SHOW.print(f"{key}: DuckDB {wanted.get(key)}, streams {found.get(key)}")
    return {
        "windows_rows": len(wanted),
        "differences": len(differences),
        "duckdb_s": round(sum(seconds.values()), 1),
        "duckdb_s_by_level": {level: round(value, 1) for level, value in seconds.items()},
    }


def python_cost(players: int) -> float:
    """Seconds that Python takes for the largest sketch of a minute: all players, once each."""
    counts = {f"u{number}": 1 for number in range(players)}
    began = time.monotonic()
    windows.as_text(windows.of_counts(BY_KIND["participants"], counts))
    return time.monotonic() - began


def read(arguments: argparse.Namespace, play: Play, folder: Path) -> dict[str, Any]:
    """Steps 1 to 3."""
    broker = start_kafka(folder / "kafka")
    try:
        fill_s = fill(play, broker.url)
        _SHOW.print(f"{play.answers} answers filled in {fill_s:.0f} s")
        flink = start_flink(folder / "flink", arguments.taskmanager_mb)
        try:
            progress = Progress(flink, play.answers)
            progress.start()
            without = [f"--without={name}" for name in arguments.without]
            parallelism = f"--parallelism={arguments.parallelism}"
            job = submit(flink, broker.url, folder, "--no-ticker", parallelism, *without)
            progress.join()
            if not progress.samples or progress.samples[-1][1] < play.answers:
                raise SystemExit(f"the job stands still: {progress.samples[-3:]}")
            newest = get(flink.url, f"/jobs/{job}/checkpoints")["latest"]["completed"]
            document = {
                **{name: round(value) for name, value in rates(progress.samples).items()},
                "read_s": round(progress.samples[-1][0] - progress.samples[0][0], 1),
                "fill_s": round(fill_s, 1),
                "checkpoint_mb": round(newest["state_size"] / 1e6, 1),
                "taskmanager_resident_mb": round(progress.resident_bytes / 1e6),
                "python_s_of_participants_a_minute": round(python_cost(play.players), 2),
                "load_average": [round(one, 1) for one in os.getloadavg()],
            }
            _SHOW.print(document)
            if not arguments.no_duckdb:
                document |= compare(play, broker.url, folder)
                document["streams_to_duckdb"] = round(document["read_s"] / document["duckdb_s"], 2)
                _SHOW.print({name: document[name] for name in ("windows_rows", "differences", "duckdb_s")})
            return document
        finally:
            flink.stop()
    finally:
        broker.stop()


def produce(bootstrap: str, rate: int, seconds: int, stopping: threading.Event) -> None:
    """Answers of now, spread over 1,000 players and 50 quizzes."""
    producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=5)
    began = time.monotonic()
    count = 0
    while not stopping.is_set() and (passed := time.monotonic() - began) < seconds:
        while count < passed * rate:
            producer.send(names.ANSWERS, key=f"u{count % 1000}".encode(), value=_answer(count))
            count += 1
        time.sleep(0.005)
    producer.flush()


def _answer(number: int) -> bytes:
    now_us, player = time.time_ns() // 1000, number % 1000
    return json.dumps(
        {
            "event_id": f"00000000-0000-5000-8000-{number:012d}",
            "origin": "live",
            "occurred_at_us": now_us,
            "user_id": f"u{player}",
            "user_no": player,
            "session_id": f"s{player % 50}",
            "session_started_at_us": now_us,
            "session_tick_ms": 10,
            "quiz_id": f"quiz{player % 50}",
            "quiz_zone": "UTC",
            "quiz_version": 1,
            "question_id": f"q{number % 20}",
            "question_type": "choice",
            "skill_tags": [f"word:w{number % 20}"],
            "choice": "apple",
            "correct": number % 3 > 0,
            "elapsed_ms": number % 20_000,
            "time_limit_ms": 20_000,
            "rule": "speed@1",
            "points": 700 if number % 3 else 0,
        },
        separators=(",", ":"),
    ).encode()


def live(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Step 4: seconds from the watermark's passing of a window's end until its rows can be read."""
    daemons: list[Daemon] = []
    stopping = threading.Event()
    threads: list[threading.Thread] = []
    try:
        daemons.append(broker := start_kafka(folder / "live_kafka"))
        daemons.append(questdb := start_questdb(folder / "live_questdb"))
        daemons.append(flink := start_flink(folder / "live_flink", arguments.taskmanager_mb))
        sink = (broker.url, questdb.url, stopping, lambda: None)
        making = (broker.url, arguments.live_rate, arguments.live_s + 600, stopping)
        threads = [
            threading.Thread(target=write_to_questdb, args=sink),
            threading.Thread(target=produce, args=making),
        ]
        for thread in threads:
            thread.start()
        window = f"--window-s={LIVE_WINDOW_S}"
        submit(flink, broker.url, folder / "live", window, f"--parallelism={arguments.parallelism}")
        seen = watch(questdb.url, arguments.live_s)
        late = [at - end - TICKER_BEHIND_S for end, at in seen.items()]
        if len(late) < 2:
            raise SystemExit(f"{len(late)} windows came in {arguments.live_s} s")
        return {
            "live_windows": len(late),
            "live_p50_s": round(statistics.median(late), 2),
            "live_p99_s": round(statistics.quantiles(late, n=100)[98] if len(late) > 9 else max(late), 2),
            "live_max_s": round(max(late), 2),
        }
    finally:
        stopping.set()
        for thread in threads:
            thread.join(timeout=30)
        for daemon in reversed(daemons):
            daemon.stop()


def watch(url: str, seconds: int) -> dict[float, float]:
    """End of a window (s) → when its first rows of users could be read, of those that came while watching."""
    door = Questdb(url)
    door.make_tables()
    query = (
        f"select distinct cast(window_end as long) from {tsdb.TOP_K.name} where level = 'minute' and kind = 'users' "
        "and scope = 'global'"
    )
    # What came before the watching began, came at a time that nobody knows.
    before = {row[0] for row in door.ask(query)["dataset"]}
    seen: dict[float, float] = {}
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        now = time.time()
        for (end,) in door.ask(query)["dataset"]:
            if end not in before:
                seen.setdefault(end / 1e6, now)
        time.sleep(0.1)
    door.close()
    return seen


def main(argv: list[str] | None = None) -> int:
    """Exit 1 if a window differs or a claim does not hold."""
    arguments = parse(argv)
    play = Play(arguments.answers, arguments.rate, arguments.players, arguments.quizzes)
    with tempfile.TemporaryDirectory(prefix="lakeboard-bench-streams-") as folder:
        document = {**vars(arguments), **read(arguments, play, Path(folder))}
        if arguments.live_s:
            document |= live(arguments, Path(folder))
    document["holds"] = {
        "rate": document["steady_per_s"] >= RATE_CLAIM,
        "equal": document.get("differences", 0) == 0,
        "latency": document.get("live_p99_s", 0.0) <= LATENCY_CLAIM_S,
    }
    print(json.dumps(document))
    return 0 if all(document["holds"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
