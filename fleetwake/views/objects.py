"""The objects of one Cluster as the API server has them: read once, or watched."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from fleetwake.errors import NotFoundError
from fleetwake.kube.client import ApiClient, raise_for, resource_path
from fleetwake.kube.discovery import Resource
from fleetwake.kube.reflector import Changed, Interrupted, Listed, Page, Reflector, Resumed, Selection
from fleetwake.views.connection import ViewError
from schemas.api.registry import KINDS

State = Mapping[str, Any]

CORE = "cluster.x-k8s.io"
OF_CLUSTERS = ("MachineDeployment", "MachineSet", "MachinePool", "Machine")
"""Kinds of the core group whose objects name their cluster."""

CLUSTER_LABEL = "cluster.x-k8s.io/cluster-name"
QUIET_SECONDS = 0.05
"""Changes within this time are shown as one."""


def resource_of(group: str, kind: str) -> Resource:
    """How a kind is reached.

    Raises:
        ViewError: no model knows it.
    """
    for model in KINDS:
        if (group, kind) == (model.GROUP, model.KIND):
            return Resource(model.GROUP, model.KIND, model.PLURAL, model.VERSION)
    raise ViewError(f"{kind}.{group} is of no group known here")


async def _referred(client: ApiClient, reference: Mapping[str, Any], namespace: str) -> State | None:
    group, kind = reference["apiGroup"], reference["kind"]
    try:
        resource = resource_of(group, kind)
        path = resource_path(resource.api_version, resource.plural, namespace, reference["name"])
    except ViewError:
        path = await _foreign_path(client, group, kind, namespace, reference["name"])
        if not path:
            return None
    answer = await client.request("GET", path)
    with suppress(NotFoundError):
        raise_for(answer, f"get {kind} {reference['name']}")
        return answer.json()
    return None


async def _foreign_path(client: ApiClient, group: str, kind: str, namespace: str, name: str) -> str:
    """The path of an object of another provider's kind, by discovery; empty when the group is not served."""
    groups = await client.request("GET", f"/apis/{group}")
    if groups.status != 200:
        return ""
    version = groups.json()["preferredVersion"]["groupVersion"]
    listed = await client.request("GET", f"/apis/{version}")
    for entry in listed.json().get("resources") or ():
        if entry["kind"] == kind and "/" not in entry["name"]:
            return resource_path(version, entry["name"], namespace, name)
    return ""


async def read_cluster(client: ApiClient, namespace: str, name: str) -> list[State]:
    """The Cluster, what it refers to, and all its Machines and their owners.

    Raises:
        ViewError: there is no such Cluster; the message names those there are.
        FleetwakeError: the API server refused or did not answer.
    """
    clusters = resource_of(CORE, "Cluster")
    answer = await client.request("GET", resource_path(clusters.api_version, clusters.plural, namespace, name))
    if answer.status == 404:
        raise ViewError(await _no_such_cluster(client, clusters, namespace, name))
    raise_for(answer, f"get Cluster {namespace}/{name}")
    cluster = answer.json()
    references = [cluster["spec"].get(field) for field in ("infrastructureRef", "controlPlaneRef")]
    referred = asyncio.gather(*(_referred(client, reference, namespace) for reference in references if reference))
    listed = asyncio.gather(*(_list(client, kind, namespace, name) for kind in OF_CLUSTERS))
    found = [cluster, *(state for state in await referred if state is not None)]
    return found + [state for states in await listed for state in states]


async def _no_such_cluster(client: ApiClient, clusters: Resource, namespace: str, name: str) -> str:
    answer = await client.request("GET", resource_path(clusters.api_version, clusters.plural))
    if answer.status == 404:
        return "this API server does not know Clusters: run `fleetwake schemas apply`"
    raise_for(answer, "list Clusters")
    there = [f"{item['metadata']['namespace']}/{item['metadata']['name']}" for item in (answer.json().get("items") or ())]
    known = f"there are {', '.join(there[:10])}{' and more' if len(there) > 10 else ''}" if there else "there is none at all"
    return f"no Cluster {name} in namespace {namespace}: {known} (choose with -n)"


async def _list(client: ApiClient, kind: str, namespace: str, cluster: str) -> list[State]:
    resource = resource_of(CORE, kind)
    # by label where we can, yet a Machine whose label somebody removed must not vanish from view: spec.clusterName decides
    answer = await client.request("GET", resource_path(resource.api_version, resource.plural, namespace))
    raise_for(answer, f"list {kind}s")
    items = [{**item, "kind": kind} for item in (answer.json().get("items") or ())]
    return [item for item in items if item["spec"].get("clusterName") == cluster]


class Watched:
    """The objects of the kinds above and of the given ones in one namespace, kept current by watches; for views that live."""

    def __init__(self, client: ApiClient, namespace: str, kinds: Mapping[str, str]) -> None:
        wanted = {**dict.fromkeys(("Cluster", *OF_CLUSTERS), CORE), **kinds}
        self._reflectors = [Reflector(client, Selection(resource_of(group, kind), namespace)) for kind, group in wanted.items()]
        self._objects: dict[tuple[str, str], State] = {}
        self._changed = asyncio.Event()
        self._listed = 0
        self.interrupted = ""

    @property
    def objects(self) -> list[State]:
        """All objects, as last seen."""
        return list(self._objects.values())

    def get(self, kind: str, name: str) -> State | None:
        """One object."""
        return self._objects.get((kind, name))

    async def ready(self) -> None:
        """Return once every kind has been listed."""
        while self._listed < len(self._reflectors):
            await self._changed.wait()
            self._changed.clear()

    async def change(self) -> None:
        """Return after the next change, and what follows it within QUIET_SECONDS; ``run`` has to run beside it."""
        await self._changed.wait()
        await asyncio.sleep(QUIET_SECONDS)
        self._changed.clear()

    async def run(self) -> None:
        """Keep the objects current until cancelled."""
        async with asyncio.TaskGroup() as group:
            for reflector in self._reflectors:
                group.create_task(self._follow(reflector))

    async def _follow(self, reflector: Reflector) -> None:
        kind = reflector.selection.resource.kind
        async for event in reflector.events():
            match event:
                case Page(items=items, first=first):
                    if first:
                        self._objects = {key: state for key, state in self._objects.items() if key[0] != kind}
                    self._objects |= {(kind, item["metadata"]["name"]): item for item in items}
                case Changed(type=change, object=state):
                    key = (kind, state["metadata"]["name"])
                    if change == "DELETED":
                        self._objects.pop(key, None)
                    else:
                        self._objects[key] = state
                    self.interrupted = ""
                case Listed():
                    self._listed += 1
                case Resumed():
                    self.interrupted = ""
                case Interrupted(error=error):
                    self.interrupted = str(error)
            self._changed.set()
