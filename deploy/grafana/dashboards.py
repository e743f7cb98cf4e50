"""The dashboards as Grafana's JSON: every dashboard, its panels numbered in reading order so that links to them stay."""

from __future__ import annotations

import json
from typing import Any

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from deploy.grafana import cluster, fleet, pipeline, slow

DASHBOARDS = (fleet, cluster, pipeline, slow)
SCHEMA_VERSION = 39
"""Of dashboard JSON; Grafana 10.1 and later read it and bring it up to their own."""


def rendered() -> dict[str, str]:
    """The generated files, relative to the project's root."""
    return {f"deploy/grafana/dashboards/{module.__name__.rpartition('.')[2]}.json": _text(module.dashboard()) for module in DASHBOARDS}


def _text(builder: Any) -> str:
    made = builder.build()
    made.schema_version = SCHEMA_VERSION
    for number, panel in enumerate(made.panels, 1):
        panel.id_val = number
    return json.dumps(made, cls=JSONEncoder, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
