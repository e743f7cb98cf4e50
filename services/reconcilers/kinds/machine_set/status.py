"""A MachineSet's status: counters, selector, versions and conditions, in one write.

Source: kinds.md §3 "Status"; Cluster API v1.14 condition messages of MachineSet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from pydantic.alias_generators import to_camel, to_snake

from fleetwake import labels
from fleetwake.amount import scaled
from fleetwake.conditions import FALSE, TRUE, ConditionValue, is_true, merge
from fleetwake.patches import Informing, status_apply
from fleetwake.pausing import OwnedStatus, paused_condition
from fleetwake.plan import Apply, soonest
from services.reconcilers.kinds.machine_set import legacy, members
from services.reconcilers.kinds.machine_set.machine import MANAGER
from services.reconcilers.kinds.machine_set.observe import Observed
from services.reconcilers.kinds.machine_set.scale import missing

OWNED = OwnedStatus(
    manager=MANAGER,
    fields=("selector", "replicas", "readyReplicas", "availableReplicas", "upToDateReplicas", "versions", "observedGeneration", "deprecated"),
    condition_types=("Paused", "ScalingUp", "ScalingDown", "MachinesReady", "MachinesUpToDate", "Remediating", "Deleting"),
)
INFORMING = frozenset(("selector", "versions", "deprecated"))
COUNTERS = ("replicas", "readyReplicas", "availableReplicas", "upToDateReplicas")


def status(observed: Observed, blockers: Sequence[str], observed_generation: int | None) -> tuple[Apply | None, timedelta | None]:
    """The status write if one is needed, and when to look again. ``blockers`` tell why Machines that are missing are not made."""
    wanted = _conditions(observed, blockers)
    stored = observed.stored
    conditions, held = members.settled(stored.status.conditions, wanted, observed.machines, observed.at)
    merged = merge(stored.status.conditions, conditions, stored.metadata.generation, observed.at)
    fields = {**_counters(observed), "observedGeneration": observed_generation, "conditions": merged}
    counted = _legacy_counters(observed, fields)

    def apply(older: list[dict[str, Any]]) -> Apply | None:
        deprecated = {"v1beta1": {**counted, "conditions": older}}
        return status_apply(stored, MANAGER, {**fields, "deprecated": deprecated}, informing=_informing(observed, fields))

    have = stored.status.deprecated.v1beta1.conditions
    step, wait = legacy.told(apply, have, legacy.legacy(observed, blockers, fields["readyReplicas"]), observed.machines, observed.at)
    return step, soonest(held, wait)


def _informing(observed: Observed, fields: Mapping[str, Any]) -> Informing:
    """What of the status nobody waits for: while the first Machines come up, the counters on their way to what was asked for.

    A deployment that rolls out, or may be short of Machines, waits for each of them; and for the first that make it Available.
    """
    stored, deployment = observed.stored.status, observed.deployment
    wanted = observed.machine_set.spec.replicas or 0
    strategy = deployment.spec.rollout.strategy if deployment is not None else None
    spare = scaled(strategy.rolling_update.max_unavailable, wanted, up=False) if strategy is not None else 0
    rolling = deployment is not None and is_true(deployment.status.conditions, "RollingOut")
    growing = all(fields[name] >= (getattr(stored, to_snake(name)) or 0) for name in COUNTERS)
    reached = fields["availableReplicas"] != (stored.available_replicas or 0) and fields["availableReplicas"] >= wanted - spare
    counters = COUNTERS if growing and not rolling and not reached else ()
    first = () if stored.observed_generation else ("observedGeneration",)
    return Informing(INFORMING | {*counters, *first}, frozenset(OWNED.condition_types) - {"Deleting", "Paused"})


def _counters(observed: Observed) -> dict[str, Any]:
    machine_set, machines = observed.machine_set, observed.machines
    counted = members.counters(machines)
    return {
        "selector": machine_set.spec.selector.format(),
        **{to_camel(name): value for name, value in counted.items()},
        "versions": members.versions((one.spec.version or "", 1) for one in machines) or None,
    }


def _legacy_counters(observed: Observed, fields: Mapping[str, Any]) -> dict[str, int]:
    template = observed.machine_set.spec.template.metadata.labels
    labelled = sum(all(one.metadata.labels.get(key) == value for key, value in template.items()) for one in observed.machines)
    return {"fullyLabeledReplicas": labelled, "readyReplicas": fields["readyReplicas"], "availableReplicas": fields["availableReplicas"]}


def _conditions(observed: Observed, blockers: Sequence[str]) -> tuple[ConditionValue, ...]:
    machine_set, machines, at = observed.machine_set, observed.machines, observed.at
    wanted = 0 if machine_set.metadata.deleting else machine_set.spec.replicas or 0
    counted = sum(not one.annotated(labels.PENDING_ACKNOWLEDGE_MOVE) for one in machines)
    return (
        paused_condition(machine_set, observed.cluster),
        _scaling_up(observed, wanted, blockers),
        members.scaling_down(counted, wanted, machines, at),
        members.machines_ready(machines),
        members.machines_up_to_date(machines, at),
        members.remediating(machines, "MachineSet"),
        members.deleting(machine_set, machines, at),
    )


def _scaling_up(observed: Observed, wanted: int, blockers: Sequence[str]) -> ConditionValue:
    current = len(observed.machines)
    if current >= wanted:
        absent = "" if observed.machine_set.metadata.deleting else missing(observed)
        return ConditionValue("ScalingUp", FALSE, "NotScalingUp", f"Scaling up would be blocked because {absent}" if absent else "")
    message = f"Scaling up from {current} to {wanted} replicas"
    if blockers:
        message += " is blocked because:\n" + "\n".join(f"* {blocker}" for blocker in blockers)
    return ConditionValue("ScalingUp", TRUE, "ScalingUp", message)
