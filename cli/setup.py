"""Everything a profile or a command needs on disk, made before its processes start."""

from __future__ import annotations

import os

from cli.environments import ensure
from cli.jars import ensure_jars
from cli.java import java_home

# What the daemons and jobs of a profile run on: environments and groups of jars.
PROFILES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "live": (("live",), ()),
    "full": (("main", "flink", "airflow"), ("kafka", "hadoop", "spark", "flink", "questdb")),
}


def prepare(profile: str) -> None:
    """Makes the environments and fetches the jars of a profile, where they are not there; sets JAVA_HOME for children.

    Raises EnvironmentFailed, JarsFailed: both say what to do.
    """
    environments, jars = PROFILES[profile]
    for name in environments:
        ensure(name)
    if jars:
        os.environ["JAVA_HOME"] = str(java_home())
        ensure_jars(*jars)
