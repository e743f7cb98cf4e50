"""What happens to MachinePools in simulations. A pool comes to what it was asked for, and a rollout takes no host away that is missed."""

from __future__ import annotations

import asyncio
from typing import Any

from fleetwake.sim.apiserver import Change
from fleetwake.sim.oracle import CLUSTERS, MACHINES, Oracle, condition, controller
from tests.simulation.fleet import Fleet
from tests.simulation.manifests import NEXT_VERSION, cluster, pool
from tests.simulation.scenarios import AVAILABLE_SECONDS, Scenario, gone, patch, unfinished

Json = dict[str, Any]
POOLS, HOSTS = "machinepools.cluster.x-k8s.io", "devmachines.infrastructure.cluster.x-k8s.io"
POOL = "demo-mp"
LONGEST_SECONDS = 25.0


def _machines(fleet: Fleet) -> list[Json]:
    return [one for one in fleet.objects("Machine") if (controller(one) or {}).get("kind") == "MachinePool"]


def whole(fleet: Fleet, replicas: int, version: str = "") -> str:
    """What keeps the cluster and its pool from being as wanted; "" when nothing does."""
    found = unfinished(fleet, workers=replicas)
    if found:
        return found
    stored = fleet.api.get(POOLS, "default", POOL)
    status = stored["status"]
    counts = [status.get(field) or 0 for field in ("replicas", "readyReplicas", "availableReplicas", "upToDateReplicas")]
    if counts != [replicas] * 4 or status.get("observedGeneration") != stored["metadata"]["generation"]:
        return f"the pool counts {counts} of {replicas}"
    machines = {one["metadata"]["name"] for one in _machines(fleet)}
    hosts = {one["metadata"]["name"]: one for one in fleet.objects("DevMachine") if "cluster.x-k8s.io/pool-name" in one["metadata"]["labels"]}
    if machines != set(hosts) or len(machines) != replicas:
        return f"the hosts are {sorted(hosts)}, the pool's Machines {sorted(machines)}"
    identities = sorted(one["spec"]["providerID"] for one in hosts.values())
    if sorted(stored["spec"].get("providerIDList", [])) != identities or len(status.get("nodeRefs", [])) != replicas:
        return f"the pool knows {stored['spec'].get('providerIDList')}, the hosts are {identities}"
    old = [one["metadata"]["name"] for one in _machines(fleet) if version and one["spec"].get("version") != version]
    return f"{', '.join(old)} are not of {version}" if old else ""


async def _stand(fleet: Fleet, replicas: int = 3) -> None:
    fleet.apply([*cluster(workers=0), *pool(replicas=replicas, startup_seconds=fleet.random.choice((0.0, 0.0, 1.0)))])
    await fleet.until("the pool stands", lambda: not whole(fleet, replicas), AVAILABLE_SECONDS)


async def _pause(fleet: Fleet) -> None:
    await asyncio.sleep(fleet.random.uniform(0, LONGEST_SECONDS))


async def scale(fleet: Fleet, oracle: Oracle) -> None:
    """Scale 3 → 7 → 2, not waiting for either."""
    await _stand(fleet)
    patch(fleet, POOLS, POOL, {"spec": {"replicas": 7}})
    await _pause(fleet)
    patch(fleet, POOLS, POOL, {"spec": {"replicas": 2}})
    await _pause(fleet)


async def roll_out(fleet: Fleet, oracle: Oracle) -> None:
    """Change the version; whoever is taken away is not missed."""
    await _stand(fleet)
    _guard(fleet, 3)
    patch(fleet, POOLS, POOL, {"spec": {"template": {"spec": {"version": NEXT_VERSION}}}})
    await _pause(fleet)


def _guard(fleet: Fleet, least: int) -> None:
    """A Machine of the pool that is asked to go leaves enough available ones behind."""

    def look(change: Change) -> None:
        one = change.entry.obj
        if change.entry.key.resource != MACHINES or (controller(one) or {}).get("kind") != "MachinePool" or "deletionTimestamp" not in one["metadata"]:
            return
        left = [other for other in _machines(fleet) if "deletionTimestamp" not in other["metadata"] and condition(other, "Available") == "True"]
        if condition(one, "Available") == "True" and len(left) < least:
            fleet.violation(f"{len(left)} available Machines were left of {least} when {one['metadata']['name']} was deleted")

    fleet.api.on_change(look)


async def repair(fleet: Fleet, oracle: Oracle) -> None:
    """Delete a Machine, and take a host away under the hands of another."""
    await _stand(fleet)
    first, second, _ = sorted(one["metadata"]["name"] for one in _machines(fleet))
    fleet.api.delete(MACHINES, "default", first)
    await _pause(fleet)
    if any(one["metadata"]["name"] == second for one in fleet.objects("DevMachine")):
        fleet.api.delete(HOSTS, "default", second)
    await _pause(fleet)


async def delete_pool(fleet: Fleet, oracle: Oracle) -> None:
    """Delete the pool at any time of its life; the cluster stays."""
    fleet.apply([*cluster(workers=0), *pool()])
    await _pause(fleet)
    fleet.api.delete(POOLS, "default", POOL)
    await _pause(fleet)


def _pool_gone(fleet: Fleet) -> str:
    found = unfinished(fleet, workers=0)
    left = [entry for entry in fleet.api.store if "x-k8s.io" in entry.key.resource and entry.key.name.startswith(POOL)]
    # a pool that is deleted before anybody saw it takes nothing along
    claimed = [str(entry.key) for entry in left if entry.obj["kind"] != "DevMachinePool" or entry.obj["metadata"].get("ownerReferences")]
    return found or (f"{', '.join(claimed)} are left" if claimed else "")


async def delete_cluster(fleet: Fleet, oracle: Oracle) -> None:
    """Delete the Cluster, at any time of the pool's life."""
    fleet.apply([*cluster(workers=0), *pool()])
    await _pause(fleet)
    fleet.api.delete(CLUSTERS, "default", "demo")
    await _pause(fleet)


SCENARIOS: tuple[Scenario, ...] = (
    Scenario("pool scaled", scale, lambda fleet: whole(fleet, 2)),
    Scenario("pool rolled out", roll_out, lambda fleet: whole(fleet, 3, NEXT_VERSION)),
    Scenario("pool repaired", repair, lambda fleet: whole(fleet, 3)),
    Scenario("pool deleted", delete_pool, _pool_gone),
    Scenario("cluster with a pool deleted", delete_cluster, gone),
)
