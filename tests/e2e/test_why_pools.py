"""Why is this host gone? Asked of pools, whose infrastructure chooses, and of what cluster-autoscaler removes through the bridge."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.audit.deeds import User
from tests.e2e import manifests
from tests.e2e.autoscaler import Autoscaler, certificates
from tests.e2e.fleet import Fleet, left_of
from tests.e2e.recorder import World, controller

pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.apiserver, pytest.mark.redis]

NAME = "pond"
POOL, WORKERS = f"{NAME}-pool", f"{NAME}-workers"
GONE_LIMIT_S = 60.0
NEXT_VERSION = "v1.34.5"
BOUNDS = {"cluster.x-k8s.io/cluster-api-autoscaler-node-group-min-size": "0", "cluster.x-k8s.io/cluster-api-autoscaler-node-group-max-size": "5"}


@dataclass
class Pond:
    """A cluster with a pool and a MachineDeployment, both node groups of its autoscaler."""

    fleet: Fleet
    namespace: str
    autoscaler: Autoscaler

    def machines(self, kind: str) -> dict[str, str]:
        """The providerIDs of the Machines that an object of a kind controls, by name."""
        found = self.fleet.recorder.world.all("Machine", self.namespace)
        return {one["metadata"]["name"]: one["spec"].get("providerID", "") for one in found if controller(one)[0] == kind}

    def why(self, machine: str) -> list[str]:
        """The answer, and how it came to it."""
        return self.fleet.ask(self.namespace, "why", f"machine/{machine}").splitlines()

    def changed(self, kind: str, act: Callable[[], object], *, by: int) -> tuple[set[str], set[str]]:
        """Do something, and wait until the group has so many Machines more and all is settled; returns those that came and those that went."""
        before = self.machines(kind)
        act()

        def lacking(world: World) -> list[str]:
            now = self.machines(kind)
            return [] if len(now) == len(before) + by and set(now) != set(before) else [f"{len(now)} Machines"]

        self.fleet.recorder.wait(lacking, GONE_LIMIT_S, f"{len(before) + by} Machines")
        self.fleet.settle(self.namespace, NAME)
        after = self.machines(kind)
        return after.keys() - before.keys(), before.keys() - after.keys()

    def as_user(self, name: str, *arguments: str) -> str:
        """Have a user of this name run kubectl."""
        return User(self.fleet, self.namespace, name).kubectl(*arguments)


@pytest.fixture(scope="module")
def pond(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pond]:
    namespace = fleet.namespace("why-pools")
    documents = [*manifests.cluster(NAME, namespace, workers=2), *manifests.pool(NAME, namespace, replicas=2)]
    for document in documents:
        if document["metadata"]["name"] in (POOL, WORKERS) and document["kind"] in ("MachinePool", "MachineDeployment"):
            document["metadata"]["annotations"] = dict(BOUNDS)
    User(fleet, namespace, "alice").kubectl("apply", "-f", "-", stdin=manifests.text(documents))
    fleet.settle(namespace, NAME)
    yield Pond(fleet, namespace, Autoscaler(certificates(fleet, f"{namespace}/{NAME}", tmp_path_factory.mktemp("pond"))))
    fleet.kubectl("-n", namespace, "delete", "cluster", NAME, "--wait=false")
    fleet.recorder.wait(lambda world: left_of(world, namespace, NAME), GONE_LIMIT_S, f"{NAME} gone")


def group(pond: Pond, kind: str) -> str:
    """The id of a node group."""
    return f"{kind}/{pond.namespace}/{POOL if kind == 'MachinePool' else WORKERS}"


def test_a_machine_of_a_pool_is_there_because_somebody_made_the_pool(pond: Pond) -> None:
    for name in pond.machines("MachinePool"):
        answer, *rest = pond.why(name)
        assert answer.startswith(f"Machine {name} is there because alice (kubectl/"), answer
        assert answer.endswith(f" created MachinePool {POOL}."), answer
        assert any(f"made DevMachine {name} for DevMachinePool {POOL}: " in line for line in rest), rest


def test_a_rollout_of_a_pool_is_explained(pond: Pond) -> None:
    patch = f'{{"spec":{{"template":{{"spec":{{"version":"{NEXT_VERSION}"}}}}}}}}'
    came, went = pond.changed("MachinePool", lambda: pond.as_user("bob", "patch", "machinepool", POOL, "--type=merge", "-p", patch), by=0)
    assert len(came) == len(went) == 2
    successors = set()
    for name in went:
        answer, *rest = pond.why(name)
        assert answer.startswith(f"Machine {name} was replaced by "), answer
        assert "bob (kubectl/" in answer and f"changed the template of MachinePool {POOL} (version v1.34.0 → {NEXT_VERSION})" in answer, answer
        assert any(f"deleted Machine {name} for DevMachinePool {POOL}: its host is of another revision" in line for line in rest), rest
        successors.add(answer.split()[5])
    assert successors == came
    for name in came:
        answer = pond.why(name)[0]
        assert answer.startswith(f"Machine {name} is there because bob (kubectl/") and "changed the template of MachinePool" in answer, answer


def test_a_scale_down_of_a_pool_is_explained(pond: Pond) -> None:
    _, (name,) = pond.changed("MachinePool", lambda: pond.as_user("carol", "scale", f"machinepool/{POOL}", "--replicas=1"), by=-1)
    answer = pond.why(name)[0]
    assert answer.startswith(f"Machine {name} was deleted and nothing took its place, because carol (kubectl/"), answer
    assert f"scaled MachinePool {POOL} down from 2 to 1 replicas" in answer, answer


@pytest.mark.parametrize("kind", ["MachineDeployment", "MachinePool"])
def test_what_a_cluster_autoscaler_adds_and_removes_is_told_as_its_doing(pond: Pond, kind: str) -> None:
    owner = "MachineSet" if kind == "MachineDeployment" else kind
    asker, size = f"cluster-autoscaler of {pond.namespace}/{NAME}", len(pond.machines(owner))
    (name,), _ = pond.changed(owner, lambda: pond.autoscaler.increase(group(pond, kind), 1), by=1)
    answer = pond.why(name)[0]
    scaled = f"cluster-autoscaler scaled node group {kind} {POOL if kind == 'MachinePool' else WORKERS}"
    up = f"up from {size} to {size + 1} replicas ({asker} asks for 1 more: {size} to {size + 1}, of 0 to 5)"
    assert answer == f"Machine {name} is there because {scaled} {up}."

    host = pond.machines(owner)[name]
    pond.autoscaler.until(lambda: host in pond.autoscaler.nodes(group(pond, kind)))
    _, went = pond.changed(owner, lambda: pond.autoscaler.delete(group(pond, kind), [host]), by=-1)
    assert went == {name}
    answer, *rest = pond.why(name)
    down = f"down from {size + 1} to {size} replicas ({asker} removes {name}: {size + 1} to {size}, of 0 to 5)"
    assert answer == f"Machine {name} was deleted and nothing took its place, because {scaled} {down}."
    assert any(f"deleted Machine {name} for " in line for line in rest) and rest[-1].startswith("What cluster-autoscaler decided it from"), rest


def test_a_delete_by_hand_in_a_pool_is_explained(pond: Pond) -> None:
    victim = min(pond.machines("MachinePool"))
    (came,), (went,) = pond.changed("MachinePool", lambda: pond.as_user("dave", "delete", "machine", victim), by=0)
    answer = pond.why(went)[0]
    assert went == victim and answer.startswith(f"Machine {went} was replaced by {came} because dave (kubectl/") and answer.endswith(") deleted it."), answer
    assert pond.why(came)[0].startswith(f"Machine {came} is there because it replaces {went}: dave (kubectl/")
