"""What wakes a KubeadmControlPlane, filtered by what its decision reads.

Source: kinds.md §8 (triggers), §16.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fleetwake import labels
from fleetwake.kind import ANY_KIND, CONNECTION, NODE, POD, Change, Lookup, Watch, controller_owner, members_of_cluster
from schemas.api.bootstrap.v1beta2 import KubeadmConfig
from schemas.api.controlplane.v1beta2 import KubeadmControlPlane
from schemas.api.core.v1beta2 import Cluster, Machine, MachinePool
from schemas.keys import GroupKind, ObjectKey
from services.reconcilers.kinds.kubeadm_control_plane.declared_kubeconfigs import secret_name
from services.reconcilers.kinds.kubeadm_control_plane.observed import NODE_ROLE
from services.reconcilers.kinds.kubeadm_control_plane.preflight import UPGRADE_STEP
from services.reconcilers.kubeadm.secrets import Purpose

CONTROL_PLANE = GroupKind(KubeadmControlPlane.GROUP, KubeadmControlPlane.KIND)
_OF_CLUSTER = members_of_cluster(CONTROL_PLANE)
_READ_OF_MACHINES = ("Ready", "Available", "Deleting", "HealthCheckSucceeded", "OwnerRemediated", "Updating")
"""Conditions of Machines that others write and decisions here read."""


def _came_or_went(change: Change) -> bool:
    return (change.before is None) != (change.after is None)


def _conditions(state: Mapping[str, Any] | None, types: Iterable[str]) -> list[tuple[Any, ...]]:
    found = {one.get("type"): one for one in ((state or {}).get("status") or {}).get("conditions") or ()}
    return [(found[name].get("status"), found[name].get("reason"), found[name].get("message")) if name in found else () for name in types]


def _labelled(change: Change, label: str) -> bool:
    return any(label in (((state or {}).get("metadata") or {}).get("labels") or {}) for state in (change.before, change.after))


def _machine_matters(change: Change) -> bool:
    if not _labelled(change, labels.CONTROL_PLANE):
        # of workers only their end counts: a control plane that is being deleted waits for it
        return change.after is None
    paths = (("spec",), ("status", "nodeRef"), ("status", "nodeInfo", "kubeletVersion"), ("status", "certificatesExpiryDate"), ("status", "initialization"))
    metadata = ("labels", "annotations", "ownerReferences", "deletionTimestamp", "uid")
    return (
        _came_or_went(change)
        or any(change.differs(*path) for path in paths)
        or any(change.differs("metadata", name) for name in metadata)
        or _conditions(change.before, _READ_OF_MACHINES) != _conditions(change.after, _READ_OF_MACHINES)
    )


def _cluster_matters(change: Change) -> bool:
    status = (("status", "initialization", "infrastructureProvisioned"), ("status", "failureDomains"))
    return (
        _came_or_went(change)
        or change.differs("spec")
        or any(change.differs(*path) for path in status)
        or change.differs("metadata", "annotations", UPGRADE_STEP)
    )


def _config_matters(change: Change) -> bool:
    return _labelled(change, labels.CONTROL_PLANE) and (_came_or_went(change) or change.differs("spec") or change.differs("metadata", "labels"))


def _of_secret(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
    if change.cluster is None:
        return ()
    ours = {f"{change.cluster.name}-{purpose.value}" for purpose in Purpose}
    # declared kubeconfigs have the name of the controllers' own before theirs
    return _OF_CLUSTER(change, lookup) if change.key.name in ours or change.key.name.startswith(secret_name(change.cluster.name, "")) else ()


def _secret_matters(change: Change) -> bool:
    return _came_or_went(change) or change.differs("metadata", "ownerReferences") or change.differs("metadata", "annotations") or change.differs("type")


def _configuration_matters(change: Change) -> bool:
    """kubeadm's configuration: it tells that the control plane is initialized, and a rollout goes on once it says what it should."""
    return change.key.name == "kubeadm-config" and (_came_or_went(change) or change.differs("data"))


def _node_matters(change: Change) -> bool:
    if not _labelled(change, NODE_ROLE):
        return False
    metadata_or_taints = change.differs("metadata", "labels") or change.differs("spec", "taints")
    return _came_or_went(change) or metadata_or_taints or _conditions(change.before, ("Ready",)) != _conditions(change.after, ("Ready",))


def _pod_matters(change: Change) -> bool:
    return _came_or_went(change) or any(change.differs("status", name) for name in ("phase", "conditions", "containerStatuses"))


def _of_provider_object(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
    """Those whose infrastructure template it is; for a control plane Machine's object all of its cluster."""
    if change.key.kind.endswith("Template"):
        for key in lookup.namespace_keys(CONTROL_PLANE, change.key.namespace):
            found = lookup.read(KubeadmControlPlane, key)
            ref = found.spec.machine_template.spec.infrastructure_ref if found is not None else None
            if ref is not None and (ref.api_group, ref.kind, ref.name) == (change.key.group, change.key.kind, change.key.name):
                yield key
    elif _labelled(change, labels.CONTROL_PLANE):
        yield from _OF_CLUSTER(change, lookup)


def _provider_object_matters(change: Change) -> bool:
    metadata = ("labels", "annotations", "ownerReferences")
    return _came_or_went(change) or any(change.differs("metadata", name) for name in metadata)


def _machine_concerns(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
    """Its controller; all of the cluster for one that nobody of ours controls (adoption, workers that ended)."""
    return tuple(controller_owner(CONTROL_PLANE)(change, lookup)) or _OF_CLUSTER(change, lookup)


WATCHES: tuple[Watch, ...] = (
    Watch(GroupKind(Machine.GROUP, Machine.KIND), _machine_concerns, _machine_matters),
    Watch(GroupKind(MachinePool.GROUP, MachinePool.KIND), _OF_CLUSTER, lambda change: change.after is None),
    Watch(GroupKind(Cluster.GROUP, Cluster.KIND), _OF_CLUSTER, _cluster_matters),
    Watch(GroupKind(KubeadmConfig.GROUP, KubeadmConfig.KIND), _OF_CLUSTER, _config_matters),
    Watch(GroupKind("", "Secret"), _of_secret, _secret_matters),
    Watch(GroupKind("", "ConfigMap"), _OF_CLUSTER, _configuration_matters),
    Watch(NODE, _OF_CLUSTER, _node_matters),
    Watch(POD, _OF_CLUSTER, _pod_matters),
    Watch(CONNECTION, _OF_CLUSTER, lambda change: change.differs("connected") or change.differs("watchSynced")),
    Watch(ANY_KIND, _of_provider_object, _provider_object_matters),
)
