"""The history of remediations from the results topic: which Machine was found unhealthy, why, what was asked for, what its owner did, and what came of it.

Pure: runs in, plain data or text out. It reads what our writes changed on Machines (conditions HealthCheckSucceeded, OwnerRemediated,
ExternallyRemediated), the deletes of Machines that had been handed over, and the creates of their successors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from rich.text import Text

from fleetwake.views.naming import short
from fleetwake.views.runs import RunView
from schemas.keys import ObjectKey
from schemas.results import StepResult

MACHINE = ("cluster.x-k8s.io", "Machine")
HEALTH_CHECK = "MachineHealthCheck"
SPEAKERS = (HEALTH_CHECK, "MachineSet", "KubeadmControlPlane")
"""Whose writes say something of a remediation. Others' show a change too when it came between their look and their write."""

HEALTH, OWNER, EXTERNAL = "HealthCheckSucceeded", "OwnerRemediated", "ExternallyRemediated"
DELETING, WAITING = "MachineDeleting", "WaitingForRemediation"
FAILED_CHECK = "Health check failed:"

UNHEALTHY, WAITING_FOR_OWNER, REQUESTED = "unhealthy, not handed over", "waiting for its owner", "requested of others"
DEFERRED, REFUSED, DELETED, REPLACED, RECOVERED = "deferred", "refused", "deleted", "replaced", "recovered by itself"
COLOURS = {REPLACED: "green", RECOVERED: "green", REFUSED: "red", UNHEALTHY: "yellow", DEFERRED: "yellow"}


@dataclass(frozen=True, slots=True)
class Word:
    """What somebody said about the remediation: when, who, the reason as a constant, and the message."""

    at: datetime
    by: str
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Remediation:
    """One time that a Machine was found unhealthy. ``words`` are what was said about it in order; times are when runs began to write."""

    machine: str
    cluster: str
    check: str
    began: datetime
    reason: str
    message: str
    owner: str = ""
    words: tuple[Word, ...] = ()
    deleted: datetime | None = None
    replacement: str = ""
    replaced: datetime | None = None
    recovered: datetime | None = None
    cause: str = ""
    intent: str = ""

    @property
    def outcome(self) -> str:
        """What came of it so far, in words."""
        if self.replaced is not None:
            return REPLACED
        if self.deleted is not None:
            return DELETED
        if self.recovered is not None:
            return RECOVERED
        if not self.words:
            return UNHEALTHY
        last = self.words[-1]
        if last.by.startswith(f"{HEALTH_CHECK}/"):
            return WAITING_FOR_OWNER if last.reason == WAITING and not self._requested else REQUESTED
        return {"CannotBeRemediated": REFUSED, "RemediationDeferred": DEFERRED}.get(last.reason, WAITING_FOR_OWNER)

    @property
    def _requested(self) -> bool:
        return any(word.reason == "Requested" for word in self.words)

    @property
    def why(self) -> str:
        """Why the Machine was unhealthy, on one line."""
        text = self.message.removeprefix(FAILED_CHECK).replace("\n  * ", "; ").strip(" ;\n")
        return text or self.reason


@dataclass(slots=True)
class _Story:
    """Goes through steps in order of time and tells the remediations from them."""

    closed: list[Remediation] = field(default_factory=list)
    open: dict[str, Remediation] = field(default_factory=dict)
    awaiting: list[Remediation] = field(default_factory=list)

    def take(self, run: RunView, step: StepResult) -> None:
        key, by = ObjectKey.parse(step.target), short(run.record.key)
        if key.cluster:
            return
        if (key.group, key.kind) != MACHINE:
            if step.verb == "create" and run.record.kind == HEALTH_CHECK and self._machine_of(key) in self.open:
                self._say(self._machine_of(key), Word(_acted(run), by, "Requested", short(step.target)))
            return
        if step.verb == "create":
            self._successor(run, step)
        elif step.verb == "delete":
            self._gone(run, step)
        else:
            told = dict(_conditions(step.changes))
            if HEALTH in told and run.record.kind == HEALTH_CHECK:
                self._judged(run, step, told[HEALTH])
            for type_ in (OWNER, EXTERNAL) if run.record.kind in SPEAKERS else ():
                if told.get(type_, {}).get("reason") or told.get(type_, {}).get("message"):
                    self._handed(run, step.target, told[type_])

    @staticmethod
    def _machine_of(key: ObjectKey) -> str:
        return str(ObjectKey(*MACHINE, key.namespace, key.name))

    def _judged(self, run: RunView, step: StepResult, told: Mapping[str, Any]) -> None:
        held = self.open.get(step.target)
        if told.get("status") == "True":
            if held is not None:
                self.closed.append(replace(self.open.pop(step.target), recovered=_acted(run)))
        elif held is not None:
            self.open[step.target] = replace(held, reason=told.get("reason") or held.reason, message=told.get("message") or held.message)
        elif told.get("status") == "False":
            self.open[step.target] = Remediation(
                machine=step.target,
                cluster=run.record.cluster,
                check=short(run.record.key),
                began=_acted(run),
                reason=str(told.get("reason", "")),
                message=str(told.get("message", "")),
                cause=run.cause,
                intent=run.intent,
            )

    def _handed(self, run: RunView, target: str, told: Mapping[str, Any]) -> None:
        word = Word(_acted(run), short(run.record.key), str(told.get("reason") or ""), str(told.get("message") or ""))
        held = self.open.get(target)
        if held is not None and not any((one.reason, one.message) == (word.reason, word.message) for one in held.words[-1:]):
            last = held.words[-1].reason if held.words else ""
            self._say(target, replace(word, reason=word.reason or last))
            if run.record.kind != HEALTH_CHECK:
                self.open[target] = replace(self.open[target], owner=run.record.key)

    def _say(self, target: str, word: Word) -> None:
        held = self.open[target]
        self.open[target] = replace(held, words=(*held.words, word))

    def _gone(self, run: RunView, step: StepResult) -> None:
        held = self.open.get(step.target)
        if held is None or not held.words:
            return  # unhealthy, and deleted for another reason
        done = replace(self.open.pop(step.target), deleted=_acted(run), owner=run.record.key)
        self.awaiting.append(done)

    def _successor(self, run: RunView, step: StepResult) -> None:
        """The first Machine that the owner makes after the delete stands for the one that is gone."""
        found = next((one for one in self.awaiting if one.owner == run.record.key), None)
        if found is not None:
            self.awaiting.remove(found)
            self.closed.append(replace(found, replacement=step.target, replaced=_acted(run)))


def remediations(runs: Iterable[RunView], namespace: str = "", since: datetime | None = None) -> list[Remediation]:
    """Every remediation, by the time it began. ``namespace`` "" means all; ``since`` leaves out what ended, or was last spoken of, before."""
    story = _Story()
    for run in sorted(runs, key=_acted):
        for step in run.steps:
            if isinstance(step, StepResult) and step.outcome == "done" and step.status:
                # a request that was answered: what is done inside a process names no object
                story.take(run, step)
    found = [*story.closed, *story.awaiting, *story.open.values()]
    kept = [one for one in found if (not namespace or ObjectKey.parse(one.machine).namespace == namespace) and (since is None or _last(one) >= since)]
    return sorted(kept, key=lambda one: (one.began, one.machine))


def _acted(run: RunView) -> datetime:
    """When a run began to write. By its end it could not be told from one that its first write caused."""
    return run.planned.at if run.planned is not None else run.started


def _last(one: Remediation) -> datetime:
    return max(at for at in (one.began, one.deleted, one.replaced, one.recovered, *(word.at for word in one.words)) if at is not None)


def _conditions(changes: Mapping[str, tuple[Any, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The new values of conditions that a step changed, by type: of a condition that is new all fields, of others those that differ."""
    found: dict[str, dict[str, Any]] = {}
    for path, (_, after) in changes.items():
        if path == "status" and isinstance(after, Mapping):
            found |= {str(one.get("type")): dict(one) for one in after.get("conditions") or () if isinstance(one, Mapping)}
        elif path.startswith("status.conditions.["):
            type_, _, name = path.removeprefix("status.conditions.[").partition("]")
            if not name and isinstance(after, Mapping):
                found[type_] = dict(after)
            elif name and after is not None:
                found.setdefault(type_, {})[name.removeprefix(".")] = after
    yield from found.items()


def render(found: Iterable[Remediation]) -> Text:
    """The history as text, oldest first."""
    text = Text()
    for one in found:
        text.append(f"{_time(one.began)}  ").append(short(one.machine), style="bold").append(f" of {one.cluster}  ", style="dim")
        text.append(one.outcome, style=COLOURS.get(one.outcome, "bold")).append("\n")
        text.append("    why   ", style="dim").append(one.why).append(f"  ({one.reason} by {one.check})\n", style="dim")
        if one.cause:
            text.append("    cause ", style="dim").append(f"{one.cause}\n", style="dim")
        for word in one.words:
            text.append(f"    {_clock(word.at)}  ", style="dim").append(word.by).append(f": {word.reason}")
            text.append(f"  {word.message}\n" if word.message else "\n", style="dim")
        for at, what in ((one.deleted, "deleted"), (one.replaced, f"{short(one.replacement)} made in its place"), (one.recovered, "healthy again")):
            if at is not None:
                by = f"{short(one.owner)}: " if one.owner and at is not one.recovered else ""
                text.append(f"    {_clock(at)}  ", style="dim").append(f"{by}{what}")
                text.append(f"  after {(at - one.began).total_seconds():.1f} s\n", style="dim")
    text.rstrip()
    return text


def _time(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def _clock(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%H:%M:%S.%f")[:-3]


def as_json(one: Remediation) -> Mapping[str, Any]:
    """A remediation as plain data."""
    return {
        "machine": one.machine,
        "cluster": one.cluster,
        "outcome": one.outcome,
        "began": one.began.isoformat(),
        "check": one.check,
        "reason": one.reason,
        "message": one.message,
        "why": one.why,
        "owner": one.owner,
        "words": [{"at": word.at.isoformat(), "by": word.by, "reason": word.reason, "message": word.message} for word in one.words],
        "deleted": one.deleted.isoformat() if one.deleted is not None else None,
        "replacement": one.replacement,
        "replaced": one.replaced.isoformat() if one.replaced is not None else None,
        "recovered": one.recovered.isoformat() if one.recovered is not None else None,
        "cause": one.cause,
        "intent": one.intent,
    }
