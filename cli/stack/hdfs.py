"""HDFS: NameNode and DataNode from jars.

Iceberg's metadata keeps absolute paths, so the NameNode's port stays the same for the life of the data folder.
"""

from __future__ import annotations

import json
import subprocess
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from cli.stack.java import hadoop_xml, java, write_if_changed
from cli.stack.process import Process

_NAMENODE = "org.apache.hadoop.hdfs.server.namenode.NameNode"
_DATANODE = "org.apache.hadoop.hdfs.server.datanode.DataNode"

# One DataNode holds one copy; a file that asks for three stays under-replicated for ever.
_CLIENT = {"dfs.replication": 1}


@dataclass(frozen=True)
class HdfsPorts:
    """The doors of both daemons."""

    namenode: int
    namenode_http: int
    datanode: int
    datanode_http: int
    datanode_ipc: int


def client_configuration(folder: Path) -> Path:
    """The HADOOP_CONF_DIR of whoever writes to this HDFS: the number of copies is the writer's choice, 3 if it has none."""
    return folder / "client"


def _write_configuration(folder: Path, ports: HdfsPorts) -> None:
    host = "127.0.0.1"
    core = {"fs.defaultFS": f"hdfs://{host}:{ports.namenode}", "hadoop.tmp.dir": folder / "tmp"}
    site = {
        "dfs.namenode.name.dir": f"file://{folder}/name",
        "dfs.datanode.data.dir": f"file://{folder}/blocks",
        "dfs.namenode.rpc-address": f"{host}:{ports.namenode}",
        "dfs.namenode.rpc-bind-host": host,
        "dfs.namenode.http-address": f"{host}:{ports.namenode_http}",
        "dfs.namenode.http-bind-host": host,
        "dfs.datanode.address": f"{host}:{ports.datanode}",
        "dfs.datanode.http.address": f"{host}:{ports.datanode_http}",
        "dfs.datanode.ipc.address": f"{host}:{ports.datanode_ipc}",
        "dfs.datanode.hostname": host,
        **_CLIENT,
        "dfs.namenode.datanode.registration.ip-hostname-check": "false",
        "dfs.namenode.safemode.extension": 0,
        # One user on one machine, loopback only: permissions would only make Airflow's tasks fail.
        "dfs.permissions.enabled": "false",
        # The default reserves nothing; a full disk must stop writers before it stops the daemons.
        "dfs.datanode.du.reserved": 1_000_000_000,
        "dfs.webhdfs.enabled": "true",
    }
    write_if_changed(folder / "conf" / "core-site.xml", hadoop_xml(core))
    write_if_changed(folder / "conf" / "hdfs-site.xml", hadoop_xml(site))
    write_if_changed(client_configuration(folder) / "hdfs-site.xml", hadoop_xml(_CLIENT))


def _prepare_namenode(folder: Path, ports: HdfsPorts, class_path: str) -> None:
    _write_configuration(folder, ports)
    if (folder / "name" / "current" / "VERSION").exists():
        return
    command = [java(), "-cp", class_path, _NAMENODE, "-format", "-nonInteractive", "-force"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the NameNode can't be formatted: {(done.stderr or done.stdout)[-400:]}")


def _bean(port: int, query: str) -> dict[str, object]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/jmx?qry={query}", timeout=3) as reply:
        beans = json.load(reply)["beans"]
    return dict(beans[0]) if beans else {}


def hdfs(folder: Path, jars: Path, ports: HdfsPorts) -> tuple[Process, Process]:
    """Defines NameNode and DataNode; the second is ready when the first counts it and has left safe mode."""
    # Both daemons die without webapps/ on the class path: it lies beside the jars.
    class_path = f"{folder}/conf:{jars}:{jars}/*"
    options = (
        "-Xmx256m",
        "-XX:+UseSerialGC",
        f"-Dhadoop.log.dir={folder}/logs",
        "-Djava.net.preferIPv4Stack=true",
    )

    def registered() -> bool:
        bean = _bean(ports.namenode_http, "Hadoop:service=NameNode,name=FSNamesystemState")
        return bean.get("NumLiveDataNodes") == 1 and bean.get("FSState") == "Operational"

    namenode = Process(
        name="namenode",
        command=(java(), *options, "-cp", class_path, _NAMENODE),
        folder=folder,
        port=ports.namenode,
        prepare=lambda: _prepare_namenode(folder, ports, class_path),
        ready=lambda: bool(_bean(ports.namenode_http, "Hadoop:service=NameNode,name=FSNamesystemState")),
        stop_seconds=20,
    )
    datanode = Process(
        name="datanode",
        command=(java(), *options, "-cp", class_path, _DATANODE),
        folder=folder,
        port=ports.datanode,
        after=("namenode",),
        ready=registered,
        stop_seconds=20,
    )
    return namenode, datanode
