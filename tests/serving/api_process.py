"""A real api process for tests: its own port, secrets and database, over the shared Valkey primaries."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import httpx

from cli.stack.process import free_port
from contracts.settings import Settings

ROOT = Path(__file__).parents[2]
JWT_KEY = "a test key that is long enough for HS256"
IMPORTER_KEY = "importer-test-key"


class ApiProcess:
    """`python -m serving.api` on a free port, or on one that an earlier one had; `url` is its address."""

    def __init__(
        self,
        folder: Path,
        valkey_urls: Sequence[str],
        postgres_url: str,
        lake_warehouse: str = "",
        port: int = 0,
        **changes: Any,
    ) -> None:
        """changes: other settings, by their names."""
        secrets = folder / "secrets"
        secrets.mkdir(parents=True, exist_ok=True)
        (secrets / "jwt_key").write_text(JWT_KEY)
        (secrets / "importer_key").write_text(IMPORTER_KEY)
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / f"api-{self.port}.log"
        settings = Settings(
            profile="full" if lake_warehouse else "live",
            lake_warehouse=lake_warehouse,
            cache_dir=str(folder / "cache"),
            valkey_urls=tuple(valkey_urls),
            postgres_url=postgres_url,
            secrets_dir=str(secrets),
            public_url=self.url,
            run_dir=str(folder / "run"),
            data_dir=str(folder / "data"),
            # Tests come from one address, share the shards that count, and some of them flood.
            limit_joins="",
            limit_openings="",
            limit_messages="",
            limit_logins="",
            limit_sign_ups="",
            limit_passwords="",
            limit_uploads="",
        )
        settings = replace(settings, **changes)
        self.settings = asdict(settings)
        with self.log.open("ab") as log:
            self.child = subprocess.Popen(
                [sys.executable, "-m", "serving.api", "--port", str(self.port)],
                cwd=ROOT,
                env={**os.environ, **settings.to_env()},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + 90  # two cores may be shared with engines
        while time.monotonic() < deadline and self.child.poll() is None:
            try:
                if (
                    httpx.get(self.url + "/readyz").status_code == 200
                    and len(httpx.get(self.url + "/v1/quizzes").json().get("quizzes", ())) >= 5
                ):
                    return
            except httpx.HTTPError:
                pass
            time.sleep(0.1)
        self.stop()
        raise AssertionError(f"the api is not ready:\n{self.log.read_text()[-3000:]}")

    def stop(self) -> None:
        """Ends it cleanly."""
        self.child.terminate()
        self.child.wait(15)
