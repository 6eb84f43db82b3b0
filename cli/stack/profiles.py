"""Which processes make a profile, and who waits for whom."""

from __future__ import annotations

from dataclasses import replace

import psutil

from cli.stack.airflow import airflow
from cli.stack.flink import flink, streams
from cli.stack.hdfs import HdfsPorts, hdfs
from cli.stack.kafka import kafka
from cli.stack.layout import Layout
from cli.stack.ours import api, relay
from cli.stack.postgres import postgres
from cli.stack.process import Process
from cli.stack.questdb import QuestdbPorts, questdb
from cli.stack.replication import SENTINELS, ReplicatedShard, replicated_valkey, sentinel
from cli.stack.scale import read_scale
from cli.stack.traefik import traefik
from cli.stack.valkey import valkey

# What `up --without` may leave out; the other parts do their work without these.
PARTS = {
    "airflow": ("airflow_api", "airflow_scheduler", "airflow_dag_processor", "airflow_triggerer"),
    "flink": ("jobmanager", "taskmanager", "streams"),
    "questdb": ("questdb",),
}


# What play needs; all else joins when it is there.
STORES = ("valkey_1", "valkey_2", "postgres")


def without(chosen: list[Process], parts: str) -> list[Process]:
    """The processes without those of the named parts (a comma list); nobody waits for what is left out.

    Raises KeyError for a part that cannot be left out.
    """
    out = {name for part in parts.split(",") if part for name in PARTS[part]}
    return [
        replace(process, after=tuple(name for name in process.after if name not in out))
        for process in chosen
        if process.name not in out
    ]


def one_api(layout: Layout, profile: str, number: int) -> Process:
    """The api process of a number. All wait for the first, which applies the migrations: they would wait anyway."""
    return api(layout, profile, f"api_{number}", STORES if number == 1 else (*STORES, "api_1"))


def processes(layout: Layout, profile: str, lan: bool = False) -> list[Process]:
    """Returns the processes of `live` or `full`, those that others wait for first."""
    full = profile == "full"
    valkeys = _shards(layout, profile)
    databases = ("lakeboard", "airflow") if full else ("lakeboard",)
    database = postgres(
        layout.data("postgres"), layout.port("postgres"), layout.secrets["postgres_password"], databases
    )
    ours = [
        *(one_api(layout, profile, number) for number in range(1, read_scale(layout.run).count + 1)),
        # The relay waits for Kafka and QuestDB by itself, a sink at a time: play never does.
        relay(layout, profile, (*STORES, "api_1")),
    ]
    door = traefik(layout, lan, ("api_1",))
    if not full:
        return [*valkeys, database, *ours, door]
    return [*valkeys, database, *_warehouse(layout), *ours, door]


def _shards(layout: Layout, profile: str) -> list[Process]:
    """The shards' servers; with replicas their second servers and the sentinels too."""
    names = ("valkey_1", "valkey_2")
    servers = 2 * len(names) if layout.replicas else len(names)
    limit = layout.settings(profile).valkey_memory_mb * 2**20 or psutil.virtual_memory().total // 2 // servers
    options = {"maxmemory": str(limit)}
    if not layout.replicas:
        return [valkey(name, layout.data(name), layout.port(name), options) for name in names]
    sentinels = [f"sentinel_{number}" for number in range(1, SENTINELS + 1)]
    files = tuple(layout.data(name) / "sentinel.conf" for name in sentinels)
    found: list[Process] = []
    shards = []
    for name in names:
        pair = (name, f"{name}_replica")
        shard = ReplicatedShard(name, (layout.port(pair[0]), layout.port(pair[1])), files)
        shards.append(shard)
        found += [replicated_valkey(one, layout.data(one), layout.port(one), shard, options) for one in pair]
    after = tuple(process.name for process in found)
    return found + [sentinel(name, layout.data(name), layout.port(name), shards, after) for name in sentinels]


def _warehouse(layout: Layout) -> list[Process]:
    """What `full` adds: the record's log, the lake's disk, the streams and the schedule."""
    port = layout.port
    hdfs_ports = HdfsPorts(
        port("namenode"), port("namenode_http"), port("datanode"), port("datanode_http"), port("datanode_ipc")
    )
    questdb_ports = QuestdbPorts(
        port("questdb_http"), port("questdb_min"), port("questdb_pg"), port("questdb_tcp")
    )
    return [
        kafka(
            layout.data("kafka"),
            layout.jars("kafka"),
            port("kafka"),
            port("kafka_controller"),
            layout.settings("full").answers_retention_days,
        ),
        *hdfs(layout.data("hdfs"), layout.jars("hadoop"), hdfs_ports),
        questdb(layout.data("questdb"), layout.jars("questdb"), questdb_ports),
        *flink(layout, ("kafka", "datanode"), layout.settings("full").taskmanager_mb),
        # Last: its Java would take the processor from those that play and settling need.
        streams(layout, ("taskmanager", "airflow_api")),
        *airflow(layout, ("postgres",)),
    ]
