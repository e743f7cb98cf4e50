"""Whether the control plane goes on living when a Machine or a member of etcd goes, or comes; and who leads etcd then.

A member counts as healthy when etcd lists it as a voter without an alarm *and* its pod runs: etcd's list alone tells nothing of a host that died. The member
of a Machine that is being deleted, or of none, counts by the same two facts: it votes as long as it runs.

Source: kinds.md §8.5 (leadership), §8.6 (quorum arithmetic); Cluster API v1.14, which looks at the condition of the member's Machine alone, and takes a member
without a Machine for healthy.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fleetwake.conditions import FALSE, is_true
from fleetwake.contracts import InfraMachine
from fleetwake.plan import EtcdMoveLeader
from services.reconcilers.kinds.kubeadm_control_plane import components, etcd
from services.reconcilers.kinds.kubeadm_control_plane.health import Health
from services.reconcilers.kinds.kubeadm_control_plane.observed import Member, Observed

_MEMBER_TYPES = (etcd.ETCD_MEMBER_HEALTHY, *components.ETCD_POD)


def components_safe(observed: Observed, health: Health, *, without: str = "") -> bool:
    """Whether some Machine other than ``without`` (its name) has all of a control plane's components running."""
    types = tuple(components.pod_types(observed))
    return any(health.healthy(member, types) for member in observed.members if member.name != without)


def etcd_safe(observed: Observed, health: Health, *, without: str = "", adding: bool = False) -> bool:
    """Whether etcd keeps its quorum when the member named ``without`` goes, or one is added: voters less unhealthy ones reach a majority.

    A member that starts, or learns, forbids any change. One that is added counts as an unhealthy voter, unless there is at most one so far.
    """
    found = etcd.answer(observed)
    if found is None:
        return False
    by_node = {member.node: member for member in observed.living if member.node}
    voters, sick, learners = int(adding), int(adding and len(found.members) > 1), 0
    for one in found.members:
        if not one.name:
            learners, sick = learners + 1, sick + 1
            continue
        if one.name == without:
            continue
        learners, voters = learners + one.learner, voters + (not one.learner)
        machine = by_node.get(one.name)
        if machine is not None:
            sick += not health.healthy(machine, _MEMBER_TYPES)
        else:
            sick += one.learner or bool(one.alarms) or not components.runs(observed, "etcd", one.name)
    return learners == 0 and voters - sick >= voters // 2 + 1


def member_name(observed: Observed, member: Member) -> str:
    """The name of the etcd member on a Machine: its Node's, found by providerID where the Machine does not name it; ``""`` when it is not known.

    The only member that belongs to no Node of ours is taken for that of the only Machine without one: its host may have joined etcd before it was known.
    """
    if member.node:
        return member.node
    provider = member.machine.spec.provider_id or (InfraMachine(member.infra).provider_id if member.infra is not None else "")
    nodes = [node for node in observed.workload.nodes if provider and (node.get("spec") or {}).get("providerID") == provider]
    if len(nodes) == 1:
        return str(nodes[0]["metadata"]["name"])
    strangers = etcd.strangers(observed)
    alone = [one.name for one in observed.members if not one.node] == [member.name]
    return strangers[0].name if alone and len(strangers) == 1 else ""


def heirs(observed: Observed, health: Health, leaving: Member) -> tuple[etcd.EtcdMember, ...]:
    """Members that can take over leadership, best first: healthy, not failed by a health check, up to date, newest."""
    found = etcd.answer(observed)
    if found is None:
        return ()

    def rank(member: Member) -> tuple[Any, ...]:
        known = health.conditions[member.name]
        created = member.machine.metadata.creation_timestamp
        failed = any(one.type == "HealthCheckSucceeded" and one.status == FALSE for one in known)
        age = -created.timestamp() if created is not None else 0.0
        return (not health.healthy(member, _MEMBER_TYPES), failed, not is_true(known, "UpToDate"), age, member.name)

    candidates: Iterable[Member] = sorted((one for one in observed.living if one.node and one.name != leaving.name), key=rank)
    members = (found.of_node(member.node) for member in candidates)
    return tuple(member for member in members if member is not None and not member.learner)


def forward_leadership(observed: Observed, health: Health, member: Member) -> tuple[EtcdMoveLeader, ...] | None:
    """The step that takes leadership off a Machine: none if it does not lead, None when nobody can take it or nobody leads."""
    found = etcd.answer(observed)
    mine = found.of_node(member_name(observed, member)) if found is not None else None
    if found is None or mine is None:
        return ()
    if found.leader == 0:
        return None
    if found.leader != mine.id:
        return ()
    candidates = heirs(observed, health, member)
    if not candidates:
        return None
    best, *others = candidates
    reason = f"Machine {member.name} is on its way out"
    return (EtcdMoveLeader(observed.cluster_key, best.id, best.name, mine.name, reason, tuple(one.id for one in others)),)
