"""Node groups of a small world: a MachineDeployment with its set, a MachineSet alone, a MachinePool, their Machines, and what is asked of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fleetwake.conditions import get
from fleetwake.kind import External
from fleetwake.labels import AUTOSCALER_MAX_SIZE, AUTOSCALER_MIN_SIZE
from fleetwake.plan import Local, Plan, flatten
from schemas.api.meta import ObjectMeta
from schemas.keys import GroupKind, ObjectKey
from services.autoscaler_bridge.kinds.node_group import KINDS
from services.autoscaler_bridge.kinds.node_group.observed import REQUESTS, TEMPLATES, WRITERS, Observed, Scalable, Writer, Writers
from services.autoscaler_bridge.kinds.node_group.reconcile import ANSWER, ATTEMPT, LOOK
from services.autoscaler_bridge.kinds.node_group.wanted import Attempt, Wanted
from tests.decide.world import FakeView, Json

CORE, NAMESPACE, CLUSTER = "cluster.x-k8s.io", "team", "demo"
API = f"{CORE}/v1beta2"
BY_KIND = {kind.name: kind for kind in KINDS}
BOUNDS = {AUTOSCALER_MIN_SIZE: "0", AUTOSCALER_MAX_SIZE: "5"}
INFRASTRUCTURE = GroupKind("infrastructure.example.org", "FooMachineTemplate")
CAPACITY: Json = {"cpu": "4", "memory": "16Gi"}
NAMES = {"MachineDeployment": "md", "MachineSet": "ms", "MachinePool": "mp"}


def cluster(**spec: Any) -> Json:
    """The Cluster."""
    return {"apiVersion": API, "kind": "Cluster", "metadata": {"name": CLUSTER, "namespace": NAMESPACE}, "spec": spec}


def reference(kind: str, name: str, *, controller: bool = False) -> Json:
    """An owner reference."""
    return {"apiVersion": API, "kind": kind, "name": name, "uid": f"uid-{kind}-{name}", **({"controller": True} if controller else {})}


def scalable(kind: str, replicas: int | None = 2, annotations: Mapping[str, str] | None = None, **template: Any) -> Json:
    """An object that may be a node group, owned by the Cluster. ``template``: fields of spec.template.spec, and ``labels`` of its metadata."""
    labels = template.pop("labels", {})
    machine = {
        "clusterName": CLUSTER,
        "bootstrap": {"dataSecretName": "given"},
        "infrastructureRef": {"apiGroup": INFRASTRUCTURE.group, "kind": INFRASTRUCTURE.kind, "name": "t"},
        **template,
    }
    spec: Json = {"clusterName": CLUSTER, "template": {"metadata": {"labels": labels}, "spec": machine}}
    if kind != "MachinePool":
        spec["selector"] = {"matchLabels": {"a": "b"}}
    if replicas is not None:
        spec["replicas"] = replicas
    metadata = {"name": NAMES[kind], "namespace": NAMESPACE, "annotations": dict(BOUNDS if annotations is None else annotations)}
    return {"apiVersion": API, "kind": kind, "metadata": {**metadata, "ownerReferences": [reference("Cluster", CLUSTER)]}, "spec": spec, "status": {}}


def machine(name: str, owner: tuple[str, str], *, node: bool = True, **metadata: Any) -> Json:
    """A Machine of an object, a Node unless said otherwise."""
    spec: Json = {"clusterName": CLUSTER, "bootstrap": {}, "infrastructureRef": {"apiGroup": "x", "kind": "FooMachine", "name": name}}
    status: Json = {}
    if node:
        spec["providerID"], status["nodeRef"] = f"foo://{name}", {"name": f"node-{name}"}
    meta = {"name": name, "namespace": NAMESPACE, "ownerReferences": [reference(*owner, controller=True)], **metadata}
    return {"apiVersion": API, "kind": "Machine", "metadata": meta, "spec": spec, "status": status}


def set_of_deployment(name: str = "md-1") -> Json:
    """A MachineSet of the MachineDeployment, with the annotations that it copies."""
    found = scalable("MachineSet")
    found["metadata"] |= {"name": name, "ownerReferences": [reference("MachineDeployment", "md", controller=True)]}
    return found


class Groups(FakeView):
    """The world of one group of a kind, with what the process would know: templates, writers, requests."""

    def __init__(self, kind: str, group: Json, *machines: Json, capacity: Json | None = CAPACITY, info: Json | None = None) -> None:
        self.template: External | None = None
        self.others: tuple[Writer, ...] = ()
        self.looks = True
        self.kind = kind
        self.asked: dict[ObjectKey, tuple[Wanted, ...]] = {}
        self.known: dict[ObjectKey, Writers] = {}
        super().__init__(objects=(cluster(), group, *machines), locals={REQUESTS: self.asked, WRITERS: self.known, TEMPLATES: self.read_template})
        if kind == "MachineDeployment":
            self.put(set_of_deployment())
        self.told(capacity, info)
        self.looked()

    @property
    def key(self) -> ObjectKey:
        """The key of the group."""
        return ObjectKey(CORE, self.kind, NAMESPACE, NAMES[self.kind])

    def read_template(self, ref: GroupKind, namespace: str, name: str) -> External | None:
        """The provider's template."""
        return self.template if (ref, namespace, name) == (INFRASTRUCTURE, NAMESPACE, "t") else None

    def told(self, capacity: Json | None, info: Json | None = None) -> None:
        """Let the provider tell of its hosts; None: there is no template."""
        key = ObjectKey(INFRASTRUCTURE.group, INFRASTRUCTURE.kind, NAMESPACE, "t")
        status = {"status": {"capacity": capacity, **({"nodeInfo": info} if info else {})}}
        self.template = External(key, "infrastructure.example.org/v1", ObjectMeta(name="t", namespace=NAMESPACE), status) if capacity is not None else None

    def looked(self, *others: Writer) -> None:
        """Let the process know who writes the size, as of now."""
        self.others = others
        meta = self.store[self.key]["metadata"]
        self.known[self.key] = Writers(meta["uid"], meta["generation"], others)

    def ask(self, verb: str, amount: int = 0, *machines: str, attempt: Attempt | None = None) -> None:
        """Have something asked."""
        self.looked(*self.others)
        waiting = self.asked.get(self.key, ())
        self.asked[self.key] = (*waiting, Wanted(len(waiting) + 1, verb, f"{NAMESPACE}/{CLUSTER}", amount, machines, attempt))  # type: ignore[arg-type]

    @property
    def observed(self) -> Observed:
        """What is observed."""
        found = BY_KIND[self.kind].observe(self, self.key)
        assert found is not None
        return found

    @property
    def group(self) -> Scalable:
        """The group as it is."""
        return self.observed.obj

    def go(self, limit: int | None = None) -> Plan:
        """One run, with what its steps do in the process; ``limit`` writes, then it fails."""
        plan = self.run(BY_KIND[self.kind], NAMESPACE, NAMES[self.kind], limit)
        if self.looks and any(isinstance(step, Local) and step.action == LOOK for step in plan.steps):
            self.looked(*self.others)
            return self.go(limit)
        for step in flatten(plan.steps):
            if isinstance(step, Local) and step.action == ATTEMPT:
                begun = Attempt(step.arguments["base"], step.arguments["target"])
                self.asked[self.key] = tuple(replace(one, attempt=begun) if one.id == step.arguments["id"] else one for one in self.asked[self.key])
            if isinstance(step, Local) and step.action == ANSWER and limit is None:
                left = tuple(one for one in self.asked[self.key] if one.id != step.arguments["id"])
                self.asked.pop(self.key) if not left else self.asked.update({self.key: left})
        return plan

    def standing(self) -> tuple[str, str, str]:
        """Status, reason and message of NodeGroupReady; empty when it is not there."""
        found = get(self.group.status.conditions, "NodeGroupReady")
        return (found.status, found.reason, found.message) if found is not None else ("", "", "")

    def annotations(self) -> dict[str, str]:
        """The capacity annotations by the name after their prefix."""
        prefix = "capacity.cluster-autoscaler.kubernetes.io/"
        return {name.removeprefix(prefix): value for name, value in self.group.metadata.annotations.items() if name.startswith(prefix)}


def answers(plan: Plan) -> list[tuple[str, str]]:
    """The answers of a plan: status and message."""
    return [(step.arguments["code"], step.arguments["message"]) for step in flatten(plan.steps) if isinstance(step, Local) and step.action == ANSWER]


def marks(world: Groups) -> dict[str, str]:
    """The Machines that are marked, with the mark."""
    found = {
        key.name: obj["metadata"].get("annotations", {}).get("cluster.x-k8s.io/delete-machine") for key, obj in world.store.items() if key.kind == "Machine"
    }
    return {name: mark for name, mark in found.items() if mark is not None}
