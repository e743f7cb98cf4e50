"""Nodes that fail, and what a MachineHealthCheck must and must not do about them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from fleetwake.sim.apiserver import Change, WriteOptions
from fleetwake.sim.oracle import MACHINES, Oracle, condition
from services.dev_infrastructure.emulation import objects
from tests.simulation.fleet import Fleet
from tests.simulation.manifests import CORE, cluster
from tests.simulation.scenarios import AVAILABLE_SECONDS, Scenario, unfinished

Json = dict[str, Any]
DEPLOYMENT = "cluster.x-k8s.io/deployment-name"
HEALTH_CHECKS = "machinehealthchecks.cluster.x-k8s.io"
AS_KUBELET = WriteOptions(field_manager="kubelet", subresource="status")
TIMEOUT_SECONDS = 20
DARK_SECONDS = 400.0
"""Longer than every clock by which what is not seen degrades."""


def health_check(**remediation: Any) -> Json:
    """A MachineHealthCheck over the workers: a Node that is not Ready for 20 s is broken."""
    bad = [{"type": "Ready", "status": status, "timeoutSeconds": TIMEOUT_SECONDS} for status in ("False", "Unknown")]
    spec = {
        "clusterName": "demo",
        "selector": {"matchLabels": {DEPLOYMENT: "demo-md"}},
        "checks": {"nodeStartupTimeoutSeconds": 300, "unhealthyNodeConditions": bad},
        "remediation": {"triggerIf": {"unhealthyLessThanOrEqualTo": "40%"}, **remediation},
    }
    return {"apiVersion": f"{CORE}/v1beta2", "kind": "MachineHealthCheck", "metadata": {"name": "workers"}, "spec": spec}


def manifests() -> list[Json]:
    """The usual cluster, its workers checked; one is remediated at a time."""
    made = cluster()
    for one in made:
        if one["kind"] == "MachineDeployment":
            one["spec"]["remediation"] = {"maxInFlight": 1}
    return [*made, health_check()]


def workers(fleet: Fleet) -> list[Json]:
    """The worker Machines, by name."""
    return sorted((one for one in fleet.objects("Machine") if DEPLOYMENT in one["metadata"]["labels"]), key=lambda one: str(one["metadata"]["name"]))


def turn(fleet: Fleet, names: Iterable[str], *, ready: bool) -> None:
    """Let the kubelets of Nodes say that they are (not) ready."""
    workload = next(iter(fleet.provider.workloads.values()))
    for name in names:
        node = workload.server.get("nodes", "", name)
        told = objects.node_conditions(fleet.clock.now())
        for one in told:
            if one["type"] == "Ready" and not ready:
                one.update(status="False", reason="KubeletNotReady", message="the container runtime is down")
        workload.server.update("nodes", {**node, "status": {**node["status"], "conditions": told}}, "", AS_KUBELET)


class Guard:
    """Watches that no Machine goes but those that may."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet, self.may_go = fleet, set[str]()
        self.gone: set[str] = set()
        fleet.api.on_change(self._changed)

    def _changed(self, change: Change) -> None:
        if change.entry.key.resource == MACHINES and change.type == "MODIFIED" and "deletionTimestamp" in change.entry.obj["metadata"]:
            name = str(change.entry.obj["metadata"]["name"])
            if name not in self.gone and name not in self.may_go:
                self._fleet.violation(f"Machine {name} was deleted, although nothing is wrong with it (or nothing may be done about it)")
            self.gone.add(name)


async def _stand(fleet: Fleet, oracle: Oracle) -> tuple[Guard, list[str]]:
    fleet.apply(manifests())
    await fleet.until("the first state", lambda: not unfinished(fleet) and _judged(fleet), AVAILABLE_SECONDS)
    names = [str(one["metadata"]["name"]) for one in workers(fleet)]
    oracle.chosen.update(names)
    return Guard(fleet), names


def _judged(fleet: Fleet) -> bool:
    return all(condition(one, "HealthCheckSucceeded") == "True" for one in workers(fleet))


def healthy_again(fleet: Fleet) -> str:
    """What keeps the cluster from being whole, with all of its workers found healthy."""
    left = unfinished(fleet)
    if left:
        return left
    sick = [one["metadata"]["name"] for one in workers(fleet) if condition(one, "HealthCheckSucceeded") != "True" or condition(one, "OwnerRemediated")]
    if sick:
        return f"Machines {', '.join(sick)} are not healthy"
    status = fleet.objects("MachineHealthCheck")[0].get("status", {})
    told = (
        status.get("expectedMachines"),
        status.get("currentHealthy"),
        status.get("remediationsAllowed"),
        condition({"status": status}, "RemediationAllowed"),
    )
    return "" if told == (3, 3, 1, "True") else f"the MachineHealthCheck tells {told}"


async def one_fails(fleet: Fleet, oracle: Oracle) -> None:
    """A Node fails; its Machine is replaced, and no other."""
    guard, names = await _stand(fleet, oracle)
    broken = fleet.random.choice(names)
    guard.may_go.add(broken)
    turn(fleet, [broken], ready=False)
    await fleet.until(f"{broken} replaced", lambda: broken in guard.gone and not healthy_again(fleet), AVAILABLE_SECONDS)


async def too_many_fail(fleet: Fleet, oracle: Oracle) -> None:
    """All Nodes fail: nothing is done. Two recover: the third is replaced."""
    guard, names = await _stand(fleet, oracle)
    turn(fleet, names, ready=False)
    await asyncio.sleep(TIMEOUT_SECONDS * 6)
    await fleet.until("all are unhealthy", lambda: all(condition(one, "HealthCheckSucceeded") == "False" for one in workers(fleet)), AVAILABLE_SECONDS)
    broken = fleet.random.choice(names)
    guard.may_go.add(broken)
    turn(fleet, [name for name in names if name != broken], ready=True)
    await fleet.until(f"{broken} replaced", lambda: broken in guard.gone and not healthy_again(fleet), AVAILABLE_SECONDS)


async def goes_dark(fleet: Fleet, oracle: Oracle) -> None:
    """The workload cluster cannot be reached for minutes, one of its Nodes broken: whatever becomes of that one, no other Machine goes."""
    guard, names = await _stand(fleet, oracle)
    broken = fleet.random.choice(names)
    guard.may_go.add(broken)
    turn(fleet, [broken], ready=False)
    await asyncio.sleep(fleet.random.uniform(0, 2))
    for workload in fleet.provider.workloads.values():
        workload.sever()
    await asyncio.sleep(DARK_SECONDS)
    for workload in fleet.provider.workloads.values():
        workload.mend()
    await fleet.until(f"{broken} replaced", lambda: broken in guard.gone and not healthy_again(fleet), AVAILABLE_SECONDS)


async def node_deleted(fleet: Fleet, oracle: Oracle) -> None:
    """Somebody deletes a Node; its Machine is replaced."""
    guard, names = await _stand(fleet, oracle)
    broken = fleet.random.choice(names)
    guard.may_go.add(broken)
    next(iter(fleet.provider.workloads.values())).server.delete("nodes", "", broken)
    await fleet.until(f"{broken} replaced", lambda: broken in guard.gone and not healthy_again(fleet), AVAILABLE_SECONDS)


SCENARIOS = (
    Scenario("one fails", one_fails, healthy_again),
    Scenario("too many fail", too_many_fail, healthy_again),
    Scenario("goes dark", goes_dark, healthy_again),
    Scenario("node deleted", node_deleted, healthy_again),
)
