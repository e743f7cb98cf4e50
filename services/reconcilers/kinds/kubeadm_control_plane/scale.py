"""One more or one fewer: which failure domain, which Machine, and what must hold first.

Source: kinds.md §8.1 step 16, §8.2 (choice, preflight, scale down), §8.6 step 7 (the replacement of a remediated Machine); Cluster API v1.14.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from fleetwake import labels
from fleetwake.conditions import is_true
from fleetwake.patches import api_version_of, key_of
from fleetwake.plan import Delete, Event, Step
from services.reconcilers.kinds.kubeadm_control_plane import components, etcd, machines, quorum
from services.reconcilers.kinds.kubeadm_control_plane.chain import replaced
from services.reconcilers.kinds.kubeadm_control_plane.health import Health
from services.reconcilers.kinds.kubeadm_control_plane.move import Move, ask_first
from services.reconcilers.kinds.kubeadm_control_plane.observed import Member, Observed
from services.reconcilers.kinds.kubeadm_control_plane.preflight import DELETING_RETRY, Preflight, check
from services.reconcilers.kinds.kubeadm_control_plane.up_to_date import outdated

_FAR = datetime(9999, 1, 1, tzinfo=UTC)


def scale(observed: Observed, health: Health) -> Move:
    """Bring the number of Machines one nearer to what is wanted."""
    have, want = len(observed.members), observed.replicas
    if have < want:
        return up(observed, health, f"{have} of {want} Machines exist" if have else "initialize the control plane")
    return down(observed, health, f"{have} Machines exist, {want} are wanted") if have > want else Move()


def up(observed: Observed, health: Health, reason: str) -> Move:
    """Make one Machine, once nothing forbids it. One that replaces a remediated Machine ends that remediation in the same plan."""
    if observed.template is None:
        return Move()
    result = check(observed, health, scale_up=True)
    if not result.passed:
        return blocked(observed, result)
    if observed.initialized and observed.members and observed.etcd_managed:
        # one that left without its member being removed shows: it has to go first, and its name is not given again
        asking = etcd.fresh(observed, "a Machine is about to be added")
        if asking is not None:
            return ask_first(asking)
    try:
        steps = machines.create(observed, next_failure_domain(observed), join=bool(observed.members), reason=reason)
    except ValueError as error:
        return Move(preflight=Preflight((str(error),)))
    return Move((*steps, *replaced(observed)), ends=True, guarded=result.relaxed)


def down(observed: Observed, health: Health, reason: str) -> Move:
    """Delete one Machine, once nothing forbids it and it leads etcd no more."""
    member = to_delete(observed, health)
    result = check(observed, health, scale_up=False, leaving_out=member)
    if not result.passed:
        return blocked(observed, result)
    if not health.readable:
        return Move(ends=True)
    lead: tuple[Step, ...] = ()
    if observed.etcd_managed:
        asking = etcd.fresh(observed, "a Machine that may lead etcd is about to be deleted")
        if asking is not None:
            return ask_first(asking)
        forward = quorum.forward_leadership(observed, health, member)
        if forward is None or not quorum.etcd_safe(observed, health, without=quorum.member_name(observed, member)):
            return Move(wait=DELETING_RETRY, ends=True)
        lead = forward
    return Move((*lead, delete(member, reason)), ends=True, guarded=True)


def delete(member: Member, reason: str) -> Delete:
    """Delete a Machine as it was observed."""
    machine = member.machine
    return Delete(key_of(machine), api_version_of(machine), machine.metadata.uid, reason, machine.metadata.resource_version)


def blocked(observed: Observed, result: Preflight) -> Move:
    """What is done when the checks failed: tell of it, and look again."""
    event: tuple[Step, ...] = ()
    if result.problems and not _told(observed):
        kcp = observed.kcp
        message = f"Waiting for control plane to pass preflight checks to continue reconciliation: {'; '.join(result.problems)}"
        event = (Event(key_of(kcp), api_version_of(kcp), kcp.metadata.uid, "ControlPlaneUnhealthy", message, "Warning"),)
    return Move(event, wait=result.retry, ends=True, preflight=result)


def _told(observed: Observed) -> bool:
    """Whether the conditions tell of scaling or a rollout already: a wait that lasts is told once."""
    stored = observed.kcp.status.conditions
    return any(is_true(stored, type_) for type_ in ("ScalingUp", "ScalingDown", "RollingOut"))


# --- choosing ----------------------------------------------------------------------------------------------------------------------------------


def failure_domains(observed: Observed) -> tuple[str, ...]:
    """The failure domains control plane Machines may be placed in, by name."""
    return tuple(sorted(domain.name for domain in observed.cluster.status.failure_domains if domain.control_plane))


def _count(members: Iterable[Member], domain: str) -> int:
    return sum(member.machine.spec.failure_domain == domain for member in members)


def next_failure_domain(observed: Observed) -> str:
    """The domain with the fewest up-to-date living Machines, then the fewest at all, then the first by name; ``""`` without domains."""
    domains = failure_domains(observed)
    if not domains:
        return ""
    current = [member for member in observed.living if not outdated(observed, member)]
    return min(domains, key=lambda domain: (_count(current, domain), _count(observed.members, domain), domain))


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
