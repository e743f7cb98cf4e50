"""Conditions of the v1beta1 contract: how several become one, and what is written of them under ``status.deprecated.v1beta1``.

They are told for readers of that contract alone and no decision rests on them. They differ from today's: a False one has a severity, a True one no reason, a
missing one does not count, and a sum names the first of its weightiest sources. They are computed from what the same run tells in today's conditions, so
that they change with those and cost no write of their own.

Source: contracts.md §10 (v1beta1 condition compatibility); Cluster API v1.14 deprecated v1beta1 conditions, observable outputs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeAlias

from fleetwake.conditions import FALSE, TRUE, UNKNOWN, wire_time
from schemas.api.meta import LegacyCondition

READY = "Ready"
ERROR, WARNING, INFO = "Error", "Warning", "Info"
REASON_LENGTH_MAX, MESSAGE_LENGTH_MAX = 256, 10240

Wire: TypeAlias = dict[str, Any]
_PRIORITY: dict[tuple[str, str], int] = {(FALSE, ERROR): 0, (FALSE, WARNING): 1, (FALSE, INFO): 2, (UNKNOWN, ""): 3, (TRUE, ""): 4}
_LEAST = len(_PRIORITY)


@dataclass(frozen=True, slots=True)
class Legacy:
    """A condition in the older form. ``severity`` of a False one, ``reason`` of all but a True one."""

    type: str
    status: str
    severity: str = ""
    reason: str = ""
    message: str = ""

    @property
    def true(self) -> bool:
        """Whether its status is True."""
        return self.status == TRUE


def good(type_: str) -> Legacy:
    """A condition that holds."""
    return Legacy(type_, TRUE)


def bad(type_: str, severity: str, reason: str, message: str = "") -> Legacy:
    """A condition that does not hold, and how bad that is."""
    return Legacy(type_, FALSE, severity, reason, message)


def unknown(type_: str, reason: str, message: str = "") -> Legacy:
    """A condition of which nothing can be said."""
    return Legacy(type_, UNKNOWN, "", reason, message)


def stored(conditions: Iterable[LegacyCondition], type_: str) -> Legacy | None:
    """The stored condition of the type, None when there is none."""
    for one in conditions:
        if one.type == type_:
            return Legacy(one.type, one.status, one.severity or "", one.reason or "", one.message or "")
    return None


def _weight(one: Legacy) -> int:
    return _PRIORITY.get((one.status, one.severity if one.status == FALSE else ""), _LEAST)


def summary(types: Sequence[str], values: Iterable[Legacy], steps: Collection[str] = ()) -> tuple[Legacy, ...]:
    """Ready, as the sum of those of the types that there are; nothing while there is none of them.

    False weighs more than Unknown, that more than True, and of False ones the severer; the first of the weightiest in the order of ``types`` gives reason and
    message. ``steps``: while no other than these types are there, the message counts how many of them are done instead.
    """
    found = {one.type: one for one in values if one.type in types}
    if not found:
        return ()
    first = min((found[type_] for type_ in types if type_ in found), key=_weight)
    if first.true:
        return (good(READY),)
    message = first.message
    if steps and found.keys() <= set(steps):
        message = f"{sum(one.true for one in found.values())} of {len(steps)} completed"
    return (replace(first, type=READY, message=message),)


def aggregate(target: str, sources: Sequence[tuple[str, Legacy | None]]) -> tuple[Legacy, ...]:
    """One condition over those of several objects, each by its name (``Machine/a``) with what it tells; nothing while none tells anything.

    The reason names the object that it is of.
    """
    told = [(name, one) for name, one in sources if one is not None]
    if not told:
        return ()
    name, first = min(told, key=lambda item: (_weight(item[1]), item[0]))
    if first.true:
        return (good(target),)
    reason = first.reason if "@" in first.reason else f"{first.reason} @ {name}"
    message = f"{sum(one.true for _, one in told)} of {len(sources)} completed"
    return (Legacy(target, first.status, first.severity, reason, message),)


def wire(have: Iterable[LegacyCondition], values: Iterable[Legacy], at: datetime, *, settled: bool = True) -> list[Wire]:
    """The conditions as JSON: Ready first, the others by name, each with the time since when it is as it is.

    ``settled`` False: what they sum up still moves, so a condition whose status and severity stay keeps its words too.
    """
    known = {one.type: one for one in have}
    found = []
    for value in sorted(values, key=lambda one: (one.type != READY, one.type)):
        old = known.get(value.type)
        one: Wire = {"type": value.type, "status": value.status}
        words = (value.severity, value.reason[:REASON_LENGTH_MAX], value.message[:MESSAGE_LENGTH_MAX])
        if old is not None and old.status == value.status and (old.severity or "") == value.severity and not settled:
            words = (old.severity or "", old.reason or "", old.message or "")
        same = old is not None and (old.status, old.severity or "", old.reason or "", old.message or "") == (value.status, *words)
        one["lastTransitionTime"] = wire_time(old.last_transition_time if old is not None and same else at)
        one |= {name: text for name, text in zip(("severity", "reason", "message"), words, strict=True) if text}
        found.append(one)
    return found
