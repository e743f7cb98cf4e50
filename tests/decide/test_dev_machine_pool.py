"""DevMachinePool: how many hosts, of which kind, and which of them go."""

from __future__ import annotations

from typing import Any

import pytest

from fleetwake.kind import Change
from fleetwake.plan import Create, Delete, flatten
from schemas.keys import ObjectKey
from services.dev_infrastructure.kinds.dev_machine_pool import CREATES_MAX, KIND
from tests.decide.pool_world import CLUSTER_KEY, NEXT, PoolWorld, hosts, pool

INFRASTRUCTURE = "infrastructure.cluster.x-k8s.io"
KEY = ObjectKey(INFRASTRUCTURE, "DevMachinePool", "default", "hosts")
MANAGED = {"cluster.x-k8s.io/replicas-managed-by": "cloud"}


def standing(replicas: int = 3, **changes: Any) -> PoolWorld:
    world = PoolWorld(pool(replicas, **changes), hosts())
    world.settle()
    return world


def names(world: PoolWorld) -> list[str]:
    return [one["metadata"]["name"] for one in world.all("DevMachine")]


def gone(world: PoolWorld) -> list[str]:
    """The Machines that the pool's next run deletes."""
    return [step.key.name for step in flatten(world.run("DevMachinePool", "hosts").steps) if isinstance(step, Delete)]


def test_a_host_is_what_the_pool_asked_for_when_it_was_made() -> None:
    world = standing(1)
    (dev,) = world.all("DevMachine")
    marks = dev["metadata"]["annotations"]
    assert (marks["dev.fleetwake.io/version"], marks["dev.fleetwake.io/bootstrap-data"]) == ("v1.34.0", "data")
    assert [one["kind"] for one in dev["metadata"]["ownerReferences"]] == ["DevMachinePool", "Machine"]
    status = world.one("DevMachinePool", "hosts")["status"]
    assert (status["ready"], status["replicas"], status["infrastructureMachineKind"]) == (True, 1, "DevMachine")
    assert status["capacity"] == {"cpu": "8", "memory": "32Gi", "pods": "110", "ephemeral-storage": "100Gi"}
    assert status["nodeInfo"] == {"architecture": "amd64", "operatingSystem": "linux"}
    (instance,) = status["instances"]
    assert (instance["instanceName"], instance["version"], instance["ready"]) == (dev["metadata"]["name"], "v1.34.0", True)


def test_it_waits_for_infrastructure_and_data_and_makes_many_hosts_in_parts() -> None:
    world = PoolWorld(pool(2 * CREATES_MAX, template={"bootstrap": {"configRef": {"apiGroup": "b.example.org", "kind": "C", "name": "c"}}}), hosts())
    for kind, name in (("MachinePool", "pool"), ("DevMachinePool", "hosts")):
        world.run(kind, name)
    assert names(world) == []
    world.edit("MachinePool", "pool", spec={"template": {"spec": {"bootstrap": {"dataSecretName": "data"}}}})
    world.edit("Cluster", "demo", status={"initialization": {"infrastructureProvisioned": False}})
    world.run("DevMachinePool", "hosts")
    assert names(world) == []
    world.edit("Cluster", "demo", status={"initialization": {"infrastructureProvisioned": True}})
    assert "finalizers" in world.one("DevMachinePool", "hosts")["metadata"]
    made = [step for step in flatten(world.run("DevMachinePool", "hosts").steps) if isinstance(step, Create)]
    assert len({step.key for step in made}) == CREATES_MAX
    world.run("DevMachinePool", "hosts")
    assert len(names(world)) == 2 * CREATES_MAX
    world.run("DevMachinePool", "hosts")
    assert len(names(world)) == 2 * CREATES_MAX


def test_a_create_whose_answer_was_lost_is_repeated_with_the_same_name() -> None:
    world = PoolWorld(pool(3), hosts())
    for kind, name in (("MachinePool", "pool"), ("DevMachinePool", "hosts")):
        world.run(kind, name)
    first = world.run("DevMachinePool", "hosts", limit=0)
    again = world.run("DevMachinePool", "hosts", limit=0)
    keys = [[step.key.name for step in flatten(plan.steps) if isinstance(step, Create)] for plan in (first, again)]
    assert keys[0] == keys[1] and len(set(keys[0])) == 3


def test_failure_domains_are_used_evenly() -> None:
    world = standing(5, spec={"failureDomains": ["b", "a"]})
    placed = [one["status"]["failureDomain"] for one in world.all("Machine")]
    assert sorted(placed) == ["a", "a", "a", "b", "b"]


def test_the_machine_that_is_marked_goes_first() -> None:
    world = standing()
    chosen = names(world)[1]
    world.edit("Machine", chosen, metadata={"annotations": {"cluster.x-k8s.io/delete-machine": ""}})
    assert gone(world) == []
    world.edit("MachinePool", "pool", spec={"replicas": 2})
    assert gone(world) == [chosen]
    world.settle()
    assert len(names(world)) == 2 and chosen not in names(world)


def test_what_is_broken_goes_before_what_works() -> None:
    world = standing()
    chosen = names(world)[2]
    told = world.one("Machine", chosen)["status"]["conditions"]
    next(one for one in told if one["type"] == "Available")["status"] = "False"
    world.edit("MachinePool", "pool", spec={"replicas": 2})
    assert gone(world) == [chosen]


def test_a_deleted_machine_takes_its_host_and_another_comes() -> None:
    world = standing()
    before = names(world)
    world.delete("Machine", before[0])
    world.settle()
    assert len(names(world)) == 3 and before[0] not in names(world) and set(before[1:]) < set(names(world))
    assert world.counters() == (3, 3, 3, 3) and before[0] not in world.nodes


def test_the_machine_of_a_host_that_somebody_took_away_goes_too() -> None:
    world = standing()
    lost = names(world)[0]
    world.view.store = {key: obj for key, obj in world.view.store.items() if (key.kind, key.name) != ("DevMachine", lost)}
    assert gone(world) == [lost]
    world.settle()
    assert len(names(world)) == 3 and lost not in {one["metadata"]["name"] for one in world.all("Machine")}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"version": NEXT}, id="version"),
        pytest.param({"bootstrap": {"dataSecretName": "other"}}, id="data"),
    ],
)
def test_another_version_or_other_data_replaces_every_host_and_no_available_one_is_missed(change: dict[str, Any]) -> None:
    world = standing()
    before = set(names(world))
    world.edit("MachinePool", "pool", spec={"template": {"spec": change}})
    world.least = None
    world.settle()
    assert before.isdisjoint(names(world)) and len(names(world)) == 3 and world.least == 3


def test_another_backend_replaces_every_host() -> None:
    world = standing()
    before = set(names(world))
    world.edit("DevMachinePool", "hosts", spec={"backend": {"inMemory": {"vm": {"provisioning": {"startupDuration": "1s"}}}}})
    world.settle()
    assert before.isdisjoint(names(world)) and len(names(world)) == 3


def test_other_bytes_of_the_same_secret_replace_none() -> None:
    world = standing()
    world.one("Secret", "data")["data"] = {"value": "rotated"}
    assert world.settle() == 0


def test_a_rollout_to_hosts_that_do_not_work_stops_with_all_old_ones_there() -> None:
    world = standing()
    before = set(names(world))
    world.ready, world.least = "False", None
    world.edit("MachinePool", "pool", spec={"template": {"spec": {"version": NEXT}}})
    world.settle()
    assert before < set(names(world)) and len(names(world)) == 6 and world.least == 3
    world.edit("MachinePool", "pool", spec={"template": {"spec": {"version": "v1.34.0"}}})
    world.settle()
    assert set(names(world)) == before


def test_a_number_decided_by_the_cloud_is_not_enforced_and_followed() -> None:
    world = PoolWorld(pool(2, annotations=MANAGED), hosts())
    world.settle()
    assert len(names(world)) == 2
    world.edit("DevMachinePool", "hosts", metadata={"annotations": {"dev.fleetwake.io/replicas": "5"}})
    world.settle()
    assert len(names(world)) == 5 and world.pool["spec"]["replicas"] == 5
    world.edit("MachinePool", "pool", spec={"replicas": 1})
    world.settle()
    assert len(names(world)) == 5 and world.pool["spec"]["replicas"] == 5
    world.delete("Machine", names(world)[0])
    world.settle()
    assert len(names(world)) == 5


def test_a_rollout_of_a_pool_that_the_cloud_scales_does_not_grow_it() -> None:
    world = PoolWorld(pool(2, annotations=MANAGED), hosts())
    world.settle()
    world.edit("MachinePool", "pool", spec={"template": {"spec": {"version": NEXT}}})
    world.settle()
    assert len(names(world)) == 2 and world.pool["spec"]["replicas"] == 2


def test_paused_nothing_is_made() -> None:
    world = PoolWorld(pool(2), hosts(annotations={"cluster.x-k8s.io/paused": ""}))
    world.settle()
    assert names(world) == [] and world.conditions("DevMachinePool", "hosts")["Paused"][0] == "True"


def test_without_a_backend_it_says_what_to_do() -> None:
    other = hosts()
    other["spec"] = {"backend": {"docker": {}}}
    world = PoolWorld(pool(2), other)
    world.settle()
    assert world.conditions("DevMachinePool", "hosts")["Ready"][2] == "* ReplicasReady: only the inMemory backend is available here: set spec.backend.inMemory"


def test_a_host_whose_machine_was_never_made_goes_with_the_pool() -> None:
    world = PoolWorld(pool(2), hosts())
    for kind, name in (("MachinePool", "pool"), *2 * (("DevMachinePool", "hosts"),)):
        world.run(kind, name)
    assert len(names(world)) == 2 and not world.all("Machine")
    world.delete("MachinePool", "pool")
    world.settle()
    assert names(world) == [] and not world.all("DevMachinePool") and not world.all("MachinePool")


@pytest.mark.parametrize(
    ("group", "kind", "metadata", "wakes"),
    [
        pytest.param("cluster.x-k8s.io", "Machine", {"labels": {"cluster.x-k8s.io/pool-name": "pool"}}, True, id="machine"),
        pytest.param("cluster.x-k8s.io", "Machine", {"labels": {"cluster.x-k8s.io/pool-name": "other"}}, False, id="machine-of-another"),
        pytest.param(INFRASTRUCTURE, "DevMachine", {"labels": {"cluster.x-k8s.io/pool-name": "pool"}}, True, id="host"),
        pytest.param(INFRASTRUCTURE, "DevMachine", {}, False, id="machine-of-a-set"),
    ],
)
def test_what_wakes_it(group: str, kind: str, metadata: dict[str, Any], wakes: bool) -> None:
    world = standing(1)
    change = Change(ObjectKey(group, kind, "default", "x"), CLUSTER_KEY, None, {"metadata": {"name": "x", **metadata}})
    found = {key for watch in KIND.watches if watch.source == change.key.group_kind for key in watch.concerns(change, world.view)}
    assert found == ({KEY} if wakes else set())


def test_its_machine_pool_wakes_it() -> None:
    change = Change(ObjectKey("cluster.x-k8s.io", "MachinePool", "default", "pool"), CLUSTER_KEY, None, pool())
    assert {key for watch in KIND.watches if watch.source == change.key.group_kind for key in watch.concerns(change, standing(0).view)} == {KEY}
