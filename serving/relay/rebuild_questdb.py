"""QuestDB's windows made again from the topics: `python -m serving.relay.rebuild_questdb [--json]`.

The record of a window is its newest value in the streams' compacted topics. All of them are read to their
present end and written again under their keys, so a repeat changes nothing and rows that are right stay. Windows that
retention has deleted from the topics cannot come back from there: QuestDB keeps the ones it has.

Steps: 1 make the tables; 2 read the topics to their end, read committed; 3 write; 4 read QuestDB back and compare, row by
row: `differences` counts rows of the topics that QuestDB lacks or has otherwise. A crash at any step is run again.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from contracts import tsdb
from contracts.errors import LakeboardError, SystemMissing
from contracts.periods import instant_us
from contracts.settings import Settings, from_mapping
from serving.relay.questdb import Questdb
from serving.relay.to_questdb import TOPICS
from serving.relay.window_rows import Record, Row, rows_of

# Rows a request, as the relay writes them.
_BATCH = 500
# QuestDB shows rows once its log is applied, and the streams may have written newer ones meanwhile.
_SETTLE_S = 30.0
# Nothing for this long before the end is reached: Kafka stands still.
_READ_S = 60.0
# What comes from the topics; health is sampled, and cannot be made again.
_TABLES = {table.name: table for table in tsdb.TABLES if table is not tsdb.PIPELINE_HEALTH}


def newest(bootstrap: str) -> tuple[list[Row], int]:
    """Rows of the newest value of every window in the topics, and how many records fitted nothing.

    Raises SystemMissing if Kafka does not answer.
    """
    found: dict[tuple[str, bytes], Record] = {}
    try:
        for topic in TOPICS:
            for record in _read(bootstrap, topic):
                found[(topic, record.key)] = record
    except (KafkaError, OSError) as error:
        raise SystemMissing(
            "system_missing", f"Kafka at {bootstrap}: {error!r}", next_step="./lakeboard status"
        ) from error
    return rows_of(found.values())


def _read(bootstrap: str, topic: str) -> Iterator[Any]:
    """The committed records of a topic's one partition, up to its end as it is now."""
    partition = TopicPartition(topic, 0)
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap.split(","),
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        group_id=None,
    )
    try:
        end = consumer.end_offsets([partition])[partition]
        consumer.assign([partition])
        consumer.seek_to_beginning(partition)
        deadline = time.monotonic() + _READ_S
        while consumer.position(partition) < end:
            if time.monotonic() > deadline:
                raise SystemMissing("system_missing", f"{topic} cannot be read to {end}")
            for records in consumer.poll(timeout_ms=500).values():
                deadline = time.monotonic() + _READ_S
                yield from records
    finally:
        consumer.close()


def _place(table: str, ts_us: int, values: Mapping[str, Any]) -> tuple[Any, ...]:
    return (table, ts_us, *(values[name] for name in _TABLES[table].key))


def compare(rows: Sequence[Row], questdb: Questdb) -> int:
    """How many rows QuestDB lacks or has otherwise, but for those older than it keeps. Raises SystemMissing."""
    stored: dict[tuple[Any, ...], dict[str, Any]] = {}
    oldest: dict[str, int] = {}
    for table in _TABLES.values():
        times = ["ts", *(column.name for column in table.columns if column.kind == "TIMESTAMP")]
        body = questdb.ask(f"select * from {table.name}")
        columns = [column["name"] for column in body["columns"]]
        for values in body["dataset"]:
            row = dict(zip(columns, values, strict=True))
            row |= {name: _us(row[name]) for name in times if row[name] is not None}
            stored[_place(table.name, row["ts"], row)] = row
        oldest[table.name] = kept_from_us(table, [row.ts_us for row in rows if row.table == table.name])
    # Of rows with one key the last written one stands.
    wanted = {_place(row.table, row.ts_us, row.values): row for row in rows if row.ts_us >= oldest[row.table]}
    return sum(
        key not in stored or any(stored[key].get(name) != value for name, value in row.values.items())
        for key, row in wanted.items()
    )


def kept_from_us(table: tsdb.Table, starts_us: Sequence[int]) -> int:
    """The instant (µs) from which the table surely keeps rows, the newest of which starts at the last of `starts_us`."""
    count, unit = table.keep.split()
    days = int(count) * {"DAYS": 1, "MONTHS": 28}[unit]
    return max(starts_us, default=0) - days * 86_400_000_000


def _us(text: str) -> int:
    return instant_us(datetime.fromisoformat(text))


def rebuild(settings: Settings) -> dict[str, Any]:
    """Make the tables again. Raises SystemMissing where the profile has no QuestDB, or a system does not answer."""
    if not settings.kafka_bootstrap or not settings.questdb_http_url:
        raise SystemMissing(
            "system_missing",
            f"profile {settings.profile} has no QuestDB",
            next_step="./lakeboard up --profile full",
        )
    began = time.monotonic()
    questdb = Questdb(settings.questdb_http_url)
    try:
        questdb.make_tables()  # 1
        rows, skipped = newest(settings.kafka_bootstrap)  # 2
        for start in range(0, len(rows), _BATCH):
            questdb.write(rows[start : start + _BATCH])  # 3
        deadline = time.monotonic() + _SETTLE_S
        while differences := compare(rows, questdb):  # 4
            if time.monotonic() > deadline:
                break
            time.sleep(1.0)
            rows, skipped = newest(settings.kafka_bootstrap)
    finally:
        questdb.close()
    return {
        "rows": len(rows),
        "skipped": skipped,
        "differences": differences,
        "seconds": round(time.monotonic() - began, 1),
    }


def main(argv: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> int:
    """Exit 0: equal to the topics; 1: rows differ; 3: a system is missing."""
    parser = argparse.ArgumentParser(
        prog="rebuild questdb", description="QuestDB's windows, again from Kafka"
    )
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args(argv)
    columns = (SpinnerColumn(), TextColumn("rebuild questdb"), TimeElapsedColumn())
    try:
        terminal = Console(stderr=True)
        # In a log a bar is only an empty line.
        with Progress(
            *columns, console=terminal, transient=True, disable=not terminal.is_terminal
        ) as progress:
            progress.add_task("", total=None)
            document = rebuild(from_mapping(environment))
    except LakeboardError as error:
        print(f"lakeboard: {error.told}", file=sys.stderr)
        return error.exit_code
    print(
        json.dumps(document)
        if args.json
        else "  ".join(f"{name} {value}" for name, value in document.items())
    )
    return 0 if document["differences"] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
