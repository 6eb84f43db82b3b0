"""Airflow: api-server, scheduler, dag-processor and triggerer on our Postgres, one user `admin`."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess

from cli.stack.layout import REPOSITORY, Layout
from cli.stack.postgres import url_of
from cli.stack.process import Process, http_ok

PARTS = ("scheduler", "dag-processor", "triggerer")


def _derived(layout: Layout, purpose: str) -> bytes:
    """A key of Airflow's own, made from its password: one secret file is enough."""
    return hashlib.sha256(f"{purpose}:{layout.secrets['airflow_password']}".encode()).digest()


def environment_of(layout: Layout) -> dict[str, str]:
    """The variables that every part of Airflow is started with."""
    folder = layout.data("airflow")
    address = f"http://127.0.0.1:{layout.port('airflow')}"
    database = url_of(layout.port("postgres"), layout.secrets["postgres_password"], "airflow")
    settings = {
        "CORE__DAGS_FOLDER": REPOSITORY / "dags",
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__EXECUTOR": "LocalExecutor",
        # A settle takes 1 to 2 GB: more than two at once would not fit a laptop.
        "CORE__PARALLELISM": 2,
        # So a task may wait for its turn behind the longest ones; after the default, 10 minutes, its token is refused
        # ("Invalid auth token") and it fails without having run.
        "SCHEDULER__TASK_QUEUED_TIMEOUT": 86_400,
        "CORE__FERNET_KEY": base64.urlsafe_b64encode(_derived(layout, "fernet")).decode(),
        "CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": folder / "passwords.json",
        "CORE__EXECUTION_API_SERVER_URL": f"{address}/execution/",
        "API__HOST": "127.0.0.1",
        "API__PORT": layout.port("airflow"),
        "API__WORKERS": 1,
        "API__BASE_URL": address,
        "API__SECRET_KEY": _derived(layout, "api").hex(),
        "API_AUTH__JWT_SECRET": _derived(layout, "jwt").hex(),
        "DATABASE__SQL_ALCHEMY_CONN": database.replace("postgresql://", "postgresql+psycopg2://"),
        "DATABASE__SQL_ALCHEMY_CONN_ASYNC": database.replace("postgresql://", "postgresql+asyncpg://"),
        # Each process keeps few connections: all parts share the server with play.
        "DATABASE__SQL_ALCHEMY_POOL_SIZE": 3,
        "LOGGING__BASE_LOG_FOLDER": folder / "logs",
        "DAG_PROCESSOR__REFRESH_INTERVAL": 30,
        "SCHEDULER__ENABLE_HEALTH_CHECK": "False",
    }
    return {
        "AIRFLOW_HOME": str(folder),
        # dags/ imports contracts.
        "PYTHONPATH": str(REPOSITORY),
        **{f"AIRFLOW__{name}": str(value) for name, value in settings.items()},
    }


def _prepare(layout: Layout, python: str, environment: dict[str, str]) -> None:
    """Writes the password file and migrates the database, once for each version of Airflow."""
    folder = layout.data("airflow")
    folder.mkdir(parents=True, exist_ok=True)
    passwords = folder / "passwords.json"
    passwords.touch(mode=0o600)
    passwords.write_text(json.dumps({"admin": layout.secrets["airflow_password"]}))
    lock = hashlib.sha256((REPOSITORY / "requirements" / "airflow.lock").read_bytes()).hexdigest()
    marker = folder / "migrated"
    if marker.exists() and marker.read_text() == lock:
        return
    command = [python, "-m", "airflow", "db", "migrate"]
    environment = {**os.environ, **environment}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, cwd=folder)
    if done.returncode:
        raise RuntimeError(f"Airflow's database can't be migrated: {(done.stderr or done.stdout)[-400:]}")
    marker.write_text(lock)


def airflow(layout: Layout, after: tuple[str, ...]) -> list[Process]:
    """Defines the four parts."""
    python = str(layout.python("airflow"))
    environment = environment_of(layout)
    folder = layout.data("airflow")
    address = f"http://127.0.0.1:{layout.port('airflow')}/api/v2/monitor/health"
    server = Process(
        name="airflow_api",
        command=(python, "-m", "airflow", "api-server"),
        folder=folder,
        port=layout.port("airflow"),
        after=after,
        environment=environment,
        prepare=lambda: _prepare(layout, python, environment),
        ready=lambda: http_ok(address),
        ready_seconds=180,
    )

    def healthy(part: str) -> bool:
        import urllib.request

        with urllib.request.urlopen(address, timeout=3) as reply:
            return bool(json.load(reply)[part.replace("-", "_")]["status"] == "healthy")

    parts = [
        Process(
            name=f"airflow_{part.replace('-', '_')}",
            # Their log servers would listen on every interface; the api-server reads the files itself.
            command=(
                python,
                "-m",
                "airflow",
                part,
                *(() if part == "dag-processor" else ("--skip-serve-logs",)),
            ),
            folder=folder,
            after=("airflow_api",),
            environment=environment,
            ready=lambda part=part: healthy(part),  # type: ignore[misc]
            ready_seconds=180,
        )
        for part in PARTS
    ]
    return [server, *parts]
