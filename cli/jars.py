"""The jars, fetched by the Apache Ivy that the pyspark wheel ships, from pinned module lists and checked by SHA-256.

`cli/jar_lists/GROUP.xml` pins the modules, `GROUP.sha256` the sum of every file that they bring; neither names a
host. A group is finished when its mark `.ready` holds the hash of its sums: a cut download is made again, a changed
list too, and a second run does no work.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import zipfile
from pathlib import Path

from cli.environments import ensure, locked, say
from cli.java import java_command
from cli.places import ROOT, cache

LISTS = ROOT / "cli" / "jar_lists"
GROUPS = ("kafka", "hadoop", "spark", "flink", "questdb")
# What each is for, for the progress line.
SIZES = {"kafka": "43 MB", "hadoop": "66 MB", "spark": "60 MB", "flink": "9 MB", "questdb": "29 MB"}


class JarsFailed(Exception):
    """A group of jars could not be fetched, or a file is not the one that was pinned."""


def folder_of(group: str) -> Path:
    """Where a group's jars lie, fetched or not; on a class path write `FOLDER/*` (hadoop: the folder itself too)."""
    return cache() / "jars" / group


def is_ready(group: str) -> bool:
    """Whether the group is there by the present list."""
    mark = folder_of(group) / ".ready"
    return mark.exists() and mark.read_text().strip() == _digest(group)


def ensure_jars(*groups: str) -> dict[str, Path]:
    """Fetches the groups that are not there; returns the folder of each. No work for those that are.

    Raises JarsFailed (a file differs from its sum, or Ivy could not fetch), KeyError for an unknown group.
    """
    for group in groups:
        if group not in GROUPS:
            raise KeyError(f"no jar group {group!r}; there are {', '.join(GROUPS)}")
        folder = folder_of(group)
        if is_ready(group):
            continue
        folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder.parent / f".{group}.lock", f"the jars {group}"):
            if not is_ready(group):
                _fetch(group, folder)
    return {group: folder_of(group) for group in groups}


def sums_of(group: str) -> dict[str, str]:
    """File name → SHA-256, as checked in."""
    lines = (LISTS / f"{group}.sha256").read_text().splitlines()
    return {name: digest for digest, name in (line.split() for line in lines if line)}


def _digest(group: str) -> str:
    return hashlib.sha256((LISTS / f"{group}.sha256").read_bytes()).hexdigest()


def _fetch(group: str, folder: Path) -> None:
    say(f"fetching the jars {group} ({SIZES[group]})")
    draft = Path(tempfile.mkdtemp(prefix=f".{group}.", dir=folder.parent))
    try:
        retrieve(group, draft)
        _check(group, draft)
        if group == "hadoop":
            _unpack_webapps(draft)
        (draft / ".ready").write_text(_digest(group) + "\n")
        draft.chmod(0o755)
        # Renamed into place whole. An older folder goes first: nothing of a changed list may stay on the class path.
        shutil.rmtree(folder, ignore_errors=True)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    say(f"jars {group} ready: {len(sums_of(group))} files, every sum right")


def retrieve(group: str, folder: Path) -> None:
    """Lets Ivy put every jar of the group's module list into `folder`, unchecked."""
    found = list(ensure("main").parent.parent.glob("lib/python*/site-packages/pyspark/jars/ivy-*.jar"))
    if not found:
        raise JarsFailed("pyspark's jars hold no ivy-*.jar; its wheel has changed")
    command = [*java_command(), "-jar", str(found[0]), "-cache", str(cache() / "ivy")]
    command += ["-ivy", str(LISTS / f"{group}.xml"), "-confs", "default"]
    command += ["-retrieve", f"{folder}/[artifact]-[revision](-[classifier]).[ext]"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise JarsFailed(f"Ivy could not fetch the jars {group}:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")


def _check(group: str, folder: Path) -> None:
    wanted = sums_of(group)
    found = {path.name: _sum(path) for path in folder.glob("*.jar")}
    wrong = sorted(name for name in wanted if found.get(name) != wanted[name])
    extra = sorted(set(found) - set(wanted))
    if wrong or extra:
        raise JarsFailed(
            f"jars {group}: missing or with another SHA-256 than pinned: {wrong or 'none'}; "
            f"not on the list: {extra or 'none'}. Nothing was installed. Remove {cache() / 'ivy'} and try again; "
            "if it stays, the repository serves other files than those pinned."
        )


def _sum(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _unpack_webapps(folder: Path) -> None:
    # NameNode and DataNode die without webapps/ on the class path, and the release jar has none: the tests jar has.
    for jar in folder.glob("hadoop-hdfs-*-tests.jar"):
        with zipfile.ZipFile(jar) as archive:
            archive.extractall(folder, [name for name in archive.namelist() if name.startswith("webapps/")])
        # Its classes are tests; left on the class path they would only cost.
        os.remove(jar)
    if not (folder / "webapps" / "hdfs").is_dir():
        raise JarsFailed("the hadoop-hdfs tests jar holds no webapps/hdfs")
