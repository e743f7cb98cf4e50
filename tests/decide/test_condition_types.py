"""Every kind tells all of its condition types in the first status that it stores, whatever state the object is found in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from fleetwake.kind import Failure, Kind, Unread, Workload
from schemas.keys import ObjectKey
from services.dev_infrastructure.registry import KINDS as DEV_KINDS
from services.reconcilers.registry import KINDS as RECONCILER_KINDS
from services.remediation.registry import KINDS as REMEDIATION_KINDS
from tests.decide.machine_world import CORE
from tests.decide.world import NOW, FakeView, Json
from tests.status_rules import TYPES, missing_types, required

KINDS: dict[str, Kind[Any]] = {kind.name: kind for kind in (*RECONCILER_KINDS, *DEV_KINDS, *REMEDIATION_KINDS)}
GROUPS = {"KubeadmConfig": "bootstrap", "KubeadmConfigTemplate": "bootstrap", "KubeadmControlPlane": "controlplane"}
LABELS = {"cluster.x-k8s.io/cluster-name": "demo"}
DEPLOYMENT, CONTROL_PLANE = {"cluster.x-k8s.io/deployment-name": "md"}, {"cluster.x-k8s.io/control-plane": ""}
IN_MEMORY = {"backend": {"inMemory": {}}}
NAMES = {
    "Cluster": "demo",
    "KubeadmControlPlane": "cp",
    "MachineDeployment": "md",
    "MachineSet": "ms",
    "Machine": "worker",
    "KubeadmConfig": "worker",
    "DevMachine": "worker",
    "MachinePool": "pool",
    "DevMachinePool": "pool",
    "DevCluster": "demo",
    "MachineHealthCheck": "check",
}
DOWN = Workload(connected=False, last_probe_success=NOW, first_connected=NOW)


def _group(kind: str) -> str:
    prefix = GROUPS.get(kind, "infrastructure" if kind.startswith("Dev") else "")
    return f"{prefix}.cluster.x-k8s.io" if prefix else "cluster.x-k8s.io"


def _ref(kind: str, name: str) -> Json:
    return {"apiGroup": _group(kind), "kind": kind, "name": name}


def _object(kind: str, name: str, spec: Json, owner: tuple[str, str] = ("Cluster", "demo"), **labels: str) -> Json:
    finalizers = ["kept.example.org"]
    ref = {"apiVersion": f"{_group(owner[0])}/v1beta2", "kind": owner[0], "name": owner[1], "uid": f"uid-{owner[0]}-{owner[1]}", "controller": True}
    meta = {"name": name, "namespace": "default", "labels": {**LABELS, **labels}, "finalizers": finalizers, "ownerReferences": [ref]}
    return {"apiVersion": f"{_group(kind)}/v1beta2", "kind": kind, "metadata": meta, "spec": spec}


def _machine(name: str, template: str = "") -> Json:
    return {
        "clusterName": "demo",
        "version": "v1.35.0",
        "bootstrap": {"configRef": _ref(f"KubeadmConfig{template}", name)},
        "infrastructureRef": _ref(f"DevMachine{template}", name),
    }


def _objects() -> list[Json]:
    """A cluster with one of everything, just created."""
    spec = {"controlPlaneRef": _ref("KubeadmControlPlane", "cp"), "infrastructureRef": _ref("DevCluster", "demo")}
    selector = {"selector": {"matchLabels": DEPLOYMENT}, "template": {"metadata": {"labels": DEPLOYMENT}, "spec": _machine("md", "Template")}}
    plane = {"replicas": 1, "version": "v1.35.0", "machineTemplate": {"spec": {"infrastructureRef": _ref("DevMachineTemplate", "md")}}, "kubeadmConfigSpec": {}}
    pool = {"clusterName": "demo", "version": "v1.35.0", "bootstrap": {"dataSecretName": "x"}, "infrastructureRef": _ref("DevMachinePool", "pool")}
    check = {"clusterName": "demo", "selector": {"matchLabels": DEPLOYMENT}}
    cluster = _object("Cluster", "demo", spec)
    del cluster["metadata"]["ownerReferences"]
    return [
        cluster,
        _object("DevCluster", "demo", IN_MEMORY),
        _object("KubeadmControlPlane", "cp", plane),
        _object("DevMachineTemplate", "md", {"template": {"spec": IN_MEMORY}}),
        _object("KubeadmConfigTemplate", "md", {"template": {"spec": {}}}),
        _object("MachineDeployment", "md", {"clusterName": "demo", "replicas": 1, **selector}),
        _object("MachineSet", "ms", {"clusterName": "demo", "replicas": 1, **selector}, ("MachineDeployment", "md"), **DEPLOYMENT),
        _object("Machine", "worker", _machine("worker"), ("MachineSet", "ms"), **DEPLOYMENT),
        _object("KubeadmConfig", "worker", {}, ("Machine", "worker")),
        _object("DevMachine", "worker", IN_MEMORY, ("Machine", "worker")),
        _object("Machine", "plane", _machine("plane"), ("KubeadmControlPlane", "cp"), **CONTROL_PLANE),
        _object("DevMachine", "plane", IN_MEMORY, ("Machine", "plane"), **CONTROL_PLANE),
        _object("MachinePool", "pool", {"clusterName": "demo", "replicas": 1, "template": {"spec": pool}}),
        _object("DevMachinePool", "pool", IN_MEMORY, ("MachinePool", "pool")),
        _object("MachineHealthCheck", "check", check),
    ]


def _fresh(view: FakeView) -> None:
    """Just created: nothing of the cluster is there yet."""
    view.later(60)


def _paused(view: FakeView) -> None:
    view.store[ObjectKey("cluster.x-k8s.io", "Cluster", "default", "demo")]["spec"]["paused"] = True


def _unseen(view: FakeView) -> None:
    """Everything was up once, and the workload cluster cannot be reached, just so."""
    cluster = view.store[ObjectKey("cluster.x-k8s.io", "Cluster", "default", "demo")]
    initialized = {"type": "ControlPlaneInitialized", "status": "True", "reason": "Initialized", "message": "", "lastTransitionTime": "2026-01-02T03:04:00Z"}
    done = {"infrastructureProvisioned": True, "controlPlaneInitialized": True}
    cluster["status"] = {"initialization": done, "conditions": [initialized, *(_never(one) for one in TYPES["Cluster"] if one != "ControlPlaneInitialized")]}
    view.workloads = {"default/demo": DOWN}


def _never(type_: str) -> Json:
    return {"type": type_, "status": "Unknown", "reason": "NotYetReported", "message": "", "lastTransitionTime": "2026-01-02T03:04:00Z"}


def _going(view: FakeView) -> None:
    for obj in view.store.values():
        obj["metadata"]["deletionTimestamp"] = "2026-01-02T03:04:00Z"


SITUATIONS = {"new": _fresh, "paused": _paused, "unseen": _unseen, "deleting": _going}
SILENT = {
    *((kind, "deleting") for kind in ("KubeadmConfig", "MachineHealthCheck", "DevCluster", "DevMachine", "DevMachinePool")),
    *((kind, situation) for kind in ("MachineDeployment", "DevCluster") for situation in ("new", "unseen")),
}
"""What tells nothing yet: an object that goes at once, a MachineDeployment whose MachineSet has not counted, a DevCluster whose emulation is being made."""


@pytest.mark.parametrize("situation", SITUATIONS)
@pytest.mark.parametrize("name", sorted(NAMES))
def test_the_first_status_has_all_types(name: str, situation: str) -> None:
    view = FakeView(_objects())
    SITUATIONS[situation](view)
    kind = KINDS[name]
    key = ObjectKey(kind.model.GROUP, name, "default", NAMES[name])
    for _ in range(4):
        before: Json = {**view.store[key], "status": dict(view.store[key].get("status") or {})}
        view.run(kind, "default", key.name)
        assert missing_types(view.store[key], before) == []
        view.later(1)
    told = {one["type"] for one in (view.store[key].get("status") or {}).get("conditions") or ()}
    assert told >= set(required(view.store[key])) or (name, situation) in SILENT


@pytest.mark.parametrize("name", [name for name, kind in sorted(KINDS.items()) if kind.unreadable is not None])
def test_an_object_that_cannot_be_read_has_all_types(name: str) -> None:
    view, kind = FakeView(_objects()), KINDS[name]
    key = ObjectKey(kind.model.GROUP, name, "default", NAMES[name])
    assert kind.unreadable is not None
    unread = Unread(key, NOW, view.store[key], Failure(f"read {key}", "spec.version: Input should be a valid string"))
    view.carry_out(kind.unreadable(unread).steps)
    told: Mapping[str, Json] = {one["type"]: one for one in view.store[key]["status"]["conditions"]}
    assert set(told) >= set(required(view.store[key]))
    assert all((one["status"], one["lastTransitionTime"]) == ("Unknown", "2026-01-02T03:04:05Z") for one in told.values())
    again = Unread(key, NOW, view.store[key], unread.failure)
    assert not kind.unreadable(again).steps


def test_every_kind_with_conditions_is_held_to_its_types() -> None:
    """A kind that is added later needs its line in the table, unless its status has no conditions."""
    told = {name for name, kind in KINDS.items() if "conditions" in kind.model.model_fields["status"].annotation.model_fields} if KINDS else set()
    assert told == set(TYPES)


@pytest.mark.parametrize(
    ("before", "after", "lacking"),
    [
        pytest.param([], ["Ready"], ["DataSecretAvailable", "CertificatesAvailable", "Paused"], id="one alone"),
        pytest.param(list(TYPES["KubeadmConfig"]), ["Ready", "Paused", "CertificatesAvailable"], ["DataSecretAvailable"], id="one gone"),
        pytest.param(list(TYPES["KubeadmConfig"]), [], list(TYPES["KubeadmConfig"]), id="all gone"),
        pytest.param([], [], [], id="none yet"),
        pytest.param([], ["Foreign"], [], id="somebody else was first"),
        pytest.param(["Foreign"], [], ["Foreign"], id="somebody else's taken away"),
    ],
)
def test_what_is_missing_is_found(before: list[str], after: list[str], lacking: list[str]) -> None:
    def config(types: list[str]) -> Json:
        return {"apiVersion": CORE, "kind": "KubeadmConfig", "metadata": {"name": "x"}, "status": {"conditions": [{"type": one} for one in types]}}

    assert sorted(missing_types(config(after), config(before))) == sorted(lacking)
