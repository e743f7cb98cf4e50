"""A MachineHealthCheck with its Cluster, Machines and Nodes, as JSON that tests bend to their case."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from fleetwake.conditions import wire_time
from fleetwake.kind import Workload
from fleetwake.plan import Apply, Create, Delete, Event, Patch, Plan, SyncMetadata, flatten
from schemas.api.core.v1beta2.machine import Machine
from schemas.api.core.v1beta2.machine_health_check import MachineHealthCheck
from services.remediation.kinds.machine_health_check import KIND
from tests.decide.world import NOW, FakeView, Json

CORE = "cluster.x-k8s.io/v1beta2"
NAMESPACE, CLUSTER, NAME = "default", "demo", "check"
CONTROL_PLANE = {"cluster.x-k8s.io/control-plane": ""}
READY_FALSE = {"type": "Ready", "status": "False", "timeoutSeconds": 300}


def ago(seconds: float, at: datetime = NOW) -> str:
    """A time before now, as Kubernetes writes it."""
    return wire_time(at - timedelta(seconds=seconds))


def stated(type_: str, status: str = "True", since: float = 3600, reason: str = "Told", message: str = "") -> Json:
    """A condition that has been so for some seconds."""
    return {"type": type_, "status": status, "reason": reason, "message": message, "lastTransitionTime": ago(since)}


def cluster(initialized: float | None = 3600, infrastructure: float | None = 3600, **spec: Any) -> Json:
    """The Cluster; its control plane initialized and its infrastructure ready since so many seconds (None: not)."""
    times = {"ControlPlaneInitialized": initialized, "InfrastructureReady": infrastructure}
    conditions = [stated(type_, "True" if since is not None else "False", since or 1) for type_, since in times.items()]
    return {
        "apiVersion": CORE,
        "kind": "Cluster",
        "metadata": {"name": CLUSTER, "namespace": NAMESPACE, "uid": "uid-cluster"},
        "spec": {"infrastructureRef": {"apiGroup": "x.example.org", "kind": "XCluster", "name": CLUSTER}, **spec},
        "status": {"conditions": conditions},
    }


def check(checks: Mapping[str, Any] | None = None, remediation: Mapping[str, Any] | None = None, name: str = NAME, **metadata: Any) -> Json:
    """A MachineHealthCheck over Machines labelled ``pool: a``."""
    spec: Json = {"clusterName": CLUSTER, "selector": {"matchLabels": {"pool": "a"}}, "checks": checks or {"unhealthyNodeConditions": [READY_FALSE]}}
    if remediation:
        spec["remediation"] = remediation
    return {"apiVersion": CORE, "kind": "MachineHealthCheck", "metadata": {"name": name, "namespace": NAMESPACE, **metadata}, "spec": spec}


def machine(name: str = "m1", *conditions: Json, node: bool = True, created: float = 3600, **metadata: Any) -> Json:
    """A Machine that the check selects."""
    labels = {"cluster.x-k8s.io/cluster-name": CLUSTER, "pool": "a", **metadata.pop("labels", {})}
    return {
        "apiVersion": CORE,
        "kind": "Machine",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels, "creationTimestamp": ago(created), "finalizers": ["keep"], **metadata},
        "spec": {
            "clusterName": CLUSTER,
            "bootstrap": {"dataSecretName": name},
            "infrastructureRef": {"apiGroup": "x.example.org", "kind": "XMachine", "name": name},
        },
        "status": {"conditions": list(conditions), **({"nodeRef": {"name": name}} if node else {})},
    }


def node(name: str = "m1", *conditions: Json) -> Json:
    """A Node as its record tells of it; Ready unless said otherwise."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "uid": f"u-{name}"},
        "status": {"conditions": list(conditions or (stated("Ready"),))},
    }


class World(FakeView):
    """The small world of the decide tests, in which several controllers write conditions of a Machine."""

    def write(self, step: Create | Apply | Patch | SyncMetadata | Delete) -> None:
        """Apply one write; conditions of a Machine are a map by type, whatever else its status says."""
        if isinstance(step, Apply) and step.key.kind == "Machine":
            found = self.store[step.key]
            told = {one["type"]: one for one in found["status"].get("conditions", ())} | {one["type"]: one for one in step.body["status"]["conditions"]}
            found["status"]["conditions"] = list(told.values())
            return
        super().write(step)

    def go(self, name: str = NAME) -> Plan:
        """One run of a check."""
        return self.run(KIND, NAMESPACE, name)

    def condition(self, name: str, type_: str) -> tuple[str, str, str]:
        """Status, reason and message of a condition of a Machine; empty texts when it has none."""
        found = self.get(Machine, NAMESPACE, name)
        assert found is not None
        told = next((one for one in found.status.conditions if one.type == type_), None)
        return (told.status, told.reason, told.message) if told is not None else ("", "", "")

    def health(self, name: str = "m1") -> tuple[str, str]:
        """Status and reason of HealthCheckSucceeded."""
        return self.condition(name, "HealthCheckSucceeded")[:2]

    def handed_over(self) -> set[str]:
        """The Machines whose owners are asked to remediate them."""
        return {str(key.name) for key, _ in self.sorted() if key.kind == "Machine" and self.condition(key.name, "OwnerRemediated")[0] == "False"}

    @property
    def status(self) -> MachineHealthCheck:
        """The check as stored."""
        found = self.get(MachineHealthCheck, NAMESPACE, NAME)
        assert found is not None
        return found

    def allowed(self) -> tuple[str, str, str]:
        """RemediationAllowed."""
        told = next(one for one in self.status.status.conditions if one.type == "RemediationAllowed")
        return told.status, told.reason, told.message

    def see(self, **changes: Any) -> None:
        """Change what is known of the workload cluster."""
        held = self.workloads[f"{NAMESPACE}/{CLUSTER}"]
        self.workloads = {f"{NAMESPACE}/{CLUSTER}": replace(held, **changes)}


def world(*objects: Json, nodes: Iterable[Json] = (), the_check: Json | None = None, the_cluster: Json | None = None, at: datetime = NOW) -> World:
    """The check, its Cluster, these Machines and Nodes; the workload cluster is seen."""
    seen = Workload(connected=True, watch_synced=True, nodes=tuple(nodes))
    return World((the_check or check(), the_cluster or cluster(), *objects), at=at, workloads={f"{NAMESPACE}/{CLUSTER}": seen})


def events(plan: Plan) -> list[str]:
    """The reasons of the Events of a plan."""
    return [step.reason for step in flatten(plan.steps) if isinstance(step, Event)]
