"""Whether the control plane as a whole is available.

Source: kinds.md §8.3 (Available); Cluster API v1.14 (messages; a problem younger than ten seconds is not told while available).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from fleetwake.conditions import FALSE, TRUE, UNKNOWN, ConditionValue, get, is_true
from services.reconcilers.kinds.kubeadm_control_plane import components, etcd
from services.reconcilers.kinds.kubeadm_control_plane.health import Health
from services.reconcilers.kinds.kubeadm_control_plane.observed import Member, Observed

AVAILABLE = "Available"
ETCD_PATIENCE = timedelta(minutes=2)
FLAKE = timedelta(seconds=10)


@dataclass(slots=True)
class _Counts:
    """How many are healthy, sick for long enough to be told, and sick only just."""

    healthy: int = 0
    sick: int = 0
    fresh: int = 0


def available(observed: Observed, health: Health, certificates: ConditionValue) -> ConditionValue:
    """The Available condition; ``certificates`` is the condition CertificatesAvailable of this run."""
    if not observed.initialized:
        return ConditionValue(AVAILABLE, FALSE, "NotAvailable", "Control plane not yet initialized")
    found = etcd.answer(observed)
    if observed.etcd_managed and found is None:
        return _without_etcd(observed)
    if observed.etcd_managed and not etcd.matching(observed):
        return ConditionValue(AVAILABLE, FALSE, "NotAvailable", "The list of etcd members does not match the list of Machines and Nodes")
    nodes = _machines(observed, health)
    members, quorum, learners = _members(observed, health)
    total = len(found.members) if found is not None else 0
    enough_etcd = not observed.etcd_managed or members.healthy >= quorum
    if not observed.kcp.metadata.deleting and enough_etcd and nodes.healthy >= 1 and certificates.status == TRUE:
        return ConditionValue(AVAILABLE, TRUE, "Available", "\n".join(_partial(observed, nodes, members, (total, quorum, learners))))
    messages = ["* Control plane metadata.deletionTimestamp is set"] if observed.kcp.metadata.deleting else []
    if certificates.status != TRUE:
        messages.append("* Control plane certificates are not available")
    if not enough_etcd:
        messages.append(_etcd_message(members.healthy, total, quorum, learners))
    if nodes.healthy < 1:
        messages.append("* There are no Machines with healthy control plane components, at least 1 required")
    return ConditionValue(AVAILABLE, FALSE, "NotAvailable", "\n".join(messages))


def _without_etcd(observed: Observed) -> ConditionValue:
    since = get(observed.kcp.status.conditions, "Initialized")
    just = since is None or since.status != TRUE or since.last_transition_time is None or observed.at - since.last_transition_time < ETCD_PATIENCE
    if just:
        return ConditionValue(AVAILABLE, FALSE, "NotAvailable", "Waiting for etcd to report the list of members")
    return ConditionValue(AVAILABLE, UNKNOWN, "InspectionFailed", "Failed to get etcd members")


def _lasting(observed: Observed, health: Health, member: Member, types: Sequence[str]) -> bool:
    """Whether a problem of the Machine is old enough to be told. One that this run found is not stored yet, and new."""
    stored = (get(member.machine.status.conditions, type_) for type_ in types)
    times = [one.last_transition_time for one in stored if one is not None and one.status != TRUE and one.last_transition_time is not None]
    return bool(times) and observed.at - min(times) > FLAKE


def _machines(observed: Observed, health: Health) -> _Counts:
    types = (*components.pod_types(observed), *((etcd.ETCD_MEMBER_HEALTHY,) if observed.etcd_managed else ()))
    counts = _Counts()
    for member in observed.members:
        if not member.machine.spec.provider_id:
            continue
        if health.healthy(member, types):
            counts.healthy += 1
        elif _lasting(observed, health, member, types):
            counts.sick += 1
        else:
            counts.fresh += 1
    return counts


def _members(observed: Observed, health: Health) -> tuple[_Counts, int, int]:
    """Counts over etcd's members, the quorum, and how many are learners. A member that has not started is taken for healthy."""
    found = etcd.answer(observed)
    counts = _Counts()
    if found is None:
        return counts, 0, 0
    by_node = {member.node: member for member in observed.members if member.node}
    provisioning = [member for member in observed.members if not member.node]
    learners = sum(one.learner or not one.name for one in found.members)
    for one in found.members:
        if not one.name:
            counts.healthy += 1
            continue
        member = by_node.get(one.name)
        if member is None and len(provisioning) == 1:
            # only one Machine is made at a time, so the member is most likely its
            member, provisioning = provisioning[0], []
        if member is None:
            counts.sick += 1
        elif is_true(health.conditions[member.name], etcd.ETCD_MEMBER_HEALTHY):
            counts.healthy += 1
        elif _lasting(observed, health, member, (etcd.ETCD_MEMBER_HEALTHY,)):
            counts.sick += 1
        else:
            counts.fresh += 1
    return counts, (len(found.members) - learners) // 2 + 1, learners


def _etcd_message(healthy: int, total: int, quorum: int, learners: int) -> str:
    note = f" {learners} learner etcd member," if learners else ""
    need = f"at least {quorum} healthy member required for etcd quorum"
    if healthy == 0:
        return f"* There are no healthy etcd member,{note} {need}"
    return f"* {healthy} of {total} etcd members {'is' if healthy == 1 else 'are'} healthy,{note} {need}"


def _partial(observed: Observed, nodes: _Counts, members: _Counts, etcd_facts: tuple[int, int, int]) -> list[str]:
    """What is wrong although the control plane is available."""
    messages = []
    if members.sick:
        messages.append(_etcd_message(members.healthy + members.fresh, *etcd_facts))
    if nodes.sick:
        well = nodes.healthy + nodes.fresh
        verb = "has" if well == 1 else "have"
        messages.append(f"* {well} of {len(observed.members)} Machines {verb} healthy control plane components, at least 1 required")
    return messages
