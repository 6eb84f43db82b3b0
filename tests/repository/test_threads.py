"""A class that is a thread keeps the thread's own attributes: one that replaces `_bootstrap` cannot even start."""

from __future__ import annotations

import ast
import threading
from collections.abc import Iterator

import pytest

from cli.places import ROOT

pytestmark = pytest.mark.repository
ROOMS = ("serving", "cli", "benchmarks", "lake", "flink_jobs", "spark_jobs")
# What a thread's maker may say after it was made.
SETTABLE = {"name", "daemon"}
# Its methods, and what its __init__ keeps: the rest is the interpreter's.
OWN = (
    (set(dir(threading.Thread)) | set(vars(threading.Thread())))
    - SETTABLE
    - {"run", "start", "join", "__init__"}
)


def threads() -> Iterator[tuple[str, ast.ClassDef]]:
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef) and any(
                    ast.unparse(base) in ("threading.Thread", "Thread") for base in node.bases
                ):
                    yield f"{path.relative_to(ROOT)}:{node.name}", node


def test_no_thread_replaces_what_makes_it_one() -> None:
    found = dict(threads())
    assert "serving/relay/run.py:RelayLoop" in found
    for name, node in found.items():
        replaced = {
            target.attr
            for target in ast.walk(node)
            if isinstance(target, ast.Attribute)
            and isinstance(target.ctx, ast.Store)
            and isinstance(target.value, ast.Name)
            and target.value.id == "self"
        }
        replaced |= {one.name for one in node.body if isinstance(one, ast.FunctionDef)}
        assert not replaced & OWN - {"__init__", "__repr__"}, name
