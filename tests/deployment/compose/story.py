"""A cluster's story, rebuilt from the file into which the OpenTelemetry Collector wrote its spans, and from nothing else.

The hops of one change, each a span whose parent is the hop before it:

    intent            a change that nobody of ours made; the root of a trace
    watch K           the watcher reads the change of an object of kind K          parent: the intent, or the request that made the change
    objects process   a worker takes the record                                    parent: watch K of that object
    reconcile K       a run                                                        parent: the record or the run that woke it, or the intent
    <verb> K          a request of that run                                        parent: the run
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

INTENT, WATCH, PROCESS, RECONCILE, REQUEST = "intent", "watch", "process", "reconcile", "request"
PARENTS: Mapping[str, frozenset[str]] = {
    INTENT: frozenset({""}),
    WATCH: frozenset({INTENT, REQUEST, RECONCILE}),
    PROCESS: frozenset({WATCH}),
    RECONCILE: frozenset({PROCESS, RECONCILE, INTENT}),
    REQUEST: frozenset({RECONCILE}),
}
SPAN_KINDS: Mapping[str, str] = {INTENT: "internal", WATCH: "producer", PROCESS: "consumer", RECONCILE: "internal", REQUEST: "client"}
OTLP_KINDS = {1: "internal", 2: "server", 3: "client", 4: "producer", 5: "consumer"}


@dataclass(frozen=True)
class Told:
    """One span of the file. Times are Unix nanoseconds; ids are hex, ``parent`` is empty for a root."""

    trace: str
    span: str
    parent: str
    name: str
    kind: str
    started: int
    ended: int
    resource: Mapping[str, Any]
    attributes: Mapping[str, Any]
    links: tuple[tuple[str, str], ...] = ()
    scope: str = "fleetwake"

    @property
    def hop(self) -> str:
        """Which hop it is, empty for a span of an instrumented library."""
        if self.scope != "fleetwake":
            return ""
        first = self.name.split()[0]
        return {"intent": INTENT, "watch": WATCH, "objects": PROCESS, "reconcile": RECONCILE}.get(first, REQUEST)

    @property
    def about(self) -> str:
        """The kind of object it is about."""
        if self.hop in (PROCESS, RECONCILE, WATCH):
            return str(self.attributes["k8s.object.kind"])
        return self.name.split()[-1]


def read(file: Path) -> list[Told]:
    """Every span of a file of OTLP JSON, one export a line; half a last line is none."""
    lines = file.read_text().splitlines(keepends=True)
    return [span for line in lines if line.endswith("\n") for span in _spans(json.loads(line))]


def _spans(export: Mapping[str, Any]) -> Iterable[Told]:
    for group in export.get("resourceSpans", ()):
        resource = _plain(group["resource"].get("attributes", ()))
        for scope in group["scopeSpans"]:
            for raw in scope["spans"]:
                yield Told(
                    raw["traceId"],
                    raw["spanId"],
                    raw.get("parentSpanId", ""),
                    raw["name"],
                    OTLP_KINDS[raw["kind"]],
                    int(raw["startTimeUnixNano"]),
                    int(raw["endTimeUnixNano"]),
                    resource,
                    _plain(raw.get("attributes", ())),
                    tuple((link["traceId"], link["spanId"]) for link in raw.get("links", ())),
                    scope.get("scope", {}).get("name", ""),
                )


def _plain(attributes: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    return {item["key"]: next(iter(item["value"].values()), None) for item in attributes}


@dataclass
class Story:
    """All spans of the file, and what does not hold of them."""

    spans: list[Told]
    by_id: dict[tuple[str, str], Told] = field(init=False)

    def __post_init__(self) -> None:
        self.by_id = {(one.trace, one.span): one for one in self.spans}

    def parent(self, span: Told) -> Told | None:
        """The span that caused it, None for a root or an orphan."""
        return self.by_id.get((span.trace, span.parent))

    def way(self, span: Told) -> list[Told]:
        """The span and all that led to it, up to the root."""
        found = [span]
        while (before := self.parent(found[-1])) is not None:
            found.append(before)
        return found

    def of_hop(self, hop: str) -> dict[str, list[Told]]:
        """The spans of one hop by the kind of object they are about."""
        found: dict[str, list[Told]] = defaultdict(list)
        for one in self.spans:
            if one.hop == hop:
                found[one.about].append(one)
        return found

    # ---- what must not be -------------------------------------------------------------------------------------------------------------
    def doubled(self) -> list[str]:
        """Spans whose id another has."""
        seen: dict[tuple[str, str], int] = defaultdict(int)
        for one in self.spans:
            seen[one.trace, one.span] += 1
        return [f"{trace}/{span} {count} times" for (trace, span), count in seen.items() if count > 1]

    def orphans(self) -> list[str]:
        """Spans that name a parent that is not in the file."""
        return [_line(one) for one in self.spans if one.parent and self.parent(one) is None]

    def dangling(self) -> list[str]:
        """Links to spans that are not in the file."""
        return [f"{_line(one)} links to {link[1]}" for one in self.spans for link in one.links if link not in self.by_id]

    def skewed(self) -> list[str]:
        """Spans that begin before what caused them, or end before they begin.

        All processes read one clock, so nothing is allowed for: an effect that is a nanosecond older than its cause is a fault of ours. How long a cause
        lasts says nothing: a record is taken while the answer to the request that made it is still on its way.
        """
        found = [f"{_line(one)} ends {one.started - one.ended} ns before it begins" for one in self.spans if one.ended < one.started]
        for one in self.spans:
            before = self.parent(one)
            if before is not None and one.started < before.started:
                found.append(f"{_line(one)} begins {before.started - one.started} ns before {_line(before)}")
        return found

    def out_of_order(self) -> list[str]:
        """Hops whose parent is not the hop that comes before them, and kinds of span that do not say what the hop is."""
        found = []
        for one in self.spans:
            before = self.parent(one)
            if one.hop and (before.hop if before is not None else "") not in PARENTS[one.hop]:
                found.append(f"{_line(one)} after {_line(before) if before is not None else 'nothing'}")
            if one.hop and one.kind != SPAN_KINDS[one.hop]:
                found.append(f"{_line(one)} is of kind {one.kind}")
        return found


def _line(span: Told) -> str:
    return (
        f"{span.name} [{span.span} of {span.resource.get('service.name')}, {span.attributes.get('k8s.object.name') or span.attributes.get('k8s.object') or ''}]"
    )
