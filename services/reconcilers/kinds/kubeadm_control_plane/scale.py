"""One more or one fewer: which failure domain, which Machine, and how a Machine leaves without etcd losing its quorum.

Source: kinds.md §8.1 step 16, §8.2 (choice), §8.4 (strange members), §8.5 (the hook kcp-cleanup); Cluster API v1.14.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from fleetwake import labels
from fleetwake.conditions import get, is_true
from fleetwake.patches import MetadataChange, api_version_of, key_of, metadata_patch, target
from fleetwake.plan import Delete, EtcdMoveLeader, EtcdRemoveMember, Event, Look, Step
from services.reconcilers.kinds.kubeadm_control_plane import components, etcd, machines
from services.reconcilers.kinds.kubeadm_control_plane.health import Health
from services.reconcilers.kinds.kubeadm_control_plane.observed import Member, Observed
from services.reconcilers.kinds.kubeadm_control_plane.preflight import DELETING_RETRY, PASSED, Preflight, check
from services.reconcilers.kinds.kubeadm_control_plane.up_to_date import outdated
from services.reconcilers.kubeadm.versions import known_release

AFTER_REMOVAL = timedelta(seconds=1)
_FAR = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Move:
    """What a phase does to the Machines. ``ends``: later phases wait. ``guarded`` and ``rests_on_absence`` are those of a Plan."""

    steps: tuple[Step, ...] = ()
    wait: timedelta | None = None
    ends: bool = False
    guarded: bool = False
    rests_on_absence: bool = False
    preflight: Preflight = PASSED


def _ask_first(asking: etcd.Asking) -> Move:
    return Move((asking.look,) if asking.look is not None else (), wait=asking.wait, ends=True)


# --- etcd member repair ------------------------------------------------------------------------------------------------------------------------


def remove_stranger(observed: Observed, health: Health) -> Move:
    """Remove one etcd member that belongs to no Machine, when nothing is being provisioned that it might belong to."""
    strangers = etcd.strangers(observed) if observed.etcd_managed and health.readable and observed.members else ()
    if not strangers or not all(member.node for member in observed.members):
        return Move()
    one = strangers[0]
    if one.name and not etcd.safe_without(observed, health.conditions, one.name):
        return Move(wait=etcd.UNSETTLED_INTERVAL, ends=True)
    asking = etcd.fresh(observed, "an etcd member belongs to no Machine")
    if asking is not None:
        return _ask_first(asking)
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
    if not any(health.healthy(other, tuple(components.pod_types(observed))) for other in observed.members if other.name != member.name):
        return waiting
    name = _etcd_name(observed, member)
    if not observed.etcd_managed or not name:
        return Move((_drop_hook(member),), wait=DELETING_RETRY, ends=True)
    return _leave_etcd(observed, health, member, name)


def _hook_is_due(observed: Observed, member: Member) -> bool:
    """Whether the Machine waits for hooks; from 1.31 on ours comes last, because the kubelet lives from the local API server."""
    others = [
        name for name in member.machine.metadata.annotations if name.startswith(labels.PRE_TERMINATE_HOOK_PREFIX + "/") and name != labels.KCP_CLEANUP_HOOK
    ]
    if others and known_release(observed.version) >= (1, 31, 0):
        return False
    found = get(member.machine.status.conditions, "Deleting")
    return found is not None and found.status == "True" and found.reason == "WaitingForPreTerminateHook"


def _etcd_name(observed: Observed, member: Member) -> str:
    """The name of the member on the Machine: its Node's, found by providerID where the Machine does not name it."""
    if member.node:
        return member.node
    provider = member.machine.spec.provider_id
    nodes = [node for node in observed.workload.nodes if provider and (node.get("spec") or {}).get("providerID") == provider]
    return str(nodes[0]["metadata"]["name"]) if len(nodes) == 1 else ""


def _leave_etcd(observed: Observed, health: Health, member: Member, name: str) -> Move:
    asking = etcd.fresh(observed, "an etcd member is about to be removed") if health.readable else None
    if asking is not None:
        return _ask_first(asking)
    found = etcd.answer(observed)
    if not health.readable or found is None or not etcd.safe_without(observed, health.conditions, name):
        return Move(wait=DELETING_RETRY, ends=True)
    mine = found.of_node(name)
    if mine is None:
        return Move((_drop_hook(member),), wait=DELETING_RETRY, ends=True)
    lead = _forward(observed, health, member)
    if lead is None:
        return Move(wait=DELETING_RETRY, ends=True)
    via = tuple(node for node in etcd.nodes_to_ask(observed) if node != name)
    removal = EtcdRemoveMember(observed.cluster_key, mine.id, name, via, f"Machine {member.name} is about to end")
    again = Look(observed.cluster_key, "etcd", "the membership has changed", via)
    return Move((*lead, removal, _drop_hook(member), again), wait=DELETING_RETRY, ends=True, guarded=True)


def _forward(observed: Observed, health: Health, member: Member) -> tuple[EtcdMoveLeader, ...] | None:
    """The step that takes leadership off the Machine: none if it does not lead, None when nobody can take it."""
    found = etcd.answer(observed)
    mine = found.of_node(_etcd_name(observed, member)) if found is not None else None
    if found is None or mine is None or found.leader != mine.id:
        return ()
    heirs = etcd.heirs(observed, health.conditions, member)
    if not heirs:
        return None
    return (EtcdMoveLeader(observed.cluster_key, heirs[0].id, heirs[0].name, mine.name, f"Machine {member.name} is on its way out"),)


def _drop_hook(member: Member) -> Step:
    step = metadata_patch(target(member.machine), MetadataChange(annotations={labels.KCP_CLEANUP_HOOK: None}), "the Machine's etcd member is cleaned up")
    assert step is not None
    return step


# --- scaling -----------------------------------------------------------------------------------------------------------------------------------


def scale(observed: Observed, health: Health) -> Move:
    """Bring the number of Machines one nearer to what is wanted."""
    have, want = len(observed.members), observed.replicas
    if have < want:
        return _up(observed, health)
    return _down(observed, health) if have > want else Move()


def _up(observed: Observed, health: Health) -> Move:
    if observed.template is None:
        return Move()
    result = check(observed, health, scale_up=True)
    if not result.passed:
        return _blocked(observed, result)
    join = bool(observed.members)
    reason = f"{len(observed.members)} of {observed.replicas} Machines exist" if join else "initialize the control plane"
    try:
        steps = machines.create(observed, next_failure_domain(observed), join=join, reason=reason)
    except ValueError as error:
        return Move(preflight=Preflight((str(error),)))
    return Move(steps, ends=True)


def _down(observed: Observed, health: Health) -> Move:
    member = to_delete(observed, health)
    result = check(observed, health, scale_up=False, leaving_out=member)
    if not result.passed:
        return _blocked(observed, result)
    if not health.readable:
        return Move()
    lead: tuple[Step, ...] = ()
    if observed.etcd_managed:
        asking = etcd.fresh(observed, "a Machine that may lead etcd is about to be deleted")
        if asking is not None:
            return _ask_first(asking)
        forward = _forward(observed, health, member)
        if forward is None:
            return Move(wait=DELETING_RETRY, ends=True)
        lead = forward
    machine = member.machine
    reason = f"{len(observed.members)} Machines exist, {observed.replicas} are wanted"
    delete = Delete(key_of(machine), api_version_of(machine), machine.metadata.uid, reason, machine.metadata.resource_version)
    return Move((*lead, delete), ends=True, guarded=bool(lead))


def _blocked(observed: Observed, result: Preflight) -> Move:
    event: tuple[Step, ...] = ()
    if result.problems:
        kcp = observed.kcp
        message = f"Waiting for control plane to pass preflight checks to continue reconciliation: {'; '.join(result.problems)}"
        event = (Event(key_of(kcp), api_version_of(kcp), kcp.metadata.uid, "ControlPlaneUnhealthy", message, "Warning"),)
    return Move(_told(observed, event), wait=result.retry, preflight=result)


def _told(observed: Observed, event: tuple[Step, ...]) -> tuple[Step, ...]:
    """The event, unless the conditions already tell of scaling: a wait that lasts is told once."""
    stored = observed.kcp.status.conditions
    return () if is_true(stored, "ScalingUp") or is_true(stored, "ScalingDown") else event


# --- choosing ----------------------------------------------------------------------------------------------------------------------------------


def failure_domains(observed: Observed) -> tuple[str, ...]:
    """The failure domains control plane Machines may be placed in, by name."""
    return tuple(sorted(domain.name for domain in observed.cluster.status.failure_domains if domain.control_plane))


def _count(members: Iterable[Member], domain: str) -> int:
    return sum(member.machine.spec.failure_domain == domain for member in members)


def next_failure_domain(observed: Observed) -> str:
    """The domain with the fewest up-to-date living Machines, then the fewest at all, then the first by name; ``""`` without domains."""
    current = [member for member in observed.living if not outdated(observed, member)]
    return min(failure_domains(observed), key=lambda domain: (_count(current, domain), _count(observed.members, domain), domain), default="")


def to_delete(observed: Observed, health: Health) -> Member:
    """The Machine to go next: by users' wish, by ill health, by age of its spec; within these from the fullest failure domain, oldest first."""
    old = [member for member in observed.members if outdated(observed, member)]
    sick_types = (*components.pod_types(observed), *((etcd.ETCD_MEMBER_HEALTHY,) if observed.etcd_managed else ()))
    choices: tuple[Sequence[Member], ...] = (
        [member for member in old if member.machine.annotated(labels.DELETE_MACHINE)],
        [member for member in observed.members if member.machine.annotated(labels.DELETE_MACHINE)],
        [member for member in old if not health.healthy(member, sick_types)],
        old,
        observed.members,
    )
    eligible = next(choice for choice in choices if choice)
    domains = failure_domains(observed)
    astray = [member for member in eligible if (member.machine.spec.failure_domain or "") not in domains]
    if astray:
        return _oldest(astray)
    fullest = max(domains, key=lambda domain: (bool(_count(eligible, domain)), _count(eligible, domain), _count(observed.members, domain), domain))
    return _oldest([member for member in eligible if member.machine.spec.failure_domain == fullest])


def _oldest(members: Sequence[Member]) -> Member:
    return min(members, key=lambda member: (member.machine.metadata.creation_timestamp or _FAR, member.name))
