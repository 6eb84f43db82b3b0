"""The series that rules and dashboards ask Prometheus for, by name."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from cli.places import ROOT

FOLDER = ROOT / "docker" / "monitoring"
_OURS = re.compile(r"\b(?:lakeboard_\w+|lakeboard:\w+(?::\w+)*|traefik_\w+|up)\b")
_LABEL_VALUES = re.compile(r'"[^"]*"')


def names_in(expression: str) -> set[str]:
    """The metrics of an expression of PromQL."""
    return set(_OURS.findall(_LABEL_VALUES.sub('""', expression)))


def rules() -> list[dict[str, Any]]:
    """All recording and alerting rules."""
    groups = [yaml.safe_load(file.read_text())["groups"] for file in (FOLDER / "rules").glob("*.yml")]
    return [rule for found in groups for group in found for rule in group["rules"]]


def panels(kind: str) -> list[tuple[Path, dict[str, Any], dict[str, Any]]]:
    """(dashboard's file, panel, target) of every query whose datasource is of a kind: prometheus, grafana-postgresql-…"""
    found = []
    for file in sorted((FOLDER / "grafana" / "dashboards").glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel.get("targets", ()):
                if target["datasource"]["type"] == kind:
                    found.append((file, panel, target))
    return found


def named_series() -> set[str]:
    """All that rules and dashboards name, and what rules record."""
    expressions = [rule["expr"] for rule in rules()] + [rule.get("record", "") for rule in rules()]
    expressions += [target["expr"] for _, _, target in panels("prometheus")]
    return set().union(*map(names_in, expressions))
