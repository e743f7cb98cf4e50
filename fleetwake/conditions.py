"""Conditions: how several become one, how a reference's becomes ours, and what is written of them.

Stands between the decisions of every kind and their status write; knows no kind, no clock and no client. Message formats are a wire contract:
``clusterctl describe`` and other controllers read them.

Source: kinds.md §0.2 (order, transitions), §0.3 (merging); Cluster API v1.14 util/conditions, observable outputs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any, Protocol, TypeAlias

from fleetwake import labels
from schemas.api.meta import Condition, ConditionStatus, KubeObject

TRUE: ConditionStatus = "True"
FALSE: ConditionStatus = "False"
UNKNOWN: ConditionStatus = "Unknown"

NOT_YET_REPORTED = "NotYetReported"
NO_REASON_REPORTED = "NoReasonReported"
_NOT_YET = "Condition not yet reported"
MESSAGES_MAX = 3
NAMES_MAX = 3
MESSAGE_LENGTH_MAX = 32768

Wire: TypeAlias = dict[str, Any]

_GATES = "<gates and types of others>"
_ORDER = (
    "Available",
    "Ready",
    "UpToDate",
    "RemoteConnectionProbe",
    "BootstrapConfigReady",
    "InfrastructureReady",
    "ControlPlaneInitialized",
    "ControlPlaneAvailable",
    "WorkersAvailable",
    "CertificatesAvailable",
    "Initialized",
    "EtcdClusterHealthy",
    "ControlPlaneComponentsHealthy",
    "NodeHealthy",
    "NodeReady",
    "NodeKubeadmLabelsAndTaintsSet",
    "EtcdPodHealthy",
    "EtcdMemberHealthy",
    "APIServerPodHealthy",
    "ControllerManagerPodHealthy",
    "SchedulerPodHealthy",
    "HealthCheckSucceeded",
    "OwnerRemediated",
    "TopologyReconciled",
    "Updating",
    "RollingOut",
    "Remediating",
    "ScalingDown",
    "ScalingUp",
    "MachinesReady",
    "ControlPlaneMachinesReady",
    "WorkerMachinesReady",
    "MachinesUpToDate",
    "ControlPlaneMachinesUpToDate",
    "WorkerMachinesUpToDate",
    _GATES,
    "Paused",
    "Deleting",
)
_RANK = {name: index for index, name in enumerate(_ORDER)}
_BULLET = re.compile(r"\s*\*\s+", re.ASCII)


class Judged(Protocol):
    """What merging reads of a condition: a stored ``Condition`` or a ``ConditionValue`` that is about to be written."""

    @property
    def type(self) -> str:
        """The condition's type."""
        ...

    @property
    def status(self) -> ConditionStatus:
        """True, False or Unknown."""
        ...

    @property
    def reason(self) -> str:
        """A constant for programs."""
        ...

    @property
    def message(self) -> str:
        """Details for people, may be empty."""
        ...

    @property
    def last_transition_time(self) -> datetime | None:
        """When the status last changed, None for a value that has not been stored."""
        ...


@dataclass(frozen=True, slots=True)
class ConditionValue:
    """A condition as a decision wants it. ``last_transition_time`` is only given by mirrors: the time the mirrored status changed."""

    type: str
    status: ConditionStatus
    reason: str
    message: str = ""
    last_transition_time: datetime | None = None


class Priority(IntEnum):
    """How much a source condition weighs in a merge; the smallest present decides the result."""

    ISSUE = 0
    UNKNOWN = 1
    INFO = 2


@dataclass(frozen=True, slots=True)
class Reasons:
    """The reasons a merged condition can have, by the weightiest source."""

    issue: str = "IssuesReported"
    unknown: str = "UnknownReported"
    ok: str = "InfoReported"

    def of(self, priority: Priority) -> str:
        """The reason for the weightiest priority."""
        return (self.issue, self.unknown, self.ok)[priority]


def polarity(*negative: str) -> Callable[[Judged], Priority]:
    """A priority by polarity: False is an issue, True of a type in ``negative`` is; Unknown is unknown; all else is information."""

    def priority(condition: Judged) -> Priority:
        if condition.status == UNKNOWN:
            return Priority.UNKNOWN
        return Priority.ISSUE if (condition.status == TRUE) == (condition.type in negative) else Priority.INFO

    return priority


# --- reading ---------------------------------------------------------------------------------------------------------------------------------


def get(conditions: Iterable[Judged], type_: str) -> Judged | None:
    """The condition of the type, None when the list has none."""
    return next((condition for condition in conditions if condition.type == type_), None)


def is_true(conditions: Iterable[Judged], type_: str) -> bool:
    """Whether the condition exists with status True."""
    found = get(conditions, type_)
    return found is not None and found.status == TRUE


def is_false(conditions: Iterable[Judged], type_: str) -> bool:
    """Whether the condition exists with status False."""
    found = get(conditions, type_)
    return found is not None and found.status == FALSE


def overlay(stored: Iterable[Judged], desired: Iterable[Judged]) -> tuple[Judged, ...]:
    """The stored conditions with those of ``desired`` put in place of their types: what the object will have after the write."""
    new = {condition.type: condition for condition in desired}
    return (*(condition for condition in stored if condition.type not in new), *new.values())


def not_yet_reported(type_: str) -> ConditionValue:
    """What stands for a condition of which nobody has told anything."""
    return ConditionValue(type_, UNKNOWN, NOT_YET_REPORTED, _NOT_YET)


# --- summary: many types of one object -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Summary:
    """A rule that makes one condition of several of the same object.

    ``types`` in order of relevance; a missing one counts as Unknown unless in ``ignore_missing``. ``priority`` replaces the judgement by
    polarity; ``transform`` rewrites the bullets before they are joined.
    """

    target: str
    types: tuple[str, ...]
    negative: tuple[str, ...] = ()
    ignore_missing: tuple[str, ...] = ()
    reasons: Reasons = Reasons()
    priority: Callable[[Judged], Priority] | None = None
    transform: Callable[[list[str]], list[str]] | None = None


def summary(rule: Summary, conditions: Iterable[Judged], overrides: Iterable[Judged] = ()) -> ConditionValue:
    """Summarise conditions of one object; ``overrides`` stand in for a stored condition of their type within the summary alone.

    With no condition in scope (all missing and ignorable) the result is the rule's unknown reason.
    """
    by_type = {condition.type: condition for condition in overlay(conditions, overrides)}
    scope: list[Judged] = []
    for type_ in dict.fromkeys(rule.types):
        if type_ in by_type:
            scope.append(by_type[type_])
        elif type_ not in rule.ignore_missing:
            scope.append(not_yet_reported(type_))
    priority = rule.priority or polarity(*rule.negative)
    weightiest = min((priority(condition) for condition in scope), default=Priority.UNKNOWN)
    bullets = [
        f"* {condition.type}:" + (_nested(condition.message) if condition.message else f" {condition.reason}")
        for condition in scope
        if priority(condition) < Priority.INFO or (weightiest == Priority.INFO and condition.message)
    ]
    if rule.transform is not None:
        bullets = rule.transform(bullets)
    return ConditionValue(rule.target, (FALSE, UNKNOWN, TRUE)[weightiest], rule.reasons.of(weightiest), "\n".join(bullets))


# --- aggregate: one type of many objects -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Source:
    """An object whose condition is aggregated. ``control_plane``: it is a control plane Machine, which messages name first."""

    kind: str
    name: str
    conditions: tuple[Judged, ...]
    control_plane: bool = False


def source(obj: KubeObject, conditions: Iterable[Judged]) -> Source:
    """The source that stands for an object we model."""
    return Source(obj.KIND, obj.name, tuple(conditions), obj.KIND == "Machine" and labels.CONTROL_PLANE in obj.metadata.labels)


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A rule that makes one condition of the same type of many objects.

    ``negative``: the source type means an issue when True, and then the target does too unless ``target_negative`` says otherwise.
    """

    source: str
    target: str
    negative: bool = False
    reasons: Reasons = Reasons()
    target_negative: bool | None = None
    priority: Callable[[Judged], Priority] | None = None


@dataclass(frozen=True, slots=True)
class _Entry:
    """One source with its condition, judged."""

    source: Source
    condition: Judged
    priority: Priority


def aggregate(rule: Aggregate, sources: Sequence[Source]) -> ConditionValue:
    """Aggregate one type over objects; a source without it counts as Unknown.

    Raises:
        ValueError: no source; what an empty list means is for the kind to say.
    """
    if not sources:
        raise ValueError(f"nothing to aggregate into {rule.target}")
    priority = rule.priority or polarity(*((rule.source,) if rule.negative else ()))
    entries = []
    for one in sources:
        condition = get(one.conditions, rule.source) or ConditionValue(rule.source, UNKNOWN, NOT_YET_REPORTED, f"Condition {rule.source} not yet reported")
        entries.append(_Entry(one, condition, priority(condition)))
    # the longest in its state first: decides ties between messages that equally many objects report
    entries.sort(key=lambda entry: entry.condition.last_transition_time or datetime.min.replace(tzinfo=UTC))
    weightiest = min(entry.priority for entry in entries)
    target_negative = rule.negative if rule.target_negative is None else rule.target_negative
    status = (TRUE if target_negative else FALSE, UNKNOWN, FALSE if target_negative else TRUE)[weightiest]
    if weightiest < Priority.INFO:
        shown = [entry for wanted in (Priority.ISSUE, Priority.UNKNOWN) for entry in entries if entry.priority == wanted]
    else:
        shown = [entry for entry in entries if entry.condition.message]
    return ConditionValue(rule.target, status, rule.reasons.of(weightiest), "\n".join(_grouped(shown)))


_OTHERS = {Priority.ISSUE: "with other issues", Priority.UNKNOWN: "with status unknown", Priority.INFO: "with additional info"}


def _grouped(entries: Sequence[_Entry]) -> list[str]:
    """Bullets naming who reports what: at most MESSAGES_MAX over all kinds, then per kind the count of those left out."""
    weight: dict[str, Priority] = {}
    first: set[str] = set()
    names: dict[str, dict[str, list[Source]]] = {}
    for entry in entries:
        message = entry.condition.message
        weight[message] = min(entry.priority, weight.get(message, entry.priority))
        if entry.source.control_plane:
            first.add(message)
        names.setdefault(entry.source.kind, {}).setdefault(message, []).append(entry.source)
    lines: list[str] = []
    left = MESSAGES_MAX
    for kind in sorted(names):
        groups = names[kind]
        ordered = sorted(groups, key=lambda m: (m not in first, weight[m], -len(groups[m]), ",".join(one.name for one in groups[m])))
        lines.extend(_bullet(kind, groups[message], message) for message in ordered[:left])
        others: dict[Priority, int] = {}
        for message in ordered[left:]:
            others[weight[message]] = others.get(weight[message], 0) + len(groups[message])
        left -= min(left, len(ordered))
        lines.extend(f"And {others[p]} {plural(kind) if others[p] > 1 else kind} {_OTHERS[p]}" for p in sorted(others))
    return lines


def _bullet(kind: str, sources: Sequence[Source], message: str) -> str:
    named = [one.name for one in sorted(sources, key=lambda one: (not one.control_plane, one.name))]
    more = f", ... ({len(named) - NAMES_MAX} more)" if len(named) > NAMES_MAX else ""
    return f"* {plural(kind) if len(named) > 1 else kind} {', '.join(named[:NAMES_MAX])}{more}:{_nested(message)}"


def plural(kind: str) -> str:
    """The plural of a kind as messages spell it."""
    if re.search(r"(s|x|z|ch|sh)$", kind):
        return kind + "es"
    if re.search(r"[^aeiouAEIOU]y$", kind):
        return kind[:-1] + "ies"
    return kind + "s"


def _nested(message: str) -> str:
    """A message behind a colon: on the same line, or indented below when it has lines or bullets of its own."""
    if "\n" not in message and not _BULLET.search(message):
        return f" {message}"
    lines = message.split("\n")
    plain = any(not _BULLET.search(line) for line in lines)
    out = []
    for line in lines:
        prefix = "" if not plain else "  " if _BULLET.search(line) else "* "
        out.append(f"  {prefix}{line}")
    return "\n" + "\n".join(out)


# --- mirror: one condition of a reference ----------------------------------------------------------------------------------------------------


def mirror(conditions: Iterable[Judged], source_type: str, target: str, fallback: ConditionValue | None = None) -> ConditionValue:
    """Copy a condition of a referenced object under a new type; without it the fallback, else Unknown.

    The copy keeps the time of the original's transition: that is when the state it tells of began.
    """
    condition = get(conditions, source_type)
    if condition is not None:
        return ConditionValue(target, condition.status, condition.reason, condition.message, condition.last_transition_time)
    if fallback is not None:
        return replace(fallback, type=target)
    return ConditionValue(target, UNKNOWN, NOT_YET_REPORTED, f"Condition {source_type} not yet reported")


# --- writing ---------------------------------------------------------------------------------------------------------------------------------


def order(type_: str) -> tuple[int, str]:
    """The sort key of a type in stored order: known types by relevance, gates and unknown types by name, Paused and Deleting last."""
    return _RANK.get(type_, _RANK[_GATES]), type_


def merge(existing: Iterable[Condition], desired: Sequence[ConditionValue], generation: int, at: datetime) -> tuple[Wire, ...]:
    """The desired conditions as JSON, in stored order; ``existing`` gives the transition times to keep.

    lastTransitionTime changes only when the status does, and then to the mirrored time if there is one, else ``at`` (seconds). Types of
    ``existing`` that are not desired are not in the result: server-side apply leaves those of other managers alone.
    """
    stored = {condition.type: condition for condition in existing}
    wire = []
    for value in sorted({value.type: value for value in desired}.values(), key=lambda value: order(value.type)):
        old = stored.get(value.type)
        since = old.last_transition_time if old is not None and old.status == value.status else value.last_transition_time or at
        wire.append(
            {
                "type": value.type,
                "status": value.status,
                "observedGeneration": generation,
                "lastTransitionTime": wire_time(since),
                "reason": value.reason or NO_REASON_REPORTED,
                "message": value.message[:MESSAGE_LENGTH_MAX],
            }
        )
    return tuple(wire)


def wire_time(at: datetime) -> str:
    """A time as Kubernetes writes it: RFC 3339, UTC, whole seconds."""
    return at.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def same(existing: Iterable[Condition], wire: Iterable[Mapping[str, Any]]) -> bool:
    """Whether every condition of ``wire`` is stored just so; a write would then change nothing."""
    stored = {condition.type: condition for condition in existing}
    for want in wire:
        have = stored.get(str(want["type"]))
        if have is None or (have.status, have.reason, have.message, have.observed_generation or 0, wire_time(have.last_transition_time)) != (
            want["status"],
            want["reason"],
            want["message"],
            want["observedGeneration"],
            want["lastTransitionTime"],
        ):
            return False
    return True
