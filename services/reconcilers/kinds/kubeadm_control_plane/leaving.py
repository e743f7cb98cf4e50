"""How a Machine and its etcd member leave without etcd losing its quorum, and what becomes of members that belong to no Machine.

Source: kinds.md §8.4 (strange members), §8.5 (the hook kcp-cleanup), §18 (waits); Cluster API v1.14.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from fleetwake import labels
from fleetwake.conditions import get
from fleetwake.patches import MetadataChange, metadata_patch, target
from fleetwake.plan import EtcdRemoveMember, Look, Step
from services.reconcilers.kinds.kubeadm_control_plane import etcd, quorum
from services.reconcilers.kinds.kubeadm_control_plane.health import Health
from services.reconcilers.kinds.kubeadm_control_plane.move import Move, ask_first
from services.reconcilers.kinds.kubeadm_control_plane.observed import Member, Observed
from services.reconcilers.kinds.kubeadm_control_plane.preflight import DELETING_RETRY
from services.reconcilers.kubeadm.versions import known_release

AFTER_REMOVAL = timedelta(seconds=1)
_FAR = datetime(9999, 1, 1, tzinfo=UTC)


# --- etcd member repair ------------------------------------------------------------------------------------------------------------------------


def remove_stranger(observed: Observed, health: Health) -> Move:
    """Remove one etcd member that belongs to no Machine, when nothing is being provisioned that it might belong to."""
    strangers = etcd.strangers(observed) if observed.etcd_managed and health.readable and observed.members else ()
    if not strangers or not all(member.node for member in observed.members):
        return Move()
    one = strangers[0]
    if one.name and not quorum.etcd_safe(observed, health, without=one.name):
        return Move(wait=etcd.UNSETTLED_INTERVAL, ends=True)
    asking = etcd.fresh(observed, "an etcd member belongs to no Machine")
    if asking is not None:
        return ask_first(asking)
    via = etcd.nodes_to_ask(observed)
    removal = EtcdRemoveMember(observed.cluster_key, one.id, one.name, via, "the etcd member belongs to no Machine")
    again = Look(observed.cluster_key, "etcd", "the membership has changed", via)
    return Move((removal, again), wait=AFTER_REMOVAL, ends=True, guarded=True, rests_on_absence=True)


# --- the hook before a Machine ends ------------------------------------------------------------------------------------------------------------


def finish_leaving(observed: Observed, health: Health) -> Move:
    """Bring the Machines that are being deleted on their way, one at a time: forward leadership, remove the member, drop our hook.

    Nothing else happens to the control plane meanwhile.
    """
    if not observed.leaving:
        return Move()
    waiting = Move(wait=DELETING_RETRY, ends=True)
    if any(not member.machine.annotated(labels.KCP_CLEANUP_HOOK) for member in observed.leaving):
        return waiting
    member = min(observed.leaving, key=lambda one: (one.machine.metadata.deletion_timestamp or _FAR, one.name))
    if not _hook_is_due(observed, member):
        return waiting
    if len(observed.members) == 1:
        return Move((_drop_hook(member),), wait=DELETING_RETRY, ends=True)
    if not health.readable or not quorum.components_safe(observed, health, without=member.name):
        return waiting
    if not observed.etcd_managed:
        return Move((_drop_hook(member),), wait=DELETING_RETRY, ends=True)
    return _leave_etcd(observed, health, member)


def _hook_is_due(observed: Observed, member: Member) -> bool:
    """Whether the Machine waits for hooks; from 1.31 on ours comes last, because the kubelet lives from the local API server."""
    others = [
        name for name in member.machine.metadata.annotations if name.startswith(labels.PRE_TERMINATE_HOOK_PREFIX + "/") and name != labels.KCP_CLEANUP_HOOK
    ]
    if others and known_release(observed.version) >= (1, 31, 0):
        return False
    found = get(member.machine.status.conditions, "Deleting")
    return found is not None and found.status == "True" and found.reason == "WaitingForPreTerminateHook"


def _leave_etcd(observed: Observed, health: Health, member: Member) -> Move:
    """Remove the member, then drop the hook. Without a member there is nothing to remove: one that shows later is a stranger."""
    asking = etcd.fresh(observed, "an etcd member is about to be removed")
    if asking is not None:
        return ask_first(asking)
    found, name = etcd.answer(observed), quorum.member_name(observed, member)
    mine = found.of_node(name) if found is not None else None
    if mine is None and (not name or quorum.etcd_safe(observed, health)):
        return Move((_drop_hook(member),), wait=DELETING_RETRY, ends=True)
    lead = quorum.forward_leadership(observed, health, member)
    if mine is None or lead is None or not quorum.etcd_safe(observed, health, without=name):
        return Move(wait=DELETING_RETRY, ends=True)
    via = tuple(node for node in etcd.nodes_to_ask(observed) if node != name)
    removal = EtcdRemoveMember(observed.cluster_key, mine.id, name, via, f"Machine {member.name} is about to end")
    again = Look(observed.cluster_key, "etcd", "the membership has changed", via)
    return Move((*lead, removal, _drop_hook(member), again), wait=DELETING_RETRY, ends=True, guarded=True)


def _drop_hook(member: Member) -> Step:
    step = metadata_patch(target(member.machine), MetadataChange(annotations={labels.KCP_CLEANUP_HOOK: None}), "the Machine's etcd member is cleaned up")
    assert step is not None
    return step
