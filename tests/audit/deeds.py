"""What users do to a cluster on a rig, each by another user, and which Machines came and went by it: the questions that ``why`` must answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from tests.e2e import manifests
from tests.e2e.api import PATHS
from tests.e2e.fleet import CONVERGE_LIMIT_S, Fleet
from tests.e2e.recorder import World, controller

NAME = "shop"
WORKERS = f"{NAME}-workers"
NEXT_VERSION = "v1.34.5"
KINDS = {kind: PATHS[kind] for kind in ("Cluster", "MachineDeployment", "KubeadmControlPlane")}
"""What users change here."""


@dataclass(frozen=True)
class Deed:
    """One thing a user did. ``manager`` is the field manager that it leaves, ``""`` where Kubernetes keeps none."""

    name: str
    user: str
    manager: str
    came: tuple[str, ...] = ()
    went: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


class User:
    """Somebody with a name: what they do is in the API server's audit log under it."""

    def __init__(self, fleet: Fleet, namespace: str, name: str) -> None:
        self._fleet, self._namespace, self.name = fleet, namespace, name

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl as this user."""
        return self._fleet.kubectl("--as", self.name, "--as-group", "system:masters", "-n", self._namespace, *arguments, stdin=stdin)


class Deeds:
    """Does them one after the other, waiting each time until the cluster is as asked."""

    def __init__(self, fleet: Fleet, namespace: str) -> None:
        self._fleet, self._namespace = fleet, namespace

    def _user(self, name: str) -> User:
        return User(self._fleet, self._namespace, name)

    def machines(self, kind: str = "MachineSet") -> set[str]:
        """The Machines there are, of owners of a kind."""
        return {one["metadata"]["name"] for one in self._fleet.recorder.world.all("Machine", self._namespace) if controller(one)[0] == kind}

    def _done(self, name: str, user: str, manager: str, act: Callable[[User], object], kind: str = "MachineSet") -> Deed:
        before = self.machines(kind)
        act(self._user(user))
        self._seen()
        self._fleet.settle(self._namespace, NAME)
        after = self.machines(kind)
        return Deed(name, user, manager, tuple(sorted(after - before)), tuple(sorted(before - after)))

    def _seen(self) -> None:
        """Wait until the test has been told of what was just done: what is settled is judged from what it was told."""
        there = {kind: self._fleet.api.get(f"{path.rpartition('/')[0]}/namespaces/{self._namespace}/{path.rpartition('/')[2]}") for kind, path in KINDS.items()}

        def untold(world: World) -> list[str]:
            lacking = []
            for kind, listed in there.items():
                generations = {one["metadata"]["name"]: one["metadata"]["generation"] for one in listed["items"]}
                known = {one["metadata"]["name"]: one["metadata"]["generation"] for one in world.all(kind, self._namespace)}
                lacking += [f"{kind} {name}" for name, generation in generations.items() if known.get(name, 0) < generation]
                # names are never used twice: what was listed as gone is never seen again
                lacking += [f"{kind} {name} is gone" for name in known.keys() - generations.keys() if kind == "MachineDeployment"]
            return lacking

        self._fleet.recorder.wait(untold, CONVERGE_LIMIT_S, "the test knows what was done")

    def create(self) -> Deed:
        """alice applies a cluster of one control plane Machine and three workers."""
        text = manifests.text(manifests.cluster(NAME, self._namespace))
        return self._done("create", "alice", "kubectl-client-side-apply", lambda user: user.kubectl("apply", "-f", "-", stdin=text))

    def rollout(self) -> Deed:
        """bob gives the workers another version."""
        patch = f'{{"spec":{{"template":{{"spec":{{"version":"{NEXT_VERSION}"}}}}}}}}'
        return self._done("rollout", "bob", "kubectl-patch", lambda user: user.kubectl("patch", "machinedeployment", WORKERS, "--type=merge", "-p", patch))

    def scale_down(self) -> Deed:
        """carol wants two workers instead of three."""
        return self._done("scale down", "carol", "kubectl", lambda user: user.kubectl("scale", f"machinedeployment/{WORKERS}", "--replicas=2"))

    def scale_up(self) -> Deed:
        """carol wants three after all."""
        return self._done("scale up", "carol", "kubectl", lambda user: user.kubectl("scale", f"machinedeployment/{WORKERS}", "--replicas=3"))

    def delete_machine(self) -> Deed:
        """dave deletes a worker."""
        victim = sorted(self.machines())[0]

        def act(user: User) -> None:
            user.kubectl("delete", "machine", victim)
            self._fleet.recorder.wait(lambda _: [victim] if victim in self.machines() else [], CONVERGE_LIMIT_S, f"{victim} gone")

        return self._done("delete machine", "dave", "", act)

    def delete_deployment(self) -> Deed:
        """erin deletes the MachineDeployment."""
        before = self.machines()
        self._user("erin").kubectl("delete", "machinedeployment", WORKERS)

        def left(world: World) -> list[str]:
            return [one["metadata"]["name"] for one in world.all("Machine", self._namespace) if controller(one)[0] == "MachineSet"]

        self._fleet.recorder.wait(left, 60.0, "no worker left")
        return Deed("delete deployment", "erin", "", (), tuple(sorted(before)))

    def delete_cluster(self) -> Deed:
        """frank deletes the cluster."""
        before = self.machines("KubeadmControlPlane")
        self._user("frank").kubectl("delete", "cluster", NAME)
        return Deed("delete cluster", "frank", "", (), tuple(sorted(before)))

    def all(self) -> list[Deed]:
        """All of them, in an order in which each is possible."""
        deeds = (self.create, self.rollout, self.scale_down, self.delete_machine, self.scale_up, self.delete_deployment, self.delete_cluster)
        return [deed() for deed in deeds]
