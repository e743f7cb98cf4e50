"""What every stored status must be, whoever wrote it and whatever was killed: all condition types of the kind, and the phase that follows from the rest.

The lists and the derivation are written down here once more, from the kinds' descriptions, not from the code that is judged. Used on the streams of events of
the simulations and of the servers, and on single decisions.

Source: domain kinds.md §1 to §9 and §14 (conditions, phases); Cluster API v1.14 condition types per kind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Object = Mapping[str, Any]

DEPLOYMENT_LABEL, CONTROL_PLANE_LABEL = "cluster.x-k8s.io/deployment-name", "cluster.x-k8s.io/control-plane"
UPDATE_IN_PROGRESS = "in-place-updates.internal.cluster.x-k8s.io/update-in-progress"
REPLICAS_MANAGED_BY = "cluster.x-k8s.io/replicas-managed-by"

TYPES: dict[str, tuple[str, ...]] = {
    "Cluster": (
        *("Available", "InfrastructureReady", "ControlPlaneInitialized", "ControlPlaneAvailable", "WorkersAvailable", "RemoteConnectionProbe"),
        *("ControlPlaneMachinesReady", "WorkerMachinesReady", "ControlPlaneMachinesUpToDate", "WorkerMachinesUpToDate"),
        *("RollingOut", "ScalingUp", "ScalingDown", "Remediating", "Deleting", "Paused"),
    ),
    "Machine": ("Available", "Ready", "BootstrapConfigReady", "InfrastructureReady", "NodeReady", "NodeHealthy", "Updating", "Deleting", "Paused"),
    "MachineSet": ("ScalingUp", "ScalingDown", "MachinesReady", "MachinesUpToDate", "Remediating", "Deleting", "Paused"),
    "MachineDeployment": ("Available", "RollingOut", "ScalingUp", "ScalingDown", "MachinesReady", "MachinesUpToDate", "Remediating", "Deleting", "Paused"),
    "MachinePool": ("Available", "BootstrapConfigReady", "InfrastructureReady", "ScalingUp", "ScalingDown", "Deleting", "Paused"),
    "KubeadmControlPlane": (
        *("Available", "Initialized", "CertificatesAvailable", "ControlPlaneComponentsHealthy", "MachinesReady", "MachinesUpToDate"),
        *("RollingOut", "ScalingUp", "ScalingDown", "Remediating", "Deleting", "Paused"),
    ),
    "KubeadmConfig": ("Ready", "DataSecretAvailable", "CertificatesAvailable", "Paused"),
    "MachineHealthCheck": ("RemediationAllowed", "Paused"),
    "DevCluster": ("Ready", "Paused"),
    "DevMachine": ("Ready", "VMProvisioned", "NodeProvisioned", "Paused"),
    "DevMachinePool": ("Ready", "ReplicasReady", "Paused"),
}
"""The types that a kind's own controller tells of every object. MachineDrainRule has no controller, templates have no conditions."""
PASSING = frozenset(
    (
        *("HealthCheckSucceeded", "OwnerRemediated", "ExternallyRemediated"),
        *("UpgradeStrategyReady", "KubeconfigsAvailable", "NodeGroupReady", "LoadBalancerAvailable"),
    )
)
"""Types that tell of something else than the object (a health check, a declaration) and go with it."""


LEGACY_TYPES: dict[str, tuple[str, ...]] = {
    "Cluster": ("Ready", "InfrastructureReady", "ControlPlaneReady", "ControlPlaneInitialized"),
    "Machine": ("Ready", "InfrastructureReady", "BootstrapReady", "NodeHealthy"),
    "MachineSet": ("Ready", "MachinesCreated", "Resized", "MachinesReady"),
    "MachineDeployment": ("Ready", "Available", "MachineSetReady"),
    "MachinePool": ("Ready", "InfrastructureReady", "BootstrapReady", "ReplicasReady"),
    "KubeadmControlPlane": (
        *("Ready", "Available", "CertificatesAvailable", "MachinesCreated", "MachinesReady", "MachinesSpecUpToDate", "Resized"),
        *("EtcdClusterHealthy", "ControlPlaneComponentsHealthy"),
    ),
    "KubeadmConfig": ("Ready", "DataSecretAvailable", "CertificatesAvailable"),
    "MachineHealthCheck": ("RemediationAllowed",),
}
"""The conditions of the v1beta1 contract that a settled object of the kind has, all of them True. Source: contracts.md §10; for pools Cluster API."""


def legacy(obj: Object) -> Mapping[str, Any]:
    """What an object tells readers of the v1beta1 contract."""
    found: Mapping[str, Any] = ((obj.get("status") or {}).get("deprecated") or {}).get("v1beta1") or {}
    return found


def required(obj: Object) -> tuple[str, ...]:
    """The types that this object's controller tells: those of the kind, and those that this object has because of what it is."""
    kind, labels, spec = obj["kind"], obj["metadata"].get("labels") or {}, obj.get("spec") or {}
    more: tuple[str, ...] = ()
    if kind == "Machine" and DEPLOYMENT_LABEL in labels and CONTROL_PLANE_LABEL not in labels:
        more = ("UpToDate",)
    elif kind == "DevMachine" and CONTROL_PLANE_LABEL in labels:
        more = ("EtcdProvisioned", "APIServerProvisioned")
    elif kind == "KubeadmControlPlane":
        etcd = ((spec.get("kubeadmConfigSpec") or {}).get("clusterConfiguration") or {}).get("etcd") or {}
        more = () if etcd.get("external") else ("EtcdClusterHealthy",)
    return (*TYPES.get(kind, ()), *more)


def _types(obj: Object | None) -> set[str]:
    return {one["type"] for one in ((obj or {}).get("status") or {}).get("conditions") or ()}


def missing_types(obj: Object, before: Object | None = None) -> list[str]:
    """The condition types that a stored object lacks.

    Its controller tells all of its types at once or none yet (somebody else may have told something first), and no type that was told is ever missing again.
    """
    have, wanted = _types(obj), required(obj)
    lacking = [type_ for type_ in wanted if type_ not in have] if have & set(TYPES.get(obj["kind"], ())) else []
    return lacking + sorted(_types(before) - have - PASSING - set(lacking) if obj["kind"] in TYPES else ())


# --- phases --------------------------------------------------------------------------------------------------------------------------------------


def _latch(obj: Object, name: str) -> bool:
    return ((obj.get("status") or {}).get("initialization") or {}).get(name) is True


def _deleting(obj: Object) -> bool:
    return "deletionTimestamp" in obj["metadata"]


def _of_cluster(obj: Object) -> str:
    spec = obj["spec"]
    endpoint = spec.get("controlPlaneEndpoint") or {}
    if _deleting(obj):
        return "Deleting"
    if _latch(obj, "infrastructureProvisioned") and endpoint.get("host") and endpoint.get("port"):
        return "Provisioned"
    return "Provisioning" if spec.get("infrastructureRef") or spec.get("controlPlaneRef") else "Pending"


def _of_machine(obj: Object) -> str:
    if _deleting(obj):
        return "Deleting"
    if UPDATE_IN_PROGRESS in (obj["metadata"].get("annotations") or {}):
        return "Updating"
    if (obj.get("status") or {}).get("nodeRef") and _latch(obj, "infrastructureProvisioned"):
        return "Running"
    if obj["spec"].get("providerID"):
        return "Provisioned"
    return "Provisioning" if _latch(obj, "bootstrapDataSecretCreated") and not _latch(obj, "infrastructureProvisioned") else "Pending"


def _of_deployment(obj: Object) -> str:
    wanted, have = obj["spec"].get("replicas", 1), (obj.get("status") or {}).get("replicas") or 0
    if _deleting(obj) or have > wanted:
        return "ScalingDown"
    return "Running" if have == wanted else "ScalingUp"


def _of_pool(obj: Object) -> str:
    status = obj.get("status") or {}
    if _deleting(obj):
        return "Deleting"
    if not _latch(obj, "infrastructureProvisioned"):
        return "Provisioned" if status.get("nodeRefs") else "Provisioning" if _latch(obj, "bootstrapDataSecretCreated") else "Pending"
    managed = (obj["metadata"].get("annotations") or {}).get(REPLICAS_MANAGED_BY, "false") != "false"
    wanted = obj["spec"].get("replicas", 1)
    ready = ((status.get("deprecated") or {}).get("v1beta1") or {}).get("readyReplicas") or 0
    if wanted == ready:
        return "Running"
    if managed:
        return "Scaling"
    return "ScalingUp" if wanted > ready else "ScalingDown"


PHASES: dict[str, Callable[[Object], str]] = {
    "Cluster": _of_cluster,
    "Machine": _of_machine,
    "MachineDeployment": _of_deployment,
    "MachinePool": _of_pool,
}
"""The phase that follows from an object's metadata, spec and the rest of its status. The other kinds have none."""


def paused(obj: Object) -> bool:
    """Whether the object says that nothing of it is touched."""
    return any(one["type"] == "Paused" and one["status"] == "True" for one in (obj.get("status") or {}).get("conditions") or ())


def _basis(obj: Object) -> tuple[Any, ...]:
    meta = obj["metadata"]
    return meta.get("deletionTimestamp"), meta.get("annotations"), obj.get("spec")


@dataclass
class _Asked:
    """What one object's phase is derived from besides its status: metadata and spec as they are, and as they were, each with the time until which that was."""

    now: Object
    before: list[tuple[Object, float]] = field(default_factory=list)

    def change(self, obj: Object, at: float) -> None:
        if _basis(obj) != _basis(self.now):
            self.before.append((self.now, at))
        self.now = obj

    def phases(self, derive: Callable[[Object], str], at: float, seconds: float) -> set[str]:
        """The phases that the present status may have been told with: its writer knew the rest as it is, or as it was a moment ago."""
        known = [self.now, *(obj for obj, until in self.before if at - until <= seconds)]
        return {derive({**obj, "status": self.now.get("status")}) for obj in known}


@dataclass
class StatusHistory:
    """Follows all objects of a history. ``in_flight_seconds``: how old the state behind a new phase may be; ``late_seconds``: how long an old phase may stand.

    A status tells what was observed, so what changes in an object shows in its phase a moment later.
    """

    in_flight_seconds: float
    late_seconds: float
    _asked: dict[str, _Asked] = field(default_factory=dict)

    def take(self, obj: Object, before: Object | None, at: float) -> Iterator[str]:
        """What is wrong with a state that was just stored. ``before``: the object's state before it; both with ``kind`` and ``metadata.uid``."""
        lacking = missing_types(obj, before)
        if lacking:
            yield f"its status lacks the conditions {', '.join(lacking)}"
        derive = PHASES.get(obj["kind"])
        if derive is None or paused(obj):
            return
        phase = (obj.get("status") or {}).get("phase")
        asked = self._asked.setdefault(obj["metadata"].get("uid", obj["metadata"]["name"]), _Asked(obj))
        asked.change(obj, at)
        if phase is None:
            return
        new = phase != ((before or {}).get("status") or {}).get("phase")
        if phase not in asked.phases(derive, at, self.in_flight_seconds if new else self.late_seconds):
            yield f"its phase is {phase}, {derive(obj)} follows from the rest of it"


def wrong_phase(obj: Object) -> str:
    """What is wrong with the phase of an object to which nothing has happened for a while; empty when nothing is."""
    derive, phase = PHASES.get(obj["kind"]), (obj.get("status") or {}).get("phase")
    if derive is None or phase is None or paused(obj) or derive(obj) == phase:
        return ""
    return f"{obj['kind']} {obj['metadata']['name']}: its phase is {phase}, {derive(obj)} follows from the rest of it"
