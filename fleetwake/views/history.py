"""The history of one object from the results topic: what changed, when, by whom, why, and what caused it. Pure: runs in, plain data or text out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
from rich.text import Text

from fleetwake.views.naming import same_object
from fleetwake.views.runs import IntentView, RunView, intents
from schemas.keys import ObjectKey
from schemas.results import StepRecord, StepResult

VALUE_LENGTH_MAX = 140
CHANGES_MAX = 24
BOOKKEEPING = ("lastTransitionTime", "observedGeneration")
"""Fields that follow others; they would hide what they follow."""

CONDITION_FIELD = re.compile(r"status\.conditions\.\[(?P<type>[^\]]+)\]\.(?P<field>\w+)")


@dataclass(frozen=True, slots=True)
class Entry:
    """One step of ours on the object, the run it was part of and the intent that caused it. ``at`` is the end of the run: the write is not later."""

    at: datetime
    step: StepRecord
    run: RunView
    intent: IntentView | None

    @property
    def outcome(self) -> str:
        """``done``, ``failed``, ``skipped``, or of a run without its done record ``recovered`` or ``open``."""
        return self.step.outcome if isinstance(self.step, StepResult) else self.run.outcome

    @property
    def changes(self) -> Mapping[str, tuple[Any, Any]]:
        """Field paths with their value before and after."""
        return self.step.changes if isinstance(self.step, StepResult) else {}


def history(runs: Iterable[RunView], key: ObjectKey, since: datetime | None = None) -> list[Entry]:
    """Every step on the object that was a request or was to be one, oldest first."""
    runs = list(runs)
    by_trace = {intent.trace: intent for intent in intents(runs)}
    return [
        Entry(run.ended, step, run, by_trace.get(run.intent))
        for run in sorted(runs, key=lambda run: run.ended)
        if since is None or run.ended >= since
        for step in run.steps
        if step.audit_id and same_object(step.target, key)
    ]


def render(entries: Iterable[Entry]) -> Text:
    """The history as text, oldest first; a cause that several entries share is told once in a row."""
    text = Text()
    cause = None
    for entry in entries:
        found = entry.intent.change if entry.intent is not None and entry.intent.change else entry.run.cause or "unknown"
        if found != cause:
            cause = found
            trace = entry.intent.trace if entry.intent is not None else ""
            text.append("caused by ", style="dim").append(found, style="bold").append(f"  {trace}\n", style="cyan")
        _append(text, entry)
    text.rstrip()
    return text


def _append(text: Text, entry: Entry) -> None:
    when = entry.at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    bad = entry.outcome != "done"
    text.append(f"  {when}  ")
    text.append(entry.step.verb, style="bold red" if bad else "bold green")
    text.append(f"  {entry.step.reason or 'no reason recorded'}")
    text.append(f"  ({entry.run.record.kind} of {entry.run.record.instance})", style="dim")
    if bad:
        error = getattr(entry.step, "error", "") or {"open": "no record of what came of it", "recovered": "closed by the next owner"}.get(entry.outcome, "")
        text.append(f"  {entry.outcome}{': ' if error else ''}{error}", style="red")
    text.append("\n")
    lines = list(_change_lines(entry.changes))
    for line in lines[:CHANGES_MAX]:
        text.append("      ").append_text(line).append("\n")
    hidden = len(lines) - CHANGES_MAX
    if hidden > 0:
        text.append(f"      … and {hidden} more (--json has all)\n", style="dim")


def _change_lines(changes: Mapping[str, tuple[Any, Any]]) -> Iterator[Text]:
    """One line per changed field; the fields of one condition are one line, with its new message on a second. Bookkeeping is left out."""
    conditions: dict[str, dict[str, tuple[Any, Any]]] = {}
    for path, (before, after) in changes.items():
        found = CONDITION_FIELD.fullmatch(path)
        if found is not None:
            conditions.setdefault(found["type"], {})[found["field"]] = (before, after)
        elif (whole := _conditions_within(path, before, after)) is not None:
            conditions |= whole
            rest = {name: value for name, value in after.items() if name not in ("conditions", *BOOKKEEPING)}
            if rest:
                yield _field(path, None, rest)
        elif path.rpartition(".")[2] not in BOOKKEEPING and not path.startswith("status.deprecated"):
            yield _field(path, before, after)
    for name, fields in conditions.items():
        yield from _condition(name, fields)


def _conditions_within(path: str, before: Any, after: Any) -> dict[str, dict[str, tuple[Any, Any]]] | None:
    """The conditions of a status that was written for the first time; None for anything else."""
    if path != "status" or before is not None or not isinstance(after, Mapping) or not isinstance(after.get("conditions"), list):
        return None
    return {str(raw.get("type")): {name: (None, value) for name, value in raw.items() if name != "type"} for raw in after["conditions"]}


def _condition(name: str, fields: Mapping[str, tuple[Any, Any]]) -> Iterator[Text]:
    told = [fields[field] for field in ("status", "reason") if field in fields]
    message = fields.get("message", (None, None))[1]
    if told:
        line = Text("condition ", style="dim").append(name, style="not dim bold")
        for before, after in told:
            line.append("  ").append_text(_values(before, after))
        yield line
    if message:
        label = "  " if told else f"condition {name}: "
        yield Text(label, style="dim").append(shown(str(message).strip()), style="not dim" if not told else "")


def _field(path: str, before: Any, after: Any) -> Text:
    return Text(f"{path}: ", style="dim").append_text(_values(before, after))


def _values(before: Any, after: Any) -> Text:
    text = Text(style="not dim")
    if before not in (None, ""):
        text.append(shown(before), style="red").append(" → ", style="dim")
    return text.append(shown(after) if after is not None else "removed", style="green" if after is not None else "red")


def shown(value: Any) -> str:
    """A value on one line, shortened."""
    text = value if isinstance(value, str) else orjson.dumps(value).decode()
    text = text.replace("\n", "⏎")
    return text if len(text) <= VALUE_LENGTH_MAX else f"{text[: VALUE_LENGTH_MAX - 1]}…"


def as_json(entry: Entry) -> Mapping[str, Any]:
    """An entry as plain data."""
    return {
        "at": entry.at.isoformat(),
        "verb": entry.step.verb,
        "target": entry.step.target,
        "reason": entry.step.reason,
        "outcome": entry.outcome,
        "status": getattr(entry.step, "status", 0),
        "error": getattr(entry.step, "error", ""),
        "resource_version": getattr(entry.step, "resource_version", ""),
        "audit_id": entry.step.audit_id,
        "changes": {path: {"before": before, "after": after} for path, (before, after) in entry.changes.items()},
        "run": {"plan_id": entry.run.record.plan_id, "key": entry.run.record.key, "service": entry.run.record.service, "instance": entry.run.record.instance},
        "cause": entry.run.cause,
        "intent": {"trace": entry.intent.trace, "change": entry.intent.change} if entry.intent is not None else None,
    }
