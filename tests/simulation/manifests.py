"""The clusters simulations create: what a user would apply."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
CORE, CONTROL_PLANE, BOOTSTRAP, INFRASTRUCTURE = (f"{part}cluster.x-k8s.io" for part in ("", "controlplane.", "bootstrap.", "infrastructure."))
VERSION, NEXT_VERSION = "v1.34.0", "v1.34.1"
"""Of the workers first, and of the control plane from the start: workers may not overtake it, nor differ by a minor version."""

FOR_EVER = {"nodeDeletionTimeoutSeconds": 0}
"""Else a Node that cannot be deleted for ten seconds is left, as upstream leaves it."""


def _object(group: str, kind: str, name: str, spec: Json) -> Json:
    return {"apiVersion": f"{group}/v1beta2", "kind": kind, "metadata": {"name": name}, "spec": spec}


def _ref(group: str, kind: str, name: str) -> Json:
    return {"apiGroup": group, "kind": kind, "name": name}


def _template(name: str, seconds: float) -> Json:
    provisioning = {"provisioning": {"startupDuration": f"{seconds:g}s", "startupJitter": "0.5"}}
    backend = {"inMemory": dict.fromkeys(("vm", "node", "apiServer", "etcd"), provisioning)}
    return _object(INFRASTRUCTURE, "DevMachineTemplate", name, {"template": {"spec": {"backend": backend}}})


def cluster(name: str = "demo", control_planes: int = 1, workers: int = 3, startup_seconds: float = 0.0) -> list[Json]:
    """A cluster of control planes and workers."""
    network = {"services": {"cidrBlocks": ["10.128.0.0/12"]}, "pods": {"cidrBlocks": ["192.168.0.0/16"]}, "serviceDomain": "cluster.local"}
    made = [
        _object(
            CORE,
            "Cluster",
            name,
            {
                "clusterNetwork": network,
                "controlPlaneRef": _ref(CONTROL_PLANE, "KubeadmControlPlane", f"{name}-cp"),
                "infrastructureRef": _ref(INFRASTRUCTURE, "DevCluster", name),
            },
        ),
        _object(INFRASTRUCTURE, "DevCluster", name, {"backend": {"inMemory": {}}}),
        _object(
            CONTROL_PLANE,
            "KubeadmControlPlane",
            f"{name}-cp",
            {
                "replicas": control_planes,
                "version": NEXT_VERSION,
                "machineTemplate": {"spec": {"deletion": FOR_EVER, "infrastructureRef": _ref(INFRASTRUCTURE, "DevMachineTemplate", f"{name}-cp")}},
                "kubeadmConfigSpec": {"preKubeadmCommands": ["true"]},
            },
        ),
        _template(f"{name}-cp", startup_seconds),
    ]
    if workers:
        spec = {
            "clusterName": name,
            "replicas": workers,
            "selector": {},
            "template": {
                "spec": {
                    "clusterName": name,
                    "version": VERSION,
                    "deletion": FOR_EVER,
                    "bootstrap": {"configRef": _ref(BOOTSTRAP, "KubeadmConfigTemplate", f"{name}-md")},
                    "infrastructureRef": _ref(INFRASTRUCTURE, "DevMachineTemplate", f"{name}-md"),
                }
            },
        }
        made += [
            _object(CORE, "MachineDeployment", f"{name}-md", spec),
            _object(BOOTSTRAP, "KubeadmConfigTemplate", f"{name}-md", {"template": {"spec": {"preKubeadmCommands": ["true"]}}}),
            _template(f"{name}-md", startup_seconds),
        ]
    return made


def pool(name: str = "demo", replicas: int = 3, startup_seconds: float = 0.0) -> list[Json]:
    """A MachinePool of a cluster, and its hosts; its bootstrap data is somebody's, so that no token of it rotates while a world is to be at rest."""
    provisioning = {"provisioning": {"startupDuration": f"{startup_seconds:g}s", "startupJitter": "0.5"}}
    made = {
        "clusterName": name,
        "version": VERSION,
        "deletion": FOR_EVER,
        "bootstrap": {"dataSecretName": "brought"},
        "infrastructureRef": _ref(INFRASTRUCTURE, "DevMachinePool", f"{name}-mp"),
    }
    return [
        _object(CORE, "MachinePool", f"{name}-mp", {"clusterName": name, "replicas": replicas, "template": {"spec": made}}),
        _object(INFRASTRUCTURE, "DevMachinePool", f"{name}-mp", {"backend": {"inMemory": dict.fromkeys(("vm", "node"), provisioning)}}),
    ]
