"""Replace Machines that a health check handed to their MachineSet: by deleting them, a limited number at once.

The scale up that follows makes the replacement. Which Machines are handed over is decided by the MachineHealthCheck.

Source: kinds.md §3 "Remediation (owner side)"; Cluster API v1.14 MachineSet condition reasons and messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from fleetwake import labels
from fleetwake.amount import scaled
from fleetwake.conditions import FALSE, ConditionValue, get, is_false, is_true, merge
from fleetwake.patches import api_version_of, key_of, status_apply, wire
from fleetwake.plan import Delete, Patch, Step
from schemas.api.core.v1beta2.machine import Machine
from services.reconcilers.kinds.machine_set.machine import MANAGER
from services.reconcilers.kinds.machine_set.members import HEALTH_CHECK_SUCCEEDED, OWNER_REMEDIATED, to_be_remediated
from services.reconcilers.kinds.machine_set.observe import Observed

PREFLIGHT_RETRY = timedelta(seconds=15)
CANNOT_BE_REMEDIATED, DEFERRED, MACHINE_DELETING = "CannotBeRemediated", "RemediationDeferred", "MachineDeleting"


@dataclass(frozen=True, slots=True)
class Remediation:
    """What to do about handed-over Machines: steps, the names of those that go, and when to look again."""

    steps: tuple[Step, ...] = ()
    going: frozenset[str] = frozenset()
    wait: timedelta | None = None


def remediate(observed: Observed, blockers: Sequence[str]) -> Remediation:
    """Decide about every handed-over Machine; ``blockers`` are the failed preflight checks."""
    living = [machine for machine in observed.machines if not machine.metadata.deleting]
    recovered = tuple(step for machine in living if (step := forget(machine)) is not None)
    handed = sorted((machine for machine in living if to_be_remediated(machine)), key=_order)
    if not handed:
        return Remediation(recovered)
    if observed.of_deployment and not current_revision(observed):
        message = "Machine won't be remediated because it is pending removal due to rollout"
        return Remediation((*recovered, *_tell(handed, CANNOT_BE_REMEDIATED, message, observed.at)))
    room = _room(observed, len(handed))
    now, later = handed[:room], handed[room:]
    limit = observed.deployment.spec.remediation.max_in_flight if observed.deployment is not None else None
    crowded = f"Waiting because there are already too many remediations in progress (spec.strategy.remediation.maxInFlight is {limit})"
    steps = (*recovered, *_tell(later, DEFERRED, crowded, observed.at))
    if now and blockers:
        message = "\n".join(f"* {blocker}" for blocker in blockers)
        return Remediation((*steps, *_tell(now, DEFERRED, message, observed.at)), wait=PREFLIGHT_RETRY)
    told = _tell(now, MACHINE_DELETING, "Machine is deleting", observed.at)
    deletes = tuple(Delete(key_of(machine), api_version_of(machine), machine.metadata.uid, "a health check handed the Machine over") for machine in now)
    return Remediation((*steps, *told, *deletes), frozenset(machine.name for machine in now))


def current_revision(observed: Observed) -> bool:
    """Whether the MachineSet is the revision its MachineDeployment rolls out."""
    deployment = observed.deployment
    return deployment is not None and deployment.metadata.annotations.get(labels.REVISION) == observed.machine_set.metadata.annotations.get(labels.REVISION)


def _room(observed: Observed, everyone: int) -> int:
    """How many more Machines may be remediated now; without a limit all of them."""
    deployment = observed.deployment
    if deployment is None or not observed.of_deployment or deployment.spec.remediation.max_in_flight is None:
        return everyone
    wanted = 1 if deployment.spec.replicas is None else deployment.spec.replicas
    in_flight = sum(machine.metadata.deleting and _reason(machine) == MACHINE_DELETING for machine in observed.machines)
    return max(scaled(deployment.spec.remediation.max_in_flight, wanted, up=True) - in_flight, 0)


def _reason(machine: Machine) -> str:
    condition = get(machine.status.conditions, OWNER_REMEDIATED)
    return condition.reason if condition is not None and condition.status == FALSE else ""


def _order(machine: Machine) -> tuple[bool, float, str]:
    """Those a user asked for first, then the newest: what never came up carries no work yet."""
    created = machine.metadata.creation_timestamp
    return not machine.annotated(labels.REMEDIATE_MACHINE), -(created.timestamp() if created is not None else 0.0), machine.name


def _tell(machines: Iterable[Machine], reason: str, message: str, at: datetime) -> tuple[Step, ...]:
    value = ConditionValue(OWNER_REMEDIATED, FALSE, reason, message)
    steps = (
        status_apply(machine, MANAGER, {"conditions": merge(machine.status.conditions, (value,), machine.metadata.generation, at)}) for machine in machines
    )
    return tuple(step for step in steps if step is not None)


def forget(machine: Machine) -> Patch | None:
    """Take OwnerRemediated away from a Machine that is healthy again; the condition has two writers, so the list is patched as a whole."""
    conditions = machine.status.conditions
    if not is_true(conditions, HEALTH_CHECK_SUCCEEDED) or not is_false(conditions, OWNER_REMEDIATED):
        return None
    kept = [wire(condition) for condition in conditions if condition.type != OWNER_REMEDIATED]
    return Patch(
        key=key_of(machine),
        api_version=api_version_of(machine),
        uid=machine.metadata.uid,
        body={"status": {"conditions": kept}},
        reason="the Machine is healthy again",
        resource_version=machine.metadata.resource_version,
        subresource="status",
    )
