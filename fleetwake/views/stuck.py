"""Objects that do not get on: deleted and still there, not Available or not Ready, or with a spec that nobody has acted on, for longer than is normal.

Pure: objects in, findings out. What somebody paused is not stuck.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from rich.table import Table
from rich.text import Text

from fleetwake.views.terminal import age

State = Mapping[str, Any]
SUMMARIES = ("Available", "Ready")
"""The condition that sums an object up; the first that it has."""
PAUSED, DELETING = "Paused", "Deleting"


@dataclass(frozen=True, slots=True)
class Stuck:
    """One object: what it does not do, since when, and what its controller says of it."""

    kind: str
    namespace: str
    name: str
    cluster: str
    what: str
    since: datetime
    says: str


def stuck(objects: Iterable[State], now: datetime, after: timedelta) -> tuple[Stuck, ...]:
    """The objects that have been so for longer than ``after``, in order."""
    return in_order(one for state in objects if (one := _judged(state)) is not None and now - one.since > after)


def in_order(found: Iterable[Stuck]) -> tuple[Stuck, ...]:
    """A cluster's objects together, the longest stuck first."""
    return tuple(sorted(found, key=lambda one: (one.namespace, one.cluster, one.since, one.kind, one.name)))


def _judged(state: State) -> Stuck | None:
    meta, conditions = state["metadata"], {one["type"]: one for one in _conditions(state)}
    if (conditions.get(PAUSED) or {}).get("status") == "True":
        return None
    if meta.get("deletionTimestamp"):
        return _stuck(state, "is being deleted", meta["deletionTimestamp"], conditions.get(DELETING))
    summary = next((conditions[name] for name in SUMMARIES if name in conditions), None)
    if summary is not None and summary.get("status") != "True":
        return _stuck(state, f"is not {summary['type']}", summary["lastTransitionTime"], summary)
    seen = (state.get("status") or {}).get("observedGeneration")
    if seen is not None and seen < meta.get("generation", 0) and (changed := max(_changes(meta), default="")):
        return _stuck(state, f"has generation {meta['generation']}, of which {seen} was acted on", changed, None)
    return None


def _conditions(state: State) -> Iterable[Mapping[str, Any]]:
    return (state.get("status") or {}).get("conditions") or ()


def _changes(meta: Mapping[str, Any]) -> Iterator[str]:
    """When something other than the status was written."""
    return (str(entry["time"]) for entry in meta.get("managedFields") or () if "time" in entry and entry.get("subresource") != "status")


def _stuck(state: State, what: str, since: str, condition: Mapping[str, Any] | None) -> Stuck:
    meta, spec = state["metadata"], state.get("spec") or {}
    labelled = (meta.get("labels") or {}).get("cluster.x-k8s.io/cluster-name", "")
    cluster = meta["name"] if state["kind"] == "Cluster" else spec.get("clusterName") or labelled
    told = condition or {}
    says = ": ".join(part for part in (told.get("reason", ""), " ".join(str(told.get("message", "")).split())) if part)
    return Stuck(str(state["kind"]), str(meta.get("namespace", "")), str(meta["name"]), cluster, what, datetime.fromisoformat(since), says)


def render(found: Iterable[Stuck], now: datetime) -> Table:
    """A row each."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("NAMESPACE", "OBJECT", "FOR", "WHAT"):
        table.add_column(heading, no_wrap=True)
    table.add_column("SAYS")
    for one in found:
        table.add_row(one.namespace, Text(f"{one.kind}/{one.name}", style="bold"), age(now - one.since), Text(one.what, style="red"), one.says)
    return table


def as_json(found: Iterable[Stuck]) -> list[dict[str, str]]:
    """The same for programs."""
    return [
        {
            "kind": one.kind,
            "namespace": one.namespace,
            "name": one.name,
            "cluster": one.cluster,
            "what": one.what,
            "since": one.since.isoformat(),
            "says": one.says,
        }
        for one in found
    ]
