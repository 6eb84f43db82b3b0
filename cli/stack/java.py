"""What the Java daemons share: the program, class paths, Hadoop's configuration files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from xml.sax.saxutils import escape


def java() -> str:
    """Returns the java program: JAVA_HOME's, else the one on the PATH."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=f"{home}/bin") if home else shutil.which("java")
    if not found:
        raise FileNotFoundError("java is neither in JAVA_HOME nor on the PATH; run ./lakeboard doctor")
    return found


def properties(values: Mapping[str, object]) -> str:
    """Renders a Java properties file."""
    return "".join(f"{key}={value}\n" for key, value in values.items())


def hadoop_xml(values: Mapping[str, object]) -> str:
    """Renders a Hadoop configuration file."""
    rows = "".join(
        f"<property><name>{escape(key)}</name><value>{escape(str(value))}</value></property>\n"
        for key, value in values.items()
    )
    return f"<configuration>\n{rows}</configuration>\n"


def write_if_changed(path: Path, text: str) -> None:
    """Writes a generated file; one that is the same already keeps its time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
