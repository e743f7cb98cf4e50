"""The tree of one Cluster: its infrastructure, control plane, workers and Machines, with what each says of itself.

Layout after ``clusterctl describe cluster`` (Cluster API v1.14, contract v1beta2): one row per object, Machines in the same state as one row.
Pure: objects in, rows out.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from fleetwake.views.terminal import age

State = Mapping[str, Any]

NAMES_MAX = 3
MESSAGE_LINES_MAX = 8
CONDITION_INDENT = 8
COLORS = {"True": "green", "False": "red", "Unknown": "yellow"}
NEGATIVE = frozenset({"RollingOut", "ScalingUp", "ScalingDown", "Remediating", "Deleting", "Paused", "Updating", "HealthCheckFailed"})
"""Condition types for which False is the good answer. Source: kinds.md §0.2 (negative polarity), and Paused."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One condition as a row tells it."""

    type: str
    status: str
    reason: str
    since: str
    message: str

    @property
    def color(self) -> str:
        """Green for the good answer, yellow for an unfinished one, red for the bad one."""
        if self.type in NEGATIVE:
            return {"False": "green", "True": "yellow"}.get(self.status, "yellow")
        return COLORS.get(self.status, "yellow")


@dataclass(frozen=True, slots=True)
class Node:
    """One row. ``counts`` are REPLICAS, AVAILABLE, READY, UP TO DATE; ``conditions`` are rows of their own below it."""

    label: str
    counts: tuple[str, str, str, str] = ("", "", "", "")
    condition: Shown | None = None
    children: tuple[Node, ...] = ()
    conditions: tuple[Shown, ...] = ()
    marks: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Selected:
    """Whose conditions are shown: ``all``, or kinds and ``kind/name`` in lower case; with a ``+`` behind it only those that need attention.

    Source: Cluster API v1.14 clusterctl describe, --show-conditions (the ``+`` since v1.12).
    """

    words: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, text: str) -> Selected:
        """Read the value of ``--show-conditions``."""
        return cls(frozenset(word.strip().lower() for word in text.split(",") if word.strip()))

    def of(self, state: State) -> tuple[Shown, ...]:
        """The conditions to show of an object, in the order it has them."""
        kind = str(state["kind"]).lower()
        names = {"all", kind, f"{kind}/{state['metadata']['name']}"}
        found = tuple(_shown(raw) for raw in (state.get("status") or {}).get("conditions") or ())
        if names & self.words:
            return found
        if {f"{name}+" for name in names} & self.words:
            return tuple(shown for shown in found if shown.color != "green")
        return ()


def build(objects: Iterable[State], name: str, *, selected: Selected = Selected(), grouping: bool = True) -> Node | None:
    """The tree of the Cluster called ``name`` out of the objects of its namespace; None when it is not among them."""
    by_kind: dict[str, list[State]] = {}
    for state in sorted(objects, key=lambda state: str(state["metadata"]["name"])):
        by_kind.setdefault(str(state["kind"]), []).append(state)
    cluster = next((state for state in by_kind.get("Cluster", ()) if state["metadata"]["name"] == name), None)
    return _Builder(by_kind, selected, grouping).cluster(cluster) if cluster is not None else None


class _Builder:
    def __init__(self, by_kind: Mapping[str, list[State]], selected: Selected, grouping: bool) -> None:
        self._by_kind, self._selected, self._grouping = by_kind, selected, grouping

    def cluster(self, state: State) -> Node:
        status = state.get("status") or {}
        spec = state.get("spec") or {}
        children = []
        infrastructure = self._referred(spec.get("infrastructureRef"))
        if infrastructure is not None:
            children.append(self.row(infrastructure, "Ready", "ClusterInfrastructure - "))
        plane = self._referred(spec.get("controlPlaneRef"))
        machines = self._machines(state)
        if plane is not None:
            owned = [machine for machine in machines if _owned_by(machine, plane)]
            row = self.row(plane, "Available", "ControlPlane - ")
            children.append(replace(row, children=self.machines(owned)))
        workers = self.workers(state, machines, plane)
        if workers:
            children.append(Node("Workers", children=workers))
        sums = [status.get("controlPlane") or {}, status.get("workers") or {}]
        return replace(self.row(state, "Available"), counts=_counts(sums), children=tuple(children))

    def workers(self, cluster: State, machines: Sequence[State], plane: State | None) -> tuple[Node, ...]:
        rows = []
        placed = {id(machine) for machine in machines if plane is not None and _owned_by(machine, plane)}
        sets = [state for state in self._by_kind.get("MachineSet", ()) if _belongs(state, cluster)]
        for deployment in self._by_kind.get("MachineDeployment", ()):
            if _belongs(deployment, cluster):
                owners = [state for state in sets if _owned_by(state, deployment)]
                owned = [machine for machine in machines if any(_owned_by(machine, owner) for owner in owners)]
                placed |= {id(machine) for machine in owned}
                rows.append(replace(self.row(deployment, "Available"), children=self.machines(owned)))
        for alone in (state for state in sets if not _controller(state)):
            owned = [machine for machine in machines if _owned_by(machine, alone)]
            placed |= {id(machine) for machine in owned}
            rows.append(replace(self.row(alone, "MachinesReady"), children=self.machines(owned)))
        for pool in (state for state in self._by_kind.get("MachinePool", ()) if _belongs(state, cluster)):
            owned = [machine for machine in machines if _owned_by(machine, pool)]
            placed |= {id(machine) for machine in owned}
            rows.append(replace(self.row(pool, "Available"), children=self.machines(owned)))
        return (*rows, *self.machines([machine for machine in machines if id(machine) not in placed]))

    def machines(self, machines: Sequence[State]) -> tuple[Node, ...]:
        groups: dict[tuple[str, ...], list[State]] = {}
        for machine in machines:
            ready = condition(machine, "Ready")
            alike = ("" if self._grouping else str(machine["metadata"]["name"]), ready.status, ready.reason, *_marks(machine))
            if self._selected.of(machine):
                alike = (str(machine["metadata"]["name"]),)
            groups.setdefault(alike, []).append(machine)
        return tuple(self._machine(group[0]) if len(group) == 1 else _group(group) for group in groups.values())

    def _machine(self, state: State) -> Node:
        return replace(self.row(state, "Ready"), counts=_machine_counts([state]))

    def row(self, state: State, summary: str, prefix: str = "") -> Node:
        meta, spec, status = state["metadata"], state.get("spec") or {}, state.get("status") or {}
        shown = condition(state, summary)
        found = tuple(other for other in self._selected.of(state) if other.type != summary)
        sums = [{"desiredReplicas": spec.get("replicas"), **status}] if "replicas" in spec else []
        return Node(f"{prefix}{state['kind']}/{meta['name']}", _counts(sums), shown, conditions=found, marks=_marks(state))

    def _referred(self, reference: Mapping[str, Any] | None) -> State | None:
        if not reference:
            return None
        return next((state for state in self._by_kind.get(reference["kind"], ()) if state["metadata"]["name"] == reference["name"]), None)

    def _machines(self, cluster: State) -> list[State]:
        return [machine for machine in self._by_kind.get("Machine", ()) if _belongs(machine, cluster)]


def condition(state: State, kind: str) -> Shown:
    """A condition of an object; status ``""`` when it has none of that type."""
    for raw in (state.get("status") or {}).get("conditions") or ():
        if raw.get("type") == kind:
            return _shown(raw)
    return Shown(kind, "", "", "", "")


def _shown(raw: Mapping[str, Any]) -> Shown:
    return Shown(raw["type"], raw.get("status", ""), raw.get("reason", ""), raw.get("lastTransitionTime", ""), raw.get("message", ""))


def _belongs(state: State, cluster: State) -> bool:
    return bool((state.get("spec") or {}).get("clusterName") == cluster["metadata"]["name"])


def _controller(state: State) -> Mapping[str, Any] | None:
    return next((owner for owner in state["metadata"].get("ownerReferences") or () if owner.get("controller")), None)


def _owned_by(state: State, owner: State) -> bool:
    found = _controller(state)
    return found is not None and found["uid"] == owner["metadata"]["uid"]


def _marks(state: State) -> tuple[str, ...]:
    paused = (state.get("spec") or {}).get("paused") or "cluster.x-k8s.io/paused" in (state["metadata"].get("annotations") or {})
    return (*(["DELETED"] if state["metadata"].get("deletionTimestamp") else []), *(["PAUSED"] if paused else []))


def _counts(sums: Sequence[Mapping[str, Any]]) -> tuple[str, str, str, str]:
    if not sums:
        return ("", "", "", "")

    def total(name: str) -> int:
        return sum(int(item.get(name) or 0) for item in sums)

    replicas = f"{total('replicas')}/{total('desiredReplicas')}"
    return replicas, str(total("availableReplicas")), str(total("readyReplicas")), str(total("upToDateReplicas"))


def _machine_counts(machines: Sequence[State]) -> tuple[str, str, str, str]:
    def true(kind: str) -> str:
        return str(sum(condition(machine, kind).status == "True" for machine in machines))

    return str(len(machines)), true("Available"), true("Ready"), true("UpToDate")


def _group(machines: Sequence[State]) -> Node:
    names = [str(machine["metadata"]["name"]) for machine in machines]
    message = f"See {', '.join(names[:NAMES_MAX])}{', ...' if len(names) > NAMES_MAX else ''}"
    shown = [condition(machine, "Ready") for machine in machines]
    newest = replace(max(shown, key=lambda found: found.since), message=message)
    return Node(f"{len(machines)} Machines...", _machine_counts(machines), newest, marks=_marks(machines[0]))


# ---- drawing ------------------------------------------------------------------------------------------------------------------------------
HEADINGS = ("NAME", "REPLICAS", "AVAILABLE", "READY", "UP TO DATE", "STATUS", "REASON", "SINCE", "MESSAGE")
GUTTER = 2
MESSAGE_WIDTH_MIN = 40


@dataclass(frozen=True, slots=True)
class _Row:
    """One row before it is drawn: the lines before the label, those to repeat beside further lines of the message, and the cells."""

    before: str
    beside: str
    node: Node | None
    label: str
    counts: tuple[str, str, str, str]
    shown: Shown | None
    status: str


def render(root: Node, now: datetime, width: int) -> RenderableType:
    """Draw the tree for a terminal of ``width`` columns. Messages are wrapped, and the lines of the tree go on beside them."""
    rows = list(_rows(root))
    cells = [_cells(row, now) for row in rows]
    widths = [max(len(heading), *(len(cell[number]) for cell in cells)) for number, heading in enumerate(HEADINGS[1:-1])]
    named = max(len(HEADINGS[0]), *(len(_name(row).plain) for row in rows))
    message_width = max(width - named - sum(widths) - GUTTER * (len(HEADINGS) - 1), MESSAGE_WIDTH_MIN)
    table = Table(box=None, pad_edge=False, padding=(0, GUTTER, 0, 0), header_style="bold")
    for heading in HEADINGS:
        table.add_column(heading, no_wrap=True)
    for row, cell in zip(rows, cells, strict=True):
        lines = _message(row.shown, message_width)
        name = _name(row)
        for _ in lines[1:]:
            name.append(f"\n{row.beside}", style="dim")
        status = Text(cell[4], style=row.shown.color if row.shown is not None and row.shown.status else "dim")
        table.add_row(name, *cell[:4], status, cell[5], cell[6], Text("\n".join(lines)))
    return table


def _rows(root: Node) -> Iterator[_Row]:
    for before, beside, node in walk(root):
        below = f"{beside}{'│ ' if node.children else '  '}"
        shown = node.condition
        status = "" if shown is None else f"{shown.type}: {shown.status or '-'}"
        yield _Row(before, below if node.conditions or node.children else beside, node, node.label, node.counts, shown, status)
        for number, condition in enumerate(node.conditions, 1):
            last = number == len(node.conditions)
            indent = f"{below}{' ' * CONDITION_INDENT}"
            yield _Row(
                f"{indent}{'└─' if last else '├─'}",
                f"{indent}{'' if last else '│'}",
                None,
                condition.type,
                ("", "", "", ""),
                condition,
                condition.status,
            )


def walk(node: Node, before: str = "", beside: str = "") -> Iterator[tuple[str, str, Node]]:
    """Every row of the tree, parents first, with the lines drawn before its label and those that go on beneath it."""
    yield before, beside, node
    for number, child in enumerate(node.children, 1):
        last = number == len(node.children)
        yield from walk(child, f"{beside}{'└─' if last else '├─'}", f"{beside}{'  ' if last else '│ '}")


def _name(row: _Row) -> Text:
    name = Text(row.before, style="dim")
    for mark in row.node.marks if row.node is not None else ():
        name.append(f"!! {mark} !! ", style="not dim bold red")
    return name.append(row.label, style="not dim bold" if row.node is not None else "not dim")


def _cells(row: _Row, now: datetime) -> tuple[str, ...]:
    shown = row.shown
    since = age(now - datetime.fromisoformat(shown.since.replace("Z", "+00:00"))) if shown is not None and shown.since else ""
    return (*row.counts, row.status, shown.reason if shown is not None else "", since)


def _message(shown: Shown | None, width: int) -> list[str]:
    if shown is None or not shown.message:
        return [""]
    lines: list[str] = []
    for line in shown.message.splitlines():
        indent = " " * (len(line) - len(line.lstrip(" *")))
        lines += textwrap.wrap(line, width, subsequent_indent=indent, drop_whitespace=True, break_on_hyphens=False) or [""]
    if len(lines) > MESSAGE_LINES_MAX:
        lines = [*lines[: MESSAGE_LINES_MAX - 1], f"… {len(lines) - MESSAGE_LINES_MAX + 1} more lines"]
    return lines
