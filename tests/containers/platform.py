"""Podman with storage, networks and state of a test's own, over images that are built from a base made here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from cli import containers
from cli.environments import ensure
from cli.places import ROOT, cache

BASE, IMAGE = "localhost/lakeboard-base", "localhost/lakeboard-test"
# The one whose Python is 3.11, and what the Dockerfile asks of its base.
SUITE, INCLUDED = "bookworm", "python3,python3-venv,ca-certificates"
# Of a base nobody reads these; the image would carry them.
NOT_KEPT = ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale")


def require() -> None:
    """Skips the test where a tool is missing, naming it and the command that brings it."""
    lacking = containers.missing()
    if lacking:
        pytest.skip(f"{', '.join(lacking)} not installed; run: {containers.MEND}")
    if os.geteuid():
        pytest.skip("debootstrap and networks need root: run this test as root")


class Platform:
    """Commands of podman, buildah and podman-compose over folders below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {
            **os.environ,
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "LAKEBOARD_IMAGE": IMAGE,
        }
        (folder / "containers.conf").write_text(
            # The default limits are above what a container inside a container may ask for.
            '[containers]\ndefault_ulimits = ["nofile=4096:4096", "nproc=2000:2000"]\n'
            f'[engine]\nruntime = "runc"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
            f'tmp_dir = "{folder}/tmp"\n[network]\nnetwork_backend = "netavark"\n'
            f'network_config_dir = "{folder}/networks"\n'
        )
        # vfs copies every layer and every container, but works on any file system.
        if not any(self._storage(driver) for driver in ("overlay", "vfs")):
            pytest.fail(f"podman finds no storage driver under {folder}")

    def _storage(self, driver: str) -> bool:
        (self.folder / "storage.conf").write_text(
            f'[storage]\ndriver = "{driver}"\ngraphroot = "{self.folder}/storage"\nrunroot = "{self.folder}/run"\n'
        )
        return not self._run("podman", "info").returncode

    def _run(self, *command: str, timeout: float = 900) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, env=self.env, cwd=ROOT, capture_output=True, text=True, timeout=timeout
        )

    def run(self, *command: str) -> str:
        """Standard output of a command that must succeed."""
        done = self._run(*command)
        assert 0 == done.returncode, f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
        return done.stdout.strip()

    def podman(self, *arguments: str) -> str:
        """podman's output."""
        return self.run("podman", *arguments)

    def compose(self, file: str, *arguments: str) -> None:
        """podman-compose over a file of the repository."""
        program = ensure("containers").parent / "podman-compose"
        self.run(str(program), "-f", str(ROOT / "docker" / file), *arguments)

    def inspect(self, name: str) -> dict[str, Any]:
        """What podman knows of a container."""
        found: dict[str, Any] = json.loads(self.podman("inspect", name))[0]
        return found

    def healthy(self, name: str) -> bool:
        """The container's own health check, run now: a machine without systemd runs none by itself."""
        return not self._run("podman", "healthcheck", "run", name).returncode

    def names(self) -> list[str]:
        """All containers, ended ones too."""
        return self.podman("ps", "-a", "--format", "{{.Names}}").split()

    def import_base(self) -> None:
        """A base image made by debootstrap; the archive is kept with the other things that are fetched."""
        kept = cache() / "containers" / f"{SUITE}.tar"
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            root = self.folder / "base"
            self.run("debootstrap", "--variant=minbase", f"--include={INCLUDED}", SUITE, str(root))
            for name in NOT_KEPT:
                shutil.rmtree(root / name, ignore_errors=True)
            draft = kept.with_suffix(f".{os.getpid()}")
            self.run("tar", "-C", str(root), "-cf", str(draft), ".")
            draft.replace(kept)
            shutil.rmtree(root)
        self.podman("import", str(kept), BASE)

    def build(self) -> float:
        """Builds the image; returns seconds. Certificates that this machine trusts are trusted while it is built."""
        began = time.monotonic()
        trusted = "/etc/ssl/certs"
        self.run(
            *("buildah", "bud", "--pull-never", "--isolation", "chroot", "--format", "docker"),
            *(("--volume", f"{trusted}:{trusted}:ro") if Path(trusted).exists() else ()),
            *("--build-arg", f"BASE={BASE}", "-f", "docker/Dockerfile", "-t", IMAGE, "."),
        )
        return time.monotonic() - began

    def clear(self) -> None:
        """Ends and removes every container, volume and network; images stay."""
        for command in (
            ("rm", "-af", "-t", "5"),
            ("pod", "rm", "-af"),
            ("volume", "prune", "-f"),
            ("network", "prune", "-f"),
        ):
            self._run("podman", *command)

    def close(self) -> None:
        """Ends and removes everything that was made here."""
        self.clear()
        self._run("podman", "rmi", "-af")
        # The driver mounts its own folder; while it is mounted nobody can remove it.
        for mounted in ("storage/overlay", "storage"):
            self._run("umount", str(self.folder / mounted))
        shutil.rmtree(self.folder, ignore_errors=True)
