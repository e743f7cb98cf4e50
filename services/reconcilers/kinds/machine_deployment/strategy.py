"""A rollout planned by an external strategy: what it is asked, what its answer comes to, and what is told of it.

Only where the rollout goes is the strategy's to say; the planner goes there within the bounds. It is asked while old revisions hold Machines, whenever
what it was told has changed, and when it wanted to be asked again. Without an answer, and with one that makes no sense, the rollout waits.

Source: roadmap row 27; Cluster API v1.14 runtime SDK (failure policy, retryAfterSeconds); docs/rollouts.md.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from fleetwake.conditions import FALSE, TRUE, UNKNOWN, ConditionValue, get, is_true
from fleetwake.plan import Local, Step
from schemas.api.core.v1beta2.machine import Machine
from schemas.api.core.v1beta2.machine_set import MachineSet
from schemas.keys import ObjectKey
from schemas.rollout_strategy import (
    PlanRolloutRequest,
    PlanRolloutResponse,
    RolloutDeployment,
    RolloutMachine,
    RolloutMachineSet,
)
from services.reconcilers.kinds.machine_deployment import revision
from services.reconcilers.kinds.machine_deployment.extension import Answer, Extension
from services.reconcilers.kinds.machine_deployment.observe import Observed
from services.reconcilers.kinds.machine_deployment.planner import Bounds, Targets
from services.reconcilers.kinds.machine_deployment.revision import Revisions

CONDITION = "UpgradeStrategyReady"
ASK = "ask_upgrade_strategy"
"""The local action that asks; its arguments are ``key``, ``digest``, ``url``, ``ca_bundle``, ``timeout_seconds`` and ``request``."""
ANSWER_VALID = timedelta(minutes=10)
"""How long an answer holds though nothing has changed."""
REFUSED_RETRY = timedelta(minutes=1)
"""When to ask again after a refusal without a time of its own, or an answer that makes no sense."""
FAILED_RETRY, FAILED_RETRY_MAX = timedelta(seconds=1), timedelta(minutes=5)
"""After a call that failed: the first pause, doubled with each failure in a row, and the longest."""
PROBLEMS_MAX = 3


@dataclass(frozen=True, slots=True)
class Consultation:
    """What a strategy wants: targets (sets it does not name keep their replicas; None: RollingUpdate's), why, what is told, and what is still asked."""

    targets: Targets | None
    told: ConditionValue
    reasons: Mapping[str, str] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()
    wait: timedelta | None = None


def consult(observed: Observed, revisions: Revisions, bounds: Bounds) -> Consultation | None:
    """What the external strategy of a MachineDeployment wants; None when it has none."""
    found, new = observed.extension, revisions.new
    if found is None:
        return None
    if not rolling(revisions):
        return Consultation(None, ConditionValue(CONDITION, TRUE, "NotRollingOut"))
    if found.problem:
        return Consultation({}, ConditionValue(CONDITION, FALSE, found.reason, found.problem))
    if revision.strategy_type(observed.deployment) != "RollingUpdate":
        message = f"Strategy {found.name} needs the bounds of RollingUpdate, spec.rollout.strategy.type is {revision.strategy_type(observed.deployment)}"
        return Consultation({}, ConditionValue(CONDITION, FALSE, "BoundsMissing", message))
    if new is None:
        # its MachineSet is made first: a strategy speaks of what there is
        return Consultation({}, _asking(observed, found))
    return _consult(observed, revisions, bounds, found)


def rolling(revisions: Revisions) -> bool:
    """Whether old revisions still hold Machines."""
    return any(one.spec.replicas or one.status.replicas for one in revisions.old)


def _consult(observed: Observed, revisions: Revisions, bounds: Bounds, found: Extension) -> Consultation:
    request = question(observed, revisions, bounds)
    digest = _digest(found, request)
    answer = found.told.answer
    if answer is None or answer.digest != digest:
        return Consultation({}, _asking(observed, found), steps=_ask(observed, found, request, digest))
    judged, wait = _judged(answer, revisions, bounds, found)
    left = answer.at + min(wait, ANSWER_VALID) - observed.at
    if left > timedelta(0):
        return Consultation(judged.targets, judged.told, judged.reasons, wait=left)
    return Consultation(judged.targets, judged.told, judged.reasons, steps=_ask(observed, found, request, digest))


def _judged(answer: Answer, revisions: Revisions, bounds: Bounds, found: Extension) -> tuple[Consultation, timedelta]:
    """What an answer comes to, and after which time the same question is asked again."""
    if answer.error:
        pause = min(FAILED_RETRY * 2 ** min(max(answer.failures - 1, 0), 16), FAILED_RETRY_MAX)
        if found.ignores_failures:
            told = ConditionValue(CONDITION, FALSE, "CallFailedIgnored", f"Strategy {found.name}: {answer.error}; RollingUpdate is followed meanwhile")
            return Consultation(None, told), pause
        return Consultation({}, ConditionValue(CONDITION, FALSE, "CallFailed", f"Strategy {found.name}: {answer.error}")), pause
    try:
        response = PlanRolloutResponse.model_validate(answer.body)
    except ValidationError as error:
        problems = [f"{'.'.join(str(part) for part in one['loc']) or 'document'}: {one['msg']}" for one in error.errors(include_input=False)]
        return _invalid(found, problems)
    if response.status == "Failure":
        told = ConditionValue(CONDITION, FALSE, "StrategyFailed", f"Strategy {found.name}: {response.message or 'no reason given'}")
        return Consultation({}, told), timedelta(seconds=response.retry_after_seconds) or REFUSED_RETRY
    problems = list(_nonsense(response, revisions, bounds))
    if problems:
        return _invalid(found, problems)
    targets = {one.name: one.replicas for one in response.machine_sets}
    reasons = {one.name: f"strategy {found.name}{': ' if one.reason else ''}{one.reason}" for one in response.machine_sets}
    told = ConditionValue(CONDITION, TRUE, "Answered", response.message)
    return Consultation(targets, told, reasons), timedelta(seconds=response.retry_after_seconds) or ANSWER_VALID


def _invalid(found: Extension, problems: list[str]) -> tuple[Consultation, timedelta]:
    more = [f"... ({len(problems) - PROBLEMS_MAX} more)"] if len(problems) > PROBLEMS_MAX else []
    lines = "\n".join(f"* {problem}" for problem in (*problems[:PROBLEMS_MAX], *more))
    message = f"Strategy {found.name} gave an answer that is not followed:\n{lines}"
    return Consultation({}, ConditionValue(CONDITION, FALSE, "InvalidAnswer", message)), REFUSED_RETRY


def _nonsense(response: PlanRolloutResponse, revisions: Revisions, bounds: Bounds) -> Iterable[str]:
    """Why an answer cannot be meant: it speaks of what is not there, or asks for what a rollout never does."""
    sets: dict[str, MachineSet] = {one.name: one for one in (*revisions.old, *((revisions.new,) if revisions.new is not None else ()))}
    for name, times in Counter(one.name for one in response.machine_sets).items():
        if times > 1:
            yield f"MachineSet {name} is named {times} times"
    for one in response.machine_sets:
        known = sets.get(one.name)
        if known is None:
            yield f"MachineSet {one.name} is none of this MachineDeployment"
        elif known is revisions.new and one.replicas > bounds.replicas:
            yield f"MachineSet {one.name} shall have {one.replicas} replicas, the MachineDeployment wants {bounds.replicas}"
        elif known is not revisions.new and one.replicas > (known.spec.replicas or 0):
            yield f"MachineSet {one.name} is of an old revision and shall grow from {known.spec.replicas or 0} to {one.replicas}"


def _asking(observed: Observed, found: Extension) -> ConditionValue:
    """What is told while a question is under way: what was told before, so that a rollout costs no write per question."""
    stored = get(observed.stored.status.conditions, CONDITION)
    if stored is not None and stored.reason != "NotRollingOut":
        return ConditionValue(CONDITION, stored.status, stored.reason, stored.message)
    return ConditionValue(CONDITION, UNKNOWN, "Asking", f"Strategy {found.name} is being asked")


def _ask(observed: Observed, found: Extension, request: Mapping[str, Any], digest: str) -> tuple[Step, ...]:
    if found.told.asking == digest:
        return ()
    deployment = observed.deployment
    arguments = {
        "key": str(ObjectKey(deployment.GROUP, deployment.KIND, deployment.namespace, deployment.name)),
        "digest": digest,
        "url": found.url,
        "ca_bundle": found.ca_bundle,
        "timeout_seconds": found.timeout_seconds,
        "request": request,
    }
    return (Local(ASK, f"strategy {found.name} plans the rollout", arguments),)


def _digest(found: Extension, request: Mapping[str, Any]) -> str:
    text = json.dumps([found.url, found.ca_bundle, request], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def question(observed: Observed, revisions: Revisions, bounds: Bounds) -> dict[str, Any]:
    """What a strategy is asked, as JSON: the same as long as nothing changes that it may plan by."""
    deployment, new = observed.deployment, revisions.new
    asked = PlanRolloutRequest(
        settings=observed.extension.settings if observed.extension is not None else {},
        machine_deployment=RolloutDeployment(
            namespace=deployment.namespace,
            name=deployment.name,
            uid=deployment.metadata.uid,
            cluster_name=deployment.spec.cluster_name,
            replicas=bounds.replicas,
            max_surge=bounds.surge,
            max_unavailable=bounds.unavailable,
            labels=deployment.metadata.labels,
        ),
        machine_sets=tuple(
            _machine_set(one, observed.machines, current=one is new)
            for one in (*revisions.old, *((new,) if new is not None else ()))
            if not one.metadata.deleting
        ),
    )
    return asked.model_dump(mode="json", by_alias=True, exclude_none=True)


def _machine_set(one: MachineSet, machines: Iterable[Machine], *, current: bool) -> RolloutMachineSet:
    mine = [machine for machine in machines if machine.metadata.controller is not None and machine.metadata.controller.uid == one.metadata.uid]
    return RolloutMachineSet(
        name=one.name,
        current=current,
        revision=str(revision.number(one) or ""),
        version=one.spec.template.spec.version or None,
        replicas=one.spec.replicas or 0,
        creation_timestamp=one.metadata.creation_timestamp,
        machines=tuple(_machine(machine) for machine in mine),
    )


def _machine(machine: Machine) -> RolloutMachine:
    available = is_true(machine.status.conditions, "Available") and not machine.metadata.deleting
    since = get(machine.status.conditions, "Available") if available else None
    at: datetime | None = since.last_transition_time if since is not None else None
    return RolloutMachine(
        name=machine.name,
        creation_timestamp=machine.metadata.creation_timestamp,
        available=available,
        available_since=at,
        deleting=machine.metadata.deleting,
        failure_domain=machine.status.failure_domain or machine.spec.failure_domain or None,
    )
