"""How files are kept: sizes, docstrings, empty package files, plain names, a kind on every test."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cli.places import ROOT

pytestmark = pytest.mark.repository
MOST_LINES = 500
MOST_FUNCTION_LINES = 70
KINDS = "unit or property or service or engine or end_to_end or faults or browser or repository"
VAGUE = {"utils", "util", "helpers", "common", "manager", "process_data", "misc"}


def tracked(*suffixes: str) -> list[Path]:
    """Files of the repository by suffix; those of the tree where there is no git."""
    done = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    paths = [ROOT / line for line in done.stdout.splitlines()]
    return [path for path in paths if path.is_file() and (not suffixes or path.suffix in suffixes)]


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_no_file_is_longer_than_the_limit() -> None:
    code = tracked(".py", ".lua", ".sql", ".js", ".css", ".html", ".sh")
    assert [_name(path) for path in code if len(path.read_text().splitlines()) > MOST_LINES] == []


def test_each_decision_has_a_number_of_its_own_and_says_it() -> None:
    records = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    numbers = [record.name[:4] for record in records]
    assert sorted(set(numbers)) == numbers
    assert [] == [
        _name(record) for record in records if not record.read_text().startswith(f"# {record.name[:4]}: ")
    ]


def test_no_function_is_longer_than_a_screen() -> None:
    too_long = []
    for path in tracked(".py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                if lines > MOST_FUNCTION_LINES:
                    too_long.append(f"{_name(path)}:{node.name} {lines}")
    assert too_long == []


def test_modules_have_a_docstring_and_package_files_are_empty() -> None:
    modules = [path for path in tracked(".py") if path.name != "__init__.py"]
    assert [_name(path) for path in modules if not ast.get_docstring(ast.parse(path.read_text()))] == []
    packages = [path for path in tracked(".py") if path.name == "__init__.py"]
    # `import lake` is what an analyst types; its names load lazily (tests/lake/test_analyst.py).
    assert [_name(path) for path in packages if path.read_text().strip()] == ["lake/__init__.py"]
    assert not (ROOT / "docker" / "__init__.py").exists(), "would shadow the docker client"


def test_no_vague_or_shadowing_names() -> None:
    names = {part for path in tracked() for part in path.relative_to(ROOT).with_suffix("").parts}
    assert names & VAGUE == set()
    # A script's folder comes first on its path: these would be imported in the library's place.
    scripts = {
        path.stem for room in ("spark_jobs", "flink_jobs", "dags") for path in (ROOT / room).glob("*.py")
    }
    libraries = set(sys.stdlib_module_names) | {"kafka", "redis", "pyspark", "pyflink", "airflow"}
    assert scripts & libraries == set()


def test_no_path_of_one_machine_is_written_down() -> None:
    # Split, so that this file does not find itself.
    pattern = re.compile("/" + r"(root|home/[a-z]+|work)/[A-Za-z.]")
    found = [
        f"{_name(path)}:{number}"
        for path in tracked(
            ".py", ".md", ".toml", ".sh", ".sql", ".lua", ".xml", ".in", ".lock", ".yml", ".yaml"
        )
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if pattern.search(line)
    ]
    assert found == []


def test_every_test_has_a_kind() -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--collect-only",
        "-q",
        "-m",
        f"not ({KINDS})",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    # 5: nothing is left without a kind.
    assert done.returncode == 5, done.stdout[-3000:] + done.stderr[-1000:]
