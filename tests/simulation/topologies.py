"""A Cluster of a class in simulations: made, its variable and its version changed, its workers taken away, deleted at any time of its life."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from fleetwake.sim.oracle import CLUSTERS, CONTROL_PLANES, DEPLOYMENTS, MACHINES, Oracle, condition
from services.reconcilers.registry import KINDS, TOPOLOGY_KINDS
from tests.e2e import manifests
from tests.simulation.fleet import Fleet, Setup
from tests.simulation.scenarios import AVAILABLE_SECONDS, Scenario, patch

Json = dict[str, Any]
CLASS, NAME, NAMESPACE = "small", "managed", "default"
VERSION, NEXT = "v1.34.0", "v1.35.0"
RECONCILERS = {"reconcilers": (*KINDS, *TOPOLOGY_KINDS)}
OWNED = "topology.cluster.x-k8s.io/owned"


def setup(seed: int, **fields: Any) -> Setup:
    """A fleet whose reconcilers have topologies."""
    return Setup(seed, kinds=RECONCILERS, **fields)


def _documents(*names: str) -> list[Json]:
    """The class and a Cluster of it; its class in an order that a user's files may have."""
    of_class = manifests.cluster_class(CLASS, NAMESPACE)
    return [manifests.classed(NAME, NAMESPACE, CLASS, workers=[{"name": name, "replicas": 2} for name in names], version=VERSION), *of_class]


def _owned(fleet: Fleet, kind: str) -> list[Json]:
    return [one for one in fleet.objects(kind) if OWNED in one["metadata"].get("labels", {})]


def unlike(fleet: Fleet, word: str = "a", version: str = VERSION, workers: tuple[str, ...] = ("md-0", "md-1")) -> str:
    """What keeps the Cluster from being as its topology asks; "" when nothing does."""
    found = {one.key.resource: one.obj for one in fleet.api.store if one.key.resource == CLUSTERS}
    cluster = found.get(CLUSTERS)
    if cluster is None or condition(cluster, "Available") != "True":
        return "the Cluster is not Available"
    told: Json = next((one for one in cluster["status"]["conditions"] if one["type"] == "TopologyReconciled"), {})
    if told.get("status") != "True" or told.get("observedGeneration") != cluster["metadata"]["generation"]:
        return f"the Cluster is not as its topology: {told.get('reason')}: {told.get('message')}"
    bootstrap = {one["metadata"]["name"]: one["spec"]["template"]["spec"].get("preKubeadmCommands") for one in _owned(fleet, "KubeadmConfigTemplate")}
    if list(bootstrap.values()) != [[f'echo "{word}"']] * len(workers):
        return f"templates of workers say {bootstrap}"
    if len(_owned(fleet, "DevMachineTemplate")) != 1 + len(workers):
        return "there are templates that nobody uses"
    machines = [one.obj for one in fleet.api.store if one.key.resource == MACHINES]
    if len(machines) != 1 + 2 * len(workers) or {one["spec"]["version"] for one in machines} != {version}:
        return f"Machines are {[(one['metadata']['name'], one['spec']['version']) for one in machines]}"
    return next((f"{one['metadata']['name']} is not Ready" for one in machines if condition(one, "Ready") != "True"), "")


def gone(fleet: Fleet) -> str:
    """What a deleted Cluster has left behind but its class; "" when nothing."""
    for entry in fleet.api.store:
        kind, labels = entry.obj["kind"], entry.obj["metadata"].get("labels") or {}
        if kind == "Cluster" or (labels.get("cluster.x-k8s.io/cluster-name") == NAME and not fleet.claims.may_stay(entry, NAME)):
            return f"{entry.key} is left"
    return "" if not fleet.provider.workloads else "the emulated cluster is left"


async def _stands(fleet: Fleet) -> None:
    await fleet.until("the first state", lambda: not unlike(fleet), AVAILABLE_SECONDS)


async def _pause(fleet: Fleet, longest: float) -> None:
    await asyncio.sleep(fleet.random.uniform(0, longest))


async def made(fleet: Fleet, oracle: Oracle) -> None:
    """A class and a Cluster of it are applied."""
    fleet.apply(_documents("md-0", "md-1"))
    await _pause(fleet, 25)


async def changed(fleet: Fleet, oracle: Oracle) -> None:
    """Its variable is changed twice, the second time while the first is still on its way."""
    await made(fleet, oracle)
    for word in ("b", "c"):
        patch(fleet, CLUSTERS, NAME, {"spec": {"topology": {"variables": [{"name": "word", "value": word}]}}})
        await _pause(fleet, 15)


async def upgraded(fleet: Fleet, oracle: Oracle) -> None:
    """It goes one minor version up: the control plane first, then one MachineDeployment after the other."""
    fleet.apply(_documents("md-0", "md-1"))
    await _stands(fleet)
    order = _Order(fleet)
    patch(fleet, CLUSTERS, NAME, {"spec": {"topology": {"version": NEXT}}})
    await _pause(fleet, 40)
    del order


class _Order:
    """Watches that no MachineDeployment is asked for a version before the control plane has it, nor before the one that comes first."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        fleet.api.on_change(self._changed)

    def _changed(self, change: Any) -> None:
        obj = change.entry.obj
        if change.entry.key.resource != DEPLOYMENTS or obj["spec"]["template"]["spec"]["version"] != NEXT:
            return
        store = self._fleet.api.store
        planes = [one.obj for one in store if one.key.resource == CONTROL_PLANES]
        if any((one.get("status") or {}).get("version") != NEXT for one in planes):
            self._fleet.violation(f"{change.entry.key.name} was upgraded before the control plane")
        if obj["metadata"]["labels"]["topology.cluster.x-k8s.io/deployment-name"] == "md-1":
            first = [one.obj for one in store if one.key.resource == DEPLOYMENTS and one.key.name != change.entry.key.name]
            if any(one["spec"]["template"]["spec"]["version"] != NEXT for one in first):
                self._fleet.violation(f"{change.entry.key.name} was upgraded out of its turn")


async def shrunk(fleet: Fleet, oracle: Oracle) -> None:
    """A MachineDeployment leaves the topology, at any time of its life."""
    await made(fleet, oracle)
    left = [{"class": "default", "name": "md-0", "replicas": 2}]
    patch(fleet, CLUSTERS, NAME, {"spec": {"topology": {"workers": {"machineDeployments": left}}}})
    await _pause(fleet, 20)


async def deleted(fleet: Fleet, oracle: Oracle) -> None:
    """The Cluster is deleted, at any time of its life."""
    fleet.apply(_documents("md-0", "md-1"))
    await _pause(fleet, 6)
    fleet.api.delete(CLUSTERS, NAMESPACE, NAME)
    await _pause(fleet, 20)


def _scenario(act: Callable[[Fleet, Oracle], Awaitable[None]], done: Callable[[Fleet], str]) -> Scenario:
    return Scenario(f"topology {act.__name__}", act, done)


TOPOLOGIES: tuple[Scenario, ...] = (
    _scenario(made, unlike),
    _scenario(changed, lambda fleet: unlike(fleet, word="c")),
    _scenario(upgraded, lambda fleet: unlike(fleet, version=NEXT)),
    _scenario(shrunk, lambda fleet: unlike(fleet, workers=("md-0",))),
    _scenario(deleted, gone),
)
