"""Runs put together from their records, and intents from their runs. Pure: records in, plain data out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from fleetwake.tracing.context import SpanId
from fleetwake.views.naming import same_object
from schemas.keys import ObjectKey
from schemas.results import Done, Planned, Recovered, Run, StepRecord, StepResult


@dataclass(frozen=True, slots=True)
class RunView:
    """One run: what was planned and what came of it; at least one of ``planned`` and ``done`` is there."""

    planned: Planned | None
    done: Done | None
    recovered: Recovered | None = None

    @property
    def record(self) -> Run:
        """A record that has the run's identity."""
        found = self.planned or self.done or self.recovered
        assert found is not None
        return found

    @property
    def started(self) -> datetime:
        """When the run began (observe included)."""
        if self.done is not None:
            return self.done.at - timedelta(milliseconds=self.done.duration_ms)
        return (self.planned or self.recovered).at  # type: ignore[union-attr]

    @property
    def ended(self) -> datetime:
        """When the run ended; of a run without its done record, the last that it said itself."""
        return (self.done or self.planned or self.recovered).at  # type: ignore[union-attr]

    @property
    def steps(self) -> tuple[StepRecord, ...]:
        """The steps with their outcome where it is known."""
        return self.done.steps if self.done is not None else self.planned.steps if self.planned is not None else ()

    @property
    def outcome(self) -> str:
        """``done``, ``failed``, ``recovered`` (closed by the next owner) or ``open`` (nobody has closed it)."""
        if self.done is not None:
            return self.done.outcome
        return "recovered" if self.recovered is not None else "open"

    @property
    def cause(self) -> str:
        """The change at its root in words; empty when only the trace knows."""
        return self.planned.cause.change if self.planned is not None else ""

    @property
    def intent(self) -> str:
        """The trace id of the intent; a run woken without a cause of its own continues the cluster's open one, which its trace names."""
        if self.record.intent:
            return self.record.intent
        span = SpanId.parse(self.record.trace)
        return span.trace if span is not None else ""

    @property
    def traces(self) -> frozenset[str]:
        """The trace ids of the run and of what it links to."""
        texts = (self.record.trace, *(self.planned.cause.links if self.planned is not None else ()))
        return frozenset(span.trace for text in texts if (span := SpanId.parse(text)) is not None)

    def touches(self, key: ObjectKey) -> bool:
        """Whether the run was for the object or had a step on it."""
        return same_object(self.record.key, key) or any(same_object(step.target, key) for step in self.steps)


@dataclass(frozen=True, slots=True)
class IntentView:
    """All runs of one intent, in order of their start."""

    trace: str
    runs: tuple[RunView, ...]

    @property
    def started(self) -> datetime:
        """When the first run began."""
        return self.runs[0].started

    @property
    def ended(self) -> datetime:
        """When the last run ended."""
        return max(run.ended for run in self.runs)

    @property
    def change(self) -> str:
        """The change that opened it, in words."""
        return next((run.cause for run in self.runs if run.cause), "")

    @property
    def writes(self) -> int:
        """Steps that sent a request."""
        return sum(1 for run in self.runs for step in run.steps if sent(step))


def sent(step: StepRecord) -> bool:
    """Whether the step reached the API server, as far as its record says: a request has an Audit-ID, a skipped one was not sent."""
    return bool(step.audit_id) and getattr(step, "outcome", "done") != "skipped"


def failed(step: StepRecord) -> bool:
    """Whether the step is known to have failed."""
    return isinstance(step, StepResult) and step.outcome == "failed"


def join(records: Iterable[Run]) -> list[RunView]:
    """One view per run, in order of their start."""
    planned: dict[str, Planned] = {}
    done: dict[str, Done] = {}
    recovered: dict[str, Recovered] = {}
    for record in records:
        match record:
            case Planned():
                planned[record.plan_id] = record
            case Done():
                done[record.plan_id] = record
            case Recovered():
                recovered[record.plan_id] = record
            case _:
                pass
    ids = dict.fromkeys([*planned, *done, *recovered])
    return sorted((RunView(planned.get(name), done.get(name), recovered.get(name)) for name in ids), key=lambda run: (run.started, run.record.plan_id))


def intents(runs: Iterable[RunView]) -> list[IntentView]:
    """The intents, the one that began last at the end. Runs that name none are left out."""
    by_trace: dict[str, list[RunView]] = {}
    for run in runs:
        if run.intent:
            by_trace.setdefault(run.intent, []).append(run)
    return sorted((IntentView(trace, tuple(members)) for trace, members in by_trace.items()), key=lambda intent: intent.started)


def intents_of(runs: Iterable[RunView], key: ObjectKey) -> list[IntentView]:
    """The intents with a run that touched the object, the last one at the end."""
    return [intent for intent in intents(runs) if any(run.touches(key) for run in intent.runs)]
