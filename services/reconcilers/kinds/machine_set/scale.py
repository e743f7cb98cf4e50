"""Bring the number of Machines to spec.replicas, repair Machines whose objects are missing, remove objects that have lost their Machine.

Source: kinds.md §3 "Scale up", "Scale down priority".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from fleetwake import labels
from fleetwake.cloning import made_kind
from fleetwake.patches import api_version_of, key_of
from fleetwake.plan import Delete, Step, Together
from schemas.api.core.v1beta2.machine import Machine
from services.reconcilers.kinds.machine_set import deletion_order, machine
from services.reconcilers.kinds.machine_set.members import missing_templates
from services.reconcilers.kinds.machine_set.observe import Observed, machine_references, reference_key
from services.reconcilers.kinds.machine_set.remediate import PREFLIGHT_RETRY


@dataclass(frozen=True, slots=True)
class Scaling:
    """Steps towards spec.replicas; ``blockers`` tell why no Machine is made although some are missing."""

    steps: tuple[Step, ...] = ()
    blockers: tuple[str, ...] = ()
    wait: timedelta | None = None


def missing(observed: Observed) -> str:
    """Which templates do not exist, for conditions."""
    spec = observed.machine_set.spec.template.spec
    return missing_templates(spec, observed.machine_set.namespace, observed.bootstrap_template_missing, observed.infrastructure_template_missing)


def scale(observed: Observed, blockers: Sequence[str], going: frozenset[str]) -> Scaling:
    """Make or delete Machines. ``blockers`` are failed preflight checks, ``going`` the Machines this run already deletes."""
    wanted = observed.machine_set.spec.replicas or 0
    short = wanted - len(observed.machines)
    if short > 0:
        return _grow(observed, short, blockers)
    pending = 0
    if observed.machine_set.annotated(labels.RECEIVE_MACHINES_FROM_MACHINE_SETS):
        pending = sum(one.annotated(labels.PENDING_ACKNOWLEDGE_MOVE) for one in observed.machines)
    return Scaling(_shrink(observed, -short - pending, going))


def _grow(observed: Observed, number: int, blockers: Sequence[str]) -> Scaling:
    machine_set = observed.machine_set
    if machine_set.metadata.annotations.get(labels.DISABLE_MACHINE_CREATE) == "true":
        return Scaling()
    stops = list(blockers)
    if missing(observed):
        stops.append(missing(observed))
    if observed.failure is not None:
        stops.append(f"{observed.failure.operation}: {observed.failure.message}")
    names: tuple[str, ...] = ()
    try:
        names = machine.machine_names(observed, number)
    except ValueError as error:
        stops.append(str(error))
    if stops:
        return Scaling(blockers=tuple(stops), wait=PREFLIGHT_RETRY if blockers else None)
    reason = f"{len(observed.machines)} of {machine_set.spec.replicas} Machines exist"
    return Scaling((Together(tuple(machine.create(observed, name, reason) for name in names), reason=reason),))


def _shrink(observed: Observed, number: int, going: frozenset[str]) -> tuple[Step, ...]:
    """Delete the ``number`` Machines that rank first; those already going rank before all others and need nothing more."""
    if number <= 0:
        return ()
    gone = [one for one in observed.machines if one.metadata.deleting or one.name in going]
    living = [one for one in observed.machines if one not in gone]
    picked = deletion_order.in_order(living, observed.machine_set.spec.deletion.order, observed.at)[: max(number - len(gone), 0)]
    reason = f"{len(observed.machines)} Machines exist, {observed.machine_set.spec.replicas} are wanted"
    return together([delete(one, reason) for one in picked], reason)


def delete(one: Machine, reason: str) -> Delete:
    """Delete a Machine exactly as observed."""
    return Delete(key_of(one), api_version_of(one), one.metadata.uid, reason, resource_version=one.metadata.resource_version)


def together(steps: Sequence[Step], reason: str) -> tuple[Step, ...]:
    """Steps that do not depend on each other, as one; nothing for none."""
    return (Together(tuple((step,) for step in steps), reason=reason),) if steps else ()


def repair(observed: Observed) -> tuple[Step, ...]:
    """Make the objects that a Machine names and that do not exist, while its latch says they never were seen ready.

    Once the latch is set a missing object means that somebody took the host away: that is for health checks, not for a second host.
    """
    steps: list[Step] = []
    for one in observed.machines:
        if one.metadata.deleting or one.metadata.controller is None or observed.failure is not None:
            continue
        started = one.status.initialization
        for step in machine.objects(observed, key_of(one), one.metadata.uid):
            named = next((ref for ref in machine_references(one) if reference_key(ref, one.namespace) == step.key), None)
            seen = started.infrastructure_provisioned if named is one.spec.infrastructure_ref else started.bootstrap_data_secret_created
            if named is not None and not seen and step.key not in observed.objects:
                steps.append(step)
    return together(steps, "objects that Machines name are missing")


def orphans(observed: Observed) -> tuple[Step, ...]:
    """Delete infrastructure and bootstrap objects still owned by the MachineSet itself that no Machine names (a creation that never finished)."""
    kinds = {made_kind(one) for one in (observed.bootstrap_template, observed.infrastructure_template) if one is not None}
    named = {reference_key(ref, one.namespace) for one in observed.machines for ref in machine_references(one)}
    found = [
        one
        for one in observed.own_objects
        if one.key.group_kind in kinds and one.key not in named and not one.metadata.deleting and one.metadata.controller is None
    ]
    reason = "no Machine names the object"
    return together([Delete(one.key, one.api_version, one.metadata.uid, reason, one.metadata.resource_version) for one in found], reason)
