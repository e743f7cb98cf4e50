"""What etcd said, and when to ask it again.

etcd cannot be watched, so it is asked (``Look`` "etcd"): at once when a static pod of etcd or a Node changed since the last answer, soon while
something is unhealthy or under way, seldom on a settled control plane, and again right before anything is done to its membership.

Source: kinds.md §8.3 (members), §8.4 (strange members); Cluster API v1.14 etcd conditions, observable output.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from fleetwake.conditions import FALSE, TRUE, UNKNOWN, ConditionValue, is_true
from fleetwake.plan import Look
from services.reconcilers.kinds.kubeadm_control_plane.observed import Member, Observed

ETCD_MEMBER_HEALTHY = "EtcdMemberHealthy"
PROBE_INTERVAL = timedelta(minutes=5)
"""How old an answer may be on a settled control plane: what only etcd tells, and no pod, are alarms."""
UNSETTLED_INTERVAL = timedelta(seconds=20)
LEARNING_INTERVAL = timedelta(seconds=5)
"""How often to ask while a member starts or learns: the next Machine waits for it, and nothing tells of its promotion."""
FRESH = timedelta(seconds=2)
"""How old an answer may be for a decision about membership."""
CLOCK_STEP = timedelta(seconds=1)
"""Times of the workload cluster are whole seconds."""
NEW_NODE = timedelta(minutes=2)
"""How long a Node may lack its etcd member without the control plane counting as unavailable."""


@dataclass(frozen=True, slots=True)
class EtcdMember:
    """A member of etcd; its name is that of its Node, ``""`` until it has started."""

    id: int
    name: str
    learner: bool
    alarms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EtcdAnswer:
    """The membership at a time."""

    at: datetime
    members: tuple[EtcdMember, ...]
    leader: int

    def of_node(self, node: str) -> EtcdMember | None:
        """The member on a Node."""
        return next((member for member in self.members if node and member.name == node), None)

    @property
    def names(self) -> str:
        """The members for messages."""
        return ", ".join(member.name or f"{member.id} (Name not yet assigned)" for member in self.members)


def answer(observed: Observed) -> EtcdAnswer | None:
    """The last answer, None when there is none or it was an error."""
    looked = observed.workload.looks.get("etcd")
    if looked is None or looked.error or not isinstance(looked.value, Mapping):
        return None
    alarms: dict[int, list[str]] = {}
    for alarm in looked.value.get("alarms") or ():
        if str(alarm.get("alarm", "")) not in ("", "NONE"):
            alarms.setdefault(int(alarm["memberID"]), []).append(str(alarm["alarm"]))
    members = tuple(
        EtcdMember(int(one["id"]), str(one.get("name") or ""), bool(one.get("isLearner")), tuple(alarms.get(int(one["id"]), ())))
        for one in looked.value.get("members") or ()
    )
    return EtcdAnswer(looked.at, members, int(looked.value.get("leader") or 0))


def error(observed: Observed) -> str:
    """Why the last look failed, ``""`` if it did not."""
    looked = observed.workload.looks.get("etcd")
    return looked.error if looked is not None else ""


# --- when to ask -------------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Asking:
    """Whether to ask etcd now, how long until then otherwise, and whether what is known is too old to write down (``stale``)."""

    look: Look | None = None
    wait: timedelta | None = None
    stale: bool = False


def asking(observed: Observed, *, settled: bool) -> Asking:
    """Decide when to ask. There must be a connection; without a Node of a living Machine there is nobody to ask."""
    via = nodes_to_ask(observed)
    if not via or not observed.etcd_managed:
        return Asking()
    look = Look(observed.cluster_key, "etcd", reason="etcd cannot be watched", via=via)
    looked = observed.workload.looks.get("etcd")
    if looked is None:
        return Asking(look, stale=True)
    age = observed.at - looked.at
    changed = _changed_at(observed, observed.living)
    if changed is not None and changed + CLOCK_STEP > looked.at:
        if age >= FRESH:
            return Asking(look, stale=True)
        return Asking(wait=FRESH - age)
    found = answer(observed)
    learning = found is not None and any(one.learner or not one.name for one in found.members)
    interval = LEARNING_INTERVAL if learning else PROBE_INTERVAL if settled and not looked.error else UNSETTLED_INTERVAL
    return Asking(look) if age >= interval else Asking(wait=interval - age)


def nodes_to_ask(observed: Observed) -> tuple[str, ...]:
    """Nodes of living Machines, those whose member was healthy first."""
    present = {str(node["metadata"]["name"]) for node in observed.workload.nodes}
    candidates = [member for member in observed.living if member.node in present]
    candidates.sort(key=lambda member: (not is_true(member.machine.status.conditions, ETCD_MEMBER_HEALTHY), member.node))
    return tuple(member.node for member in candidates)


def fresh(observed: Observed, reason: str) -> Asking | None:
    """What to do first when membership is about to be touched, None when the last answer is fresh enough: young, and younger than what a Node or pod shows.

    After a failed look it is not asked again at once: its answer would wake the next run, and that one would ask again.
    """
    looked = observed.workload.looks.get("etcd")
    if looked is None:
        return Asking(Look(observed.cluster_key, "etcd", reason=reason, via=nodes_to_ask(observed)))
    age, changed = observed.at - looked.at, _changed_at(observed, observed.members)
    if answer(observed) is None:
        if age < UNSETTLED_INTERVAL:
            return Asking(wait=UNSETTLED_INTERVAL - age)
    elif changed is not None and changed + CLOCK_STEP > looked.at:
        if observed.at < changed + CLOCK_STEP:
            return Asking(wait=changed + CLOCK_STEP - observed.at)
    elif age <= FRESH:
        return None
    return Asking(Look(observed.cluster_key, "etcd", reason=reason, via=nodes_to_ask(observed)))


def _changed_at(observed: Observed, members: Iterable[Member]) -> datetime | None:
    """When a Node of these Machines appeared or an etcd pod last changed its readiness; times ahead of our clock say nothing."""
    nodes = {member.node for member in members if member.node}
    times = [node["metadata"].get("creationTimestamp") for node in observed.workload.nodes if node["metadata"]["name"] in nodes]
    for pod in observed.workload.pods:
        if str(pod["metadata"]["name"]).removeprefix("etcd-") in nodes:
            times.append(pod["metadata"].get("creationTimestamp"))
            times += [one.get("lastTransitionTime") for one in (pod.get("status") or {}).get("conditions", ()) if one.get("type") == "Ready"]
    known = [at for at in (_time(text) for text in times) if at is not None and at <= observed.at + FRESH]
    return max(known, default=None)


def _time(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text)) if text else None
    except ValueError:
        return None


# --- conditions --------------------------------------------------------------------------------------------------------------------------------


def member_condition(observed: Observed, member: Member) -> ConditionValue:
    """EtcdMemberHealthy of a Machine, while etcd can be asked."""
    machine, found = member.machine, answer(observed)
    if member.deleting:
        return ConditionValue(ETCD_MEMBER_HEALTHY, FALSE, "Deleting", "Machine is deleting")
    if not member.node:
        return ConditionValue(ETCD_MEMBER_HEALTHY, UNKNOWN, "InspectionFailed", waiting_for_node(member))
    if found is None:
        reason = f"Failed to get etcd members: {error(observed)}" if error(observed) else "Waiting for etcd to report the list of members"
        return ConditionValue(ETCD_MEMBER_HEALTHY, UNKNOWN, "InspectionFailed", reason)
    mine = found.of_node(member.node)
    if mine is None:
        text = f"Etcd reports the cluster is composed by {found.names}, but the etcd member hosted on Machine {machine.name} ({member.node}) is not included"
        return ConditionValue(ETCD_MEMBER_HEALTHY, FALSE, "NotHealthy", text)
    if mine.learner:
        return ConditionValue(ETCD_MEMBER_HEALTHY, FALSE, "NotHealthy", "Waiting for learner etcd member to be promoted")
    if mine.alarms:
        return ConditionValue(ETCD_MEMBER_HEALTHY, FALSE, "NotHealthy", f"Etcd reports alarms: {', '.join(mine.alarms)}")
    return ConditionValue(ETCD_MEMBER_HEALTHY, TRUE, "Healthy")


def waiting_for_node(member: Member) -> str:
    """What a Machine without a Node waits for."""
    spec = member.machine.spec
    if spec.provider_id:
        return f"Waiting for a Node with spec.providerID {spec.provider_id} to exist"
    return f"Waiting for {spec.infrastructure_ref.kind} to report spec.providerID"


def strangers(observed: Observed) -> tuple[EtcdMember, ...]:
    """Members whose name is no Node of our Machines, lowest id first."""
    found, nodes = answer(observed), {member.node for member in observed.members if member.node}
    return tuple(sorted((one for one in found.members if one.name not in nodes), key=lambda one: one.id)) if found is not None else ()


def matching(observed: Observed) -> bool:
    """Whether members and Machines belong together, with patience for what is being provisioned."""
    found = answer(observed)
    if found is None:
        return not any(member.node for member in observed.members)
    provisioning = any(not member.node for member in observed.members)
    if strangers(observed) and not provisioning:
        return False
    old = {node["metadata"]["name"] for node in observed.workload.nodes if _old(node, observed.at)}
    return not any(member.node in old and found.of_node(member.node) is None for member in observed.living)


def _old(node: Mapping[str, Any], at: datetime) -> bool:
    created = _time(node["metadata"].get("creationTimestamp"))
    return created is not None and at - created > NEW_NODE
