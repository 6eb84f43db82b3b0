"""`up`, `down` and `status`: the stack of this machine, seen by its user."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from types import FrameType
from typing import Annotated, Any

import psutil
import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from cli.setup import prepare
from cli.stack.layout import REPOSITORY, Layout, keep_offset, keep_replicas, layout_from
from cli.stack.profiles import PARTS
from cli.stack.supervisor import hold_lock

# Progress and tables for people go to standard error; standard output carries addresses and JSON only.
_terminal = Console(stderr=True)
# A full stack beside other work took 118 s; on a slow disk twice that. Its table shows what it waits for.
UP_SECONDS = 420.0


def read_state(layout: Layout) -> dict[str, Any] | None:
    """The supervisor's state, or None if none runs."""
    try:
        state: dict[str, Any] = json.loads((layout.run / "stack.json").read_text())
        name = " ".join(psutil.Process(state["pid"]).cmdline())
    except (FileNotFoundError, ValueError, psutil.Error):
        return None
    return state if "cli.stack.run" in name else None


def up(
    profile: Annotated[str, typer.Option(help="live: play only, no Java. full: everything.")] = "full",
    lan: Annotated[bool, typer.Option("--lan", help="Open the web door to the local network.")] = False,
    leave: Annotated[str, typer.Option("--without", help="Leave out of full: airflow,flink,questdb.")] = "",
    replicas: Annotated[
        bool,
        typer.Option(
            "--replicas", help="A replica a shard and three sentinels; the data keeps them from then on."
        ),
    ] = False,
    foreground: Annotated[
        bool, typer.Option("--foreground", help="Stay, and end everything on SIGTERM or Ctrl-C (containers).")
    ] = False,
) -> None:
    """Start the stack and return when it is ready; a second run says that it is up.

    \b
    Examples:
      ./lakeboard up                          everything
      ./lakeboard up --profile live --lan     play, also from phones on this network
    """
    if profile not in ("live", "full"):
        _terminal.print(f"profile {profile!r} is neither live nor full")
        raise typer.Exit(2)
    if unknown := set(filter(None, leave.split(","))) - PARTS.keys():
        _terminal.print(f"--without takes {', '.join(PARTS)}, not {', '.join(unknown)}")
        raise typer.Exit(2)
    layout = start(profile, lan, leave, replicas)
    if foreground:
        _stay(layout)


def _stay(layout: Layout) -> None:
    """Until a signal, which takes the stack down, or until the supervisor has ended (exit 1)."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, end)
    try:
        while read_state(layout) is not None:
            time.sleep(1)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    finally:
        state = read_state(layout)
        if state:
            _stop(layout, state)
    raise typer.Exit(1)


def start(profile: str, lan: bool = False, leave: str = "", replicas: bool = False) -> Layout:
    """What `up` does; returns the layout of the stack that is ready."""
    layout = layout_from(os.environ)
    keep_offset(layout)
    prepare(profile)
    state = read_state(layout)
    wanted = {"profile": profile, "lan": lan, "without": leave, "replicas": replicas or layout.replicas}
    if state and wanted == {name: state.get(name) for name in wanted}:
        _terminal.print(f"already up: profile {profile}, supervisor {state['pid']}")
    elif state:
        _terminal.print(f"up with profile {state['profile']}, lan {state['lan']}; changing over")
        _stop(layout, state)
        state = None
    began = time.monotonic()
    if state is None:
        if replicas:  # not before: commands take the sentinels' addresses from here on
            keep_replicas(layout)
        _spawn(layout, profile, lan, leave)
    _wait(layout)
    if time.monotonic() - began > 1:
        _terminal.print(f"ready in {time.monotonic() - began:.1f} s")
    addresses(layout, profile, lan, leave)
    return layout


def down(purge: Annotated[bool, typer.Option("--purge", help="Remove all data too.")] = False) -> None:
    """Stop the stack; the data stays unless --purge."""
    layout = layout_from(os.environ)
    state = read_state(layout)
    if state:
        with _terminal.status("stopping"):
            _stop(layout, state)
        _terminal.print("down")
    else:
        _terminal.print("not up")
    if purge:
        for folder in ("data", "run", "logs", "secrets"):
            shutil.rmtree(layout.home / folder, ignore_errors=True)
        _terminal.print(f"data, logs and secrets under {layout.home} removed")


def status(
    json_: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Show every process: health, port, memory, lag. Exit 1: not all healthy; 3: not up."""
    layout = layout_from(os.environ)
    state = read_state(layout)
    report: dict[str, Any] = {"up": state is not None, "healthy": False, "profile": None, "processes": []}
    if state:
        rows = [_measured(row, layout) for row in state["processes"]]
        report.update(
            profile=state["profile"], processes=rows, healthy=all(row["state"] == "ready" for row in rows)
        )
    if json_:
        print(json.dumps(report))
    elif state:
        Console().print(_table(report["processes"], memory=True))
    else:
        _terminal.print("not up; start it with ./lakeboard up")
    if not state:
        raise typer.Exit(3)
    if not report["healthy"]:
        raise typer.Exit(1)


def _spawn(layout: Layout, profile: str, lan: bool, leave: str) -> None:
    """Starts the supervisor in a session of its own, so that closing the terminal leaves it up."""
    lock = hold_lock(layout.run)
    if lock is None:
        _terminal.print("another ./lakeboard up or down is at work here; wait for it")
        raise typer.Exit(1)
    layout.secrets  # noqa: B018 -- made here, so that a folder that cannot be written is said at once
    os.close(lock)  # the supervisor takes it
    log = layout.log("supervisor")
    log.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "cli.stack.run", "--profile", profile, *(["--lan"] if lan else [])]
    command += ["--without", leave] if leave else []
    with log.open("ab") as output:
        child = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    while read_state(layout) is None:
        if child.poll() is not None:
            _terminal.print(f"the supervisor ended with {child.returncode}; the end of {log}:")
            _terminal.print("\n".join(log.read_text().splitlines()[-5:]), markup=False)
            raise typer.Exit(1)
        time.sleep(0.05)


def _wait(layout: Layout) -> None:
    """Shows the processes until all are ready."""
    deadline = time.monotonic() + UP_SECONDS
    with Live(console=_terminal, refresh_per_second=4, transient=True) as live:
        while True:
            state = read_state(layout)
            if state is None:
                _terminal.print(f"the supervisor ended; see {layout.log('supervisor')}")
                raise typer.Exit(1)
            rows = state["processes"]
            live.update(_table(rows, memory=False))
            if all(row["state"] == "ready" for row in rows):
                return
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
    _terminal.print(_table(rows, memory=False))
    for row in rows:
        if row["state"] != "ready":
            _terminal.print(
                f"{row['name']} is {row['state']}: {row['problem']} (log: {layout.log(row['name'])})"
            )
    raise typer.Exit(1)


def _stop(layout: Layout, state: dict[str, Any]) -> None:
    """Tells the supervisor to stop and waits for its end."""
    supervisor = psutil.Process(state["pid"])
    supervisor.send_signal(signal.SIGTERM)
    supervisor.wait(180)


def _measured(row: dict[str, Any], layout: Layout) -> dict[str, Any]:
    """Adds memory (of the process and its children) and the relay's lag to a row of the state."""
    row = {**row, "memory_mb": None, "lag_s": None}
    try:
        process = psutil.Process(row["pid"]) if row["pid"] else None
        if process:
            family = [process, *process.children(recursive=True)]
            # PSS counts a page that several processes share once; where it can't be read, the resident set.
            row["memory_mb"] = round(sum(_memory(one) for one in family) / 1e6)
    except psutil.Error:
        row["state"] = "ended"
    if row["name"] == "relay":
        row["lag_s"] = relay_lag(layout)
    return row


def _memory(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except (psutil.Error, AttributeError):
        return int(process.memory_info().rss)


def relay_lag(layout: Layout) -> float | None:
    """The relay's own figure, from its metrics port: its worst sink; None where it does not say."""
    try:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{layout.port('relay_metrics')}/metrics", timeout=2
        ) as reply:
            lines = reply.read().decode().splitlines()
    except OSError:
        return None
    figures = [
        float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("lakeboard_relay_lag_seconds")
    ]
    return max(figures, default=None)


def _table(rows: list[dict[str, Any]], memory: bool) -> Table:
    table = Table(
        "process", "health", "port", *(["memory MB", "lag s"] if memory else []), "restarts", "note"
    )
    colours = {"ready": "green", "starting": "yellow", "waiting": "dim"}
    for row in rows:
        colour = colours.get(row["state"], "red")
        cells = [row["name"], f"[{colour}]{row['state']}[/]", str(row["port"] or "")]
        if memory:
            cells += ["" if row[key] is None else str(row[key]) for key in ("memory_mb", "lag_s")]
        table.add_row(*cells, str(row["restarts"] or ""), (row["problem"] or "")[:60])
    return table


def addresses(layout: Layout, profile: str, lan: bool, leave: str = "") -> None:
    """Print where everything is and how to log in."""
    doors = {"play": "web"}
    if profile == "full":
        doors |= {"airflow": "airflow", "flink": "flink", "questdb": "questdb_http", "hdfs": "namenode_http"}
    for name, door in doors.items():
        if name not in leave.split(","):
            print(f"{name:<10}http://127.0.0.1:{layout.port(door)}")
            if name == "airflow":
                print(f"          user admin, password in {layout.home}/secrets/airflow_password")
    if lan:
        address = f"http://{lan_address()}:{layout.port('web')}"
        print(f"phones    {address}")
        print(qr_code(address))


def lan_address() -> str:
    """This machine's address on the network that has the default route; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # TEST-NET: only makes the kernel choose a source address
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


def qr_code(text: str) -> str:
    """The text as a QR code of terminal characters."""
    import segno

    out = io.StringIO()
    segno.make(text, error="m").terminal(out, compact=True)
    return out.getvalue()
