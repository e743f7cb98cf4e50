"""What must hold before a Machine is made or deleted, so that one operation ends before the next begins.

Source: kinds.md §8.2 (preflight), §8.6 (relaxed while a remediation is in progress), §18 (waits); Cluster API v1.14 (messages).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from fleetwake.conditions import TRUE, get
from services.reconcilers.kinds.kubeadm_control_plane import certificates, chain, components, etcd, quorum
from services.reconcilers.kinds.kubeadm_control_plane.health import Health
from services.reconcilers.kinds.kubeadm_control_plane.observed import Member, Observed

FAILED_RETRY = timedelta(seconds=15)
DELETING_RETRY = timedelta(seconds=30)
UPGRADE_STEP = "topology.internal.cluster.x-k8s.io/upgrade-step"
LEAVING = "waiting for a control plane Machine to complete deletion"
COMPONENTS = "waiting for control plane components to become healthy"
ETCD = "waiting for etcd cluster to become healthy"


@dataclass(frozen=True, slots=True)
class Preflight:
    """The result: ``blockers`` in the words of ScalingUp and ScalingDown, ``problems`` for the event, and when to look again.

    ``relaxed``: the control plane is not whole, and gets the replacement of a remediated Machine all the same.
    """

    blockers: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    retry: timedelta | None = None
    relaxed: bool = False

    @property
    def passed(self) -> bool:
        """Whether the operation may go on."""
        return not self.blockers


PASSED = Preflight()


def check(observed: Observed, health: Health, *, scale_up: bool, leaving_out: Member | None = None) -> Preflight:
    """Check before a scale up, or before the deletion of ``leaving_out``. With no Machine there is nothing to check."""
    if not observed.members:
        return PASSED
    upgrade = pending_upgrade(observed)
    if upgrade:
        return Preflight((f"waiting for a version upgrade to {upgrade} to be propagated",), retry=FAILED_RETRY)
    if scale_up and certificates.certificates_available(observed).status != TRUE:
        return Preflight(("cluster certificates are missing or unknown",), retry=FAILED_RETRY)
    if observed.leaving:
        return Preflight((LEAVING,), retry=DELETING_RETRY)
    if observed.initialized and not health.readable:
        return Preflight(("waiting for the connection to the workload cluster",), retry=FAILED_RETRY)
    found = _healthiness(observed, health, leaving_out)
    if scale_up and not found.passed and chain.under_way(observed) is not None:
        return _while_remediating(observed, health)
    return found


def pending_upgrade(observed: Observed) -> str:
    """The version the topology is about to bring, ``""`` when the control plane has what the topology wants."""
    topology = observed.cluster.spec.topology
    if topology is None:
        return ""
    step = observed.cluster.metadata.annotations.get(UPGRADE_STEP, "")
    if observed.version in (topology.version, step):
        return ""
    return step or topology.version


def _healthiness(observed: Observed, health: Health, leaving_out: Member | None) -> Preflight:
    problems: list[str] = []
    sick_components = sick_etcd = False
    for member in observed.members:
        if leaving_out is not None and member.name == leaving_out.name:
            continue
        if not member.node:
            problems.append(f"Machine {member.name} does not have a corresponding Node yet (Machine.status.nodeRef not set)")
            sick_components, sick_etcd = True, observed.etcd_managed
            continue
        for type_ in (*components.pod_types(observed), *((etcd.ETCD_MEMBER_HEALTHY,) if observed.etcd_managed else ())):
            found = get(health.conditions[member.name], type_)
            if found is not None and found.status == TRUE:
                continue
            state = "is false" if found is not None and found.status == "False" else "is unknown"
            problems.append(f"Machine {member.name} reports {type_} condition {state} ({found.message if found is not None else ''})")
            sick_etcd |= type_ == etcd.ETCD_MEMBER_HEALTHY
            sick_components |= type_ != etcd.ETCD_MEMBER_HEALTHY
    return _result(problems, sick_components=sick_components, sick_etcd=sick_etcd)


def _while_remediating(observed: Observed, health: Health) -> Preflight:
    """The checks before a replacement is made while other Machines are unhealthy too: what lives must go on living, whatever becomes of the new one."""
    problems = []
    components_sick = not quorum.components_safe(observed, health)
    etcd_sick = observed.etcd_managed and not quorum.etcd_safe(observed, health, adding=True)
    if components_sick:
        problems.append("cannot add a new control plane Machine when there are no control plane Machines with all components in healthy state")
    if etcd_sick:
        problems.append("adding a new control plane Machine can lead to etcd quorum loss")
    result = _result(problems, sick_components=components_sick, sick_etcd=etcd_sick)
    return replace(result, relaxed=True)


def _result(problems: Sequence[str], *, sick_components: bool, sick_etcd: bool) -> Preflight:
    blockers = [COMPONENTS] if sick_components else []
    blockers += [ETCD] if sick_etcd else []
    return Preflight(tuple(blockers), tuple(problems), FAILED_RETRY if blockers else None)
