"""What a record of results becomes in the tables. Pure: messages in, rows out.

A record that this version cannot read keeps its bytes and says why; it is in no run then, and in no danger: a later version can read it from here.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

import orjson
from pydantic import ValidationError

from schemas.chain import MAC, Link
from schemas.results import RESULT_TYPES, Done, Planned, Recovered, Run, StepResult

Row = dict[str, Any]
MODELS: Mapping[str, type[Run]] = {model.TYPE: model for model in RESULT_TYPES}
OPEN, RECOVERED, PLANNED = "open", "recovered", "planned"
IDENTITY = {"plan_id": 64, "cluster": 511, "service": 255, "instance": 255, "kind": 255, "key": 1023, "trace": 64, "intent": 64}
"""The fields that every record of a run has, and the most characters of each that a table takes: far more than ours are."""
NUL, REPLACEMENT = "\x00", "\ufffd"


class Message(NamedTuple):
    """A record of the topic."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one record: its own, its run's with the run's columns that this record knows, and its steps."""

    record: Row
    run: Row | None = None
    steps: tuple[Row, ...] = ()
    changes: tuple[Row, ...] = field(default=())

    @property
    def readable(self) -> bool:
        """Whether it is in a run."""
        return self.run is not None


def rows_of(message: Message) -> Rows:
    """Every row that a record stands for."""
    headers = {name: value.decode(errors="replace") for name, value in message.headers}
    run, fault = _read(headers.get("ce_type", ""), message.value)
    record = _record(message, headers, run, fault)
    if run is None:
        return Rows(record)
    common = {name: _text(getattr(run, name))[:length] for name, length in IDENTITY.items()}
    match run:
        case Planned():
            return Rows(record, common | _planned(run), tuple(_step(run.plan_id, step) for step in run.steps))
        case Done():
            changes = tuple(row for step in run.steps for row in _changes(run.plan_id, step))
            return Rows(record, common | _done(run), tuple(_step(run.plan_id, step) for step in run.steps), changes)
        case Recovered():
            return Rows(record, common | _recovered(run))
    return Rows(record | {"fault": f"type {run.TYPE} is in no table"})


def _read(type_: str, value: bytes | None) -> tuple[Run | None, str]:
    model = MODELS.get(type_)
    if model is None:
        return None, f"type {type_!r} is not known to this version" if type_ else "no ce_type: not one of ours"
    try:
        return model.model_validate(orjson.loads(value or b"")), ""
    except (ValidationError, orjson.JSONDecodeError) as error:
        return None, f"the value is no {type_} that this version can read: {str(error).splitlines()[0]}"


def _record(message: Message, headers: Mapping[str, str], run: Run | None, fault: str) -> Row:
    try:
        link = Link.of(dict(message.headers))
    except ValueError:
        link = None
    return {
        "partition": message.partition,
        "offset": message.offset,
        "id": _text(headers.get("ce_id") or f"{message.topic}[{message.partition}]@{message.offset}")[:255],
        "type": _text(headers.get("ce_type", ""))[:255],
        "cluster": _text(run.cluster if run is not None else headers.get("ce_partitionkey", ""))[:511],
        "plan_id": _text(run.plan_id if run is not None else "")[:64],
        "source": _text(headers.get("ce_source", ""))[:511],
        "at": _time(headers.get("ce_time", "")),
        "chain": _text(link.chain if link is not None else "")[:255],
        "sequence": link.sequence if link is not None else None,
        "mac": _text(headers.get(MAC, ""))[:64],
        "key": message.key,
        "headers": headers_text(message.headers),
        "value": message.value,
        "fault": _text(fault),
    }


def headers_text(headers: list[tuple[str, bytes]]) -> str:
    """Headers as JSON, without loss."""
    return orjson.dumps([[name, _header(value)] for name, value in headers]).decode()


def _header(value: bytes) -> str | dict[str, str]:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def headers_of(text: str) -> list[tuple[str, bytes]]:
    """What ``headers_text`` wrote."""
    found = orjson.loads(text)
    return [(name, value.encode() if isinstance(value, str) else base64.b64decode(value["base64"])) for name, value in found]


def _planned(run: Planned) -> Row:
    return {
        "outcome": OPEN,
        "planned_at": run.at,
        "change": _text(run.cause.change),
        "also": _json(run.cause.also),
        "cause": _text(run.cause.traceparent)[:64],
        "observed": _json(run.observed),
    }


def _done(run: Done) -> Row:
    return {
        "outcome": run.outcome,
        "done_at": run.at,
        "duration_ms": run.duration_ms,
        "requeue_after_seconds": run.requeue_after_seconds,
        "error": _text(run.error),
    }


def _recovered(run: Recovered) -> Row:
    return {"outcome": RECOVERED, "recovered_at": run.at, "found": run.found, "found_version": _text(run.resource_version)[:64]}


def _step(plan_id: str, step: Any) -> Row:
    return {
        "plan_id": _text(plan_id)[:64],
        "step": step.index,
        "verb": _text(step.verb)[:64],
        "target": _text(step.target)[:1023],
        "reason": _text(step.reason),
        "audit_id": _text(step.audit_id)[:64],
        "outcome": getattr(step, "outcome", PLANNED),
        "status": getattr(step, "status", 0),
        "error": _text(getattr(step, "error", "")),
        "resource_version": _text(getattr(step, "resource_version", ""))[:64],
    }


def _changes(plan_id: str, step: StepResult) -> list[Row]:
    return [
        {"plan_id": _text(plan_id)[:64], "step": step.index, "number": number, "path": _text(path), "before": _json(before), "after": _json(after)}
        for number, (path, (before, after)) in enumerate(step.changes.items(), 1)
    ]


def _json(value: Any) -> str:
    return _text(orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode())


def _text(text: str) -> str:
    """A text that every database takes: PostgreSQL has no NUL, and the bytes are in ``records`` anyway."""
    return text.replace(NUL, REPLACEMENT) if NUL in text else text


def _time(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
