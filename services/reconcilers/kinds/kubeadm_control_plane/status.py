"""The status of a KubeadmControlPlane and of what it owns on its Machines, each one apply when it differs.

Source: kinds.md §8 (status), §8.3 (conditions); contracts.md §6; Cluster API v1.14 (reasons, messages).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from fleetwake import labels
from fleetwake.conditions import FALSE, TRUE, ConditionValue, Judged, get, is_false, is_true, merge, same, wire_time
from fleetwake.patches import Informing, api_version_of, key_of, status_apply
from fleetwake.patches import wire as as_wire
from fleetwake.plan import Apply, soonest
from schemas.api.core.v1beta2 import Machine
from schemas.api.meta import LabelSelector
from services.reconcilers.kinds.kubeadm_control_plane import components, etcd, legacy
from services.reconcilers.kinds.kubeadm_control_plane.availability import available
from services.reconcilers.kinds.kubeadm_control_plane.certificates import certificates_available
from services.reconcilers.kinds.kubeadm_control_plane.chain import last, recovered
from services.reconcilers.kinds.kubeadm_control_plane.health import COMPONENTS_HEALTHY, ETCD_CLUSTER_HEALTHY, Health
from services.reconcilers.kinds.kubeadm_control_plane.kubeconfigs import KUBECONFIGS_AVAILABLE, issue
from services.reconcilers.kinds.kubeadm_control_plane.machines import MANAGER
from services.reconcilers.kinds.kubeadm_control_plane.observed import Member, Observed
from services.reconcilers.kinds.kubeadm_control_plane.preflight import PASSED, Preflight
from services.reconcilers.kinds.machine_set import legacy as machines_legacy
from services.reconcilers.kinds.machine_set.members import OWNER_REMEDIATED, machines_ready, machines_up_to_date, remediating, settled, stale
from services.reconcilers.kinds.pausing import OwnedStatus, paused_condition
from services.reconcilers.kinds.reference_conditions import absent
from services.reconcilers.kubeadm.versions import known_release

KCP_MANAGER = "kubeadmcontrolplane-controller"
MACHINE_TYPES = ("UpToDate", components.NODE_SET, *components.COMPONENTS, *components.ETCD_POD, etcd.ETCD_MEMBER_HEALTHY)
OWNED = OwnedStatus(
    manager=KCP_MANAGER,
    fields=(
        "selector",
        "replicas",
        "readyReplicas",
        "availableReplicas",
        "upToDateReplicas",
        "versions",
        "version",
        "initialization",
        "lastRemediation",
        "observedGeneration",
        "deprecated",
    ),
    condition_types=(
        "Available",
        "Initialized",
        "CertificatesAvailable",
        KUBECONFIGS_AVAILABLE,
        ETCD_CLUSTER_HEALTHY,
        COMPONENTS_HEALTHY,
        "MachinesReady",
        "MachinesUpToDate",
        "RollingOut",
        "ScalingUp",
        "ScalingDown",
        "Remediating",
        "Deleting",
        "Paused",
    ),
    conditional=(KUBECONFIGS_AVAILABLE,),
)
OWNED_WITHOUT_ETCD = replace(OWNED, conditional=(KUBECONFIGS_AVAILABLE, ETCD_CLUSTER_HEALTHY))
"""Where etcd is somebody else's."""
INFORMING = Informing(
    fields=frozenset(("selector", "replicas", "readyReplicas", "availableReplicas", "upToDateReplicas", "lastRemediation", "observedGeneration", "deprecated")),
    conditions=frozenset(OWNED.condition_types) - {"Available", "Initialized", "Deleting", "Paused"},
)
"""The Cluster waits for the latch and for Available, MachineSets wait for the version."""
MACHINE_INFORMING = Informing(conditions=frozenset(("UpToDate",)))
"""The other conditions are readiness gates: the Machine is not Ready before they are told."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What this run found out besides the health: why scaling is blocked, how far a deletion is (reason and message), and the remediation of Machines."""

    preflight: Preflight = PASSED
    deleting: tuple[str, str] = ("", "")
    remediated: Mapping[str, ConditionValue] = field(default_factory=dict)


# --- Machines ----------------------------------------------------------------------------------------------------------------------------------


def machine_steps(observed: Observed, health: Health, progress: Progress) -> tuple[Apply, ...]:
    """One status apply for each Machine on which a condition of ours differs, holding all of ours.

    None for a Machine whose verdict is being taken away: an apply would bring it back, or take part of it.
    """
    steps = []
    for member in observed.members:
        machine = member.machine
        if recovered(member):
            continue
        stored = machine.status.conditions
        wire = merge(stored, _owned(member, health, progress), machine.metadata.generation, observed.at)
        # the generation alone is no news: it moves with every change of spec that is somebody else's
        compared = [{**one, "observedGeneration": _generation(stored, one["type"])} for one in wire]
        if not same(stored, compared):
            body = {"status": {"conditions": list(wire)}}
            informs = MACHINE_INFORMING.covers(as_wire(machine.status), body["status"])
            reason = "the Machine's health changed"
            steps.append(Apply(key_of(machine), api_version_of(machine), machine.metadata.uid, body, reason, MANAGER, "status", informs=informs))
    return tuple(steps)


def _owned(member: Member, health: Health, progress: Progress) -> tuple[ConditionValue, ...]:
    """Our conditions of a Machine. What it was told of its remediation stays told: an apply that left it out would take it away."""
    ours = health.owned[member.name]
    verdict: Judged | None = progress.remediated.get(member.name) or get(member.machine.status.conditions, OWNER_REMEDIATED)
    if verdict is None or verdict.status != FALSE:
        return ours
    return (*ours, ConditionValue(verdict.type, verdict.status, verdict.reason, verdict.message))


def _generation(stored: Sequence[Judged], type_: str) -> int:
    found = get(stored, type_)
    return int(getattr(found, "observed_generation", 0) or 0)


def judged_machines(observed: Observed, health: Health, progress: Progress) -> list[Machine]:
    """The Machines with the conditions of this run in place, as sums over them shall see them."""
    found = []
    for member in observed.members:
        machine = member.machine
        wire = merge(machine.status.conditions, _owned(member, health, progress), machine.metadata.generation, observed.at)
        ours = {one["type"] for one in wire}
        kept = [one for one in machine.status.conditions if one.type not in ours]
        status = type(machine.status).model_validate({"conditions": [*(one.model_dump(by_alias=True) for one in kept), *wire]})
        found.append(machine.model_copy(update={"status": machine.status.model_copy(update={"conditions": status.conditions})}))
    return found


# --- KubeadmControlPlane -----------------------------------------------------------------------------------------------------------------------


def status_step(observed: Observed, health: Health, progress: Progress) -> tuple[Apply | None, timedelta | None]:
    """The apply of everything the controller owns in the status, None when the object has it so; and when to tell what was held back."""
    kcp, found = observed.kcp, judged_machines(observed, health, progress)
    versions = _versions(found)
    values, held = settled(kcp.status.conditions, conditions(observed, health, progress, found), found, observed.at)
    status = {
        "conditions": merge(kcp.status.conditions, values, kcp.metadata.generation, observed.at),
        "selector": LabelSelector(match_labels={labels.CLUSTER_NAME: observed.cluster.name, labels.CONTROL_PLANE: ""}).format(),
        "replicas": len(found),
        "readyReplicas": _count(found, "Ready"),
        "availableReplicas": _count(found, "Available"),
        "upToDateReplicas": _count(found, "UpToDate"),
        "versions": [{"version": version, "replicas": count} for version, count in versions] or None,
        "version": versions[0][0] if versions else None,
        "initialization": {"controlPlaneInitialized": True if observed.initialized else None},
        "lastRemediation": _last_remediation(observed),
        "observedGeneration": kcp.metadata.generation,
    }

    def apply(older: list[dict[str, Any]]) -> Apply | None:
        deprecated = {"v1beta1": {**legacy.counters(found), "conditions": older}}
        return status_apply(kcp, KCP_MANAGER, {**status, "deprecated": deprecated}, informing=INFORMING)

    step, wait = machines_legacy.told(apply, kcp.status.deprecated.v1beta1.conditions, legacy.legacy(observed, values, found), found, observed.at)
    return step, soonest(held, wait)


def _last_remediation(observed: Observed) -> dict[str, Any] | None:
    """The remediation under way, or the latest one; what was told once stays told when no Machine tells of it any more."""
    found = last(observed)
    if found is None or found.at is None:
        stored = observed.kcp.status.last_remediation
        return as_wire(stored) if stored is not None else None
    return {"machine": found.machine, "time": wire_time(found.at), "retryCount": found.retry_count}


def _count(machines: Sequence[Machine], type_: str) -> int:
    return sum(is_true(machine.status.conditions, type_) for machine in machines)


def _versions(machines: Sequence[Machine]) -> list[tuple[str, int]]:
    """How many Machines have which version, oldest version first."""
    counts: dict[str, int] = {}
    for machine in machines:
        if machine.spec.version:
            counts[machine.spec.version] = counts.get(machine.spec.version, 0) + 1
    return sorted(counts.items(), key=lambda item: (known_release(item[0]), item[0]))


def conditions(observed: Observed, health: Health, progress: Progress, found: Sequence[Machine]) -> tuple[ConditionValue, ...]:
    """All conditions of the KubeadmControlPlane."""
    certificates, kubeconfigs = certificates_available(observed), issue(observed).told
    initialized = ConditionValue("Initialized", TRUE, "Initialized") if observed.initialized else ConditionValue("Initialized", FALSE, "NotInitialized")
    remediation = remediating(found, "KubeadmControlPlane")
    return (
        available(observed, health, certificates),
        initialized,
        certificates,
        *((kubeconfigs,) if kubeconfigs is not None else ()),
        *((health.members,) if health.members is not None else ()),
        health.overall,
        machines_ready(found),
        machines_up_to_date(found, observed.at),
        _rolling_out(observed, found, progress.preflight),
        _scaling_up(observed, progress.preflight),
        _scaling_down(observed, progress.preflight, found),
        remediation,
        _deleting(observed, progress),
        paused_condition(observed.kcp, observed.cluster),
    )


def _rolling_out(observed: Observed, found: Sequence[Machine], preflight: Preflight) -> ConditionValue:
    """RollingOut: how many Machines are outdated and why, and what the rollout waits for where neither ScalingUp nor ScalingDown tells it."""
    old = [machine for machine in found if is_false(machine.status.conditions, "UpToDate")]
    if not old:
        return ConditionValue("RollingOut", FALSE, "NotRollingOut")
    why = {line for machine in old for line in (_message(machine, "UpToDate")).split("\n") if line}
    ordered = sorted(why, key=lambda line: (not line.startswith("* Version"), line))
    untold = preflight.blockers if len(found) == _wanted(observed) else ()
    lines = [f"Rolling out {len(old)} not up-to-date replicas", *ordered, *(f"* {blocker}" for blocker in untold)]
    return ConditionValue("RollingOut", TRUE, "RollingOut", "\n".join(lines))


def _message(machine: Machine, type_: str) -> str:
    found = get(machine.status.conditions, type_)
    return found.message if found is not None else ""


def _wanted(observed: Observed) -> int:
    return 0 if observed.kcp.metadata.deleting else observed.replicas


def _scaling_up(observed: Observed, preflight: Preflight) -> ConditionValue:
    have, want = len(observed.members), _wanted(observed)
    ref = observed.kcp.spec.machine_template.spec.infrastructure_ref
    missing = absent(ref, observed.kcp.namespace, "spec.machineTemplate.spec.infrastructureRef") if observed.template is None else ""
    if observed.failure is not None and not missing:
        missing = f"Failed to create a Machine: {observed.failure.message}" if have < want else ""
    if have >= want:
        return ConditionValue("ScalingUp", FALSE, "NotScalingUp", f"Scaling up would be blocked because {missing}" if missing else "")
    message = f"Scaling up from {have} to {want} replicas"
    return ConditionValue("ScalingUp", TRUE, "ScalingUp", _because(message, [*preflight.blockers, *([missing] if missing else [])]))


def _scaling_down(observed: Observed, preflight: Preflight, found: Sequence[Machine]) -> ConditionValue:
    have, want = len(observed.members), _wanted(observed)
    if have <= want:
        return ConditionValue("ScalingDown", FALSE, "NotScalingDown")
    late = stale(found, observed.at)
    return ConditionValue(
        "ScalingDown", TRUE, "ScalingDown", _because(f"Scaling down from {have} to {want} replicas", [*preflight.blockers, *([late] if late else [])])
    )


def _because(message: str, blockers: Sequence[str]) -> str:
    return message + " is blocked because:\n" + "\n".join(f"* {blocker}" for blocker in blockers) if blockers else message


def _deleting(observed: Observed, progress: Progress) -> ConditionValue:
    if not observed.kcp.metadata.deleting:
        return ConditionValue("Deleting", FALSE, "NotDeleting")
    reason, message = progress.deleting
    return ConditionValue("Deleting", TRUE, reason or "DeletionCompleted", message)
