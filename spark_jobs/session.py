"""The Spark session on the catalog `lake`, and the lake's tables made if missing. Everything comes as arguments."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pyspark.sql import SparkSession

from contracts import names
from contracts.tables import TABLES, create_table

MASTER = "local[2]"
# Local mode on 2 cores: more shuffle partitions than this only add tasks (a day of EdNet is 2,509 rows).
SHUFFLE_PARTITIONS = 4
# A task sums, joins or sorts about this many rows in memory: at 100 to 200 bytes a row 50 to 100 MB, of the few hundred
# that a task has on the smallest driver.
ROWS_PER_PARTITION = 500_000
# Shuffled bytes of one partition up to which a join hashes it: 500,000 users are about 15 MB, and each as a row in
# memory some four times that.
HASH_JOIN_BYTES = "64m"
# Above this a shuffle is more blocks (tasks × tasks) than rows worth moving; 2,000 tasks carry a billion rows.
SHUFFLE_PARTITIONS_MAX = 2_000
# The parallel limits of a 2-core machine; 1 GB is too little to hold EdNet's scoped rows, 2 GB leaves room.
DRIVER_MEMORY = "2g"
# How a fresh table is laid out beyond its definition. Blooms: Parquet reserves the whole bound in each file, and its
# default (1 MB) would make 700 small files 700 MB; 64 KB is 1 % false positives at about 50,000 users.
_LAYOUT = {
    "rankings": (
        "WRITE DISTRIBUTED BY PARTITION LOCALLY ORDERED BY scope, rank",
        "SET TBLPROPERTIES ('write.parquet.bloom-filter-enabled.column.user_id'='true', "
        "'write.parquet.bloom-filter-max-bytes'='65536')",
    ),
    "user_days": ("WRITE DISTRIBUTED BY PARTITION LOCALLY ORDERED BY scope, user_no",),
    # Small row groups: a page reads one user's of a month's file.
    "user_sessions": (
        "WRITE DISTRIBUTED BY PARTITION LOCALLY ORDERED BY user_id, first_at_us",
        "SET TBLPROPERTIES ('write.parquet.bloom-filter-enabled.column.user_id'='true', "
        "'write.parquet.bloom-filter-max-bytes'='65536', 'write.parquet.row-group-size-bytes'='1048576', "
        "'write.parquet.page-size-bytes'='65536')",
    ),
    "user_months": ("WRITE DISTRIBUTED BY PARTITION LOCALLY ORDERED BY scope, user_no",),
}
# Closing a file asks the NameNode whether the DataNode has reported its last block, and sleeps if not yet. The default
# first sleep (400 ms, 5 tries) made each small file cost half a second: EdNet's 2,300 files took 15 minutes. The
# report comes within milliseconds; with 12 doubling tries, 1 s at most each, a busy DataNode still has 5 s.
_HDFS_CLIENT = {
    "spark.hadoop.dfs.client.block.write.locateFollowingBlock.initial.delay.ms": "2",
    "spark.hadoop.dfs.client.block.write.locateFollowingBlock.max.delay.ms": "1000",
    "spark.hadoop.dfs.client.block.write.locateFollowingBlock.retries": "12",
}
# On one machine nothing listens beyond it; a cluster's executors must reach the driver.
_LOOPBACK = {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}


def partitions_for(rows: int) -> int:
    """Shuffle partitions for that many rows."""
    return min(max(-(-rows // ROWS_PER_PARTITION), SHUFFLE_PARTITIONS), SHUFFLE_PARTITIONS_MAX)


def size_shuffles(spark: SparkSession, rows: int) -> None:
    """Let the queries from here on shuffle into as many partitions as that many rows need."""
    spark.conf.set("spark.sql.shuffle.partitions", str(partitions_for(rows)))


def jdbc_url(postgres_url: str) -> tuple[str, str, str]:
    """(JDBC URL, user, password) of a `postgresql://user:password@host:port/database` URL."""
    parts = urlsplit(postgres_url)
    address = f"{parts.hostname or '127.0.0.1'}:{parts.port or 5432}"
    return (
        f"jdbc:postgresql://{address}/{parts.path.lstrip('/') or 'postgres'}",
        unquote(parts.username or "postgres"),
        unquote(parts.password or ""),
    )


def spark_session(
    name: str,
    *,
    postgres_url: str,
    warehouse: str,
    jars: Path,
    local_dir: Path,
    master: str = MASTER,
    driver_memory: str = DRIVER_MEMORY,
) -> SparkSession:
    """Spark on the Iceberg catalog `lake` (JDBC in Postgres, files in `warehouse`: hdfs:// or file://).

    jars: folder that holds the Iceberg runtime, the Kafka source and the Postgres driver. master: a local one, or a
    cluster's address; executors then reach the driver at the name that spark-defaults.conf gives. Times are UTC.
    """
    url, user, password = jdbc_url(postgres_url)
    catalog = f"spark.sql.catalog.{names.CATALOG}"
    options = {
        "spark.jars": ",".join(str(jar) for jar in sorted(jars.glob("*.jar"))),
        "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
        catalog: "org.apache.iceberg.spark.SparkCatalog",
        f"{catalog}.type": "jdbc",
        f"{catalog}.uri": url,
        f"{catalog}.jdbc.user": user,
        f"{catalog}.jdbc.schema-version": "V1",
        f"{catalog}.warehouse": warehouse,
        # A cached table would hide what another run has just published.
        f"{catalog}.cache-enabled": "false",
        "spark.driver.memory": driver_memory,
        **(_LOOPBACK if master.startswith("local") else {}),
        "spark.local.dir": str(local_dir),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.shuffle.partitions": str(SHUFFLE_PARTITIONS),
        "spark.sql.streaming.noDataMicroBatches.enabled": "false",
        # Partitions are sized to fit (size_shuffles): a hash of the smaller side instead of a sort of both.
        "spark.sql.adaptive.maxShuffledHashJoinLocalMapThreshold": HASH_JOIN_BYTES,
        # Merged into one task, a write of 900 partitions waits for one file after the other.
        "spark.sql.adaptive.coalescePartitions.enabled": "false",
        **_HDFS_CLIENT,
    }
    # Python functions run in this environment; the default is the first python3 on the path, which lacks ours.
    os.environ["PYSPARK_PYTHON"] = sys.executable
    builder = SparkSession.builder.appName(name).master(master)
    for key, value in options.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    # Not above: what is known before the start is on the Java process' command line, for everybody to read.
    spark.conf.set(f"{catalog}.jdbc.password", password)
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def create_tables(spark: SparkSession) -> None:
    """Make the namespace and every lake table that is missing, with its sort order. A repeat changes nothing."""
    spark.sql(f"CREATE NAMESPACE IF NOT EXISTS {names.CATALOG}.{names.NAMESPACE}")
    for name in TABLES:
        if spark.catalog.tableExists(names.table(name)):
            continue
        spark.sql(create_table(name))
        for change in _LAYOUT.get(name, ()):
            spark.sql(f"ALTER TABLE {names.table(name)} {change}")


def has_tables(spark: SparkSession) -> bool:
    """True if no table of the lake is missing."""
    return all(spark.catalog.tableExists(names.table(name)) for name in TABLES)


def snapshot_id(spark: SparkSession, name: str) -> int | None:
    """Current snapshot of a table's main branch; None while it has none."""
    rows = spark.sql(f"SELECT snapshot_id FROM {names.table(name)}.refs WHERE name = 'main'").collect()
    return int(rows[0][0]) if rows else None
