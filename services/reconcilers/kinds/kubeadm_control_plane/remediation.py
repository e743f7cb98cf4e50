"""Replace a Machine that a health check handed to its control plane: by deleting it, one at a time, where the control plane survives it.

The scale up that follows makes the replacement. Why a Machine is not remediated is told in its condition OwnerRemediated. A remediation that has begun
(noted on the control plane) and whose Machine still lives is gone on with.

Source: kinds.md §8.6; Cluster API v1.14 (order, reasons, messages).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from fleetwake import labels
from fleetwake.conditions import FALSE, ConditionValue, is_true
from fleetwake.plan import Step
from services.reconcilers.kinds.kubeadm_control_plane import chain, components, etcd, preflight, quorum, scale
from services.reconcilers.kinds.kubeadm_control_plane.health import Health
from services.reconcilers.kinds.kubeadm_control_plane.move import Move, ask_first
from services.reconcilers.kinds.kubeadm_control_plane.observed import Member, Observed
from services.reconcilers.kinds.machine_set.members import OWNER_REMEDIATED, to_be_remediated, unhealthy
from services.reconcilers.kinds.machine_set.remediate import CANNOT_BE_REMEDIATED, DEFERRED, MACHINE_DELETING
from services.reconcilers.kubeadm.documents import duration

MIN_HEALTHY_PERIOD = timedelta(hours=1)
_BY_HEALTH = ("EtcdMemberHealthy", "EtcdPodHealthy", "APIServerPodHealthy", "ControllerManagerPodHealthy", "SchedulerPodHealthy", components.NODE_SET)
"""What is looked at, in this order, to find the most broken Machine."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a Machine is not remediated now, and when to look again if no change tells."""

    reason: str
    message: str
    wait: timedelta | None = None


def remediate(observed: Observed, health: Health) -> Move:
    """Delete the most broken of the Machines that were handed over, or say why not. What forbids it does not stop the phases after this one."""
    told = deleting(observed)
    chosen = _chosen(observed, health)
    if chosen is None:
        return Move(remediated=told)
    found = _allowed(observed, health, chosen)
    if isinstance(found, Refusal):
        return Move(wait=found.wait, remediated={**told, chosen.name: _verdict(found)})
    lead: tuple[Step, ...] | None = ()
    if observed.initialized and observed.etcd_managed:
        asking = etcd.fresh(observed, "a Machine is about to be remediated")
        if asking is not None:
            return replace(ask_first(asking), remediated=told)
        lead = quorum.forward_leadership(observed, health, chosen)
    if lead is None:
        refusal = Refusal(CANNOT_BE_REMEDIATED, "unable to move etcd leadership, no candidate machines for etcd leadership found", etcd.UNSETTLED_INTERVAL)
        return Move(wait=refusal.wait, remediated={**told, chosen.name: _verdict(refusal)})
    steps = (*chain.begin(observed, found), *lead, scale.delete(chosen, "a health check handed the Machine over"))
    return Move(steps, ends=True, guarded=True, remediated=told)


def deleting(observed: Observed) -> Mapping[str, ConditionValue]:
    """What Machines that are on their way out are told."""
    going = (member for member in observed.leaving if to_be_remediated(member.machine))
    return {member.name: ConditionValue(OWNER_REMEDIATED, FALSE, MACHINE_DELETING, "Machine is deleting") for member in going}


def waiting(observed: Observed, health: Health) -> Mapping[str, ConditionValue]:
    """What handed-over Machines are told while another one leaves."""
    chosen = _chosen(observed, health)
    told = deleting(observed)
    return {**told, chosen.name: _verdict(_LEAVING)} if chosen is not None and observed.initialized else told


def _verdict(refusal: Refusal) -> ConditionValue:
    return ConditionValue(OWNER_REMEDIATED, FALSE, refusal.reason, refusal.message)


# --- which -------------------------------------------------------------------------------------------------------------------------------------


def _chosen(observed: Observed, health: Health) -> Member | None:
    """The Machine to remediate: the one whose remediation has begun, else the most broken; None when there is none, or another is being replaced."""
    handed = [member for member in observed.living if to_be_remediated(member.machine)]
    current = chain.under_way(observed)
    if current is not None:
        return next((member for member in handed if member.name == current.machine), None)
    return min(handed, key=lambda member: _order(health, member), default=None)


def _order(health: Health, member: Member) -> tuple[Any, ...]:
    machine, known = member.machine, health.conditions[member.name]
    created = machine.metadata.creation_timestamp
    whole = tuple(is_true(known, type_) for type_ in _BY_HEALTH)
    return (not machine.annotated(labels.REMEDIATE_MACHINE), bool(member.node), *whole, created.timestamp() if created is not None else 0.0, member.name)


# --- whether -----------------------------------------------------------------------------------------------------------------------------------

_LEAVING = Refusal(DEFERRED, "KubeadmControlPlane waiting for control plane Machine deletion to complete before triggering remediation")


def _allowed(observed: Observed, health: Health, chosen: Member) -> chain.Remediation | Refusal:
    upgrade = preflight.pending_upgrade(observed)
    if upgrade:
        text = f"KubeadmControlPlane can't remediate while waiting for a version upgrade to {upgrade} to be propagated from Cluster.spec.topology"
        return Refusal(DEFERRED, text)
    found = chain.under_way(observed) or _retry(observed, chosen)
    if isinstance(found, Refusal) or not observed.initialized:
        return found
    return _forbidden(observed, health, chosen) or found


def _retry(observed: Observed, chosen: Member) -> chain.Remediation | Refusal:
    """The number of this remediation in its row, unless it comes too soon or too often."""
    first = chain.Remediation(chosen.name, observed.at, 0)
    before, wanted = chain.remediation_for(chosen.machine), observed.kcp.spec.remediation
    healthy = MIN_HEALTHY_PERIOD if wanted.min_healthy_period_seconds is None else timedelta(seconds=wanted.min_healthy_period_seconds)
    if before is None or before.at is None or before.at + healthy <= observed.at:
        return first
    pause = timedelta(seconds=wanted.retry_period_seconds or 0)
    if before.at + pause > observed.at:
        shown = duration(int(pause.total_seconds()))
        text = f"KubeadmControlPlane can't remediate this machine because the operation already failed in the latest {shown} (RetryPeriodSeconds)"
        return Refusal(DEFERRED, text, before.at + pause - observed.at)
    if wanted.max_retry is not None and before.retry_count >= wanted.max_retry:
        # once the Machine has been healthy for long enough a failure counts as a new one
        text = f"KubeadmControlPlane can't remediate this machine because the operation already failed {wanted.max_retry} times (MaxRetry)"
        return Refusal(CANNOT_BE_REMEDIATED, text, before.at + healthy - observed.at)
    return replace(first, retry_count=before.retry_count + 1)


def _forbidden(observed: Observed, health: Health, chosen: Member) -> Refusal | None:
    """What forbids a remediation once there is a control plane to lose."""
    if len(observed.members) <= 1:
        return Refusal(CANNOT_BE_REMEDIATED, "KubeadmControlPlane can't remediate if current replicas are less or equal to 1")
    if any(not member.node and not unhealthy(member.machine) for member in observed.members):
        text = "KubeadmControlPlane waiting for control plane Machine provisioning to complete before triggering remediation"
        return Refusal(DEFERRED, text)
    if observed.leaving:
        return _LEAVING
    found = etcd.answer(observed)
    if not health.readable or (observed.etcd_managed and (found is None or not found.members)):
        return Refusal(DEFERRED, "Failed to check etcd cluster health before remediation", etcd.UNSETTLED_INTERVAL)
    if not _safe(observed, health, chosen):
        text = (
            "KubeadmControlPlane can't remediate this Machine because this could result in loosing Kubernetes control plane components or in etcd quorum loss"
        )
        return Refusal(CANNOT_BE_REMEDIATED, text, etcd.UNSETTLED_INTERVAL)
    return None


def _safe(observed: Observed, health: Health, chosen: Member) -> bool:
    """Whether the control plane goes on living without the Machine. One whose member nobody knows is judged again when its member shows."""
    if not quorum.components_safe(observed, health, without=chosen.name):
        return False
    name = quorum.member_name(observed, chosen)
    return not observed.etcd_managed or not name or quorum.etcd_safe(observed, health, without=name)
