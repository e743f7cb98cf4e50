"""A ClusterClass with its templates, and a world in which the decisions about a topology are carried out as a server-side apply does it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fleetwake.kind import External
from fleetwake.plan import Apply, Create, Delete, Patch, Plan, SyncMetadata
from fleetwake.topology.blueprint import TemplateKey, references
from schemas.api.core.v1beta2.cluster import Cluster
from schemas.api.core.v1beta2.cluster_class import ClusterClass
from schemas.keys import GroupKind, ObjectKey
from services.reconcilers.kinds.cluster_class import decide as class_decide
from services.reconcilers.kinds.cluster_class.references import Templates
from services.reconcilers.kinds.cluster_topology.decide import Decision, decide, observe, reconcile
from tests.decide.world import NOW, FakeView, json_key, plan_writes

Json = dict[str, Any]

INFRASTRUCTURE = "infrastructure.cluster.x-k8s.io/v1beta2"
CONTROL_PLANE = "controlplane.cluster.x-k8s.io/v1beta2"
BOOTSTRAP = "bootstrap.cluster.x-k8s.io/v1beta2"
CORE = "cluster.x-k8s.io/v1beta2"
VERSION, NEXT, LATER = "v1.34.2", "v1.35.0", "v1.36.1"
CLUSTER_UID = "9d4f6b8e-0000-4000-8000-000000000001"


def template(api_version: str, kind: str, name: str, spec: Json | None = None, **metadata: Any) -> Json:
    """A template of the class's namespace."""
    inner: Json = {"spec": spec or {}}
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": "default", **metadata}, "spec": {"template": inner}}


def templates() -> list[Json]:
    """The templates the class names."""
    kubeadm = {"clusterConfiguration": {"apiServer": {"extraArgs": [{"name": "v", "value": "1"}]}}}
    return [
        template(INFRASTRUCTURE, "DevClusterTemplate", "cluster", {"backend": {"inMemory": {}}}),
        template(CONTROL_PLANE, "KubeadmControlPlaneTemplate", "control-plane", {"kubeadmConfigSpec": kubeadm}),
        template(INFRASTRUCTURE, "DevMachineTemplate", "control-plane-machine", {"backend": {"inMemory": {"vm": {}}}}),
        template(INFRASTRUCTURE, "DevMachineTemplate", "worker-machine", {"backend": {"inMemory": {}}}, labels={"of": "class"}),
        template(BOOTSTRAP, "KubeadmConfigTemplate", "worker-bootstrap", {"format": "cloud-config", "files": [{"path": "/etc/motd", "content": "hello"}]}),
        template(INFRASTRUCTURE, "DevMachinePoolTemplate", "pool-machine", {"backend": {"inMemory": {}}}),
        template(BOOTSTRAP, "KubeadmConfigTemplate", "pool-bootstrap", {"preKubeadmCommands": ["true"]}),
    ]


def ref(api_version: str, kind: str, name: str) -> Json:
    """A part of a class that names a template."""
    return {"templateRef": {"apiVersion": api_version, "kind": kind, "name": name}}


def cluster_class(**spec: Any) -> Json:
    """The class; ``spec`` replaces or adds fields."""
    workers = {
        "machineDeployments": [
            {
                "class": "default-worker",
                "bootstrap": ref(BOOTSTRAP, "KubeadmConfigTemplate", "worker-bootstrap"),
                "infrastructure": ref(INFRASTRUCTURE, "DevMachineTemplate", "worker-machine"),
            }
        ],
        "machinePools": [
            {
                "class": "default-pool",
                "bootstrap": ref(BOOTSTRAP, "KubeadmConfigTemplate", "pool-bootstrap"),
                "infrastructure": ref(INFRASTRUCTURE, "DevMachinePoolTemplate", "pool-machine"),
            }
        ],
    }
    return {
        "apiVersion": CORE,
        "kind": "ClusterClass",
        "metadata": {"name": "quick", "namespace": "default", "uid": "uid-class", "generation": 1},
        "spec": {
            "infrastructure": ref(INFRASTRUCTURE, "DevClusterTemplate", "cluster"),
            "controlPlane": {
                **ref(CONTROL_PLANE, "KubeadmControlPlaneTemplate", "control-plane"),
                "machineInfrastructure": ref(INFRASTRUCTURE, "DevMachineTemplate", "control-plane-machine"),
            },
            "workers": workers,
            **spec,
        },
    }


def cluster(*, version: str = VERSION, workers: Json | None = None, **topology: Any) -> Json:
    """A Cluster of the class with one MachineDeployment, as a user writes it."""
    asked: Json = {
        "classRef": {"name": "quick"},
        "version": version,
        "controlPlane": {"replicas": 3},
        "workers": workers if workers is not None else {"machineDeployments": [{"class": "default-worker", "name": "md-0", "replicas": 2}]},
        **topology,
    }
    metadata = {"name": "my", "namespace": "default", "uid": CLUSTER_UID, "generation": 1, "resourceVersion": "7"}
    return {"apiVersion": CORE, "kind": "Cluster", "metadata": metadata, "spec": {"topology": asked}}


def variable(name: str, schema: Json, *, required: bool = False) -> Json:
    """A variable of a class."""
    return {"name": name, "required": required, "schema": {"openAPIV3Schema": schema}}


def patch(name: str, kind: str, match: Json, *operations: Json, api_version: str = INFRASTRUCTURE, enabled_if: str = "") -> Json:
    """An inline patch with one definition."""
    definition = {"selector": {"apiVersion": api_version, "kind": kind, "matchResources": match}, "jsonPatches": list(operations)}
    return {"name": name, "definitions": [definition], **({"enabledIf": enabled_if} if enabled_if else {})}


def paths_of(value: Any, path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """The paths of all that is no map."""
    if isinstance(value, Mapping) and value:
        return {found for key, item in value.items() for found in paths_of(item, (*path, key))}
    return {path}


@dataclass
class TopologyWorld(FakeView):
    """A world that takes away what an apply no longer sets, and says where the control plane and the workers' Machines are."""

    applied: dict[ObjectKey, set[tuple[str, ...]]] = field(default_factory=dict)

    def write(self, step: Create | Apply | Patch | SyncMetadata | Delete) -> None:
        if isinstance(step, Create) and step.apply and step.key not in self.store:
            self.applied[step.key] = paths_of({name: step.body.get(name) for name in ("metadata", "spec") if name in step.body})
        if isinstance(step, Apply) and not step.subresource:
            sets = paths_of(step.body)
            for path in self.applied.get(step.key, set()) - sets:
                if path[:2] not in (("metadata", "name"), ("metadata", "namespace")) and not any(
                    path[: len(one)] == one or one[: len(path)] == path for one in sets
                ):
                    _drop(self.store[step.key], path)
            self.applied[step.key] = sets
        super().write(step)

    # --- the two kinds

    def run_class(self) -> Plan:
        """One run of the class, carried out."""
        one = self.the(ClusterClass, "quick")
        found = {
            TemplateKey(each.api_version, each.kind, each.name): stored
            for each in references(one)
            if (stored := self.external(_group_kind(each), "default", each.name)) is not None
        }
        newest = {_group_kind(each): self.api_version(_group_kind(each)).rpartition("/")[2] for each in references(one)}
        plan = class_decide.reconcile(class_decide.Observed(self.at, one, Templates(found, newest)))
        self.carry_out(plan.steps)
        return plan

    def decide(self) -> Decision:
        """The decision about the Cluster, not carried out."""
        observed = observe(self, ObjectKey("cluster.x-k8s.io", "Cluster", "default", "my"))
        assert observed is not None
        return decide(observed.blueprint, observed.current)

    def run_topology(self, limit: int | None = None) -> Plan:
        """One run of the topology, carried out up to ``limit`` writes."""
        observed = observe(self, ObjectKey("cluster.x-k8s.io", "Cluster", "default", "my"))
        assert observed is not None
        plan = reconcile(observed)
        self.carry_out(plan.steps, limit)
        return plan

    def settle_topology(self, runs: int = 6) -> None:
        """Run until nothing is written."""
        for _ in range(runs):
            if not plan_writes(self.run_topology()):
                return
        raise AssertionError(f"the topology does not settle: {[(step.reason, step) for step in plan_writes(self.run_topology())]}")

    # --- reading and changing

    def the(self, model: Any, name: str) -> Any:
        """One object as its model."""
        found = self.get(model, "default", name)
        assert found is not None, f"there is no {model.KIND} {name}"
        return found

    def all(self, kind: str) -> list[Json]:
        """All objects of a kind, by name, the templates of the class left out."""
        return [obj for key, obj in self.sorted() if key.kind == kind and obj["metadata"].get("labels", {}).get("cluster.x-k8s.io/cluster-name") == "my"]

    def stored(self, body: Json) -> External:
        """The stored object that a desired body stands for."""
        key = json_key(body)
        found = self.external(key.group_kind, key.namespace, key.name)
        assert found is not None, f"there is no {key}"
        return found

    def one(self, kind: str) -> Json:
        """The only object of a kind."""
        found = self.all(kind)
        assert len(found) == 1, f"{len(found)} objects of kind {kind}"
        return found[0]

    @property
    def topology(self) -> Json:
        """The topology, to be changed in place."""
        stored = self.store[ObjectKey("cluster.x-k8s.io", "Cluster", "default", "my")]
        found: Json = stored["spec"]["topology"]
        return found

    @property
    def class_spec(self) -> Json:
        """The class's spec, to be changed in place."""
        stored = self.store[ObjectKey("cluster.x-k8s.io", "ClusterClass", "default", "quick")]
        stored["metadata"]["generation"] += 1
        found: Json = stored["spec"]
        return found

    def condition(self) -> tuple[str, str, str]:
        """TopologyReconciled as stored: status, reason, message."""
        told = {one.type: one for one in self.the(Cluster, "my").status.conditions}["TopologyReconciled"]
        return told.status, told.reason, told.message

    def control_plane_runs(self, version: str | None = None) -> None:
        """The control plane has reached the version asked for, or that one."""
        stored = self.store[ObjectKey("controlplane.cluster.x-k8s.io", "KubeadmControlPlane", "default", self.one("KubeadmControlPlane")["metadata"]["name"])]
        running = version or stored["spec"]["version"]
        stored["status"] = {"version": running, "versions": [{"version": running, "replicas": 3}], "replicas": 3}

    def machine(self, deployment: str, version: str) -> None:
        """The only Machine of a MachineDeployment, with a version."""
        owner = next(one for one in self.all("MachineDeployment") if one["metadata"]["labels"]["topology.cluster.x-k8s.io/deployment-name"] == deployment)
        labels = dict(owner["spec"]["selector"]["matchLabels"])
        infrastructure = {"apiGroup": "infrastructure.cluster.x-k8s.io", "kind": "DevMachine", "name": f"m-{deployment}"}
        spec = {"clusterName": "my", "version": version, "bootstrap": {"dataSecretName": "x"}, "infrastructureRef": infrastructure}
        self.put({"apiVersion": CORE, "kind": "Machine", "metadata": {"name": f"m-{deployment}", "namespace": "default", "labels": labels}, "spec": spec})


def _group_kind(each: Any) -> GroupKind:
    return GroupKind(each.group, each.kind)


def _drop(obj: Json, path: tuple[str, ...]) -> None:
    parents: list[tuple[Json, str]] = []
    here: Any = obj
    for name in path:
        if not isinstance(here, dict) or name not in here:
            return
        parents.append((here, name))
        here = here[name]
    parent, name = parents[-1]
    del parent[name]
    for parent, name in reversed(parents[:-1]):
        if parent[name]:
            return
        del parent[name]


def world(of_class: Json | None = None, of_cluster: Json | None = None, more: Iterable[Json] = ()) -> TopologyWorld:
    """The class, reconciled, its templates and a Cluster."""
    found = TopologyWorld([*templates(), of_class or cluster_class(), of_cluster or cluster(), *more], at=NOW)
    found.run_class()
    return found


def created(of_class: Json | None = None, of_cluster: Json | None = None) -> TopologyWorld:
    """A Cluster whose objects are made and whose control plane runs."""
    found = world(of_class, of_cluster)
    found.settle_topology()
    found.control_plane_runs()
    found.settle_topology()
    return found
