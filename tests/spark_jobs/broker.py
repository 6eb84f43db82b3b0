"""A broker of its own, whose topics are emptied between tests, for engine tests that feed records straight into `answers.v1`."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from kafka import KafkaAdminClient, KafkaProducer

from cli.stack.kafka import create_topics
from contracts import names
from contracts.identity import answers_partition
from serving.relay.table_loop import CORRECTIONS, ENROLMENTS, TableLoop, TableOutbox
from tests.services.daemons import start_kafka


class Broker:
    """A running broker with the topics of the answers; `bootstrap` is its address."""

    def __init__(self, folder: Path) -> None:
        self._daemon = start_kafka(folder)
        self.bootstrap = self._daemon.url

    def empty_topics(self) -> None:
        """Delete the topics and make them again."""
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        emptied = [names.ANSWERS, names.DEAD_LETTERS, names.CORRECTIONS, names.ENROLMENTS, names.SKETCHES]
        admin.delete_topics(emptied)
        for _ in range(100):
            if not set(emptied) & set(admin.list_topics()):
                break
            time.sleep(0.1)
        admin.close()
        create_topics(self.bootstrap)

    def send(self, records: list[tuple[str, str, int, int, bytes]]) -> None:
        """Send (type, user_id, shard, seq, bytes); barriers go to partition 0 as the relay does it."""
        producer = KafkaProducer(bootstrap_servers=self.bootstrap, linger_ms=20)
        for kind, user_id, shard, seq, value in records:
            headers = [
                (names.HEADER_TYPE, kind.encode()),
                (names.HEADER_SHARD, str(shard).encode()),
                (names.HEADER_SEQ, str(seq).encode()),
            ]
            partition = answers_partition(user_id) if user_id else 0
            producer.send(
                names.ANSWERS, key=user_id.encode() or None, value=value, headers=headers, partition=partition
            )
        producer.flush()
        producer.close()

    def send_corrections(self, postgres_url: str) -> None:
        """Send what Postgres has decided, as the relay does."""
        self._send_table(CORRECTIONS, postgres_url)

    def send_enrolments(self, postgres_url: str) -> None:
        """Send who has enrolled, as the relay does."""
        self._send_table(ENROLMENTS, postgres_url)

    def _send_table(self, table: TableOutbox, postgres_url: str) -> None:
        loop = TableLoop(table, postgres_url, self.bootstrap, threading.Event())
        while loop.step():
            pass
        loop.stop_leading()

    def kill(self) -> None:
        """As a power cut would."""
        self._daemon.kill()

    def start(self) -> None:
        """Again, on the same port and files."""
        self._daemon.start()

    def stop(self) -> None:
        self._daemon.stop()
