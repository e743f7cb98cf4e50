"""Clusters as a user would apply them, through the API with many requests at once, and the wait for them by watch."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson

from fleetwake.errors import TerminalError
from fleetwake.kube.client import ApiClient, raise_for, resource_path
from fleetwake.kube.discovery import Resource
from fleetwake.kube.reflector import Changed, Page, Reflector, Selection

Json = dict[str, Any]
CORE, CONTROL_PLANE, BOOTSTRAP, INFRASTRUCTURE = (f"{part}cluster.x-k8s.io/v1beta2" for part in ("", "controlplane.", "bootstrap.", "infrastructure."))
NAMESPACE = "default"
VERSION = "v1.34.0"
REQUESTS_AT_ONCE = 16
REQUEST_LIMIT_S = 60.0
CLUSTERS = Resource("cluster.x-k8s.io", "Cluster", "clusters", "v1beta2")
MACHINES = Resource("cluster.x-k8s.io", "Machine", "machines", "v1beta2")
CONTROL_PLANES = Resource("controlplane.cluster.x-k8s.io", "KubeadmControlPlane", "kubeadmcontrolplanes", "v1beta2")
PLURALS = {
    "Cluster": "clusters",
    "DevCluster": "devclusters",
    "KubeadmControlPlane": "kubeadmcontrolplanes",
    "DevMachineTemplate": "devmachinetemplates",
    "KubeadmConfigTemplate": "kubeadmconfigtemplates",
    "MachineDeployment": "machinedeployments",
}


class LateError(TerminalError):
    """What was waited for did not come in time; the message names what is missing."""


def manifests(name: str, workers: int, control_planes: int = 1) -> list[Json]:
    """A cluster of control plane Machines and one MachineDeployment on emulated hosts, start-up durations 0; in the order of a user's file."""
    network = {"pods": {"cidrBlocks": ["192.168.0.0/16"]}, "services": {"cidrBlocks": ["10.96.0.0/12"]}}
    control_plane, deployment = f"{name}-cp", f"{name}-md"
    made = [
        _object(
            CORE,
            "Cluster",
            name,
            {
                "clusterNetwork": network,
                "controlPlaneRef": _ref(CONTROL_PLANE, "KubeadmControlPlane", control_plane),
                "infrastructureRef": _ref(INFRASTRUCTURE, "DevCluster", name),
            },
        ),
        _object(INFRASTRUCTURE, "DevCluster", name, {"backend": {"inMemory": {}}}),
        _object(
            CONTROL_PLANE,
            "KubeadmControlPlane",
            control_plane,
            {
                "replicas": control_planes,
                "version": VERSION,
                "machineTemplate": {"spec": {"infrastructureRef": _ref(INFRASTRUCTURE, "DevMachineTemplate", control_plane)}},
                "kubeadmConfigSpec": {"clusterConfiguration": {"apiServer": {"certSANs": ["localhost", "127.0.0.1"]}}},
            },
        ),
        _machine_template(control_plane, ("vm", "node", "apiServer", "etcd")),
    ]
    if workers:
        template = {
            "clusterName": name,
            "version": VERSION,
            "bootstrap": {"configRef": _ref(BOOTSTRAP, "KubeadmConfigTemplate", deployment)},
            "infrastructureRef": _ref(INFRASTRUCTURE, "DevMachineTemplate", deployment),
        }
        made += [
            _machine_template(deployment, ("vm", "node")),
            _object(
                BOOTSTRAP,
                "KubeadmConfigTemplate",
                deployment,
                {"template": {"spec": {"joinConfiguration": {"nodeRegistration": {"kubeletExtraArgs": [{"name": "v", "value": "1"}]}}}}},
            ),
            _object(CORE, "MachineDeployment", deployment, {"clusterName": name, "replicas": workers, "selector": {}, "template": {"spec": template}}),
        ]
    return made


def _object(api_version: str, kind: str, name: str, spec: Json) -> Json:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec}


def _ref(api_version: str, kind: str, name: str) -> Json:
    return {"apiGroup": api_version.partition("/")[0], "kind": kind, "name": name}


def _machine_template(name: str, parts: Iterable[str]) -> Json:
    backend = {part: {"provisioning": {"startupDuration": "0s"}} for part in parts}
    return _object(INFRASTRUCTURE, "DevMachineTemplate", name, {"template": {"spec": {"backend": {"inMemory": backend}}}})


async def apply(client: ApiClient, clusters: Mapping[str, list[Json]]) -> dict[str, float]:
    """Create all objects of all clusters, ``REQUESTS_AT_ONCE`` at a time, each cluster's in order.

    Returns:
        When the first request of each cluster was sent (``time.monotonic``).
    """
    slots = asyncio.Semaphore(REQUESTS_AT_ONCE)
    began: dict[str, float] = {}

    async def one(name: str, objects: list[Json]) -> None:
        async with slots:
            began[name] = time.monotonic()
            for item in objects:
                path = resource_path(item["apiVersion"], PLURALS[item["kind"]], NAMESPACE)
                answer = await client.request("POST", path, body=orjson.dumps(item), timeout_seconds=REQUEST_LIMIT_S)
                raise_for(answer, f"create {item['kind']} {item['metadata']['name']}")

    await asyncio.gather(*(one(name, objects) for name, objects in clusters.items()))
    return began


async def delete(client: ApiClient, names: Iterable[str]) -> dict[str, float]:
    """Ask for the deletion of clusters. Returns when each was asked for (``time.monotonic``)."""
    slots = asyncio.Semaphore(REQUESTS_AT_ONCE)
    began: dict[str, float] = {}

    async def one(name: str) -> None:
        async with slots:
            began[name] = time.monotonic()
            answer = await client.request("DELETE", resource_path(CORE, "clusters", NAMESPACE, name), timeout_seconds=REQUEST_LIMIT_S)
            raise_for(answer, f"delete Cluster {name}")

    await asyncio.gather(*(one(name) for name in names))
    return began


def available(state: Json) -> bool:
    """Whether a Cluster's condition Available is True."""
    return any(condition["type"] == "Available" and condition["status"] == "True" for condition in (state.get("status") or {}).get("conditions") or ())


class Arrivals:
    """When each of a set of Clusters became Available, and when it was gone, as a watch told it; or objects of another kind came to another state."""

    def __init__(self, client: ApiClient, resource: Resource = CLUSTERS, arrived: Callable[[Json], bool] = available) -> None:
        self._reflector = Reflector(client, Selection(resource, NAMESPACE))
        self._arrived = arrived
        self.available: dict[str, float] = {}
        self.gone: dict[str, float] = {}
        self._told = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Arrivals:
        self._task = asyncio.get_running_loop().create_task(self._follow())
        await self._reflector.synced.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self) -> None:
        async for event in self._reflector.events():
            now = time.monotonic()
            if isinstance(event, Page):
                for item in event.items:
                    self._take(item, now)
            elif isinstance(event, Changed):
                if event.type == "DELETED":
                    self.gone.setdefault(event.object["metadata"]["name"], now)
                else:
                    self._take(event.object, now)
            self._told.set()

    def _take(self, state: Json, now: float) -> None:
        if self._arrived(state):
            self.available.setdefault(state["metadata"]["name"], now)

    async def wait(self, names: Iterable[str], arrived: Mapping[str, float], limit_s: float) -> list[str]:
        """Wait until all of ``names`` are in ``arrived``; returns those that are not after ``limit_s``."""
        wanted = set(names)
        try:
            async with asyncio.timeout(limit_s):
                while not wanted <= arrived.keys():
                    self._told.clear()
                    await self._told.wait()
        except TimeoutError:
            pass
        return sorted(wanted - arrived.keys())
