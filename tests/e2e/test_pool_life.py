"""The life of the MachinePool in ``examples/pool.yaml``: two hosts, four, one, another version, another bootstrap token; and what holds for every object of it.

Source: domain/tests.md, row machine-pool and the generic assertions.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e import manifests
from tests.e2e.api import PATHS
from tests.e2e.fleet import Fleet, left_of
from tests.e2e.recorder import Object, World, condition, controller, told
from tests.e2e.workload import Workload

pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.apiserver, pytest.mark.redis]

EXAMPLE = Path(__file__).parents[2] / "examples/pool.yaml"
NAME, POOL = "pooled", "pooled-workers"
NEXT_VERSION = "v1.34.1"
HEALED_LIMIT_S, GONE_LIMIT_S, ROTATED_LIMIT_S = 60.0, 60.0, 90.0
TOKEN_ID = "fleetwake.io/bootstrap-token-id"
SHORT_TOKEN_SECONDS = "30"
"""Looked at every 10 s, and exchanged at the second look."""
RECONCILERS = ("reconcilers-0", "reconcilers-1")
STATUSES = {
    **dict.fromkeys(("Available", "BootstrapConfigReady", "InfrastructureReady", "MachinesReady", "MachinesUpToDate", "NodeGroupReady"), "True"),
    **dict.fromkeys(("ScalingUp", "ScalingDown", "RollingOut", "Remediating", "Deleting", "Paused"), "False"),
}
MANAGERS = {
    "MachinePool": {"machinepool-controller", "capi-autoscaler-bridge-machinepool"},
    "KubeadmConfig": {"machinepool-controller", "kubeadmconfig-controller"},
    "DevMachinePool": {"machinepool-controller", "capi-devmachinepool"},
    "Machine": {"machinepool-controller", "capi-machine"},
    "DevMachine": {"capi-devmachinepool", "capi-machine", "capi-devmachine"},
}
"""Who of ours writes objects of a pool, by field manager."""


@dataclass
class Life:
    """The cluster of the example in a namespace of its own."""

    fleet: Fleet
    namespace: str
    workload: Workload

    @property
    def world(self) -> World:
        """The objects now."""
        return self.fleet.recorder.world

    @property
    def pool(self) -> Object:
        """The MachinePool."""
        found = self.world.get("MachinePool", self.namespace, POOL)
        assert found is not None
        return found

    def machines(self, pool: str = POOL) -> dict[str, Object]:
        """The pool's Machines by name."""
        return {one["metadata"]["name"]: one for one in self.world.all("Machine", self.namespace) if controller(one) == ("MachinePool", pool)}

    def parts(self) -> list[tuple[str, str]]:
        """Kind and name of every object that is the pool's."""
        hosts = [(kind, name) for name in sorted(self.machines()) for kind in ("Machine", "DevMachine")]
        return [("MachinePool", POOL), ("KubeadmConfig", POOL), ("DevMachinePool", POOL), *hosts]

    def get(self, kind: str, name: str) -> Object:
        """One object, with what the recorder leaves out."""
        return self.fleet.api.get(path(kind, self.namespace, name))

    def whole(self, replicas: int) -> None:
        """Settled, with as many Machines, each of which names its Node."""
        self.fleet.settle(self.namespace, NAME)
        machines = self.machines()
        assert len(machines) == replicas
        planes = {one["metadata"]["name"] for one in self.world.all("Machine", self.namespace)} - machines.keys()
        assert {one["status"]["nodeRef"]["name"] for one in machines.values()} == self.workload.nodes() - planes


def path(kind: str, namespace: str, name: str) -> str:
    """The REST path of one object."""
    collection, _, plural = PATHS[kind].rpartition("/")
    return f"{collection}/namespaces/{namespace}/{plural}/{name}"


@pytest.fixture(scope="module")
def life(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    namespace = fleet.namespace("pool-life")
    fleet.kubectl("-n", namespace, "apply", "-f", str(EXAMPLE))
    fleet.settle(namespace, NAME)
    yield Life(fleet, namespace, Workload(fleet, namespace, NAME, tmp_path_factory.mktemp("pool-life")))


def test_a_pool_of_two_grows_to_four_and_shrinks_to_one(life: Life) -> None:
    assert life.pool["spec"]["replicas"] == 1, "the minimum of its node group: the file names no number"
    for replicas in (2, 4, 1):
        before = life.machines().keys()
        life.fleet.scale(life.namespace, f"machinepool/{POOL}", replicas)
        life.whole(replicas)
        after = life.machines().keys()
        assert before <= after or after <= before, "only as many hosts come or go as are wanted"


def test_another_version_replaces_its_hosts(life: Life) -> None:
    before = life.machines().keys()
    life.fleet.patch(life.namespace, f"machinepool/{POOL}", {"spec": {"template": {"spec": {"version": NEXT_VERSION}}}})
    life.whole(1)
    assert life.machines().keys().isdisjoint(before)
    (node,) = (one for one in life.workload.objects("nodes") if one["metadata"]["name"] in life.machines())
    assert node["status"]["nodeInfo"]["kubeletVersion"] == NEXT_VERSION


def test_every_condition_is_there_and_none_tells_of_trouble(life: Life) -> None:
    assert {kind: condition(life.pool, kind) for kind in STATUSES} == STATUSES, [told(life.pool, kind) for kind in STATUSES]
    for machine in life.machines().values():
        assert (condition(machine, "Ready"), condition(machine, "Available"), condition(machine, "UpToDate")) == ("True", "True", "True")


def test_every_object_is_written_by_those_who_should_and_nobody_else_of_ours(life: Life) -> None:
    wrote = {
        (kind, name): {entry["manager"] for entry in life.get(kind, name)["metadata"]["managedFields"] if not entry["manager"].startswith("kubectl")}
        for kind, name in life.parts()
    }
    assert wrote == {(kind, name): MANAGERS[kind] for kind, name in life.parts()}


def test_at_rest_nothing_is_written(life: Life) -> None:
    # what only informs is told a moment later
    life.fleet.fall_silent()
    versions = {part: life.get(*part)["metadata"]["resourceVersion"] for part in life.parts()}
    life.fleet.fall_silent()
    assert {part: life.get(*part)["metadata"]["resourceVersion"] for part in life.parts()} == versions


@pytest.mark.parametrize("field", ["ownerReferences", "finalizers"])
def test_what_is_wiped_is_there_again(life: Life, field: str) -> None:
    """Of all objects at once, as a backup that is restored loses it."""
    parts = [*life.parts(), ("Secret", POOL)]
    before = {part: told_of(life.get(*part), field) for part in parts}
    assert all(before[part] for part in parts if field == "ownerReferences"), before
    for kind, name in parts:
        life.fleet.kubectl("-n", life.namespace, "patch", kind.lower(), name, "--type=merge", "-p", f'{{"metadata":{{"{field}":null}}}}')

    def lacking(world: World) -> list[str]:
        now = {part: told_of(world.get(part[0], life.namespace, part[1]) or {"metadata": {}}, field) for part in parts}
        return [f"{kind} {name}: {now[kind, name]} of {before[kind, name]}" for kind, name in parts if now[kind, name] != before[kind, name]]

    life.fleet.recorder.wait(lacking, HEALED_LIMIT_S, f"{field} again")
    life.whole(1)


def told_of(value: Object, field: str) -> set[Any]:
    """Owners by kind, name and whether they control; or finalizers."""
    found = value["metadata"].get(field) or ()
    return {(one["kind"], one["name"], one.get("controller", False)) for one in found} if field == "ownerReferences" else set(found)


def test_the_bootstrap_token_is_exchanged_before_it_ends_and_replaces_no_host(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    """With tokens of half a minute, a pool of its own: hosts that come later join with the token of then."""
    name = f"{NAME}-pool"
    monkeypatch.setenv("FLEETWAKE_BOOTSTRAP_TOKEN_TTL_SECONDS", SHORT_TOKEN_SECONDS)
    life.fleet.restart(RECONCILERS)
    try:
        life.fleet.apply(*manifests.pool(NAME, life.namespace, replicas=1))
        life.fleet.settle(life.namespace, NAME)
        before, first = life.machines(name).keys(), secret_of(life, name)

        def unchanged(world: World) -> list[str]:
            found = world.get("Secret", life.namespace, name)
            return [] if found is not None and token_of(found) != token_of(first) else ["another token"]

        life.fleet.recorder.wait(unchanged, ROTATED_LIMIT_S, "the token exchanged")
        second = secret_of(life, name)
        assert join_token(second) != join_token(first) and join_token(second).startswith(f"{token_of(second)}.")
        tokens = {one["metadata"]["name"]: one for one in life.workload.objects("secrets") if one.get("type") == "bootstrap.kubernetes.io/token"}
        made = tokens[f"bootstrap-token-{token_of(second)}"]["data"]
        assert datetime.fromisoformat(base64.b64decode(made["expiration"]).decode()).tzinfo is not None
        assert life.machines(name).keys() == before, "other bytes of the data make no other host"
        life.fleet.scale(life.namespace, f"machinepool/{name}", 2)
        life.fleet.settle(life.namespace, NAME)
        assert before < life.machines(name).keys() and len(life.machines(name)) == 2
    finally:
        monkeypatch.undo()
        life.fleet.restart(RECONCILERS)


def secret_of(life: Life, pool: str) -> Object:
    """The bootstrap data of a pool."""
    return life.get("Secret", pool)


def token_of(secret: Object) -> str:
    """The id of the token in a pool's bootstrap data."""
    return str(secret["metadata"]["annotations"][TOKEN_ID])


def join_token(secret: Object) -> str:
    """The token itself, as kubeadm on a host would read it."""
    text = base64.b64decode(secret["data"]["value"]).decode()
    files = {one["path"]: one["content"] for one in yaml.safe_load(text)["write_files"]}
    documents = yaml.safe_load_all(files["/run/kubeadm/kubeadm-join-config.yaml"])
    joining = next(one for one in documents if one["kind"] == "JoinConfiguration")
    return str(joining["discovery"]["bootstrapToken"]["token"])


def test_it_goes_with_its_cluster_and_leaves_nothing(life: Life) -> None:
    life.fleet.kubectl("-n", life.namespace, "delete", "cluster", NAME, "--wait=false")
    life.fleet.recorder.wait(lambda world: left_of(world, life.namespace, NAME), GONE_LIMIT_S, f"{NAME} gone")
    kept = ("ConfigMap", "DevMachineTemplate")
    assert [str(key) for key in life.world.objects if key.namespace == life.namespace and key.kind not in kept] == []
