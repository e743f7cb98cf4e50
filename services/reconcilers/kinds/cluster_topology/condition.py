"""TopologyReconciled: whether all objects of a topology are as it asks, and what it waits for.

Source: kinds.md §10.4, §1 (conditions of a Cluster); Cluster API v1.14 (reasons and messages, which other tools read).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fleetwake import labels
from fleetwake.conditions import FALSE, TRUE, ConditionValue
from fleetwake.pausing import PAUSED
from schemas.api.core.v1beta2.cluster import Cluster
from services.reconcilers.kinds.cluster_topology.versions import Versions, WorkerState, WorkerVersion

TOPOLOGY_RECONCILED = "TopologyReconciled"
SUCCEEDED = "ReconcileSucceeded"
FAILED = "ReconcileFailed"
CREATING = "ClusterCreating"
UPGRADING = "ClusterUpgrading"
DEPLOYMENTS_DEFERRED = "MachineDeploymentsUpgradeDeferred"
POOLS_DEFERRED = "MachinePoolsUpgradeDeferred"
CLASS_NOT_RECONCILED = "ClusterClassNotReconciled"
DELETING = "Deleting"
NAMES_MAX = 3
"""Names of workers that a message shows."""


@dataclass(frozen=True, slots=True)
class Told:
    """What the condition of a Cluster that is neither paused nor leaving tells of. ``control_plane_kind`` is empty while there is none."""

    versions: Versions
    control_plane_kind: str = ""
    blocking: Mapping[str, str] = field(default_factory=dict)


def succeeded() -> ConditionValue:
    """All is as the topology asks."""
    return ConditionValue(TOPOLOGY_RECONCILED, TRUE, SUCCEEDED)


def failed(message: str) -> ConditionValue:
    """The topology cannot be had."""
    return ConditionValue(TOPOLOGY_RECONCILED, FALSE, FAILED, message)


def class_not_reconciled(message: str) -> ConditionValue:
    """The class is not there, or not ready."""
    return ConditionValue(TOPOLOGY_RECONCILED, FALSE, CLASS_NOT_RECONCILED, message)


def deleting() -> ConditionValue:
    """The Cluster is going."""
    return ConditionValue(TOPOLOGY_RECONCILED, FALSE, DELETING, "Cluster is deleting")


def creating(blocking: Mapping[str, str]) -> ConditionValue:
    """A hook holds the Cluster's creation."""
    return ConditionValue(TOPOLOGY_RECONCILED, FALSE, CREATING, f"Following hooks are blocking Cluster topology creation: {_hooks(blocking)}")


def _hooks(blocking: Mapping[str, str]) -> str:
    return "; ".join(f"{hook}: {message}" for hook, message in sorted(blocking.items()))


def paused(cluster: Cluster) -> ConditionValue:
    """Nothing is done while the Cluster is paused."""
    why = ["Cluster spec.paused is set to true"] if cluster.spec.paused else []
    if cluster.annotated(labels.PAUSED):
        why.append(f"Cluster has the {labels.PAUSED} annotation")
    return ConditionValue(TOPOLOGY_RECONCILED, FALSE, PAUSED, ", ".join(why))


def reconciled(cluster: Cluster, told: Told) -> ConditionValue:
    """Whether everything is as asked, or how far an upgrade is."""
    spec = cluster.spec
    if not _upgrading(told.versions):
        return succeeded()
    lines = [f"Cluster is upgrading to {spec.topology.version if spec.topology else ''}"]
    if told.blocking:
        lines.append(f"Following hooks are blocking upgrade: {_hooks(told.blocking)}")
    lines += _control_plane_lines(told)
    versions = told.versions
    lines += _worker_lines("MachineDeployment", versions.deployments, versions, versions.control_plane.version)
    lines += _worker_lines("MachinePool", versions.pools, versions, versions.control_plane.version)
    return ConditionValue(TOPOLOGY_RECONCILED, FALSE, _reason(told), "\n  * ".join(lines))


def _upgrading(versions: Versions) -> bool:
    control_plane = versions.control_plane
    busy = control_plane.pending or control_plane.starting or control_plane.upgrading or versions.upgrading
    return busy or any(one.state is not WorkerState.CURRENT for one in (*versions.deployments, *versions.pools))


def _reason(told: Told) -> str:
    """Upgrading, unless all that is left is what a user has put off."""
    versions = told.versions
    if told.blocking or versions.control_plane.starting or versions.control_plane.upgrading:
        return UPGRADING
    for workers, reason in ((versions.deployments, DEPLOYMENTS_DEFERRED), (versions.pools, POOLS_DEFERRED)):
        states = {one.state for one in workers}
        if WorkerState.DEFERRED in states and not states & {WorkerState.UPGRADING, WorkerState.PENDING}:
            return reason
    return UPGRADING


def _control_plane_lines(told: Told) -> list[str]:
    control_plane, plan = told.versions.control_plane, told.versions.plans.control_plane
    if control_plane.starting or control_plane.upgrading:
        return [f"{told.control_plane_kind} upgrading to version {control_plane.version}{_rest(plan, control_plane.version)}"]
    return [f"{told.control_plane_kind} pending upgrade to version {', '.join(plan)}"] if plan else []


def _worker_lines(kind: str, workers: Sequence[WorkerVersion], versions: Versions, version: str) -> list[str]:
    plan = versions.plans.workers
    lines = []
    for state in (WorkerState.UPGRADING, WorkerState.PENDING, WorkerState.DEFERRED, WorkerState.PENDING_CREATE):
        names = versions.in_state(workers, state)
        if not names or (state is WorkerState.PENDING and not plan):
            continue
        said = {
            WorkerState.UPGRADING: f"upgrading to version {version}{_rest(plan, version)}",
            WorkerState.PENDING: f"pending upgrade to version {', '.join(plan)}",
            WorkerState.DEFERRED: f"upgrade to version {version} deferred using defer-upgrade or hold-upgrade-sequence annotations",
            WorkerState.PENDING_CREATE: "creation deferred while control plane upgrade is in progress",
        }[state]
        lines.append(f"{_named(kind, names)} {said}")
    return lines


def _rest(plan: Sequence[str], version: str) -> str:
    left = [one for one in plan if one != version]
    return f" ({', '.join(left)} pending)" if left else ""


def _named(kind: str, names: Sequence[str]) -> str:
    shown = ", ".join(names[:NAMES_MAX])
    more = f", ... ({len(names) - NAMES_MAX} more)" if len(names) > NAMES_MAX else ""
    return f"{kind}{'s' if len(names) > 1 else ''} {shown}{more}"
