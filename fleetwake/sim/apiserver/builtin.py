"""The built-in kinds of a workload cluster.

Only what controllers, schedulers, cluster-autoscaler and kubectl need of them: names, scope, merge rules of the lists that several managers share, selectable
fields. Nobody acts on those of workloads, volumes and devices: they are there to be listed and watched, as a client whose informer finds a kind missing never
begins its work.

Source: Kubernetes API reference 1.36 (list types of server-side apply; Node taints are atomic there); what the scheduler's framework and cluster-autoscaler
1.36 list and watch.
"""

from __future__ import annotations

from typing import Any

from .definitions import Column, ResourceDefinition, ScalePaths
from .structure import ATOMIC, STRING_SET, Structure, list_map, structure

_CONDITIONS = list_map("type")
_CONTAINER = Structure(
    fields={
        "ports": list_map("containerPort", "protocol", defaults={"protocol": "TCP"}),
        "env": list_map("name"),
        "volumeMounts": list_map("mountPath"),
        "volumeDevices": list_map("devicePath"),
    }
)
_POD_SPEC = Structure(
    fields={
        "containers": list_map("name", element=_CONTAINER),
        "initContainers": list_map("name", element=_CONTAINER),
        "volumes": list_map("name"),
        "imagePullSecrets": list_map("name"),
        "nodeSelector": ATOMIC,
        "hostAliases": list_map("ip"),
        "topologySpreadConstraints": list_map("topologyKey", "whenUnsatisfiable"),
    }
)
_TEMPLATE = Structure(fields={"spec": _POD_SPEC})
_WORKLOAD = structure({"spec.template": _TEMPLATE, "spec.selector": ATOMIC, "status.conditions": _CONDITIONS})
_ROLE_REF = structure({"roleRef": ATOMIC})
_RBAC = "rbac.authorization.k8s.io"
_APPS = "apps"
_STORAGE = "storage.k8s.io"
_RESOURCE = "resource.k8s.io"


def _core(kind: str, plural: str, **options: Any) -> ResourceDefinition:
    return _built_in("", "v1", kind, plural, **options)


def _built_in(group: str, version: str, kind: str, plural: str, **options: Any) -> ResourceDefinition:
    settings: dict[str, Any] = {"generation": False, "status": False, "custom": False, "unconditional_update": True, "singular": kind.lower(), **options}
    return ResourceDefinition(group, version, kind, plural, **settings)


def _apps(kind: str, plural: str, short: str, *, scale: bool) -> ResourceDefinition:
    paths = ScalePaths(selector="spec.selector") if scale else None
    return _built_in(
        _APPS, "v1", kind, plural, short_names=(short,), status=True, generation=True, scale=paths, structure=_WORKLOAD, status_writes_metadata=True
    )


NAMESPACES = _core(
    "Namespace",
    "namespaces",
    namespaced=False,
    short_names=("ns",),
    status=True,
    structure=structure({"status.conditions": _CONDITIONS}),
    columns=(Column("Status", ".status.phase"),),
    selectable=("status.phase",),
    returns_deleted=True,
    status_writes_metadata=True,
)
NODES = _core(
    "Node",
    "nodes",
    namespaced=False,
    short_names=("no",),
    status=True,
    structure=structure(
        {"spec.podCIDRs": STRING_SET, "spec.taints": ATOMIC, "status.conditions": _CONDITIONS, "status.addresses": list_map("type"), "status.images": ATOMIC}
    ),
    selectable=("spec.unschedulable",),
    status_writes_metadata=True,
)
PODS = _core(
    "Pod",
    "pods",
    short_names=("po",),
    status=True,
    generation=True,
    structure=structure({"spec": _POD_SPEC, "status.conditions": _CONDITIONS, "status.podIPs": list_map("ip"), "status.hostIPs": ATOMIC}),
    selectable=("spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "spec.hostNetwork", "status.phase", "status.podIP"),
    returns_deleted=True,
    status_writes_metadata=True,
)
CUSTOM_RESOURCE_DEFINITIONS = _built_in(
    "apiextensions.k8s.io",
    "v1",
    "CustomResourceDefinition",
    "customresourcedefinitions",
    namespaced=False,
    short_names=("crd", "crds"),
    status=True,
    generation=True,
    structure=structure({"status.conditions": _CONDITIONS}),
    columns=(Column("Created At", ".metadata.creationTimestamp"),),
    returns_deleted=True,
)

WORKLOAD_KINDS: tuple[ResourceDefinition, ...] = (
    NAMESPACES,
    NODES,
    PODS,
    _core("Secret", "secrets", selectable=("type",), columns=(Column("Type", ".type"),)),
    _core("ConfigMap", "configmaps", short_names=("cm",)),
    _core(
        "Service",
        "services",
        short_names=("svc",),
        status=True,
        structure=structure(
            {"spec.ports": list_map("port", "protocol", defaults={"protocol": "TCP"}), "spec.selector": ATOMIC, "status.conditions": _CONDITIONS}
        ),
        columns=(Column("Type", ".spec.type"), Column("Cluster-IP", ".spec.clusterIP")),
        selectable=("spec.clusterIP", "spec.type"),
        returns_deleted=True,
    ),
    _core(
        "ServiceAccount",
        "serviceaccounts",
        short_names=("sa",),
        structure=structure({"imagePullSecrets": ATOMIC, "secrets": list_map("name")}),
        returns_deleted=True,
    ),
    _core(
        "Event",
        "events",
        short_names=("ev",),
        columns=(Column("Type", ".type"), Column("Reason", ".reason"), Column("Object", ".involvedObject.name"), Column("Message", ".message")),
        selectable=(
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ),
    ),
    _core(
        "PersistentVolume",
        "persistentvolumes",
        namespaced=False,
        short_names=("pv",),
        status=True,
        returns_deleted=True,
        initial={"status": {"phase": "Pending"}},
    ),
    _core(
        "PersistentVolumeClaim",
        "persistentvolumeclaims",
        short_names=("pvc",),
        status=True,
        structure=structure({"status.conditions": _CONDITIONS}),
        returns_deleted=True,
        initial={"status": {"phase": "Pending"}},
    ),
    _apps("DaemonSet", "daemonsets", "ds", scale=False),
    _apps("Deployment", "deployments", "deploy", scale=True),
    _apps("ReplicaSet", "replicasets", "rs", scale=True),
    _apps("StatefulSet", "statefulsets", "sts", scale=True),
    _built_in(_RBAC, "v1", "Role", "roles"),
    _built_in(_RBAC, "v1", "RoleBinding", "rolebindings", structure=_ROLE_REF),
    _built_in(_RBAC, "v1", "ClusterRole", "clusterroles", namespaced=False),
    _built_in(_RBAC, "v1", "ClusterRoleBinding", "clusterrolebindings", namespaced=False, structure=_ROLE_REF),
    _built_in(
        "policy",
        "v1",
        "PodDisruptionBudget",
        "poddisruptionbudgets",
        short_names=("pdb",),
        status=True,
        generation=True,
        structure=structure({"spec.selector": ATOMIC, "status.conditions": _CONDITIONS}),
        columns=(
            Column("Min Available", ".spec.minAvailable"),
            Column("Max Unavailable", ".spec.maxUnavailable"),
            Column("Allowed", ".status.disruptionsAllowed"),
        ),
    ),
    _core(
        "ReplicationController",
        "replicationcontrollers",
        short_names=("rc",),
        status=True,
        generation=True,
        scale=ScalePaths(),
        structure=structure({"spec.template": _TEMPLATE, "spec.selector": ATOMIC, "status.conditions": _CONDITIONS}),
        selectable=("status.replicas",),
    ),
    _built_in("batch", "v1", "Job", "jobs", status=True, generation=True, structure=structure({"spec.template": _TEMPLATE}), selectable=("status.successful",)),
    _built_in(_STORAGE, "v1", "VolumeAttachment", "volumeattachments", namespaced=False, status=True),
    _built_in(_STORAGE, "v1", "CSINode", "csinodes", namespaced=False, structure=structure({"spec.drivers": list_map("name")})),
    _built_in(_STORAGE, "v1", "CSIDriver", "csidrivers", namespaced=False, structure=structure({"spec.volumeLifecycleModes": STRING_SET})),
    _built_in(_STORAGE, "v1", "CSIStorageCapacity", "csistoragecapacities"),
    _built_in(_STORAGE, "v1", "StorageClass", "storageclasses", namespaced=False, short_names=("sc",)),
    _built_in(_RESOURCE, "v1", "ResourceClaim", "resourceclaims", status=True, structure=structure({"status.reservedFor": list_map("uid")})),
    _built_in(_RESOURCE, "v1", "ResourceSlice", "resourceslices", namespaced=False, generation=True, selectable=("spec.nodeName", "spec.driver")),
    _built_in(_RESOURCE, "v1", "DeviceClass", "deviceclasses", namespaced=False, generation=True),
    _built_in("coordination.k8s.io", "v1", "Lease", "leases", columns=(Column("Holder", ".spec.holderIdentity"),)),
    CUSTOM_RESOURCE_DEFINITIONS,
)
