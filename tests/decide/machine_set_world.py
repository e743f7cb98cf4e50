"""MachineSets alone and of a deployment, and what is read of them."""

from __future__ import annotations

from typing import Any

from fleetwake.conditions import get
from schemas.api.core.v1beta2.machine import Machine
from schemas.api.core.v1beta2.machine_set import MachineSet
from tests.decide.workers_world import (
    CLUSTER,
    CORE,
    NAMESPACE,
    Workers,
    machine_template,
)
from tests.decide.world import Json

ALONE = {"cluster.x-k8s.io/cluster-name": CLUSTER, "pool": "a"}
SET = "alone"


def alone(replicas: int | None = 2, annotations: dict[str, str] | None = None, **spec: Any) -> Json:
    """A MachineSet of no deployment."""
    body: Json = {"clusterName": CLUSTER, "selector": {"matchLabels": dict(ALONE)}, "template": own_template(), **spec}
    if replicas is not None:
        body["replicas"] = replicas
    return {
        "apiVersion": f"{CORE}/v1beta2",
        "kind": "MachineSet",
        "metadata": {"name": SET, "namespace": NAMESPACE, "annotations": annotations or {}},
        "spec": body,
    }


def own_template(**spec: Any) -> Json:
    """The Machine template of the standalone MachineSet."""
    return {**machine_template(**spec), "metadata": {"labels": dict(ALONE), "annotations": {"note": "one"}}}


def settled(world: Workers) -> Workers:
    """Run the MachineSet and let its Machines join until nothing changes."""
    for _ in range(20):
        plan = world.run_set(SET)
        world.collect()
        world.later(20)
        if not plan.writes and not world.join() and not world.leave():
            return world
    raise AssertionError("the MachineSet does not settle")


def condition(world: Workers, type_: str) -> tuple[str, str, str]:
    found = get(world.get(MachineSet, NAMESPACE, SET).status.conditions, type_)  # type: ignore[union-attr]
    assert found is not None
    return found.status, found.reason, found.message


def unhealthy(world: Workers, *names: str) -> None:
    for name in names:
        world.condition(name, "HealthCheckSucceeded", False, "Node is gone")
        world.condition(name, "OwnerRemediated", False, reason="WaitingForRemediation")


def remediated(world: Workers, name: str) -> tuple[str, str]:
    found = get(world.get(Machine, NAMESPACE, name).status.conditions, "OwnerRemediated")  # type: ignore[union-attr]
    return (found.reason, found.message) if found is not None else ("", "")
