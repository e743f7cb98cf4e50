"""A MachineDeployment's status: counters summed over its MachineSets, conditions and phase, in one write.

Source: kinds.md §4 "Conditions"; Cluster API v1.14 condition messages of MachineDeployment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from fleetwake.conditions import FALSE, TRUE, UNKNOWN, ConditionValue, get, merge
from fleetwake.patches import Informing, status_apply
from fleetwake.pausing import OwnedStatus, paused_condition
from fleetwake.plan import Apply, soonest
from schemas.api.core.v1beta2.machine import Machine
from schemas.api.core.v1beta2.machine_set import MachineSet
from services.reconcilers.kinds.machine_deployment import legacy
from services.reconcilers.kinds.machine_deployment.observe import Observed
from services.reconcilers.kinds.machine_deployment.planner import Bounds
from services.reconcilers.kinds.machine_deployment.revision import MANAGER, strategy_type
from services.reconcilers.kinds.machine_deployment.strategy import CONDITION as STRATEGY_READY
from services.reconcilers.kinds.machine_deployment.template import version_first
from services.reconcilers.kinds.machine_set import legacy as machines_legacy
from services.reconcilers.kinds.machine_set import members

OWNED = OwnedStatus(
    manager=MANAGER,
    fields=("selector", "replicas", "readyReplicas", "availableReplicas", "upToDateReplicas", "versions", "phase", "observedGeneration", "deprecated"),
    condition_types=(
        "Paused",
        "Available",
        "RollingOut",
        "ScalingUp",
        "ScalingDown",
        "MachinesReady",
        "MachinesUpToDate",
        "Remediating",
        "Deleting",
        STRATEGY_READY,
    ),
    conditional=(STRATEGY_READY,),
)
INFORMING = Informing(
    fields=frozenset(OWNED.fields) - {"observedGeneration"}, conditions=frozenset(OWNED.condition_types) - {"Available", "Deleting", "Paused", STRATEGY_READY}
)
"""Users and the Cluster wait for Available, tools that changed the spec for observedGeneration."""
FIRST = Informing(frozenset(OWNED.fields), INFORMING.conditions)
"""In a first status nothing answers to a change yet."""


def status(observed: Observed, bounds: Bounds, new: MachineSet | None, strategy: ConditionValue | None = None) -> tuple[Apply | None, timedelta | None]:
    """The status write if one is needed, and when to look again. ``strategy`` is what is told of an external strategy."""
    counters = _counters(observed, new)
    wanted = (*_conditions(observed, bounds, counters), *((strategy,) if strategy is not None else ()))
    stored, counted = observed.stored, _legacy_counters(observed, new)
    conditions, held = members.settled(stored.status.conditions, wanted, observed.machines, observed.at)
    merged = merge(stored.status.conditions, conditions, stored.metadata.generation, observed.at)
    fields = {**counters, "observedGeneration": stored.metadata.generation, "conditions": merged}
    gone = {STRATEGY_READY} - {one.type for one in conditions}
    informing = INFORMING if stored.status.observed_generation else FIRST

    def apply(older: list[dict[str, Any]]) -> Apply | None:
        deprecated = {"v1beta1": {**counted, "conditions": older}}
        return status_apply(stored, MANAGER, {**fields, "deprecated": deprecated}, absent_conditions=gone, informing=informing)

    have = stored.status.deprecated.v1beta1.conditions
    newest = [one for one in observed.machines if new is not None and one.metadata.controller is not None and one.metadata.controller.uid == new.metadata.uid]
    step, wait = machines_legacy.told(apply, have, legacy.legacy(conditions, new, newest), observed.machines, observed.at)
    return step, soonest(held, wait)


def total(machine_sets: Sequence[MachineSet], field: str) -> int | None:
    """The sum of a status counter over those MachineSets that report it; None when none does."""
    reported = [value for one in machine_sets if (value := getattr(one.status, field)) is not None]
    return sum(reported) if reported else None


def _counters(observed: Observed, new: MachineSet | None) -> dict[str, Any]:
    machine_sets, deployment = observed.machine_sets, observed.deployment
    replicas = total(machine_sets, "replicas")
    versions = members.versions((entry.version, entry.replicas or 0) for one in machine_sets for entry in one.status.versions)
    return {
        "selector": deployment.spec.selector.format(),
        "replicas": replicas,
        "readyReplicas": total(machine_sets, "ready_replicas"),
        "availableReplicas": total(machine_sets, "available_replicas"),
        # Machines learn a moment after their deployment that they are of an old revision: it does not call them up to date until then
        "upToDateReplicas": (new.status.up_to_date_replicas or 0) if new is not None else 0,
        "versions": versions or None,
        "phase": _phase(deployment.metadata.deleting, deployment.spec.replicas or 0, replicas or 0),
    }


def _legacy_counters(observed: Observed, new: MachineSet | None) -> dict[str, int]:
    machine_sets = observed.machine_sets
    available = total(machine_sets, "available_replicas") or 0
    return {
        "updatedReplicas": (new.status.replicas or 0) if new is not None else 0,
        "readyReplicas": total(machine_sets, "ready_replicas") or 0,
        "availableReplicas": available,
        "unavailableReplicas": max(sum(one.spec.replicas or 0 for one in machine_sets) - available, 0),
    }


def _phase(deleting: bool, wanted: int, current: int) -> str:
    if deleting or wanted < current:
        return "ScalingDown"
    return "Running" if wanted == current else "ScalingUp"


def _conditions(observed: Observed, bounds: Bounds, counters: Mapping[str, Any]) -> tuple[ConditionValue, ...]:
    deployment, machines, at = observed.deployment, observed.machines, observed.at
    wanted = 0 if deployment.metadata.deleting else bounds.replicas
    current = counters["replicas"] or 0
    sets_left = f"Deleting {len(observed.machine_sets)} MachineSets" if observed.machine_sets else ""
    return (
        paused_condition(deployment, observed.cluster),
        _available(observed, bounds, counters["availableReplicas"]),
        rolling_out(machines),
        _scaling_up(observed, wanted, current),
        members.scaling_down(current, wanted, machines, at),
        members.machines_ready(machines),
        members.machines_up_to_date(machines, at),
        members.remediating(machines, "MachineDeployment/MachineSet"),
        members.deleting(deployment, machines, at, sets_left),
    )


def _available(observed: Observed, bounds: Bounds, available: int | None) -> ConditionValue:
    if available is None:
        return ConditionValue("Available", UNKNOWN, "WaitingForAvailableReplicasSet", "Waiting for status.availableReplicas set")
    needed = bounds.replicas - bounds.unavailable
    if available >= needed:
        return ConditionValue("Available", TRUE, "Available")
    message = f"{available} available replicas, at least {needed} required"
    strategy = observed.deployment.spec.rollout.strategy
    if strategy is not None and strategy_type(observed.deployment) == "RollingUpdate":
        message += f" (spec.strategy.rollout.maxUnavailable is {strategy.rolling_update.max_unavailable}, spec.replicas is {bounds.replicas})"
    if observed.deployment.metadata.deleting:
        message = "Deletion in progress"
    return ConditionValue("Available", FALSE, "NotAvailable", message)


def rolling_out(machines: Sequence[Machine]) -> ConditionValue:
    """RollingOut: how many Machines are not up to date, and in what."""
    judged = [get(machine.status.conditions, "UpToDate") for machine in machines]
    outdated = [condition for condition in judged if condition is not None and condition.status == FALSE]
    if not outdated:
        return ConditionValue("RollingOut", FALSE, "NotRollingOut")
    reasons = {line for condition in outdated if condition.message for line in condition.message.split("\n")}
    message = "\n".join([f"Rolling out {len(outdated)} not up-to-date replicas", *version_first(reasons)])
    return ConditionValue("RollingOut", TRUE, "RollingOut", message)


def _scaling_up(observed: Observed, wanted: int, current: int) -> ConditionValue:
    spec = observed.deployment.spec.template.spec
    absent = members.missing_templates(spec, observed.deployment.namespace, observed.bootstrap_template_missing, observed.infrastructure_template_missing)
    if current >= wanted:
        told = absent and not observed.deployment.metadata.deleting
        return ConditionValue("ScalingUp", FALSE, "NotScalingUp", f"Scaling up would be blocked because {absent}" if told else "")
    failed = f"{observed.failure.operation}: {observed.failure.message}" if observed.failure is not None else ""
    blocker = absent or failed
    message = f"Scaling up from {current} to {wanted} replicas" + (f" is blocked because {blocker}" if blocker else "")
    return ConditionValue("ScalingUp", TRUE, "ScalingUp", message)


def sets_behind(observed: Observed) -> timedelta | None:
    """How long to wait for MachineSets that have not yet counted what just happened to their Machines; None when there is nothing to wait for.

    Their own status write wakes the deployment: until then its counters and its conditions would contradict each other, at the price of a write.
    """
    uids = {one.metadata.uid for one in observed.machine_sets}
    mine = [one for one in observed.machines if one.metadata.controller is not None and one.metadata.controller.uid in uids]
    counted = members.counters(mine)
    silent = [one for one in observed.machine_sets if one.status.observed_generation is None]
    if not silent and all((total(observed.machine_sets, field) or 0) == number for field, number in counted.items()):
        return None
    ages = [members.QUIET_AFTER - (observed.at - one.metadata.creation_timestamp) for one in silent if one.metadata.creation_timestamp is not None]
    left = max([members.quiet_in(observed.machines, observed.at), *ages])
    return left if left > timedelta(0) else None
