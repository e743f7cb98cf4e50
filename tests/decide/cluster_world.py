"""A Cluster with what it refers to and what belongs to it, as JSON that tests bend to their case."""

from __future__ import annotations

from typing import Any

from fleetwake.kind import Change, Workload
from schemas.keys import ClusterKey, ObjectKey
from services.reconcilers.kinds.cluster import KIND
from tests.decide.machine_world import CLUSTER, CORE, control_plane, ref, stored
from tests.decide.world import NOW, FakeView, Json

FINALIZER = "cluster.cluster.x-k8s.io"


def cluster(*, spec: Json | None = None, **metadata: Any) -> Json:
    found = {"infrastructureRef": ref("FooCluster", "demo"), "controlPlaneRef": ref("FooControlPlane", "demo", "controlplane.example.org")}
    meta = {"name": "demo", "namespace": "default"} | metadata
    return {"apiVersion": CORE, "kind": "Cluster", "metadata": meta, "spec": found if spec is None else spec}


def infra(*, done: bool = True, **metadata: Any) -> Json:
    found = {"initialization": {"provisioned": True}, "failureDomains": [{"name": "fd1", "controlPlane": True}]} if done else {}
    meta = {"name": "demo", "namespace": "default", "finalizers": ["foo.example.org"]} | metadata
    spec = {"controlPlaneEndpoint": {"host": "1.2.3.4", "port": 6443}} if done else {}
    return {"apiVersion": "infrastructure.example.org/v1", "kind": "FooCluster", "metadata": meta, "spec": spec, "status": found}


def initialized(**status: Any) -> Json:
    found = control_plane(finalizers=["foo.example.org"])
    return found | {"status": {"initialization": {"controlPlaneInitialized": True}} | status}


def member(kind: str, name: str, *, spec: Json | None = None, status: Json | None = None, **metadata: Any) -> Json:
    """A Machine, MachineSet, MachineDeployment or MachinePool of the cluster."""
    machine = {"clusterName": "demo", "bootstrap": {"dataSecretName": "x"}, "infrastructureRef": ref("FooMachine", name), "version": "v1.35.0"}
    own: Json = {"clusterName": "demo", "selector": {}, "template": {"spec": machine}}
    base = machine if kind == "Machine" else own
    meta = {"name": name, "namespace": "default"} | metadata
    return {"apiVersion": CORE, "kind": kind, "metadata": meta, "spec": base | (spec or {}), "status": status or {}}


def told(*conditions: tuple[str, str, str]) -> list[Json]:
    """Conditions by (type, status, message)."""
    return [
        {"type": type_, "status": status, "reason": "Because", "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z"}
        for type_, status, message in conditions
    ]


CONTROL_PLANE_LABEL = {"cluster.x-k8s.io/control-plane": ""}
CONNECTED = {CLUSTER: Workload(connected=True, last_probe_success=NOW, first_connected=NOW, watch_synced=True)}


def of_cluster(view: FakeView) -> Json:
    return stored(view, "Cluster", "demo")


DELETED = {"deletionTimestamp": "2026-01-02T03:00:00Z", "finalizers": [FINALIZER]}


def change(before: Json | None, after: Json | None) -> Change:
    state = after or before or {}
    key = ObjectKey(str(state["apiVersion"]).rpartition("/")[0], state["kind"], "default", state["metadata"]["name"])
    return Change(key, ClusterKey("default", "demo"), before, after)


def woken(view: FakeView, happened: Change) -> list[ObjectKey]:
    kind = happened.key.group_kind
    named = [watch for watch in KIND.watches if watch.source == kind]
    fitting = named or [watch for watch in KIND.watches if watch.source.kind == "*"]
    return [key for watch in fitting if watch.matters(happened) for key in watch.concerns(happened, view)]
