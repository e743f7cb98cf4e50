"""A KubeadmControlPlane with its Machines, Nodes and etcd, for the tests of its decisions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fleetwake import labels
from fleetwake.plan import Apply, Create, Delete, EtcdMoveLeader, EtcdRemoveMember, Event, Patch, Step, SyncMetadata, flatten
from services.dev_infrastructure.emulation import objects
from services.reconcilers.kinds.kubeadm_control_plane import KIND
from tests.decide.kubeadm_world import CLUSTER, KubeadmWorld, cluster, condition
from tests.decide.world import Json

INFRA = "infrastructure.cluster.x-k8s.io"
HOOK = labels.KCP_CLEANUP_HOOK


def control_plane(replicas: int = 1, **spec: Any) -> Json:
    return {
        "apiVersion": "controlplane.cluster.x-k8s.io/v1beta2",
        "kind": "KubeadmControlPlane",
        "metadata": {
            "name": "demo-cp",
            "namespace": "default",
            "uid": "uid-kcp",
            "labels": {"cluster.x-k8s.io/cluster-name": "demo"},
            "ownerReferences": [{"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Cluster", "name": "demo", "uid": "uid-cluster", "controller": True}],
        },
        "spec": {
            "replicas": replicas,
            "version": "v1.34.2",
            "machineTemplate": {
                "metadata": {"labels": {"team": "a"}, "annotations": {"note": "x"}},
                "spec": {"infrastructureRef": {"apiGroup": INFRA, "kind": "DevMachineTemplate", "name": "demo-cp"}},
            },
            "kubeadmConfigSpec": {
                "initConfiguration": {"nodeRegistration": {"criSocket": "/x"}},
                "joinConfiguration": {"nodeRegistration": {"criSocket": "/x"}},
            },
            **spec,
        },
    }


def template() -> Json:
    return {
        "apiVersion": f"{INFRA}/v1beta2",
        "kind": "DevMachineTemplate",
        "metadata": {"name": "demo-cp", "namespace": "default"},
        "spec": {"template": {"metadata": {"labels": {"from-template": "y"}}, "spec": {"backend": {"inMemory": {}}}}},
    }


class Fleet(KubeadmWorld):
    """The world with everything around KubeadmControlPlane played: bootstrap, infrastructure, Nodes, etcd, and the end of Machines."""

    def machines(self) -> list[Json]:
        return [obj for key, obj in sorted(self.store.items()) if key.kind == "Machine"]

    def provision(self, name: str) -> None:
        """The Machine comes up: infrastructure, Node, static pods, etcd member; the first one initializes."""
        for kind in ("Node", "Pods"):
            self.appear(name, kind)

    def appear(self, name: str, what: str) -> None:
        stamp = self.at.strftime("%Y-%m-%dT%H:%M:%SZ")
        if what == "Node":
            self.edit("Machine", name, {"spec": {"providerID": f"in-memory://{name}"}})
            self.edit(
                "Machine",
                name,
                {"status": {"nodeRef": {"name": name}, "initialization": {"infrastructureProvisioned": True, "bootstrapDataSecretCreated": True}}},
            )
            self.set_conditions(name, condition("Ready"), condition("Available"))
            taint = {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}
            meta = {"name": name, "creationTimestamp": stamp, "labels": {"node-role.kubernetes.io/control-plane": ""}}
            ready = {"conditions": [{"type": "Ready", "status": "True"}]}
            self.nodes.append({"metadata": meta, "spec": {"providerID": f"in-memory://{name}", "taints": [taint]}, "status": ready})
            self.nodes.sort(key=lambda node: node["metadata"]["name"])
            return
        for component in ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd"):
            status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": stamp}]}
            self.pods.append({"metadata": {"name": f"{component}-{name}", "namespace": "kube-system", "creationTimestamp": stamp}, "status": status})
        self.members.append({"id": 100 + len(self.members) + self.at.second * 10, "name": name, "isLearner": False})
        if len(self.members) == 1:
            self.leader = self.members[0]["id"]
            self.initialize(str(self.machine(name)["spec"].get("version", "v1.34.2")))
        self.connected = True

    def initialize(self, version: str) -> None:
        """What kubeadm init leaves in a new cluster; once."""
        if self.stored("ConfigMap", "kubeadm-config", CLUSTER) is not None:
            return
        api = "v1beta3" if version.startswith("v1.30.") else "v1beta4"
        configuration = {**objects.minimal_configuration("demo", "10.0.0.1:6443", version), "apiVersion": f"kubeadm.k8s.io/{api}"}
        for _, body in objects.cluster_objects(configuration, version):
            self.put_remote(body)

    def machine(self, name: str) -> Json:
        """A Machine as stored."""
        found = self.stored("Machine", name)
        assert found is not None
        return found

    def set_conditions(self, name: str, *wanted: Json) -> None:
        found = self.stored("Machine", name)
        assert found is not None
        types = {one["type"] for one in wanted}
        kept = [one for one in found.setdefault("status", {}).get("conditions", ()) if one["type"] not in types]
        self.edit("Machine", name, {"status": {"conditions": [*kept, *wanted]}})

    def end(self, name: str) -> None:
        """The Machine controller's last steps: infrastructure, config, Node, finalizer."""
        for kind in ("Machine", "KubeadmConfig", "DevMachine"):
            self.remove(kind, name)
        self.nodes = [node for node in self.nodes if node["metadata"]["name"] != name]
        self.pods = [pod for pod in self.pods if not pod["metadata"]["name"].endswith(name)]

    def settle_kcp(self, runs: int = 12) -> list[Step]:
        """Run until nothing is asked for; the steps taken."""
        taken: list[Step] = []
        for _ in range(runs):
            plan = self.run(KIND, "default", "demo-cp")
            ends = "deletionTimestamp" in (self.stored("KubeadmControlPlane", "demo-cp") or {}).get("metadata", {})
            assert ends or len(mutations(plan.steps)) <= 1, f"more than one Machine is touched: {plan.steps}"
            if not [step for step in plan.steps if not isinstance(step, Event)]:
                return taken
            taken += flatten(plan.steps)
        raise AssertionError(f"does not settle: {plan.steps}")

    def live(self, turns: int = 40) -> list[Step]:
        """Play everything around the control plane until nothing is under way any more; the steps taken."""
        taken: list[Step] = []
        for _ in range(turns):
            taken += self.settle_kcp()
            coming, leaving = self.coming(), self.leaving()
            if not coming and not leaving:
                return taken
            self.later(30)
            for name in coming:
                self.provision(name)
            for name in leaving:
                self.leave(name)
            self.later(3)
        raise AssertionError("there is always something under way")

    def coming(self) -> list[str]:
        """Machines without a Node that are not being deleted."""
        return [
            one["metadata"]["name"] for one in self.machines() if not (one.get("status") or {}).get("nodeRef") and "deletionTimestamp" not in one["metadata"]
        ]

    def leaving(self) -> list[str]:
        """Machines that are being deleted."""
        return [one["metadata"]["name"] for one in self.machines() if "deletionTimestamp" in one["metadata"]]

    def leave(self, name: str) -> None:
        """The Machine controller goes on with a deletion: to our hook, or to the end."""
        if HOOK in self.machine(name)["metadata"]["annotations"]:
            self.set_conditions(name, condition("Deleting", reason="WaitingForPreTerminateHook"))
        else:
            self.end(name)

    def names(self) -> list[str]:
        """The Machines' names, oldest first."""
        return [one["metadata"]["name"] for one in sorted(self.machines(), key=lambda one: one["metadata"]["creationTimestamp"])]

    def kcp(self) -> Json:
        found = self.stored("KubeadmControlPlane", "demo-cp")
        assert found is not None
        return found

    def told(self, type_: str) -> tuple[str, str, str]:
        return self.condition_of("KubeadmControlPlane", "demo-cp", type_)


def mutations(steps: Iterable[Step]) -> list[Step]:
    """The Machines made or deleted."""
    return [step for step in flatten(steps) if isinstance(step, Create | Delete) and step.key.kind == "Machine"]


def fleet(replicas: int = 1, **spec: Any) -> Fleet:
    return Fleet([cluster(), control_plane(replicas, **spec), template()])


def running(replicas: int = 1, **spec: Any) -> Fleet:
    """A control plane with all its Machines up and everything settled."""
    world = fleet(replicas, **spec)
    for number in range(replicas):
        world.settle_kcp()
        new = [one["metadata"]["name"] for one in world.machines() if not (one.get("status") or {}).get("nodeRef")]
        assert len(new) == 1, f"one at a time, but {number} then {new}"
        world.later(30)
        world.provision(new[0])
        world.later(3)
    world.settle_kcp()
    return world


def writes(steps: list[Step]) -> list[str]:
    names = []
    for step in steps:
        match step:
            case EtcdMoveLeader() | EtcdRemoveMember():
                names.append(type(step).__name__)
            case Create() | Apply() | Patch() | Delete() | SyncMetadata():
                names.append(f"{type(step).__name__} {step.key.kind}")
    return names
