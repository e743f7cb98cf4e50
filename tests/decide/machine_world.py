"""A Machine with everything around it, as JSON that tests bend to their case."""

from __future__ import annotations

from typing import Any

from fleetwake.kind import Workload
from tests.decide.world import NOW, FakeView, Json

CLUSTER = "default/demo"
CORE = "cluster.x-k8s.io/v1beta2"
EARLIER = "2026-01-02T03:00:00Z"


def ref(kind: str, name: str, group: str = "infrastructure.example.org") -> Json:
    """A contract reference."""
    return {"apiGroup": group, "kind": kind, "name": name}


def cluster(**changes: Any) -> Json:
    """An initialized Cluster with a control plane provider."""
    found: Json = {
        "apiVersion": CORE,
        "kind": "Cluster",
        "metadata": {"name": "demo", "namespace": "default"},
        "spec": {
            "controlPlaneRef": ref("FooControlPlane", "demo", "controlplane.example.org"),
            "infrastructureRef": ref("FooCluster", "demo"),
            "controlPlaneEndpoint": {"host": "1.2.3.4", "port": 6443},
        },
        "status": {
            "initialization": {"infrastructureProvisioned": True, "controlPlaneInitialized": True},
            "conditions": [
                {"type": "ControlPlaneInitialized", "status": "True", "reason": "Initialized", "message": "", "lastTransitionTime": EARLIER},
            ],
        },
    }
    return found | changes


def control_plane(**metadata: Any) -> Json:
    """The control plane provider's object."""
    meta = {"name": "demo", "namespace": "default"} | metadata
    return {"apiVersion": "controlplane.example.org/v1", "kind": "FooControlPlane", "metadata": meta, "spec": {"replicas": 1}}


def machine(name: str = "m1", *, spec: Json | None = None, **metadata: Any) -> Json:
    """A Machine as its owner creates it."""
    return {
        "apiVersion": CORE,
        "kind": "Machine",
        "metadata": {"name": name, "namespace": "default", "finalizers": ["machine.cluster.x-k8s.io"]} | metadata,
        "spec": {
            "clusterName": "demo",
            "version": "v1.35.0",
            "bootstrap": {"configRef": ref("FooConfig", name, "bootstrap.example.org")},
            "infrastructureRef": ref("FooMachine", name),
        }
        | (spec or {}),
    }


def config(name: str = "m1", *, done: bool = True, **metadata: Any) -> Json:
    """The Machine's bootstrap configuration."""
    status = {"dataSecretName": name, "initialization": {"dataSecretCreated": True}} if done else {}
    meta = {"name": name, "namespace": "default"} | metadata
    return {"apiVersion": "bootstrap.example.org/v1", "kind": "FooConfig", "metadata": meta, "spec": {}, "status": status}


def infra(name: str = "m1", *, done: bool = True, status: Json | None = None, **metadata: Any) -> Json:
    """The Machine's infrastructure, with a finalizer of its provider."""
    found = {"initialization": {"provisioned": True}, "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}], "failureDomain": "fd1"} if done else {}
    meta = {"name": name, "namespace": "default", "finalizers": ["foo.example.org"]} | metadata
    spec = {"providerID": f"foo://{name}"} if done else {}
    return {"apiVersion": "infrastructure.example.org/v1", "kind": "FooMachine", "metadata": meta, "spec": spec, "status": found | (status or {})}


def node(name: str = "m1", *, ready: str = "True", taints: list[Json] | None = None, **metadata: Any) -> Json:
    """A Node of the workload cluster."""
    good = {"Ready": ready, "MemoryPressure": "False", "DiskPressure": "False", "PIDPressure": "False"}
    spec: Json = {"providerID": f"foo://{name}"}
    if taints:
        spec["taints"] = taints
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "uid": f"uid-node-{name}", "resourceVersion": "7"} | metadata,
        "spec": spec,
        "status": {
            "nodeInfo": {"kubeletVersion": "v1.35.0", "architecture": "amd64"},
            "conditions": [{"type": type_, "status": status, "message": "", "lastTransitionTime": EARLIER} for type_, status in good.items()],
        },
    }


def workload(*nodes: Json, **changes: Any) -> Workload:
    """A connected workload cluster."""
    found: dict[str, Any] = {"connected": True, "last_probe_success": NOW, "first_connected": NOW, "watch_synced": True, "nodes": tuple(nodes)}
    return Workload(**(found | changes))


def world(*objects: Json, found: Workload | None = None) -> FakeView:
    """The objects with a workload cluster holding the Node of ``m1``."""
    return FakeView(objects, workloads={CLUSTER: found if found is not None else workload(node())})


def condition(view: FakeView, type_: str, *, kind: str = "Machine", name: str = "m1") -> Json:
    """A stored condition."""
    obj = next(obj for key, obj in view.store.items() if (key.kind, key.name) == (kind, name))
    found: Json = next(one for one in obj["status"]["conditions"] if one["type"] == type_)
    return found


def stored(view: FakeView, kind: str, name: str = "m1") -> Json:
    """A stored object."""
    return next(obj for key, obj in view.store.items() if (key.kind, key.name) == (kind, name))
