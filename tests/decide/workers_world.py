"""A cluster's workers in memory: MachineDeployment and MachineSets run for real, Machines and their Nodes are played.

Built on ``world.FakeView``. What the Machine kind and the providers would do is one method each: ``join`` and ``leave``.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fleetwake.conditions import wire_time
from fleetwake.plan import Apply, Create, Delete, Patch, Plan, Step, SyncMetadata
from schemas.api.core.v1beta2.machine import Machine
from schemas.api.core.v1beta2.machine_deployment import MachineDeployment
from schemas.api.core.v1beta2.machine_set import MachineSet
from schemas.keys import GroupKind, ObjectKey
from services.reconcilers.kinds import machine_deployment, machine_set
from services.reconcilers.kinds.machine_deployment.revision import created
from services.reconcilers.kinds.machine_deployment.template import rollout_equal
from tests.decide.world import FakeView, Json, plan_writes

NAMESPACE, CLUSTER, DEPLOYMENT = "default", "demo", "workers"
CORE, INFRA, BOOTSTRAP, CONTROL = "cluster.x-k8s.io", "infrastructure.cluster.x-k8s.io", "bootstrap.cluster.x-k8s.io", "controlplane.cluster.x-k8s.io"
OWN = {"cluster.x-k8s.io/cluster-name": CLUSTER, "cluster.x-k8s.io/deployment-name": DEPLOYMENT}
VERSION = "v1.34.1"


def cluster(**spec: Any) -> Json:
    """The Cluster, with a control plane reference."""
    reference = {"apiGroup": CONTROL, "kind": "KubeadmControlPlane", "name": CLUSTER}
    return {
        "apiVersion": f"{CORE}/v1beta2",
        "kind": "Cluster",
        "metadata": {"name": CLUSTER, "namespace": NAMESPACE, "uid": "uid-cluster"},
        "spec": {"controlPlaneRef": reference, **spec},
    }


def control_plane(version: str = VERSION, running: str = VERSION) -> Json:
    """The control plane: asked for ``version``, running ``running`` ("" while it is provisioned)."""
    return {
        "apiVersion": f"{CONTROL}/v1beta2",
        "kind": "KubeadmControlPlane",
        "metadata": {"name": CLUSTER, "namespace": NAMESPACE, "labels": {"cluster.x-k8s.io/cluster-name": CLUSTER}},
        "spec": {"version": version, "replicas": 1},
        "status": {"version": running} if running else {},
    }


def template(group: str, kind: str, name: str, spec: Mapping[str, Any] | None = None) -> Json:
    """A provider's template."""
    return {
        "apiVersion": f"{group}/v1beta2",
        "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"template": {"spec": dict(spec or {"size": "small"})}},
    }


def templates(name: str = "first") -> tuple[Json, Json]:
    """The infrastructure and the bootstrap template of a name."""
    return template(INFRA, "DevMachineTemplate", name), template(BOOTSTRAP, "KubeadmConfigTemplate", name, {"joinConfiguration": {}})


def machine_template(name: str = "first", **spec: Any) -> Json:
    """A Machine template that names the two templates."""
    return {
        "metadata": {"labels": dict(OWN)},
        "spec": {
            "clusterName": CLUSTER,
            "version": VERSION,
            "bootstrap": {"configRef": {"apiGroup": BOOTSTRAP, "kind": "KubeadmConfigTemplate", "name": name}},
            "infrastructureRef": {"apiGroup": INFRA, "kind": "DevMachineTemplate", "name": name},
            **spec,
        },
    }


def deployment(replicas: int | None = 3, *, surge: int | str = 1, unavailable: int | str = 0, **spec: Any) -> Json:
    """A MachineDeployment with a rolling update; ``spec`` replaces fields."""
    body: Json = {
        "clusterName": CLUSTER,
        "selector": {"matchLabels": dict(OWN)},
        "template": machine_template(),
        "rollout": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}},
        **spec,
    }
    if replicas is not None:
        body["replicas"] = replicas
    return {"apiVersion": f"{CORE}/v1beta2", "kind": "MachineDeployment", "metadata": {"name": DEPLOYMENT, "namespace": NAMESPACE}, "spec": body}


@dataclass
class Workers(FakeView):
    """The view, with the runs and the played parts. ``writes`` counts by (kind that wrote, step, kind written)."""

    writes: Counter[str] = field(default_factory=Counter)

    def put(self, obj: Any) -> Json:
        """Store an object; a new one is created now."""
        found = super().put(obj)
        if found["metadata"]["creationTimestamp"] == "2026-01-01T00:00:00Z":
            found["metadata"]["creationTimestamp"] = wire_time(self.at)
        return found

    def write(self, step: Create | Apply | Patch | SyncMetadata | Delete) -> None:
        """Apply one write; an apply of a spec also takes away what its manager, the only one here, no longer names."""
        found = self.store.get(step.key)
        if isinstance(step, Apply) and not step.subresource and found is not None and found["spec"] != step.body["spec"]:
            found["spec"] = copy.deepcopy(dict(step.body["spec"]))
            found["metadata"]["generation"] += 1
        super().write(step)

    # --- the kinds

    def run_deployment(self, name: str = DEPLOYMENT) -> Plan:
        """One run of the MachineDeployment."""
        return self._counted("MachineDeployment", self.run(machine_deployment.KIND, NAMESPACE, name))

    def run_set(self, name: str) -> Plan:
        """One run of a MachineSet."""
        return self._counted("MachineSet", self.run(machine_set.KIND, NAMESPACE, name))

    def _counted(self, by: str, plan: Plan) -> Plan:
        for step in plan_writes(plan):
            self.writes[f"{by}: {type(step).__name__}{' status' if getattr(step, 'subresource', '') else ''} {step.key.kind}"] += 1
        return plan

    def settle_kinds(self, runs: int = 30) -> int:
        """Run all kinds until none writes; returns the rounds that took."""
        for number in range(runs):
            plans = [self.run_deployment(), *(self.run_set(one.name) for one in self.sets())]
            self.collect()
            if not any(plan.writes for plan in plans):
                return number
        raise AssertionError("the kinds do not settle")

    def converge(self, rounds: int = 60) -> None:
        """Settle the kinds and play the Machines until nothing changes."""
        for _ in range(rounds):
            self.settle_kinds()
            self.later(20)
            if not self.join() and not self.leave():
                return
        raise AssertionError("the workers do not converge")

    def converge_sets_but(self, index: int) -> None:
        """Settle all MachineSets but one (oldest first), and let their Machines join."""
        chosen = [one.name for number, one in enumerate(self.sets()) if number != index]
        for _ in range(3):
            for name in chosen:
                self.run_set(name)
            self.join()
            self.later(20)

    # --- what others do

    def join(self, names: Iterable[str] | None = None) -> int:
        """Let Machines without a Node become ready and available; returns how many did."""
        found = [one for one in self.machines() if one.status.node_ref is None and not one.metadata.deleting and (names is None or one.name in names)]
        for one in found:
            status = self.json(Machine, one.name).setdefault("status", {})
            status |= {"nodeRef": {"name": one.name}, "initialization": {"infrastructureProvisioned": True, "bootstrapDataSecretCreated": True}}
            self.condition(one.name, "NodeHealthy")
            self.condition(one.name, "Ready")
            self.condition(one.name, "Available")
        self.judge()
        return len(found)

    def judge(self) -> None:
        """Tell every Machine whether it is up to date, as the Machine kind does."""
        wanted = self.get(MachineDeployment, NAMESPACE, DEPLOYMENT)
        for one in self.machines():
            owner = one.metadata.controller
            mine = self.get(MachineSet, NAMESPACE, owner.name) if owner is not None else None
            if wanted is not None and mine is not None:
                reasons = rollout_equal(mine.spec.template.spec, wanted.spec.template.spec)
                self.condition(one.name, "UpToDate", not reasons, "\n".join(f"* {reason}" for reason in reasons))

    def condition(self, machine: str, type_: str, holds: bool = True, message: str = "", reason: str = "") -> None:
        """Set a condition of a Machine."""
        conditions = self.json(Machine, machine).setdefault("status", {}).setdefault("conditions", [])
        found = next((one for one in conditions if one["type"] == type_), None)
        if found is None:
            found = {"type": type_, "status": "", "lastTransitionTime": wire_time(self.at)}
            conditions.append(found)
        if found["status"] != str(holds):
            found["lastTransitionTime"] = wire_time(self.at)
        found |= {"status": str(holds), "reason": reason or (type_ if holds else f"Not{type_}"), "message": message}

    def leave(self) -> int:
        """Let Machines being deleted go; returns how many did."""
        going = [one for one in self.machines() if one.metadata.deleting]
        for one in going:
            self.json(Machine, one.name)["metadata"]["finalizers"] = []
            del self.store[self.key(Machine, one.name)]
        self.collect()
        return len(going)

    def collect(self) -> None:
        """Garbage collection: objects whose owners are all gone."""
        uids = {obj["metadata"]["uid"] for obj in self.store.values()}
        for key, obj in list(self.store.items()):
            owners = obj["metadata"].get("ownerReferences", ())
            if owners and not any(ref["uid"] in uids for ref in owners) and not obj["metadata"].get("finalizers"):
                del self.store[key]

    # --- reading

    def key(self, model: type[Any], name: str) -> ObjectKey:
        """The key of an object of a kind."""
        return ObjectKey(model.GROUP, model.KIND, NAMESPACE, name)

    def json(self, model: type[Any], name: str) -> Json:
        """The stored JSON, to edit."""
        return self.store[self.key(model, name)]

    def change(self, model: type[Any], name: str, **spec: Any) -> None:
        """Change fields of a spec, as a user does."""
        found = self.json(model, name)
        before = copy.deepcopy(found["spec"])
        found["spec"] |= spec
        if found["spec"] != before:
            found["metadata"]["generation"] += 1

    def sets(self) -> tuple[MachineSet, ...]:
        """All MachineSets, oldest first."""
        return tuple(sorted(self._models(MachineSet, lambda obj: True), key=created))

    def machines(self) -> tuple[Machine, ...]:
        """All Machines by name."""
        return self._models(Machine, lambda obj: True)

    def of(self, kind: str) -> list[Json]:
        """All objects of a kind, by key."""
        return [obj for key, obj in self.sorted() if key.kind == kind]

    def md(self) -> MachineDeployment:
        """The MachineDeployment."""
        found = self.get(MachineDeployment, NAMESPACE, DEPLOYMENT)
        assert found is not None
        return found

    def sizes(self) -> str:
        """spec.replicas of the MachineSets, oldest first."""
        return "/".join(str(one.spec.replicas) for one in self.sets())


def workers(*objects: Json, cluster_spec: Mapping[str, Any] | None = None) -> Workers:
    """A Cluster with a stable control plane, both templates and whatever else is given."""
    return Workers(objects=(cluster(**(cluster_spec or {})), control_plane(), *templates(), *objects))


def steps_on(plan: Plan, kind: str) -> list[Step]:
    """The writes of a plan on objects of a kind."""
    return [step for step in plan_writes(plan) if step.key.kind == kind]


MACHINE_SET = GroupKind(CORE, "MachineSet")
