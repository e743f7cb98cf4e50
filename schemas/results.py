"""The audit trail: what a run was going to do (planned), what came of it (done), and how an interrupted run was closed (recovered).

Values of CloudEvents 1.0 in Kafka binary mode: the event's attributes are headers (``ce_id``, ``ce_type``, ...), the value is the JSON of one of
these models. Two records per acting run share ``plan_id``; a run that writes nothing leaves no record.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import AwareDatetime, Field

from schemas.api.meta import Frozen
from schemas.records import Headers


class CauseRecord(Frozen):
    """Why the run happened: the change at its root, the trace it continues and the links to other causes.

    ``change`` is the oldest cause's, ``also`` are other changes that woke the key before it ran.
    """

    change: str = ""
    traceparent: str = ""
    links: tuple[str, ...] = ()
    causes: int = 0
    also: tuple[str, ...] = ()


class StepRecord(Frozen):
    """One step as planned. ``audit_id`` is the Audit-ID header of its request, which the API server keeps in its audit log."""

    index: int
    verb: str
    target: str
    reason: str
    audit_id: str = ""


class StepResult(StepRecord):
    """One step as carried out. ``changes`` maps a field path to its value before and after; secret values never appear."""

    outcome: Literal["done", "failed", "skipped"]
    status: int = 0
    error: str = ""
    resource_version: str = ""
    changes: Mapping[str, tuple[Any, Any]] = Field(default_factory=dict)


class Run(Frozen):
    """What every record of a run carries: its id, who ran it, and for which object of which cluster."""

    TYPE: ClassVar[str] = ""

    plan_id: str
    service: str
    instance: str
    kind: str
    key: str
    cluster: str = ""
    trace: str = ""
    intent: str = ""


class Planned(Run):
    """Acknowledged by the brokers before the first write of the run is sent. ``observed`` maps keys to the version read ("" = absent)."""

    TYPE: ClassVar[str] = "dev.fleetwake.run.planned"

    at: AwareDatetime
    cause: CauseRecord
    observed: Mapping[str, str]
    steps: tuple[StepRecord, ...]


class Done(Run):
    """The outcome of every step, how long the run took (milliseconds) and when the key looks again by itself (seconds)."""

    TYPE: ClassVar[str] = "dev.fleetwake.run.done"

    at: AwareDatetime
    outcome: Literal["done", "failed"]
    steps: tuple[StepResult, ...]
    duration_ms: float
    requeue_after_seconds: float | None = None
    error: str = ""


class Recovered(Run):
    """Written by the next owner for a planned run whose ``done`` never came, after it looked at the object."""

    TYPE: ClassVar[str] = "dev.fleetwake.run.recovered"

    at: AwareDatetime
    found: Literal["present", "absent", "unknown"]
    resource_version: str = ""


RESULT_TYPES: tuple[type[Run], ...] = (Planned, Done, Recovered)


def cloud_event(record: Planned | Done | Recovered) -> Headers:
    """The CloudEvents 1.0 attributes of a result as Kafka headers (binary mode). Source: CloudEvents Kafka protocol binding 1.0.2."""
    headers: Headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", f"{record.plan_id}/{record.TYPE.rpartition('.')[2]}".encode()),
        ("ce_source", f"/fleetwake/{record.service}/{record.instance}".encode()),
        ("ce_type", record.TYPE.encode()),
        ("ce_subject", record.key.encode()),
        ("ce_time", record.at.isoformat().replace("+00:00", "Z").encode()),
        ("content-type", b"application/json"),
        ("ce_partitionkey", (record.cluster or record.key).encode()),
    ]
    if record.trace:
        headers.append(("traceparent", record.trace.encode()))
    return headers
