"""What static pods and the Node tell of one Machine of the control plane.

Source: kinds.md §8.3 (per Machine); Cluster API v1.14 static pod conditions, observable output.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fleetwake import labels
from fleetwake.conditions import FALSE, TRUE, UNKNOWN, ConditionValue
from fleetwake.patches import wire
from schemas.api.meta import ConditionStatus
from services.reconcilers.kinds.kubeadm_control_plane.etcd import waiting_for_node
from services.reconcilers.kinds.kubeadm_control_plane.observed import NODE_ROLE, Member, Observed
from services.reconcilers.kinds.kubeadm_control_plane.up_to_date import is_init

NODE_SET = "NodeKubeadmLabelsAndTaintsSet"
COMPONENTS = {
    "APIServerPodHealthy": "kube-apiserver",
    "ControllerManagerPodHealthy": "kube-controller-manager",
    "SchedulerPodHealthy": "kube-scheduler",
}
ETCD_POD = {"EtcdPodHealthy": "etcd"}

Json = Mapping[str, Any]


def pod_types(observed: Observed) -> Mapping[str, str]:
    """The condition types of the static pods there are, and the component each is about."""
    return {**COMPONENTS, **(ETCD_POD if observed.etcd_managed else {})}


def judge(observed: Observed, member: Member) -> tuple[ConditionValue, ...]:
    """The conditions of a Machine's pods and Node, while the workload cluster can be read."""
    node = next((node for node in observed.workload.nodes if member.node and node["metadata"]["name"] == member.node), None)
    if member.deleting:
        deleting = _all(observed, FALSE, "Deleting", "Machine is deleting")
        return (*deleting, _node_condition(observed, member, node) if node is not None else ConditionValue(NODE_SET, FALSE, "Deleting", "Machine is deleting"))
    if not member.node:
        return unknown(observed, "InspectionFailed", waiting_for_node(member))
    if node is None:
        return unknown(observed, "InspectionFailed", f"Node {member.node} does not exist")
    if _unreachable(node):
        return unknown(observed, "InspectionFailed", f"Node {member.node} is unreachable")
    return (*(_pod_condition(observed, type_, component, node) for type_, component in pod_types(observed).items()), _node_condition(observed, member, node))


def runs(observed: Observed, component: str, node_name: str) -> bool:
    """Whether a static pod runs on a Node, whatever becomes of its Machine."""
    node = next((node for node in observed.workload.nodes if node["metadata"]["name"] == node_name), None)
    return node is not None and not _unreachable(node) and _pod_condition(observed, component, component, node).status == TRUE


def unknown(observed: Observed, reason: str, message: str) -> tuple[ConditionValue, ...]:
    """All these conditions Unknown for one reason."""
    return (*_all(observed, UNKNOWN, reason, message), ConditionValue(NODE_SET, UNKNOWN, reason, message))


def _all(observed: Observed, status: ConditionStatus, reason: str, message: str) -> tuple[ConditionValue, ...]:
    return tuple(ConditionValue(type_, status, reason, message) for type_ in pod_types(observed))


def _unreachable(node: Json) -> bool:
    taints = (node.get("spec") or {}).get("taints") or ()
    return any(taint.get("key") == labels.UNREACHABLE_TAINT and taint.get("effect") == "NoExecute" for taint in taints)


def _status_of(conditions: Any, type_: str) -> str:
    return next((str(one.get("status")) for one in conditions or () if one.get("type") == type_), "Unknown")


# --- pods --------------------------------------------------------------------------------------------------------------------------------------


def _pod_condition(observed: Observed, type_: str, component: str, node: Json) -> ConditionValue:
    ready = next((one for one in (node.get("status") or {}).get("conditions", ()) if one.get("type") == "Ready"), None)
    if ready is not None and ready.get("status") == "Unknown":
        return ConditionValue(type_, UNKNOWN, "InspectionFailed", "Node Ready condition is Unknown, Pod data might be stale")
    name = f"{component}-{node['metadata']['name']}"
    pod = next((pod for pod in observed.workload.pods if pod["metadata"]["name"] == name), None)
    if pod is None:
        return ConditionValue(type_, FALSE, "DoesNotExist", "Pod does not exist")
    status: Json = pod.get("status") or {}
    match status.get("phase"):
        case "Pending":
            return ConditionValue(type_, FALSE, "Provisioning", _pending(status))
        case "Running":
            return _running(type_, status)
        case "Succeeded" | "Failed":
            return ConditionValue(type_, FALSE, "Failed", "All the containers have been terminated")
        case _:
            return ConditionValue(type_, UNKNOWN, "InspectionFailed", "Pod is reporting Unknown status")


def _pending(status: Json) -> str:
    if _status_of(status.get("conditions"), "PodScheduled") != "True":
        return "Waiting to be scheduled"
    return "Running init containers" if _status_of(status.get("conditions"), "Initialized") != "True" else ""


def _running(type_: str, status: Json) -> ConditionValue:
    """A pod that runs is healthy once it is ready; before, a container that waits after an error has failed, any other is on its way."""
    if _status_of(status.get("conditions"), "Ready") == "True":
        return ConditionValue(type_, TRUE, "Running")
    containers = status.get("containerStatuses") or ()
    waiting = [str(one["state"]["waiting"].get("reason", "")) for one in containers if (one.get("state") or {}).get("waiting") is not None]
    ended_badly = any(((one.get("lastState") or {}).get("terminated") or {}).get("exitCode") for one in containers)
    if waiting:
        return ConditionValue(type_, FALSE, "Failed" if ended_badly else "Provisioning", ", ".join(waiting))
    terminated = [str(one["state"]["terminated"].get("reason", "")) for one in containers if (one.get("state") or {}).get("terminated") is not None]
    if terminated:
        return ConditionValue(type_, FALSE, "Failed", ", ".join(terminated))
    return ConditionValue(type_, FALSE, "Provisioning", "Waiting for startup or readiness probes")


# --- node --------------------------------------------------------------------------------------------------------------------------------------


def _node_condition(observed: Observed, member: Member, node: Json) -> ConditionValue:
    lacks = []
    if NODE_ROLE not in (node["metadata"].get("labels") or {}):
        lacks.append(f"{NODE_ROLE} label")
    if _wants_taint(member) and not _has_taint((node.get("spec") or {}).get("taints") or ()):
        lacks.append(f"{NODE_ROLE}:NoSchedule taint")
    if lacks:
        return ConditionValue(NODE_SET, FALSE, "NotSet", f"Node {member.node} does not have the {' and the '.join(lacks)}")
    return ConditionValue(NODE_SET, TRUE, "Set")


def _wants_taint(member: Member) -> bool:
    """Whether the Node is to have kubeadm's taint: unless its registration names other taints and the Machine does not ask for it."""
    if any(taint.key == NODE_ROLE and taint.effect == "NoSchedule" for taint in member.machine.spec.taints):
        return True
    if member.config is None:
        return False
    spec = member.config.spec
    registration = (spec.init_configuration if is_init(wire(spec)) else spec.join_configuration).node_registration
    return registration.taints is None or _has_taint([wire(taint) for taint in registration.taints])


def _has_taint(taints: Any) -> bool:
    return any(taint.get("key") == NODE_ROLE and taint.get("effect") == "NoSchedule" for taint in taints)
