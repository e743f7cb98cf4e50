"""A MachinePool on emulated hosts: every kind that has a part in it, run in turn on one small world until none writes any more."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import orjson

from fleetwake.kind import Kind, Looked, Workload
from fleetwake.plan import Apply, Create, Delete, Local, Look, Patch, Plan, SyncMetadata, flatten
from schemas.api.meta import KubeObject
from schemas.keys import ClusterKey, GroupKind, ObjectKey
from services.dev_infrastructure.kinds import dev_machine, dev_machine_pool
from services.dev_infrastructure.kinds.state import ClusterState, MachineState
from services.reconcilers.kinds import machine, machine_pool
from tests.decide.machine_world import CLUSTER, CORE, EARLIER
from tests.decide.machine_world import cluster as a_cluster
from tests.decide.world import NOW, FakeView, Json, plan_writes

INFRASTRUCTURE = "infrastructure.cluster.x-k8s.io/v1beta2"
VERSION, NEXT = "v1.34.0", "v1.34.1"
ROUNDS_MAX = 60
CONTROL_PLANE = "cp"
K = TypeVar("K", bound=KubeObject)
KINDS: tuple[Kind[Any], ...] = (machine_pool.KIND, machine.KIND, dev_machine_pool.KIND, dev_machine.KIND)
NAMES = {kind.name: kind for kind in KINDS}


def pool(replicas: int | None = 2, *, spec: Json | None = None, version: str | None = VERSION, template: Json | None = None, **metadata: Any) -> Json:
    """A MachinePool of emulated hosts whose bootstrap data somebody brought."""
    made: Json = {
        "clusterName": "demo",
        "bootstrap": {"dataSecretName": "data"},
        "infrastructureRef": {"apiGroup": "infrastructure.cluster.x-k8s.io", "kind": "DevMachinePool", "name": "hosts"},
        **({"version": version} if version else {}),
    }
    wanted: Json = {"clusterName": "demo", "template": {"spec": made | (template or {})}, **({"replicas": replicas} if replicas is not None else {})}
    return {"apiVersion": CORE, "kind": "MachinePool", "metadata": {"name": "pool", "namespace": "default"} | metadata, "spec": wanted | (spec or {})}


def hosts(**metadata: Any) -> Json:
    """The DevMachinePool as a user writes it."""
    meta = {"name": "hosts", "namespace": "default"} | metadata
    return {"apiVersion": INFRASTRUCTURE, "kind": "DevMachinePool", "metadata": meta, "spec": {"backend": {"inMemory": {}}}}


def cluster() -> Json:
    """The Cluster, on a DevCluster."""
    found = a_cluster()
    found["spec"]["infrastructureRef"] = {"apiGroup": "infrastructure.cluster.x-k8s.io", "kind": "DevCluster", "name": "infra"}
    return found


def dev_cluster() -> Json:
    """The DevCluster."""
    return {"apiVersion": INFRASTRUCTURE, "kind": "DevCluster", "metadata": {"name": "infra", "namespace": "default"}, "spec": {"backend": {"inMemory": {}}}}


def control_plane_machine() -> Json:
    """A Machine of the control plane: without one no Node would be worth a drain."""
    marks = {"cluster.x-k8s.io/control-plane": "", "cluster.x-k8s.io/cluster-name": "demo"}
    return {
        "apiVersion": CORE,
        "kind": "Machine",
        "metadata": {"name": CONTROL_PLANE, "namespace": "default", "labels": marks},
        "spec": {"clusterName": "demo", "bootstrap": {"dataSecretName": "cp"}, "infrastructureRef": {"apiGroup": "x.io", "kind": "M", "name": "cp"}},
    }


def secret() -> Json:
    """The bootstrap data."""
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "data", "namespace": "default"}, "data": {"value": "x"}}


def node(name: str, provider_id: str, version: str, *, ready: str = "True") -> Json:
    """A Node as its kubelet registers it."""
    good = {"Ready": ready, "MemoryPressure": "False", "DiskPressure": "False", "PIDPressure": "False"}
    taint = {"key": "node.cluster.x-k8s.io/uninitialized", "effect": "NoSchedule"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "uid": f"uid-node-{name}", "resourceVersion": "7"},
        "spec": {"providerID": provider_id, "taints": [taint]},
        "status": {
            "nodeInfo": {"kubeletVersion": version, "architecture": "amd64"},
            "conditions": [{"type": type_, "status": status, "message": "", "lastTransitionTime": EARLIER} for type_, status in good.items()],
        },
    }


class QuickView(FakeView):
    """A ``FakeView`` that reads equal JSON once, and in which an apply of conditions alone leaves the fields of the other managers."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._read: dict[tuple[type, bytes], Any] = {}

    def _once(self, model: type[K], obj: Json) -> K:
        place = (model, orjson.dumps(obj))
        if place not in self._read:
            self._read[place] = model.model_validate(obj)
        found: K = self._read[place]
        return found

    def write(self, step: Create | Apply | Patch | SyncMetadata | Delete) -> None:
        if isinstance(step, Apply) and step.subresource == "status" and step.body["status"].keys() == {"conditions"}:
            status = {**self.store[step.key].get("status", {}), **step.body["status"]}
            step = replace(step, body={"status": status})
        super().write(step)

    def get(self, model: type[K], namespace: str, name: str) -> K | None:
        found = self.store.get(ObjectKey(model.GROUP, model.KIND, namespace, name))
        return self._once(model, found) if found is not None else None

    def _models(self, model: type[K], keep: Callable[[Json], bool]) -> tuple[K, ...]:
        wanted = GroupKind(model.GROUP, model.KIND)
        return tuple(self._once(model, obj) for key, obj in self.sorted() if key.group_kind == wanted and keep(obj))


class PoolWorld:
    """See the module. ``ready``: what the kubelets of hosts to be made say; ``least``: the fewest available Machines seen since it was set to None;
    ``named``: the Nodes that some Machine has ever known.
    """

    def __init__(self, *objects: Json) -> None:
        connected = Workload(connected=True, last_probe_success=NOW, first_connected=NOW, watch_synced=True)
        self.view = QuickView([cluster(), dev_cluster(), secret(), control_plane_machine(), *objects], workloads={CLUSTER: connected})
        self.view.locals = {"clusters": {CLUSTER: ClusterState("uid-DevCluster-infra", "127.0.0.1", 20001)}}
        self.ready = "True"
        self.least: int | None = None
        self.named: set[str] = set()

    # --- reading

    def all(self, kind: str) -> list[Json]:
        """All objects of a kind, by name; the control plane's Machine is none of the pool's."""
        return [obj for key, obj in self.view.sorted() if key.kind == kind and key.name != CONTROL_PLANE]

    def one(self, kind: str, name: str) -> Json:
        """One object."""
        return next(obj for obj in self.all(kind) if obj["metadata"]["name"] == name)

    @property
    def pool(self) -> Json:
        """The MachinePool."""
        return self.one("MachinePool", "pool")

    @property
    def nodes(self) -> list[str]:
        """The names of the Nodes, but of those that nobody knew when their Machine went: a cloud removes them, as upstream leaves it."""
        names = [found["metadata"]["name"] for found in self.view.workloads[CLUSTER].nodes]
        return [name for name in names if name in self.named]

    def counters(self) -> tuple[Any, ...]:
        """Replicas, ready, available, up to date."""
        return tuple(self.pool["status"].get(name) for name in ("replicas", "readyReplicas", "availableReplicas", "upToDateReplicas"))

    def conditions(self, kind: str = "MachinePool", name: str = "pool") -> dict[str, tuple[str, str, str]]:
        """The conditions of an object."""
        return {one["type"]: (one["status"], one["reason"], one["message"]) for one in self.one(kind, name)["status"]["conditions"]}

    def available(self) -> int:
        """How many Machines that stay are available."""
        conditions = [(found, (found.get("status") or {}).get("conditions") or ()) for found in self.all("Machine")]
        return sum(
            "deletionTimestamp" not in found["metadata"] and any(one["type"] == "Available" and one["status"] == "True" for one in told)
            for found, told in conditions
        )

    # --- acting

    def edit(self, kind: str, name: str, **parts: Any) -> None:
        """A user edits an object: ``metadata``, ``spec`` are merged."""
        found = self.one(kind, name)
        before = dict(found.get("spec") or {})
        for part, change in parts.items():
            found[part] = _merged(found.get(part) or {}, change)
        if found.get("spec") != before:
            found["metadata"]["generation"] += 1

    def delete(self, kind: str, name: str) -> None:
        """A user deletes an object."""
        found = self.one(kind, name)
        found["metadata"].setdefault("deletionTimestamp", self.view.at.isoformat().replace("+00:00", "Z"))
        if not found["metadata"].get("finalizers"):
            self.view.store = {key: obj for key, obj in self.view.store.items() if obj is not found}

    def run(self, kind: str, name: str, limit: int | None = None) -> Plan:
        """One run of one object, with what the emulator would do of it."""
        plan = self.view.run(NAMES[kind], "default", name, limit)
        for step in flatten(plan.steps):
            if isinstance(step, Local) and limit is None:
                self._emulate(step)
            elif isinstance(step, Look):
                self._answer(step)
        self.named |= {one["status"]["nodeRef"]["name"] for one in self.all("Machine") if (one.get("status") or {}).get("nodeRef")}
        found = self.available()
        self.least = found if self.least is None else min(self.least, found)
        return plan

    def round(self, chance: random.Random | None = None) -> int:
        """Every object of every kind once, in an order of chance; returns how many writes and actions that took. Some runs die after a write."""
        todo = [(kind, obj["metadata"]["name"]) for kind in NAMES for obj in self.all(kind)]
        if chance is not None:
            chance.shuffle(todo)
        done = 0
        for kind, name in todo:
            limit = 1 if chance is not None and chance.random() < 0.1 else None
            plan = self.run(kind, name, limit)
            done += len(plan_writes(plan)) + sum(isinstance(step, Local) for step in flatten(plan.steps))
        return done

    def settle(self, chance: random.Random | None = None) -> int:
        """Rounds until nothing happens, time passing between them; returns how many."""
        for number in range(ROUNDS_MAX):
            quiet = not self.round(chance)
            self.view.later(3)
            # what was held back for being mere words is told once nothing else happens
            if quiet and not self.round():
                return number
        raise AssertionError("the pool does not settle")

    def _answer(self, step: Look) -> None:
        """Nothing runs on the Nodes, nothing is attached to them."""
        workload = self.view.workloads[CLUSTER]
        value: Any = [] if step.query.startswith("pods/") else {}
        self.view.workloads = {CLUSTER: replace(workload, looks={**workload.looks, step.query: Looked(self.view.at, value)})}

    def _emulate(self, step: Local) -> None:
        state: ClusterState = self.view.locals["clusters"][CLUSTER]
        arguments = step.arguments
        workload = self.view.workloads[CLUSTER]
        if step.action == "ensure_machine":
            mine = state.machines.get(arguments["uid"]) or MachineState(self.view.at)
            done = {**mine.done, **dict.fromkeys(arguments["stages"], self.view.at)}
            if "node" in arguments["stages"]:
                made = node(arguments["machine"], arguments["provider_id"], arguments["version"], ready=self.ready)
                self.view.workloads = {CLUSTER: replace(workload, nodes=(*workload.nodes, made))}
            machines = {**state.machines, arguments["uid"]: replace(mine, done=done)}
        else:
            machines = {uid: one for uid, one in state.machines.items() if uid != arguments["uid"]}
        self.view.locals = {"clusters": {CLUSTER: replace(state, machines=machines)}}


def _merged(have: Json, change: Json) -> Json:
    return {
        **have,
        **{name: _merged(have.get(name) or {}, value) if isinstance(value, dict) else value for name, value in change.items()},
    }


CLUSTER_KEY = ClusterKey("default", "demo")
