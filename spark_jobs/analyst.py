"""A Spark on the lake for people: `from spark_jobs.analyst import open_spark; open_spark().table("lake.lakeboard.answers")`.

Addresses come from LAKEBOARD_* (./lakeboard notebook, or eval "$(./lakeboard env)"); jobs get theirs as arguments.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pyspark.sql import SparkSession

from contracts.errors import SystemMissing
from contracts.settings import from_mapping, has_password, with_password
from spark_jobs.session import spark_session

_NEXT_STEP = 'use ./lakeboard notebook, or run eval "$(./lakeboard env)" in the shell that starts Python'


def open_spark(environment: Mapping[str, str] = os.environ) -> SparkSession:
    """A local Spark whose catalog `lake` is this stack's; the process' one session if it has one already.

    It can write: what it changes, no settlement knows of. Raises SystemMissing where no lake is named.
    """
    settings = from_mapping(environment)
    url = settings.postgres_url
    if not (url and settings.lake_warehouse and settings.cache_dir):
        raise SystemMissing(
            "system_missing", f"this process was not told where a lake is: {_NEXT_STEP}", next_step=_NEXT_STEP
        )
    if not has_password(url) and settings.secrets_dir:
        url = with_password(url, (Path(settings.secrets_dir) / "postgres_password").read_text().strip())
    return spark_session(
        "analyst",
        postgres_url=url,
        warehouse=settings.lake_warehouse,
        jars=Path(settings.cache_dir) / "jars" / "spark",
        local_dir=Path(settings.data_dir or settings.cache_dir) / "spark",
    )
