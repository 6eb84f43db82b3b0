"""Keep the lake's tables small: compact, merge manifests, expire snapshots, remove orphan files and audit branches.

    python -m spark_jobs.maintain_tables [--table NAME] [--older-than-days N] [--dry-run] --postgres-url … (all arguments)

Holds the settle lock throughout (CONTRACTS D3), and the ingest lock for tables that ingest writes. Steps a table: 1 tag
every snapshot that a settlement or an archived month names; 2 compact; 3 say in the newest snapshot which offsets are in;
4 expire; 5 orphans. Each step is a commit of its own that changes no row: cut anywhere, it is run again.
Prints one JSON document: tables (files, bytes, snapshots, orphans, before and after), lost, seconds.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from contracts import names
from contracts.errors import BrokenContract
from contracts.tables import TABLES
from spark_jobs import publish
from spark_jobs.ingest_answers import carry_offsets, offsets_in
from spark_jobs.lake_job import lake_arguments, parse, run_on_lake
from spark_jobs.locks import INGEST, SETTLE, advisory_lock
from spark_jobs.session import create_tables, snapshot_id

log = logging.getLogger("maintain_tables")
INGESTED = ("answers", "barriers", "dead_letters", "corrections", "enrolments", "sketches")
# A reader that has opened the newest snapshot keeps its files for this long. Longer keeps what was compacted as well.
OLDER_THAN_DAYS = 7
# A file that no snapshot names may be one that is being written. No job takes days.
ORPHAN_AGE = timedelta(days=3)
# A partition with fewer small files is left alone: a rewrite would cost more than it saves.
LEAST_FILES = 5
# Iceberg's target (512 MB), and the share of it below which it takes a file for small.
_SMALL_BYTES = int(0.75 * 512 * 1024**2)


@dataclass(frozen=True, slots=True)
class Size:
    """What a table holds. files, bytes and rows are the newest snapshot's; stored_bytes are all snapshots' together."""

    files: int
    bytes: int
    rows: int
    stored_bytes: int
    snapshots: int


def unnamed(
    named: dict[int, str], tagged: set[int], present: set[int]
) -> tuple[dict[int, str], dict[int, str]]:
    """({snapshot: tag} still to be made, {snapshot: tag} whose snapshot no longer exists)."""
    missing = {one: tag for one, tag in named.items() if one not in tagged}
    return (
        {one: tag for one, tag in missing.items() if one in present},
        {one: tag for one, tag in missing.items() if one not in present},
    )


def named_snapshots(connection: psycopg.Connection) -> dict[str, dict[int, str]]:
    """By table: each snapshot that a settlement or an archived month names, and the tag that keeps it."""
    months = connection.execute("SELECT month, snapshots FROM archived_months ORDER BY month").fetchall()
    settlements = connection.execute("SELECT id, snapshots FROM settlements ORDER BY id::bigint").fetchall()
    tagged = [(names.archive_tag(month), snapshots) for month, snapshots in months]
    tagged += [(names.settlement_tag(one), snapshots) for one, snapshots in settlements]
    found: dict[str, dict[int, str]] = {}
    for tag, snapshots in tagged:
        for name, snapshot in snapshots.items():
            found.setdefault(name, {})[int(snapshot)] = tag
    return found


def size_of(spark: SparkSession, name: str) -> Size:
    """Read from the table's metadata alone."""
    table = names.table(name)
    files, size, rows = spark.sql(
        f"SELECT count(*), coalesce(sum(file_size_in_bytes), 0), coalesce(sum(record_count), 0) FROM {table}.data_files"
    ).collect()[0]
    stored = spark.sql(
        "SELECT coalesce(sum(file_size_in_bytes), 0) FROM "
        f"(SELECT DISTINCT file_path, file_size_in_bytes FROM {table}.all_data_files)"
    ).collect()[0][0]
    return Size(files, size, rows, stored, len(_snapshots(spark, name)))


def maintain(
    spark: SparkSession,
    postgres_url: str,
    tables: Sequence[str] = TABLES,
    older_than_days: int = OLDER_THAN_DAYS,
    dry_run: bool = False,
) -> dict[str, Any]:
    """Maintain the tables one after the other; returns the document that is printed.

    older_than_days: snapshots younger than this stay. Raises BrokenContract if a step would have changed rows or offsets.
    """
    begun = time.monotonic()
    done: dict[str, Any] = {}
    lost: list[dict[str, Any]] = []
    with advisory_lock(postgres_url, SETTLE) as connection:
        create_tables(spark)
        named = named_snapshots(connection)
        branches = _audit_branches(spark)
        if not dry_run:
            publish.drop_branches(spark)  # whoever made one held the lock, and is gone
        # A table that nobody has written yet has nothing to maintain.
        for name in (one for one in tables if snapshot_id(spark, one) is not None or one in named):
            one = _Table(spark, name, timedelta(days=older_than_days), named.get(name, {}))
            with advisory_lock(postgres_url, INGEST) if name in INGESTED else nullcontext():
                before = size_of(spark, name)
                steps = one.look() if dry_run else one.maintain(before)
                after = before if dry_run else size_of(spark, name)
            lost += [{"table": name, "tag": tag, "snapshot": i} for i, tag in sorted(one.lost.items())]
            done[name] = {"before": asdict(before), "after": asdict(after), **steps}
            log.info(
                "maintained table=%s dry_run=%s files=%d→%d %s",
                name,
                dry_run,
                before.files,
                after.files,
                steps,
            )
    if lost:
        log.error("snapshots_lost count=%d first=%s", len(lost), lost[0])
    return {
        "dry_run": dry_run,
        "tables": done,
        "audit_branches": branches,
        "lost": lost,
        "seconds": round(time.monotonic() - begun, 1),
    }


class _Table:
    """The steps on one table, whose locks the caller holds."""

    def __init__(self, spark: SparkSession, name: str, keep: timedelta, named: dict[int, str]) -> None:
        self.spark, self.name, self.keep = spark, name, keep
        self.table, self.call_name = names.table(name), f"{names.NAMESPACE}.{name}"
        tagged = {
            row[0]
            for row in spark.sql(f"SELECT snapshot_id FROM {self.table}.refs WHERE type = 'TAG'").collect()
        }
        self.named = named
        self.to_tag, self.lost = unnamed(named, tagged, set(_snapshots(spark, name)))

    def _cutoff(self) -> datetime:
        """Asked for late: what compaction has just replaced is old too where nothing is to be kept."""
        return datetime.now(UTC) - self.keep

    def look(self) -> dict[str, Any]:
        """What `maintain` would do, by the same rules; writes nothing."""
        kept = {row[0] for row in self.spark.sql(f"SELECT snapshot_id FROM {self.table}.refs").collect()}
        found = _snapshots(self.spark, self.name)
        old = {one for one, committed in found.items() if committed < self._cutoff()}
        return {
            "compacted_files": self._small_files(),
            "tagged": len(self.to_tag),
            "snapshots_expired": len(old - kept - set(self.named)),
            "orphans_removed": self._orphans(dry_run=True),
        }

    def maintain(self, before: Size) -> dict[str, Any]:
        """All steps in order: what must stay is tagged, stamped and checked before anything expires."""
        known = offsets_in(self.spark, self.name)
        for snapshot, tag in self.to_tag.items():
            self.spark.sql(f"ALTER TABLE {self.table} CREATE OR REPLACE TAG `{tag}` AS OF VERSION {snapshot}")
        compacted = self._compact()
        carry_offsets(self.spark, self.name)
        self._check(before, known)
        expired = self._expire()
        orphans = self._orphans(dry_run=False)
        return {
            "compacted_files": compacted,
            "tagged": len(self.to_tag),
            "snapshots_expired": expired,
            "orphans_removed": orphans,
        }

    def _small_files(self) -> int:
        """Files of partitions in which small ones pile up."""
        files = self.spark.table(f"{self.table}.data_files").where(F.col("file_size_in_bytes") < _SMALL_BYTES)
        # A table without partitions has no column of that name.
        key = [column for column in ("spec_id", "partition") if column in files.columns]
        piles = files.groupBy(*key).count().where(F.col("count") >= LEAST_FILES)
        return int(piles.agg(F.coalesce(F.sum("count"), F.lit(0))).collect()[0][0])

    def _compact(self) -> int:
        """Rewrite piles of small files in the table's own order, then its manifests; returns files rewritten."""
        rewritten = 0
        if self._small_files():
            # Bin-packing leaves the order of rows aside: a table that has one is sorted again.
            strategy = "sort" if self._is_sorted() else "binpack"
            row = self.spark.sql(
                f"CALL {names.CATALOG}.system.rewrite_data_files(table => '{self.call_name}', "
                f"strategy => '{strategy}', options => map('min-input-files', '{LEAST_FILES}', "
                "'max-concurrent-file-group-rewrites', '2'))"
            ).collect()[0]
            rewritten = int(row["rewritten_data_files_count"])
        if snapshot_id(self.spark, self.name) is not None:
            self.spark.sql(
                f"CALL {names.CATALOG}.system.rewrite_manifests(table => '{self.call_name}', use_caching => false)"
            ).collect()
        return rewritten

    def _is_sorted(self) -> bool:
        rows = self.spark.sql(f"SHOW TBLPROPERTIES {self.table}").collect()
        return any(row["key"] == "sort-order" for row in rows)

    def _expire(self) -> int:
        before = set(_snapshots(self.spark, self.name))
        self.spark.sql(
            f"CALL {names.CATALOG}.system.expire_snapshots(table => '{self.call_name}', "
            f"older_than => TIMESTAMP '{self._cutoff():%Y-%m-%d %H:%M:%S.%f}', retain_last => 1)"
        ).collect()
        left = set(_snapshots(self.spark, self.name))
        if gone := (before - left) & self.named.keys():
            raise BrokenContract("check_failed", f"{self.name}: expired snapshots that are named: {gone}")
        return len(before - left)

    def _orphans(self, dry_run: bool) -> int:
        before = datetime.now(UTC) - ORPHAN_AGE
        rows = self.spark.sql(
            f"CALL {names.CATALOG}.system.remove_orphan_files(table => '{self.call_name}', "
            f"older_than => TIMESTAMP '{before:%Y-%m-%d %H:%M:%S}', dry_run => {str(dry_run).lower()})"
        )
        return len(rows.collect())

    def _check(self, before: Size, known: dict[int, int]) -> None:
        """Raise BrokenContract if rows, the offsets that are in, or copy-on-write were lost (CONTRACTS D1, D6)."""
        rows, deletes = self.spark.sql(
            f"SELECT coalesce(sum(record_count) FILTER (WHERE content = 0), 0), count_if(content <> 0) "
            f"FROM {self.table}.files"
        ).collect()[0]
        if (rows, deletes) != (before.rows, 0):
            raise BrokenContract(
                "check_failed", f"{self.name}: {before.rows} rows before, {rows} now; delete files: {deletes}"
            )
        if offsets_in(self.spark, self.name) != known:
            raise BrokenContract("check_failed", f"{self.name}: no snapshot says which offsets are in")


def _snapshots(spark: SparkSession, name: str) -> dict[int, datetime]:
    """When each snapshot of a table was committed."""
    rows = spark.sql(
        f"SELECT snapshot_id, unix_micros(committed_at) FROM {names.table(name)}.snapshots"
    ).collect()
    return {row[0]: datetime.fromtimestamp(row[1] / 1_000_000, UTC) for row in rows}


def _audit_branches(spark: SparkSession) -> int:
    """How many audit branches crashed runs have left."""
    parts = [f"SELECT name FROM {names.table(name)}.refs WHERE type = 'BRANCH'" for name in publish.PUBLISHED]
    rows = spark.sql(" UNION ALL ".join(parts)).collect()
    return sum(row[0].startswith(names.audit_branch("")) for row in rows)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="maintain_tables", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("--table", choices=TABLES, help="this table alone")
    parser.add_argument(
        "--older-than-days", type=int, default=OLDER_THAN_DAYS, help="keep snapshots younger than this"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, write nothing")
    lake_arguments(parser)
    args = parse(parser, argv)
    if args.older_than_days < 0:
        parser.error("--older-than-days is below 0")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Exit 0; 1 if a check failed or a snapshot that is named is gone; 2: wrong use; 3: a system is missing."""
    args = _arguments(argv)

    def work(spark: SparkSession, postgres_url: str) -> tuple[int, dict[str, Any]]:
        tables = (args.table,) if args.table else TABLES
        document = maintain(spark, postgres_url, tables, args.older_than_days, args.dry_run)
        return (1 if document["lost"] else 0), document

    return run_on_lake("maintain_tables", args, work)


if __name__ == "__main__":
    sys.exit(main())
