"""Writing the audit trail: planned before the first write, done after the last, recovered for what a dead owner left open."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import orjson
from pydantic import ValidationError

from fleetwake.plan import Plan
from fleetwake.shell.carry_out import PLAN_NAMESPACE, Outcome, RunContext
from fleetwake.shell.chains import Chains
from fleetwake.shell.ports import Cause, Ports
from schemas.keys import ObjectKey
from schemas.records import Version
from schemas.results import CauseRecord, Done, Planned, Recovered, Run, StepRecord, StepResult, cloud_event
from schemas.topics import Topics

ALSO_MAX = 8
"""Changes beside the first that a planned record names: a run that was woken by more continues what all of them began."""


@dataclass(frozen=True, slots=True)
class Writer:
    """Who writes. ``incarnation`` is unique to this life of the process: plan ids and chains are named by it and a counter; no key, no seals."""

    service: str
    instance: str
    incarnation: str
    seal_key: Callable[[], bytes] = bytes


class Results:
    """The producer of results of one worker."""

    def __init__(self, ports: Ports, topics: Topics, writer: Writer) -> None:
        self._ports, self._topics, self._writer = ports, topics, writer
        self.chains = Chains(ports.bus, writer.incarnation, writer.seal_key)
        self._count = 0

    def plan_id(self, key: ObjectKey) -> str:
        """The id of the next run."""
        self._count += 1
        return str(uuid.uuid5(PLAN_NAMESPACE, f"{self._writer.incarnation}/{self._count}/{key}"))

    def _identity(self, run: RunContext, intent: str) -> dict[str, str]:
        return {
            "plan_id": run.plan_id,
            "service": self._writer.service,
            "instance": self._writer.instance,
            "kind": run.key.kind,
            "key": str(run.key),
            "cluster": str(run.cluster or ""),
            "trace": run.trace.traceparent,
            "intent": intent,
        }

    async def planned(self, run: RunContext, causes: list[Cause], cause_count: int, observed: Mapping[ObjectKey, Version | None]) -> None:
        """Produce ``planned`` and wait for its acknowledgement."""
        first = causes[0] if causes else Cause()
        record = Planned(
            **self._identity(run, first.intent),
            at=self._ports.clock.now(),
            cause=CauseRecord(change=first.change, traceparent=first.traceparent, links=tuple(run.trace.links[1:]), causes=cause_count, also=_also(causes)),
            observed={str(key): str(version.resource_version) if version else "" for key, version in observed.items()},
            steps=tuple(StepRecord(index=o.index, verb=o.verb, target=o.target, reason=o.reason, audit_id=o.audit_id) for o in run.outcomes),
        )
        await self._produce(record, run.partition)

    async def done(self, run: RunContext, causes: list[Cause], started: datetime, plan: Plan) -> None:
        """Produce ``done``."""
        now = self._ports.clock.now()
        record = Done(
            **self._identity(run, causes[0].intent if causes else ""),
            at=now,
            outcome="failed" if run.failures else "done",
            steps=tuple(_result(outcome) for outcome in run.outcomes),
            duration_ms=round((now - started).total_seconds() * 1000, 3),
            requeue_after_seconds=plan.requeue_after.total_seconds() if plan.requeue_after is not None else None,
            error="; ".join(str(failure) for failure in run.failures)[:2048],
        )
        await self._produce(record, run.partition)

    async def recovered(self, left: Planned, partition: int, found: str, resource_version: str) -> None:
        """Close a run that a dead owner left open."""
        fields = {name: getattr(left, name) for name in Run.model_fields}
        record = Recovered(**fields, at=self._ports.clock.now(), found=found, resource_version=resource_version)
        await self._produce(record, partition)

    async def _produce(self, record: Planned | Done | Recovered, partition: int) -> None:
        value = orjson.dumps(record.model_dump(mode="json", by_alias=True, exclude_defaults=True))
        await self.chains.produce(self._topics.results, (record.cluster or record.key).encode(), value, cloud_event(record), max(partition, 0))


def _also(causes: Iterable[Cause]) -> tuple[str, ...]:
    """The changes of the causes behind the first, each once."""
    first, *others = [cause.change for cause in causes] or [""]
    return tuple(dict.fromkeys(change for change in others if change and change != first))[:ALSO_MAX]


def _result(outcome: Outcome) -> StepResult:
    verdict = "skipped" if outcome.skipped else "failed" if outcome.error else "done"
    return StepResult(
        index=outcome.index,
        verb=outcome.verb,
        target=outcome.target,
        reason=outcome.reason,
        audit_id=outcome.audit_id,
        outcome=verdict,
        status=outcome.status,
        error=outcome.error,
        resource_version=outcome.resource_version,
        changes=outcome.changes,
    )


class LastWords:
    """Of the newest results of a partition what a worker must know before its first run: the last run of each cluster, and deletes.

    Records stay raw until they are asked for: most are of no interest, or soon followed by another of their cluster.
    """

    def __init__(self) -> None:
        self._last: dict[bytes, tuple[int, bytes]] = {}
        self._deletes: dict[int, bytes] = {}
        self._count = 0

    def take(self, key: bytes | None, value: bytes | None, headers: Mapping[str, bytes]) -> None:
        """Take the next record in order of offsets."""
        if value is None or headers.get("ce_type") != Planned.TYPE.encode():
            return
        self._count += 1
        if b'"intent":"' in value:
            self._last[key or b""] = (self._count, value)
        if b'"verb":"delete"' in value:
            self._deletes[self._count] = value

    def runs(self) -> list[Planned]:
        """The runs in order; what this version cannot read is left out."""
        found = []
        for _, value in sorted((self._deletes | dict(self._last.values())).items()):
            with suppress(ValidationError, orjson.JSONDecodeError):
                found.append(Planned.model_validate(orjson.loads(value)))
        return found


def open_runs(records: Iterable[Run]) -> list[Planned]:
    """Planned runs, in order, that no done or recovered record closes."""
    found: dict[str, Planned] = {}
    for record in records:
        if isinstance(record, Planned):
            found[record.plan_id] = record
        else:
            found.pop(record.plan_id, None)
    return list(found.values())
