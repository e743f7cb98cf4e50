"""Every query of every dashboard, as committed, with Grafana's variables filled in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/grafana/dashboards"
VARIABLE = re.compile(r"\$(?:\{(\w+)(?::\w+)?\}|(\w+))")
RATE_INTERVAL = "10s"
"""Of a scrape a second."""


@dataclass(frozen=True)
class Query:
    """One query of a panel; ``source`` is the data source's uid."""

    dashboard: str
    panel: str
    source: str
    text: str

    def filled(self, values: Mapping[str, str]) -> str:
        """The query with its variables' values.

        Raises:
            KeyError: it uses a variable that has none.
        """
        known = {"__rate_interval": RATE_INTERVAL, **values}
        return VARIABLE.sub(lambda found: known[found.group(1) or found.group(2)], self.text)

    def __str__(self) -> str:
        return f"{self.dashboard} / {self.panel}: {self.text}"


def documents() -> dict[str, dict[str, Any]]:
    """The dashboards by file name without its ending."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def panels(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The panels of a dashboard, headings left out."""
    return (panel for panel in document["panels"] if panel["type"] != "row")


def queries(source: str) -> list[Query]:
    """Every query of a data source, in the order of panels."""
    found = []
    for name, document in documents().items():
        for panel in panels(document):
            for target in panel["targets"]:
                if target["datasource"]["uid"] == source:
                    found.append(Query(name, panel["title"], source, target.get("expr") or target["query"]))
    return found
