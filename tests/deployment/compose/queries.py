"""Every query of the dashboards, by the language of its data source, with Grafana's variables given values."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.deployment.compose.project import CHECKOUT

DASHBOARDS = CHECKOUT / "deploy" / "grafana" / "dashboards"
LANGUAGES = {"prometheus": "promql", "tempo": "traceql", "loki": "logql"}
DURATIONS = ("__rate_interval", "__interval", "__range", "__auto")
DURATION, ANYTHING = "5m", "demo"
VARIABLE = re.compile(r"\$\{(\w+)(?::\w+)?\}|\[\[(\w+)(?::\w+)?\]\]|\$(\w+)")
ATTRIBUTE = re.compile(r"(?<![\w.])(span|resource|event|link|instrumentation)?\.([A-Za-z_][\w.-]*)")
SELECTOR = re.compile(r"\{([^}]*)\}")
LABEL = re.compile(r"([A-Za-z_]\w*)\s*(?:=~|!~|!=|=)")
QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"|`[^`]*`')


@dataclass(frozen=True)
class Query:
    """One query: of which dashboard and panel, in which language, and its text as Grafana sends it."""

    dashboard: str
    panel: str
    language: str
    text: str

    @property
    def attributes(self) -> set[tuple[str, str]]:
        """(scope, name) of each attribute that a TraceQL query names; the scope is empty where it gives none."""
        return set(ATTRIBUTE.findall(QUOTED.sub('""', self.text)))

    @property
    def labels(self) -> set[str]:
        """The labels by which a LogQL query selects streams."""
        return {label for selector in SELECTOR.findall(QUOTED.sub('""', self.text)) for label in LABEL.findall(selector)}


def of_folder(folder: Path = DASHBOARDS) -> list[Query]:
    """The queries of all dashboards of a folder."""
    return [query for path in sorted(folder.glob("**/*.json")) for query in of_dashboard(path.stem, json.loads(path.read_text()))]


def of_dashboard(name: str, dashboard: Mapping[str, Any]) -> Iterator[Query]:
    """The queries of one dashboard: its panels', those of rows that are folded, and its annotations'."""
    values = {one["name"]: one for one in (dashboard.get("templating") or {}).get("list") or ()}
    for panel in _panels(dashboard.get("panels") or ()):
        for target in panel.get("targets") or ():
            yield from _query(name, str(panel.get("title", "")), target, target.get("datasource") or panel.get("datasource"), values)
    for annotation in (dashboard.get("annotations") or {}).get("list") or ():
        target = annotation.get("target") or annotation
        yield from _query(name, f"annotation {annotation.get('name', '')}", target, annotation.get("datasource"), values)


def _panels(panels: Any) -> Iterator[Mapping[str, Any]]:
    for panel in panels:
        yield panel
        yield from _panels(panel.get("panels") or ())


def _query(dashboard: str, panel: str, target: Mapping[str, Any], source: Any, values: Mapping[str, Any]) -> Iterator[Query]:
    found = source if isinstance(source, Mapping) else {"uid": source}
    language = LANGUAGES.get(str(found.get("uid"))) or LANGUAGES.get(str(found.get("type")))
    text = target.get("query") or target.get("expr")
    if language is not None and isinstance(text, str) and text:
        yield Query(dashboard, panel, language, filled(text, values))


def filled(text: str, values: Mapping[str, Any] = {}) -> str:
    """A query with its variables replaced: Grafana's own durations, else a variable's present value, else a word."""

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2] or found[3]
        if name in DURATIONS:
            return DURATION
        current = ((values.get(name) or {}).get("current") or {}).get("value")
        if isinstance(current, list):
            current = "|".join(map(str, current))
        return ".*" if current == "$__all" else str(current) if current else ANYTHING

    return VARIABLE.sub(value, text)
