"""The conditions of the v1beta1 contract of a MachineSet, and what the owners of Machines share of it.

Source: contracts.md §10; Cluster API v1.14 machineset controller (v1beta1 condition types, reasons, severities).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from fleetwake import legacy_conditions
from fleetwake.conditions import TRUE, get
from fleetwake.legacy_conditions import ERROR, INFO, READY, WARNING, Legacy, aggregate, bad, good, stored, summary, unknown
from fleetwake.plan import Apply
from schemas.api.core.v1beta2.machine import Machine
from schemas.api.core.v1beta2.machine_set import MachineSet
from schemas.api.meta import LegacyCondition
from services.reconcilers.kinds.machine_set import members
from services.reconcilers.kinds.machine_set.observe import Observed
from services.reconcilers.kinds.machine_set.scale import missing

MACHINES_CREATED, MACHINES_READY, RESIZED = "MachinesCreated", "MachinesReady", "Resized"
SCALING_UP, SCALING_DOWN = "ScalingUp", "ScalingDown"


SUMMED = (MACHINES_CREATED, RESIZED, MACHINES_READY)


def ready_of(machine: Machine) -> Legacy | None:
    """The Ready condition of a Machine as it is stored, of one that has none (yet) by today's; None when it tells nothing."""
    found = stored(machine.status.deprecated.v1beta1.conditions, READY)
    told = get(machine.status.conditions, READY)
    if found is not None or told is None:
        return found
    if told.status == TRUE:
        return good(READY)
    return bad(READY, INFO, told.reason, told.message) if told.status == "False" else unknown(READY, told.reason, told.message)


def machines_ready(machines: Sequence[Machine]) -> tuple[Legacy, ...]:
    """MachinesReady over the Machines there are; with none, nothing is missing."""
    return aggregate(MACHINES_READY, [(f"Machine/{one.name}", ready_of(one)) for one in machines]) if machines else (good(MACHINES_READY),)


def resized(have: Iterable[LegacyCondition], wanted: int, current: int, ready: int) -> Legacy:
    """Resized: as many Machines as wanted, each of them ready once. One that gets sick later does not undo it."""
    if current != wanted:
        return bad(RESIZED, WARNING, SCALING_UP if current < wanted else SCALING_DOWN, f"{wanted} replicas are wanted, {current} exist")
    before = stored(have, RESIZED)
    if ready == current or (before is not None and before.true):
        return good(RESIZED)
    return bad(RESIZED, WARNING, before.reason if before is not None else SCALING_UP, f"{ready} of {current} replicas are ready")


def legacy(observed: Observed, blockers: Sequence[str], ready: int) -> tuple[Legacy, ...]:
    """All of them, Ready the last. ``ready``: how many Machines are."""
    machine_set, machines = observed.machine_set, observed.machines
    wanted = 0 if machine_set.metadata.deleting else machine_set.spec.replicas or 0
    have = observed.stored.status.deprecated.v1beta1.conditions
    created = _created(observed, blockers) if len(machines) < wanted else good(MACHINES_CREATED)
    found = (created, resized(have, wanted, len(machines), ready), *machines_ready(machines))
    return (*found, *summary(SUMMED, found))


def ready_by(machine_set: MachineSet, machines: Sequence[Machine]) -> tuple[Legacy, ...]:
    """The Ready condition that a MachineSet will tell of these Machines: who looks at them needs not wait for its status."""
    have = machine_set.status.deprecated.v1beta1.conditions
    wanted = 0 if machine_set.metadata.deleting else machine_set.spec.replicas or 0
    refused = stored(have, MACHINES_CREATED) if len(machines) < wanted else None
    ready = members.counters(machines)["ready_replicas"]
    return summary(SUMMED, (refused or good(MACHINES_CREATED), resized(have, wanted, len(machines), ready), *machines_ready(machines)))


def _created(observed: Observed, blockers: Sequence[str]) -> Legacy:
    absent = missing(observed)
    if absent:
        part = "Bootstrap" if observed.bootstrap_template_missing else "Infrastructure"
        return bad(MACHINES_CREATED, ERROR, f"{part}TemplateCloningFailed", absent)
    if observed.failure is not None:
        return bad(MACHINES_CREATED, ERROR, "MachineCreationFailed", f"{observed.failure.operation}: {observed.failure.message}")
    return bad(MACHINES_CREATED, ERROR, "PreflightCheckFailed", "; ".join(blockers)) if blockers else good(MACHINES_CREATED)


def told(
    apply: Callable[[list[dict[str, Any]]], Apply | None], have: Iterable[LegacyCondition], values: Sequence[Legacy], machines: Iterable[Machine], at: datetime
) -> tuple[Apply | None, timedelta | None]:
    """The status write with the older conditions in it, and when to look again.

    Their words come along with whatever else is written. Alone they wait until nothing happens to the Machines any more, as other words do.
    """
    step = apply(legacy_conditions.wire(have, values, at))
    if step is None or apply(legacy_conditions.wire(have, values, at, settled=False)) is not None:
        return step, None
    left = members.quiet_in(machines, at)
    return (None, left) if left > timedelta(0) else (step, None)
