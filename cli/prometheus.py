"""Prometheus, promtool and amtool for the tests of docker/monitoring: those on the PATH, else Debian's packages unpacked.

They are unpacked, not installed: an installed package would start a server that listens on every interface.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from cli.environments import say
from cli.places import cache

PROGRAMS = ("prometheus", "promtool", "amtool")
PACKAGES = ("prometheus", "prometheus-alertmanager")
# What a person types where they could not be had here.
MEND = "sudo apt-get update && sudo apt-get install -y prometheus prometheus-alertmanager"


def folder() -> Path:
    """Where the packages are unpacked."""
    return cache() / "prometheus"


def find() -> dict[str, Path]:
    """Program → its file, of those that are here."""
    bins = folder() / "usr" / "bin"
    found = {name: shutil.which(name, path=f"{os.environ.get('PATH', '')}:{bins}") for name in PROGRAMS}
    return {name: Path(path) for name, path in found.items() if path}


def ensure() -> dict[str, Path]:
    """All programs, fetched by apt if need be (no root needed, but for its lists). Fewer: they cannot be had; see MEND."""
    found = find()
    if len(found) == len(PROGRAMS) or not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        return found
    say("no Prometheus here: fetching Debian's (about 30 MB)")
    folder().mkdir(parents=True, exist_ok=True)
    if not _download() and os.geteuid() == 0:  # no lists yet
        subprocess.run(["apt-get", "update", "-q"], stdout=sys.stderr)
        _download()
    for package in folder().glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", str(package), str(folder())], stdout=sys.stderr)
        package.unlink()
    return find()


def _download() -> bool:
    command = ["apt-get", "download", "-q", *PACKAGES]
    return subprocess.run(command, cwd=folder(), stdout=sys.stderr).returncode == 0
