"""What the control plane's Machines are judged to be, and what that adds up to on the KubeadmControlPlane.

Judged from the workload cluster while it can be read; the last judgement is kept while the connection is away for less than the grace.

Source: kinds.md §8.3, §18 (grace 5 min); Cluster API v1.14 conditions of KubeadmControlPlane, observable output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from fleetwake.conditions import FALSE, TRUE, UNKNOWN, ConditionValue, Judged, get, is_true, overlay, wire_time
from fleetwake.plan import soonest
from services.reconcilers.kinds.kubeadm_control_plane import components, etcd
from services.reconcilers.kinds.kubeadm_control_plane.observed import NODE_ROLE, Member, Observed
from services.reconcilers.kinds.kubeadm_control_plane.up_to_date import up_to_date

REMOTE_GRACE = timedelta(minutes=5)
PROBES_BEFORE_DOWN = 5
NAMES_MAX = 3
ETCD_CLUSTER_HEALTHY, COMPONENTS_HEALTHY = "EtcdClusterHealthy", "ControlPlaneComponentsHealthy"


@dataclass(frozen=True, slots=True)
class Health:
    """The judgement of one run.

    ``owned`` are the conditions KubeadmControlPlane owns on each Machine, by Machine name; ``conditions`` all a Machine will then have.
    ``overall`` and ``members`` are the sums over components
    and over etcd (None with an external etcd). ``readable``: the workload cluster was read for it, so that it may be acted on.
    """

    owned: Mapping[str, tuple[ConditionValue, ...]]
    conditions: Mapping[str, tuple[Judged, ...]]
    overall: ConditionValue
    members: ConditionValue | None
    readable: bool
    asking: etcd.Asking
    wait: timedelta | None = None

    def healthy(self, member: Member, types: Sequence[str]) -> bool:
        """Whether all the conditions of the Machine are True."""
        return all(is_true(self.conditions[member.name], type_) for type_ in types)


@dataclass(frozen=True, slots=True)
class _Blind:
    """Why the workload cluster cannot be read, and whether what was known before is kept meanwhile."""

    reason: str
    message: str
    keep: bool
    wait: timedelta | None = None


def judge(observed: Observed) -> Health:
    """Judge all Machines."""
    blind = _blind(observed)
    if blind is not None:
        return _judge_blindly(observed, blind)
    owned = {member.name: _seen(observed, member) for member in observed.members}
    overall = _components_overall(observed, owned)
    members = _etcd_overall(observed, owned) if observed.etcd_managed else None
    settled = overall.status == TRUE and (members is None or members.status == TRUE) and all(member.node for member in observed.members)
    settled = settled and not observed.leaving and (members is None or etcd.matching(observed))
    return _health(observed, owned, overall, members, etcd.asking(observed, settled=settled))


def _seen(observed: Observed, member: Member) -> tuple[ConditionValue, ...]:
    members = (etcd.member_condition(observed, member),) if observed.etcd_managed else ()
    return (up_to_date(observed, member), *components.judge(observed, member), *members)


def _health(
    observed: Observed, owned: Mapping[str, tuple[ConditionValue, ...]], overall: ConditionValue, members: ConditionValue | None, asking: etcd.Asking
) -> Health:
    conditions = {member.name: overlay(member.machine.status.conditions, owned[member.name]) for member in observed.members}
    return Health(owned, conditions, overall, members, readable=True, asking=asking, wait=soonest(asking.wait))


# --- without sight -----------------------------------------------------------------------------------------------------------------------------


def _blind(observed: Observed) -> _Blind | None:
    workload, cluster = observed.workload, observed.cluster
    if not cluster.status.initialization.infrastructure_provisioned:
        return _Blind("InspectionFailed", "Waiting for Cluster status.initialization.infrastructureProvisioned to be true", keep=False)
    if not cluster.spec.control_plane_endpoint.valid:
        return _Blind("InspectionFailed", "Waiting for Cluster spec.controlPlaneEndpoint to be set", keep=False)
    if not observed.initialized:
        return _Blind("InspectionFailed", "Waiting for Cluster control plane to be initialized", keep=False)
    if workload.last_probe_success is None and workload.consecutive_failures < PROBES_BEFORE_DOWN:
        return _Blind("ConnectionDown", "Remote connection not established yet", keep=True)
    since = max(filter(None, (workload.last_probe_success, _initialized_at(observed))))
    if observed.at - since > REMOTE_GRACE:
        seen = workload.last_probe_success
        return _Blind("ConnectionDown", f"Last successful probe at {wire_time(seen)}" if seen is not None else "Remote connection is down", keep=False)
    if not workload.connected or not workload.watch_synced:
        seen = workload.last_probe_success
        message = f"Last successful probe at {wire_time(seen)}" if seen is not None else "Remote connection not established yet"
        return _Blind("ConnectionDown", message, keep=True, wait=since + REMOTE_GRACE - observed.at + timedelta(seconds=1))
    return None


def _initialized_at(observed: Observed) -> datetime:
    found = get(observed.kcp.status.conditions, "Initialized")
    return found.last_transition_time if found is not None and found.status == TRUE and found.last_transition_time is not None else observed.at


def _judge_blindly(observed: Observed, blind: _Blind) -> Health:
    owned = {member.name: (up_to_date(observed, member), *_unseen(observed, member, blind)) for member in observed.members}
    conditions = {member.name: overlay(member.machine.status.conditions, owned[member.name]) for member in observed.members}
    overall = _kept(observed.kcp.status.conditions, ConditionValue(COMPONENTS_HEALTHY, UNKNOWN, blind.reason, blind.message), blind)
    members = _kept(observed.kcp.status.conditions, ConditionValue(ETCD_CLUSTER_HEALTHY, UNKNOWN, blind.reason, blind.message), blind)
    return Health(owned, conditions, overall, members if observed.etcd_managed else None, readable=False, asking=etcd.Asking(), wait=blind.wait)


def _unseen(observed: Observed, member: Member, blind: _Blind) -> tuple[ConditionValue, ...]:
    values = components.unknown(observed, blind.reason, blind.message)
    if observed.etcd_managed:
        values += (ConditionValue(etcd.ETCD_MEMBER_HEALTHY, UNKNOWN, blind.reason, blind.message),)
    return tuple(_kept(member.machine.status.conditions, value, blind) for value in values)


def _kept(stored: Sequence[Judged], value: ConditionValue, blind: _Blind) -> ConditionValue:
    """The stored condition of the type while what was known is kept, else the value."""
    have = get(stored, value.type) if blind.keep else None
    return ConditionValue(have.type, have.status, have.reason, have.message) if have is not None else value


# --- sums --------------------------------------------------------------------------------------------------------------------------------------


def _components_overall(observed: Observed, owned: Mapping[str, tuple[ConditionValue, ...]]) -> ConditionValue:
    problems = []
    if all(member.node for member in observed.members):
        nodes = {member.node for member in observed.members}
        for node in observed.workload.nodes:
            name = str(node["metadata"]["name"])
            if NODE_ROLE in (node["metadata"].get("labels") or {}) and name not in nodes:
                problems.append(f"Control plane Node {name} does not have a corresponding Machine")
    return _overall(observed, owned, COMPONENTS_HEALTHY, tuple(components.pod_types(observed)), problems)


def _etcd_overall(observed: Observed, owned: Mapping[str, tuple[ConditionValue, ...]]) -> ConditionValue:
    problems = [f"Etcd member {one.name or f'{one.id} (Name not yet assigned)'} does not have a corresponding Machine" for one in etcd.strangers(observed)]
    return _overall(observed, owned, ETCD_CLUSTER_HEALTHY, (etcd.ETCD_MEMBER_HEALTHY,), problems)


def _overall(
    observed: Observed, owned: Mapping[str, tuple[ConditionValue, ...]], target: str, types: tuple[str, ...], problems: Sequence[str]
) -> ConditionValue:
    """One condition of those of all Machines, and of problems that are no Machine's."""
    groups: dict[str, list[str]] = {}
    issue = unknown = good = False
    for member in observed.members:
        values = [value for value in owned[member.name] if value.type in types]
        told = [value for value in values if value.status != TRUE and not (value.status == UNKNOWN and not member.machine.spec.provider_id)]
        issue |= any(value.status == FALSE for value in told)
        unknown |= any(value.status == UNKNOWN for value in told)
        good |= len(told) < len(values)
        if told:
            groups.setdefault(_lines(values, told), []).append(member.name)
    ordered = sorted(groups, key=lambda text: (-len(groups[text]), ",".join(groups[text])))
    message = "\n".join([*(f"* {_named(groups[text])}:\n{text}" for text in ordered), *(f"* {problem}" for problem in problems)])
    if issue or problems:
        return ConditionValue(target, FALSE, "NotHealthy", message)
    if unknown:
        return ConditionValue(target, UNKNOWN, "HealthUnknown", message)
    if good:
        return ConditionValue(target, TRUE, "Healthy")
    note = "etcd member" if target == ETCD_CLUSTER_HEALTHY else "control plane"
    return ConditionValue(target, UNKNOWN, "HealthUnknown", f"No Machines reporting {note} status")


def _lines(values: Sequence[ConditionValue], told: Sequence[ConditionValue]) -> str:
    if len(values) > 1 and len({value.message for value in values}) == 1:
        return f"  * Control plane components: {values[0].message}"
    return "\n".join(f"  * {value.type}: {value.message or f'condition is {value.status}'}" for value in told)


def _named(names: Sequence[str]) -> str:
    ordered = sorted(names)
    more = f", ... ({len(ordered) - NAMES_MAX} more)" if len(ordered) > NAMES_MAX else ""
    return f"Machine{'s' if len(ordered) > 1 else ''} {', '.join(ordered[:NAMES_MAX])}{more}"
