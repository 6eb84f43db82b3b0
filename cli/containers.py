"""What the tests of containers run on: podman and buildah with what they need, installed by apt where that can be done."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from cli.environments import say

# Package → the file by which it is known to be there. debootstrap makes the base image: none is pulled.
PACKAGES = {
    "podman": "podman",
    "buildah": "buildah",
    "runc": "runc",
    "debootstrap": "debootstrap",
    "iptables": "iptables",
    "netavark": "/usr/lib/podman/netavark",
    "aardvark-dns": "/usr/lib/podman/aardvark-dns",
}
# What a person types where nothing could be installed here.
MEND = f"sudo apt-get update && sudo apt-get install -y --no-install-recommends {' '.join(PACKAGES)}"


def missing() -> list[str]:
    """The packages that are not here."""
    return [name for name, file in PACKAGES.items() if not (Path(file).exists() or shutil.which(file))]


def ensure() -> list[str]:
    """Installs what is missing, by apt as root; returns what still is: see MEND."""
    if missing() and os.geteuid() == 0 and shutil.which("apt-get"):
        say(f"no {', '.join(missing())} here: installing Debian's")
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for arguments in (
            ["update", "-q"],
            ["install", "-q", "-y", "--no-install-recommends", *missing()],
        ):
            if subprocess.run(["apt-get", *arguments], env=env, stdout=sys.stderr).returncode:
                break
    return missing()
