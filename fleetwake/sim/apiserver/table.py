"""Tables as ``kubectl get`` asks for them: columns per kind, cells per object, human ages.

Source: meta.k8s.io/v1 Table; columns of the built-in kinds as kubectl shows them, 1.36.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from .definitions import Column, ResourceDefinition

JsonDict = dict[str, Any]
Cell = Callable[[JsonDict], Any]
_FILTER = re.compile(r'\[\?\(@\.(\w+)\s*==\s*["\'](.*?)["\']\)\]')
_TOKEN = re.compile(r"\[\?\(@\.\w+\s*==\s*[\"'].*?[\"']\)\]|\[\d+\]|\[\*\]|[^.\[\]]+|\[[\"'].*?[\"']\]")
_ROLE = "node-role.kubernetes.io/"


def table(definition: ResourceDefinition, items: Sequence[JsonDict], metadata: JsonDict, now: datetime) -> JsonDict:
    """Return the Table of ``items``; rows carry the objects' metadata."""
    columns, cells = _columns(definition, now)
    rows = [{"cells": [cell(item) for cell in cells], "object": _partial(item)} for item in items]
    return {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "columnDefinitions": columns, "rows": rows}


def _partial(item: JsonDict) -> JsonDict:
    return {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": item["metadata"]}


def _columns(definition: ResourceDefinition, now: datetime) -> tuple[list[JsonDict], list[Cell]]:
    special = {"nodes": _NODE_COLUMNS, "pods": _POD_COLUMNS}.get(definition.resource)
    chosen: Iterable[tuple[Column, Cell]] = special if special is not None else [(column, _path_cell(column, now)) for column in definition.columns]
    headers = [_header(Column("Name", ""), "name")]
    cells: list[Cell] = [lambda obj: obj["metadata"]["name"]]
    for column, cell in chosen:
        if column.path != ".metadata.creationTimestamp" or column.name != "Age":
            headers.append(_header(column))
            cells.append(cell)
    headers.append(_header(Column("Age", "")))
    cells.append(lambda obj: age(obj["metadata"].get("creationTimestamp"), now))
    return headers, cells


def _header(column: Column, format_: str = "") -> JsonDict:
    kind = "string" if column.type == "date" else column.type
    return {"name": column.name, "type": kind, "format": format_, "description": column.path, "priority": column.priority}


def _path_cell(column: Column, now: datetime) -> Cell:
    def cell(obj: JsonDict) -> Any:
        value = at_path(obj, column.path)
        if column.type == "date":
            return age(value, now)
        return value if isinstance(value, (str, int, float, bool)) else ("" if value is None else str(value))

    return cell


def at_path(obj: Any, path: str) -> Any:
    """Return the first value at a simple JSONPath (fields, indexes, one equality filter), None when there is none."""
    value = obj
    for token in _TOKEN.findall(path):
        if value is None:
            return None
        condition = _FILTER.match(token)
        if condition is not None:
            value = next((item for item in value if str(item.get(condition[1])) == condition[2]), None)
        elif token.startswith("[") and isinstance(value, list):
            index = 0 if token == "[*]" else int(token[1:-1])
            value = value[index] if index < len(value) else None
        else:
            value = value.get(token.strip("[]\"'").replace("\\", "")) if isinstance(value, dict) else None
    return value


def age(timestamp: Any, now: datetime) -> str:
    """Return how long ago a timestamp was, as kubectl prints it: ``45s``, ``12m``, ``5h``, ``3d``."""
    if not isinstance(timestamp, str):
        return "<unknown>"
    passed = max(timedelta(0), now - datetime.fromisoformat(timestamp.replace("Z", "+00:00")))
    seconds = int(passed.total_seconds())
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "m"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds // unit}{name}"
    return f"{seconds // 86400}d"


def _node_status(node: JsonDict) -> str:
    ready = at_path(node, '.status.conditions[?(@.type=="Ready")].status')
    words = ["Ready" if ready == "True" else "NotReady" if ready == "False" else "Unknown"]
    if node.get("spec", {}).get("unschedulable"):
        words.append("SchedulingDisabled")
    return ",".join(words)


def _node_roles(node: JsonDict) -> str:
    roles = sorted(label.removeprefix(_ROLE) for label in node["metadata"].get("labels") or {} if label.startswith(_ROLE))
    return ",".join(roles) or "<none>"


def _pod_ready(pod: JsonDict) -> str:
    statuses = pod.get("status", {}).get("containerStatuses", ())
    return f"{sum(1 for status in statuses if status.get('ready'))}/{len(pod.get('spec', {}).get('containers', ()))}"


def _pod_status(pod: JsonDict) -> str:
    return "Terminating" if "deletionTimestamp" in pod["metadata"] else str(pod.get("status", {}).get("phase", "Unknown"))


def _at(path: str) -> Cell:
    return lambda obj: at_path(obj, path) or "<none>"


_NODE_COLUMNS: tuple[tuple[Column, Cell], ...] = (
    (Column("Status", ""), _node_status),
    (Column("Roles", ""), _node_roles),
    (Column("Version", ""), _at(".status.nodeInfo.kubeletVersion")),
    (Column("Internal-IP", "", priority=1), _at('.status.addresses[?(@.type=="InternalIP")].address')),
)
_POD_COLUMNS: tuple[tuple[Column, Cell], ...] = (
    (Column("Ready", ""), _pod_ready),
    (Column("Status", ""), _pod_status),
    (Column("Restarts", "", "integer"), lambda pod: sum(status.get("restartCount", 0) for status in pod.get("status", {}).get("containerStatuses", ()))),
    (Column("IP", "", priority=1), _at(".status.podIP")),
    (Column("Node", "", priority=1), _at(".spec.nodeName")),
)
