"""Barriers: ask the api for those of ended days, and read from the lake which days are complete (CONTRACTS D2)."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date

from pyspark.sql import SparkSession

from contracts import names
from contracts.errors import BadInput, BrokenContract, SystemMissing

AskBarriers = Callable[[str, list[date]], None]
# One request writes this many days on each shard; larger would hold the route for long, smaller costs round trips.
DAYS_A_REQUEST = 100
REQUEST_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Sequences:
    """What the lake has: gapless_to by shard, and the barrier's seq by (zone, day) and shard."""

    gapless: dict[int, int]
    barrier_seq: dict[tuple[str, date], dict[int, int]]


def http_barriers(api_url: str, importer_key: str) -> AskBarriers:
    """The function that asks the api's internal route. It raises SystemMissing if no answer comes, BadInput if it refuses."""

    def ask(zone: str, wanted: list[date]) -> None:
        for first in range(0, len(wanted), DAYS_A_REQUEST):
            part = wanted[first : first + DAYS_A_REQUEST]
            request = urllib.request.Request(
                f"{api_url.rstrip('/')}/internal/barriers",
                data=json.dumps({"zone": zone, "days": [day.isoformat() for day in part]}).encode(),
                headers={"Content-Type": "application/json", "X-API-Key": importer_key},
                method="POST",
            )
            try:
                with urllib.request.urlopen(request, timeout=REQUEST_TIMEOUT_S) as reply:
                    reply.read()
            except urllib.error.HTTPError as error:
                detail = f"POST /internal/barriers answered {error.code}: {error.read()[:300]!r}"
                if error.code < 500:  # a wrong key or day: asking again changes nothing
                    raise BadInput("bad_request", detail, next_step="look at --importer-key-file") from error
                raise SystemMissing("system_missing", detail) from error
            except OSError as error:
                raise SystemMissing(
                    "system_missing", f"no api at {api_url}: {error}", next_step="./lakeboard status"
                ) from error

    return ask


def read_sequences(spark: SparkSession) -> Sequences:
    """How far each shard's sequence is whole over answers ∪ barriers ∪ dead letters, and all barriers.

    Raises BrokenContract(sequence_gap) if a (shard, seq) occurs twice. A gap is not an error here: what lies above
    it is not complete yet. Cost: one pass over three integer columns.
    """
    parts = [
        f"SELECT shard, seq FROM {names.table(name)}" for name in ("answers", "barriers", "dead_letters")
    ]
    rows = spark.sql(
        "SELECT shard, count(*) AS n, max(place) AS last, "
        # The first place where seq runs ahead of its row number is just above the gap.
        "  min(CASE WHEN seq <> place THEN place END) AS broken, count(*) - count(DISTINCT seq) AS repeats "
        "FROM (SELECT shard, seq, row_number() OVER (PARTITION BY shard ORDER BY seq) AS place "
        f"      FROM ({' UNION ALL '.join(parts)}) WHERE shard IS NOT NULL AND seq IS NOT NULL) GROUP BY shard"
    ).collect()
    repeated = {row["shard"]: row["repeats"] for row in rows if row["repeats"]}
    if repeated:
        raise BrokenContract(
            "sequence_gap", f"(shard, seq) occurs more than once; repeats by shard: {repeated}"
        )
    gapless = {row["shard"]: (row["last"] if row["broken"] is None else row["broken"] - 1) for row in rows}
    barrier_seq: dict[tuple[str, date], dict[int, int]] = {}
    for row in spark.table(names.table("barriers")).select("zone", "day", "shard", "seq").collect():
        barrier_seq.setdefault((row["zone"], row["day"]), {})[row["shard"]] = row["seq"]
    return Sequences(gapless, barrier_seq)
