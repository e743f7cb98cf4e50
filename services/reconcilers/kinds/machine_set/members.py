"""What a group of Machines adds up to: the counters and conditions that MachineSet and MachineDeployment report alike.

Reads Machines only; the two kinds say which Machines, and what is theirs alone. Message formats are a wire contract.

Source: kinds.md §3 and §4 (Status, Conditions); Cluster API v1.14 condition types, reasons and messages of MachineSet and MachineDeployment.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from fleetwake import labels
from fleetwake.cloning import TEMPLATE_SUFFIX
from fleetwake.conditions import FALSE, NAMES_MAX, TRUE, Aggregate, ConditionValue, Reasons, aggregate, get, is_false, is_true, source
from schemas.api.core.v1beta2.machine import Machine, MachineSpec
from schemas.api.meta import Condition, KubeObject
from services.reconcilers.kinds.reference_conditions import absent

UP_TO_DATE_GRACE = timedelta(seconds=10)
"""How long a new Machine may lack its UpToDate condition without the aggregate telling of it."""
STALE_DELETION_AFTER = timedelta(minutes=15)
STALE_DRAIN_AFTER = timedelta(minutes=5)
QUIET_AFTER = timedelta(seconds=5)
"""How long the Machines' conditions must have kept their states before a change of mere messages is written."""

HEALTH_CHECK_SUCCEEDED, OWNER_REMEDIATED = "HealthCheckSucceeded", "OwnerRemediated"

_DELAYS = (
    ("cannot evict pod as it would violate the pod's disruption budget.", "PodDisruptionBudgets"),
    ("deletionTimestamp set, but still not removed from the Node", "Pods not terminating"),
    ("failed to evict Pod", "Pod eviction errors"),
    ("waiting for completion", "Pods not completed yet"),
)


def unhealthy(machine: Machine) -> bool:
    """Whether a health check failed the Machine."""
    return is_false(machine.status.conditions, HEALTH_CHECK_SUCCEEDED)


def to_be_remediated(machine: Machine) -> bool:
    """Whether a health check handed the Machine to its owner."""
    return unhealthy(machine) and is_false(machine.status.conditions, OWNER_REMEDIATED)


def machines_ready(machines: Sequence[Machine]) -> ConditionValue:
    """MachinesReady: the Ready conditions of all Machines."""
    return _aggregated("Ready", "MachinesReady", machines)


def machines_up_to_date(machines: Sequence[Machine], at: datetime) -> ConditionValue:
    """MachinesUpToDate: the UpToDate conditions of all Machines but those too new to have one."""
    return _aggregated("UpToDate", "MachinesUpToDate", [machine for machine in machines if _judged(machine, at)])


def _judged(machine: Machine, at: datetime) -> bool:
    return get(machine.status.conditions, "UpToDate") is not None or _age(machine, at) > UP_TO_DATE_GRACE


def up_to_date_grace_left(machines: Iterable[Machine], at: datetime) -> timedelta | None:
    """When the next Machine without an UpToDate condition starts to count; None when all do."""
    waits = [UP_TO_DATE_GRACE - _age(machine, at) + timedelta(seconds=1) for machine in machines if not _judged(machine, at)]
    return min(waits, default=None)


def _age(machine: Machine, at: datetime) -> timedelta:
    created = machine.metadata.creation_timestamp
    return at - created if created is not None else timedelta(0)


def _aggregated(source_type: str, target: str, machines: Sequence[Machine]) -> ConditionValue:
    if not machines:
        return ConditionValue(target, TRUE, "NoReplicas")
    rule = Aggregate(source_type, target, reasons=Reasons(f"Not{source_type}", f"{source_type}Unknown", source_type))
    return aggregate(rule, [source(machine, machine.status.conditions) for machine in machines])


def remediating(machines: Sequence[Machine], remediators: str) -> ConditionValue:
    """Remediating: what the owner does about the Machines handed to it. ``remediators`` names who will not touch other unhealthy ones."""
    handed = [machine for machine in machines if to_be_remediated(machine)]
    if handed:
        found = aggregate(Aggregate(OWNER_REMEDIATED, "Remediating"), [source(machine, machine.status.conditions) for machine in handed])
        return ConditionValue("Remediating", TRUE, "Remediating", found.message)
    names = sorted(machine.name for machine in machines if unhealthy(machine))
    message = f"{_listed(names)} not healthy (not to be remediated by {remediators})" if names else ""
    return ConditionValue("Remediating", FALSE, "NotRemediating", message)


def deleting(obj: KubeObject, machines: Sequence[Machine], at: datetime, left: str = "") -> ConditionValue:
    """Deleting: what the deletion of the owner waits for. ``left`` tells what remains when no Machine does."""
    if not obj.metadata.deleting:
        return ConditionValue("Deleting", FALSE, "NotDeleting")
    message = left or "Deletion completed"
    if machines:
        message = f"Deleting {len(machines)} Machine{'s' if len(machines) > 1 else ''}" + _bullet(stale(machines, at))
    return ConditionValue("Deleting", TRUE, "Deleting", message)


def scaling_down(current: int, wanted: int, machines: Sequence[Machine], at: datetime) -> ConditionValue:
    """ScalingDown: more Machines than wanted, and which of them take long to go."""
    if current <= wanted:
        return ConditionValue("ScalingDown", FALSE, "NotScalingDown")
    return ConditionValue("ScalingDown", TRUE, "ScalingDown", f"Scaling down from {current} to {wanted} replicas" + _bullet(stale(machines, at)))


def missing_templates(spec: MachineSpec, namespace: str, bootstrap_missing: bool, infrastructure_missing: bool) -> str:
    """Which templates do not exist and which fields name them, as conditions word it; empty when all do."""
    config_ref = spec.bootstrap.config_ref
    missing = [absent(config_ref, namespace, "spec.template.spec.bootstrap.configRef")] if bootstrap_missing and config_ref is not None else []
    missing += [absent(spec.infrastructure_ref, namespace, "spec.template.spec.infrastructureRef")] if infrastructure_missing else []
    return " and ".join(missing)


def is_template(kind: str) -> bool:
    """Whether a reference names a template, by its kind."""
    return kind.endswith(TEMPLATE_SUFFIX)


def stale(machines: Iterable[Machine], at: datetime) -> str:
    """Which Machines are in deletion for long, and what their drain waits for; empty when none is."""
    late = [machine for machine in machines if machine.metadata.deletion_timestamp and at - machine.metadata.deletion_timestamp > STALE_DELETION_AFTER]
    if not late:
        return ""
    found = {delay for machine in late for text, delay in _DELAYS if text in _slow_drain(machine, at)}
    delays = [delay for _, delay in _DELAYS if delay in found]
    because = f", delay likely due to {', '.join(delays)}" if delays else ""
    return f"{_listed(sorted(machine.name for machine in late))} in deletion since more than 15m{because}"


def _slow_drain(machine: Machine, at: datetime) -> str:
    condition, since = get(machine.status.conditions, "Deleting"), machine.status.deletion.node_drain_start_time
    draining = condition is not None and condition.status == TRUE and condition.reason == "DrainingNode"
    return condition.message if condition is not None and draining and since is not None and at - since > STALE_DRAIN_AFTER else ""


def _listed(names: Sequence[str]) -> str:
    shown = [*names[:NAMES_MAX], *([f"... ({len(names) - NAMES_MAX} more)"] if len(names) > NAMES_MAX else [])]
    return f"Machine{'s' if len(names) > 1 else ''} {', '.join(shown)} {'are' if len(names) > 1 else 'is'}"


def _bullet(text: str) -> str:
    return f"\n* {text}" if text else ""


def versions(counts: Iterable[tuple[str, int]]) -> list[dict[str, object]]:
    """status.versions: how many Machines have which version, oldest version first. Machines without a version do not count."""
    total: dict[str, int] = {}
    for version, number in counts:
        if version:
            total[version] = total.get(version, 0) + number
    return [{"version": version, "replicas": total[version]} for version in sorted(total, key=_version_key)]


def _version_key(version: str) -> tuple[tuple[int, int, str], ...]:
    parts = version.removeprefix("v").replace("-", ".").replace("+", ".").split(".")
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts)


def counters(machines: Sequence[Machine]) -> dict[str, int]:
    """The counters of a status by field; a Machine that is being updated in place counts as neither ready, available nor up to date."""
    whole = [one for one in machines if not one.annotated(labels.UPDATE_IN_PROGRESS)]
    return {"replicas": len(machines)} | {
        field: sum(is_true(one.status.conditions, type_) for one in whole)
        for field, type_ in (("ready_replicas", "Ready"), ("available_replicas", "Available"), ("up_to_date_replicas", "UpToDate"))
    }


def quiet_in(machines: Iterable[Machine], at: datetime) -> timedelta:
    """How long until nothing has happened to the Machines for QUIET_AFTER; zero or less when it is quiet. None at all are quiet."""
    times = [
        time
        for machine in machines
        for time in (
            machine.metadata.creation_timestamp,
            machine.metadata.deletion_timestamp,
            *(condition.last_transition_time for condition in machine.status.conditions),
        )
        if time is not None
    ]
    return QUIET_AFTER - (at - max(times)) if times else timedelta(0)


def settled(
    stored: Sequence[Condition], wanted: Sequence[ConditionValue], machines: Iterable[Machine], at: datetime
) -> tuple[tuple[ConditionValue, ...], timedelta | None]:
    """Hold back changes of mere messages while the Machines' conditions still move, so that a provisioning does not cost a write per step.

    A condition whose status or reason changes is written at once. Returns the conditions to write and when to look again (None: nothing was held).
    """
    left = quiet_in(machines, at)
    have = {condition.type: condition for condition in stored}
    changed = any((old := have.get(new.type)) is None or (old.status, old.reason) != (new.status, new.reason) for new in wanted)
    if left <= timedelta(0) or changed or all(have[new.type].message == new.message for new in wanted):
        return tuple(wanted), None
    kept = tuple(ConditionValue(new.type, new.status, new.reason, have[new.type].message) for new in wanted)
    return kept, left
