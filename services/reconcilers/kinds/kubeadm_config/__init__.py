"""KubeadmConfig: bootstrap data for one Machine or MachinePool (the bootstrap provider's contract).

``observed`` reads, ``state`` decides, ``data``, ``tokens``, ``removal`` and ``status`` make the steps. The rendering is ``services.reconcilers.bootstrap``.

Source: kinds.md §9, §16 (what wakes it); contracts.md §5.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fleetwake import labels
from fleetwake.kind import CONNECTION, Change, Kind, Lookup, Watch, controller_owner, members_of_cluster
from schemas.api.bootstrap.v1beta2 import KubeadmConfig
from schemas.api.core.v1beta2 import Cluster, Machine, MachinePool
from schemas.keys import GroupKind, ObjectKey
from services.reconcilers.kinds.kubeadm_config.observed import CONFIG_MAP, SECRET, Observed, observe
from services.reconcilers.kinds.kubeadm_config.state import reconcile
from services.reconcilers.kinds.kubeadm_config.status import MANAGER
from services.reconcilers.kubeadm.secrets import Purpose

CONFIG = GroupKind(KubeadmConfig.GROUP, KubeadmConfig.KIND)
_CONFIGS_OF_CLUSTER = members_of_cluster(CONFIG)


def _config_of_machine(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
    """The config a Machine refers to; all of the cluster when a control plane Machine vanished that may have held the init lock."""
    ref = change.state.get("spec", {}).get("bootstrap", {}).get("configRef") or {}
    keys = list(_key(ref, change))
    if change.after is None and labels.CONTROL_PLANE in change.state.get("metadata", {}).get("labels", {}):
        keys.extend(_CONFIGS_OF_CLUSTER(change, lookup))
    return dict.fromkeys(keys)


def _config_of_pool(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
    spec = change.state.get("spec", {}).get("template", {}).get("spec", {})
    return _key(spec.get("bootstrap", {}).get("configRef") or {}, change)


def _key(ref: Mapping[str, str], change: Change) -> Iterable[ObjectKey]:
    if (ref.get("apiGroup"), ref.get("kind")) == CONFIG:
        yield ObjectKey(CONFIG.group, CONFIG.kind, change.key.namespace, ref["name"])


def _machine_matters(change: Change) -> bool:
    if change.after is None or change.before is None or change.differs("spec"):
        return True
    return change.differs("status", "nodeRef") or change.differs("status", "nodeRefs") or _node_ready(change.before) != _node_ready(change.after)


def _node_ready(state: object) -> bool:
    return _is_true(state, "NodeReady")


def _cluster_matters(change: Change) -> bool:
    return (
        change.differs("spec")
        or change.differs("status", "initialization", "infrastructureProvisioned")
        or _initialized(change.before) != _initialized(change.after)
    )


def _initialized(state: object) -> bool:
    return _is_true(state, "ControlPlaneInitialized")


def _is_true(state: object, type_: str) -> bool:
    status = state.get("status", {}) if isinstance(state, Mapping) else {}
    return any(one.get("type") == type_ and one.get("status") == "True" for one in status.get("conditions", ()))


def _came_or_went(change: Change) -> bool:
    return (change.before is None) != (change.after is None)


def _secret_matters(change: Change) -> bool:
    return _came_or_went(change) or change.differs("metadata", "ownerReferences") or change.differs("metadata", "annotations")


def _configs_of_secret(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
    """The owner of a bootstrap Secret; for a certificate all configs of the cluster, who may be waiting for it."""
    if change.cluster is not None and change.key.name in {f"{change.cluster.name}-{purpose.value}" for purpose in Purpose}:
        return _CONFIGS_OF_CLUSTER(change, lookup)
    return controller_owner(CONFIG)(change, lookup)


def _configs_of_lock(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
    if change.cluster is not None and change.key.name == f"{change.cluster.name}-lock":
        return _CONFIGS_OF_CLUSTER(change, lookup)
    return ()


KIND: Kind[Observed] = Kind(
    model=KubeadmConfig,
    observe=observe,
    reconcile=reconcile,
    manager=MANAGER,
    watches=(
        Watch(GroupKind(Machine.GROUP, Machine.KIND), _config_of_machine, _machine_matters),
        Watch(GroupKind(MachinePool.GROUP, MachinePool.KIND), _config_of_pool, _machine_matters),
        Watch(GroupKind(Cluster.GROUP, Cluster.KIND), _CONFIGS_OF_CLUSTER, _cluster_matters),
        Watch(SECRET, _configs_of_secret, _secret_matters),
        Watch(CONFIG_MAP, _configs_of_lock, _came_or_went),
        Watch(CONNECTION, _CONFIGS_OF_CLUSTER, lambda change: change.differs("connected")),
    ),
)
