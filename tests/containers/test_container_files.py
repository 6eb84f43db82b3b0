"""The container files hold by themselves: linters, schemas, and every name in them is one that the code knows."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.environments import ensure
from cli.places import ROOT
from cli.stack import parts
from cli.stack.layout import Layout
from contracts.settings import PREFIX, Settings

pytestmark = pytest.mark.repository
DOCKER = ROOT / "docker"
COMPOSE = sorted(DOCKER.glob("compose*.yaml"))
OVERLAYS = sorted(path.parent for path in DOCKER.glob("kubernetes/*/kustomization.yaml"))
PORTS = {
    "valkey": parts.VALKEY_PORT,
    "postgres": parts.POSTGRES_PORT,
    "api": parts.API_PORT,
    "relay": parts.RELAY_PORT,
    "gateway": parts.WEB_PORT,
}
# Variables that are no settings, and where each is read.
OTHERS = {
    "LAKEBOARD_HOME": "cli/commands/part.py",
    "LAKEBOARD_CACHE_DIR": "cli/places.py",
    "LAKEBOARD_GATEWAY_TO": "cli/stack/parts.py",
    "LAKEBOARD_API_URL": "cli/doors.py",
    "LAKEBOARD_IMAGE": "docker/compose.services.yaml",
    "LAKEBOARD_WEB_PORT": "docker/compose.services.yaml",
}


def run(program: str, *arguments: str, folder: Path = ROOT) -> str:
    """Output of a tool of the environment `containers`; it must succeed."""
    command = [str(Path(ensure("containers")).parent / program), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout


@cache
def rendered(overlay: Path) -> list[dict[str, Any]]:
    """The documents that kubectl would send."""
    return list(yaml.safe_load_all(run("kubectl", "kustomize", str(overlay))))


def pods(overlay: Path) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """(name, pod, container) of each workload."""
    for document in rendered(overlay):
        if document["kind"] in ("Deployment", "StatefulSet"):
            pod = document["spec"]["template"]["spec"]
            for container in pod["containers"]:
                yield document["metadata"]["name"], pod, container


def services() -> dict[str, dict[str, Any]]:
    """The services of separate parts, anchors resolved."""
    found: dict[str, dict[str, Any]] = yaml.safe_load((DOCKER / "compose.services.yaml").read_text())[
        "services"
    ]
    return found


def probes() -> Iterator[tuple[str, list[str]]]:
    """(part, words after probe.py) of every probe and hook."""
    for service in services().values():
        check = service.get("healthcheck", {}).get("test")
        if check:
            yield service["command"][1], check[1:]
    for overlay in OVERLAYS:
        for _, _, container in pods(overlay):
            found = [container.get(f"{kind}Probe", {}) for kind in ("startup", "liveness", "readiness")]
            found.append(container.get("lifecycle", {}).get("preStop", {}))
            for one in found:
                if "probe.py" in str(one):
                    yield container["args"][1], one["exec"]["command"]


def test_the_dockerfile_passes_its_linter() -> None:
    run("hadolint", "docker/Dockerfile")


@pytest.mark.parametrize("file", COMPOSE, ids=lambda file: file.name)
def test_a_compose_file_fits_the_schema(file: Path) -> None:
    run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", str(file))


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda overlay: overlay.name)
def test_manifests_fit_the_schemas(overlay: Path, tmp_path: Path) -> None:
    file = tmp_path / "rendered.yaml"
    file.write_text(run("kubectl", "kustomize", str(overlay)))
    run("kubernetes-validate", "--strict", "--quiet", str(file))
    run("kubernetes-validate", "--strict", "--quiet", str(DOCKER / "kubernetes/base/secret.template.yaml"))
    named = {
        path.name
        for path in overlay.glob("*.yaml")
        if path.name not in ("kustomization.yaml", "secret.template.yaml")
    }
    listed = yaml.safe_load((overlay / "kustomization.yaml").read_text())["resources"]
    assert named == {name for name in listed if name.endswith(".yaml")}


def test_every_variable_is_a_setting_or_is_read_somewhere() -> None:
    settings = {PREFIX + field.name.upper() for field in fields(Settings)}
    files = [path for path in DOCKER.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    named = {name for path in files for name in re.findall(r"\bLAKEBOARD_[A-Z_]+[A-Z]\b", path.read_text())}
    assert set() == named - settings - OTHERS.keys()
    for name, file in OTHERS.items():
        assert name in (ROOT / file).read_text(), name


def test_every_part_port_and_file_is_one_that_the_code_has() -> None:
    run_parts = [service["command"] for service in services().values()]
    run_parts += [container["args"] for overlay in OVERLAYS for _, _, container in pods(overlay)]
    assert {("part", name) for name in parts.PARTS} == {tuple(words) for words in run_parts}
    beat = str(Layout(Path("/"), Path("/")).heartbeat("relay").relative_to("/run"))
    seen = set()
    for part, (python, flags, file, what, *words) in probes():
        assert ("python3", "-IS") == (python, flags) and (ROOT / file).exists()
        seen.add((part, what))
        if what in ("http", "drain"):
            assert PORTS[part] == int(words[0]) or (part, words) == ("gateway", ["8081", "/ping"])
        elif what == "beat":
            assert f"/run/lakeboard/{beat}" == words[0]
        else:
            assert part == what
    assert {("api", "drain"), ("relay", "beat"), ("gateway", "http")} < seen
    for overlay in OVERLAYS:
        for _, _, container in pods(overlay):
            assert [PORTS[container["args"][1]]] == [port["containerPort"] for port in container["ports"]]
            http = [container.get(f"{kind}Probe", {}).get("httpGet") for kind in ("liveness", "readiness")]
            assert set(filter(None, (one and one["path"] for one in http))) <= {"/healthz", "/readyz"}


def test_the_probe_asks_at_the_ports_of_the_parts() -> None:
    text = (DOCKER / "probe.py").read_text()
    assert f"say({parts.VALKEY_PORT}," in text and f"say({parts.POSTGRES_PORT}," in text


def test_secrets_are_files_and_no_value_is_kept_here() -> None:
    template = yaml.safe_load((DOCKER / "kubernetes/base/secret.template.yaml").read_text())
    assert dict.fromkeys(parts.SECRETS, "") == template["stringData"]
    for overlay in OVERLAYS:
        assert [] == [document for document in rendered(overlay) if document["kind"] == "Secret"]
        for name, pod, container in pods(overlay):
            taken = [item["key"] for v in pod["volumes"] if "secret" in v for item in v["secret"]["items"]]
            assert set(taken) <= set(parts.SECRETS), name
            assert "secretKeyRef" not in str(container), name
    text = "".join(path.read_text() for path in (*COMPOSE, DOCKER / "kubernetes/base/addresses.env"))
    assert [] == re.findall(r"://[^/\s]*:[^/\s@]*@", text), "an address with a password"


def test_nothing_is_published_beyond_loopback() -> None:
    for file in COMPOSE:
        for name, service in yaml.safe_load(file.read_text())["services"].items():
            assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
    published = [name for name, service in services().items() if "ports" in service]
    assert ["gateway"] == published
    assert ["gateway"] == [name for name, service in services().items() if "door" in service["networks"]]
    kinds = {
        document["spec"].get("type", "ClusterIP")
        for document in rendered(OVERLAYS[0])
        if document["kind"] == "Service"
    }
    assert {"ClusterIP"} == kinds


def test_every_container_is_bounded_and_may_do_little() -> None:
    for name, service in services().items():
        assert service["read_only"] and ["ALL"] == service["cap_drop"], name
        assert {"cpus", "memory"} == service["deploy"]["resources"]["limits"].keys(), name
    for overlay in OVERLAYS:
        for name, pod, container in pods(overlay):
            allowed = container["securityContext"]
            assert pod["securityContext"]["runAsNonRoot"] and not pod["automountServiceAccountToken"], name
            assert allowed["readOnlyRootFilesystem"] and ["ALL"] == allowed["capabilities"]["drop"], name
            assert {"cpu", "memory"} == container["resources"]["requests"].keys(), name
            assert "memory" in container["resources"]["limits"], name


def test_who_is_stopped_has_the_time_that_it_takes() -> None:
    for overlay in OVERLAYS:
        for name, pod, container in pods(overlay):
            words = container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", [])
            if "drain" in words:
                assert int(words[-1]) + 10 <= pod["terminationGracePeriodSeconds"], name


def test_valkey_has_half_of_its_container() -> None:
    for name in ("valkey-1", "valkey-2"):
        service = services()[name]
        limit = service["deploy"]["resources"]["limits"]["memory"]
        assert "1g" == limit and "512" == service["environment"]["LAKEBOARD_VALKEY_MEMORY_MB"]


def test_what_the_image_holds_is_enough_for_every_part(tmp_path: Path) -> None:
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for pattern in kept:
        for path in ROOT.glob(pattern):
            files = path.rglob("*") if path.is_dir() else [path]
            for file in files:
                if file.is_file() and "__pycache__" not in file.parts:
                    copy = tmp_path / file.relative_to(ROOT)
                    copy.parent.mkdir(parents=True, exist_ok=True)
                    copy.write_bytes(file.read_bytes())
    started = (
        "import os; from serving.api import create_app; import serving.relay.run, serving.access.command\n"
        "from cli.app import build; build(); create_app({'LAKEBOARD_PROFILE': 'live'})"
    )
    env = {**os.environ, "PYTHONPATH": str(tmp_path), "LAKEBOARD_HOME": str(tmp_path / "home")}
    command = [str(ensure("live")), "-P", "-c", started]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
    assert 0 == done.returncode, done.stderr[-2000:]
