"""Kafka: one broker that is its own controller (KRaft), with the project's topics."""

from __future__ import annotations

import base64
import subprocess
import uuid
from pathlib import Path

from cli.stack.java import java, properties, write_if_changed
from cli.stack.process import Process, port_open
from contracts import names
from contracts.identity import ANSWER_PARTITIONS
from contracts.settings import ANSWERS_RETENTION_DAYS

_DAY_MS = 86_400_000


def _configuration(folder: Path, port: int, controller_port: int) -> str:
    return properties(
        {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
            "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": folder / "logs",
            "auto.create.topics.enable": "false",
            "num.partitions": 1,
            # One node: every internal topic has one copy, and few partitions keep it small.
            "default.replication.factor": 1,
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 4,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 4,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "share.coordinator.state.topic.num.partitions": 1,
            "group.initial.rebalance.delay.ms": 0,
            # Windows of a Flink job that stood still for a while may still commit.
            "transaction.max.timeout.ms": 900_000,
        }
    )


def _format(folder: Path, jars: Path, configuration: Path, text: str) -> None:
    """Writes the configuration and gives the log folder its cluster id, once."""
    write_if_changed(configuration, text)
    if (folder / "logs" / "meta.properties").exists():
        return
    # A leading "-" would be read as an option.
    cluster = "L" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")[1:]
    command = [java(), "-cp", f"{jars}/*", "kafka.tools.StorageTool", "format"]
    command += ["-t", cluster, "-c", str(configuration), "--ignore-formatted"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"Kafka's storage can't be formatted: {(done.stderr or done.stdout)[-400:]}")


def topics(answers_days: int = ANSWERS_RETENTION_DAYS) -> dict[str, tuple[int, dict[str, str]]]:
    """Every topic with its partitions and settings. answers_days: how long answers stay; history and the lake keep them."""
    forever = {"retention.ms": "-1"}
    # The record's time is the broker's: years-old imports would else be deleted by the retention as they come.
    appended = {"message.timestamp.type": "LogAppendTime"}
    # As long as replicas keep the minutes of top 10s: late answers only widen the bounds of those.
    late = {**appended, "retention.ms": str(2 * _DAY_MS)}
    compacted = {"cleanup.policy": "compact"}
    # The cleaner never touches a topic's newest segment: with the default of a week, every process would read a week
    # of windows when it starts. A tombstone outlives its key by an hour, longer than any reader takes.
    windows = {**compacted, "segment.ms": "600000", "min.cleanable.dirty.ratio": "0.1"}
    windows["delete.retention.ms"] = "3600000"
    return {
        names.ANSWERS: (ANSWER_PARTITIONS, {**appended, "retention.ms": str(answers_days * _DAY_MS)}),
        names.DEAD_LETTERS: (1, forever),
        names.LATE: (1, late),
        names.CORRECTIONS: (1, {**appended, **forever}),
        names.ENROLMENTS: (1, {**appended, **forever}),
        **dict.fromkeys(names.COMPACTED, (1, compacted)),
        **dict.fromkeys((names.TOPK, names.TRENDING, names.SKETCHES), (1, windows)),
        # Large where many quizzes are played: Kafka cuts it by itself, with two days for QuestDB to come back.
        names.TOPK_QUIZZES: (
            1,
            {**windows, "cleanup.policy": "compact,delete", "retention.ms": str(2 * _DAY_MS)},
        ),
    }


def create_topics(bootstrap: str, answers_days: int = ANSWERS_RETENTION_DAYS) -> None:
    """Creates the topics that are absent, and sets the answers' retention where it has changed."""
    from kafka import KafkaAdminClient
    from kafka.admin import ConfigResource, ConfigResourceType, NewTopic

    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        present = set(admin.list_topics())
        absent = [
            NewTopic(name=name, num_partitions=partitions, replication_factor=1, topic_configs=settings)
            for name, (partitions, settings) in topics(answers_days).items()
            if name not in present
        ]
        if absent:
            admin.create_topics(absent)
        if names.ANSWERS in present:
            kept = topics(answers_days)[names.ANSWERS][1]
            admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, names.ANSWERS, kept)])
    finally:
        admin.close()


def kafka(
    folder: Path,
    jars: Path,
    port: int,
    controller_port: int,
    answers_days: int = ANSWERS_RETENTION_DAYS,
) -> Process:
    """Defines the broker; once it is ready the topics are there."""
    configuration = folder / "server.properties"
    text = _configuration(folder, port, controller_port)
    options = ["-Xmx256m", "-XX:+UseSerialGC"]
    return Process(
        name="kafka",
        command=(java(), *options, "-cp", f"{jars}/*", "kafka.Kafka", str(configuration)),
        folder=folder,
        port=port,
        prepare=lambda: _format(folder, jars, configuration, text),
        ready=lambda: port_open(port),
        when_ready=lambda: create_topics(f"127.0.0.1:{port}", answers_days),
        stop_seconds=30,
    )
