"""The writes of Cluster and Machine against a server that knows their schemas and who owns which field.

What the small world of the other tests cannot show: that every body is valid, that a status apply takes nothing of other managers, that the
Paused flip takes nothing of its own, and that the second run on the server's answers asks for nothing.
"""

from __future__ import annotations

from typing import Any

import pytest

from fleetwake.kind import Kind
from fleetwake.plan import Apply, Patch, flatten
from fleetwake.sim.apiserver import ApiServer, PatchType, WriteOptions, admit_structure
from fleetwake.sim.apiserver.definitions import definition_of_crd
from schemas.api.core.v1beta2.cluster import Cluster
from schemas.api.core.v1beta2.machine import Machine
from schemas.crd import definition
from services.reconcilers.kinds import cluster as cluster_kind
from services.reconcilers.kinds import machine as machine_kind
from tests.decide.machine_world import CLUSTER, cluster, config, control_plane, infra, machine, node, ref, stored, workload
from tests.decide.world import FakeView, Json

GROUP = ".cluster.x-k8s.io"


class Server:
    """A FakeView whose Clusters and Machines live on an API server; providers' objects and Nodes stay in the view."""

    def __init__(self, *objects: Json) -> None:
        self.api = ApiServer(
            lambda: self.view.at, definitions=[definition_of_crd(definition(model)) for model in (Cluster, Machine)], admission=admit_structure
        )
        self.view = FakeView(workloads={CLUSTER: workload()})
        for obj in objects:
            if obj["kind"] in ("Cluster", "Machine"):
                plain = {name: value for name, value in obj.items() if name != "status"}
                created = self.api.create(self.plural(obj["kind"]), plain, "default")
                if "status" in obj:
                    self.api.update(
                        self.plural(obj["kind"]), created | {"status": obj["status"]}, "default", WriteOptions(field_manager="test", subresource="status")
                    )
            else:
                self.view.put(obj)

    @staticmethod
    def plural(kind: str) -> str:
        return f"{kind.lower()}s{GROUP}"

    def run(self, kind: Kind[Any], name: str) -> int:
        """One run; the number of writes."""
        for model in ("Cluster", "Machine"):
            for item in self.api.list(self.plural(model), "default")["items"]:
                found = {key: value for key, value in item["metadata"].items() if key != "managedFields"}
                self.view.put(item | {"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": model, "metadata": found})
        observed = kind.observe(self.view, next(key for key in self.view.store if key.kind == kind.name and key.name == name))
        assert observed is not None
        plan = kind.reconcile(observed)
        writes = 0
        for step in flatten(plan.steps):
            if isinstance(step, Apply | Patch) and step.key.group == "cluster.x-k8s.io":
                self.send(step, kind.manager)
            else:
                self.view.carry_out((step,))
            writes += 1
        return writes

    def send(self, step: Apply | Patch, manager: str) -> None:
        meta = {**step.body.get("metadata", {}), "uid": step.uid} | ({"resourceVersion": step.resource_version} if step.resource_version else {})
        options = WriteOptions(field_manager=manager, force=isinstance(step, Apply), subresource=step.subresource)
        body = {**step.body, "metadata": meta}
        if isinstance(step, Apply):
            body |= {"apiVersion": step.api_version, "kind": step.key.kind, "metadata": meta | {"name": step.key.name, "namespace": "default"}}
        type_ = PatchType.APPLY if isinstance(step, Apply) else PatchType.MERGE
        self.api.patch(self.plural(step.key.kind), ("default", step.key.name), body, type_, options)

    def get(self, kind: str, name: str) -> Json:
        found: Json = self.api.get(self.plural(kind), "default", name)
        return found


def provisioned() -> Server:
    """A settled cluster of one Machine with its Node."""
    provider = control_plane() | {
        "status": {"initialization": {"controlPlaneInitialized": True}, "replicas": 1, "versions": [{"version": "v1.35.0", "replicas": 1}]}
    }
    infra_cluster: Json = {
        "apiVersion": "infrastructure.example.org/v1",
        "kind": "FooCluster",
        "metadata": {"name": "demo", "namespace": "default"},
        "spec": {"controlPlaneEndpoint": {"host": "1.2.3.4", "port": 6443}},
        "status": {
            "initialization": {"provisioned": True},
            "failureDomains": [{"name": "fd1"}, {"name": "fd2", "controlPlane": True, "attributes": {"a": "b"}}],
        },
    }
    spec = {"infrastructureRef": ref("FooCluster", "demo"), "controlPlaneRef": ref("FooControlPlane", "demo", "controlplane.example.org")}
    own = cluster(spec=spec)
    del own["status"]
    server = Server(own, machine(finalizers=[]), provider, infra_cluster, config(), infra())
    server.view.workloads = {CLUSTER: workload(node())}
    return server


def settle(server: Server) -> list[tuple[int, int]]:
    """Writes of (Cluster, Machine) per round, until a round of silence."""
    rounds = []
    for _ in range(8):
        rounds.append((server.run(cluster_kind.KIND, "demo"), server.run(machine_kind.KIND, "m1")))
        if rounds[-1] == (0, 0):
            return rounds
    raise AssertionError(f"not silent: {rounds}")


def test_every_body_is_valid_and_the_second_run_is_silent() -> None:
    server = provisioned()
    rounds = settle(server)
    assert rounds[0] == (4, 5) and len(rounds) <= 4, rounds
    found = server.get("Machine", "m1")
    assert found["status"]["phase"] == "Running"
    assert found["status"]["observedGeneration"] == found["metadata"]["generation"]
    available = next(one for one in server.get("Cluster", "demo")["status"]["conditions"] if one["type"] == "Available")
    assert available["status"] == "True", available


def foreign(server: Server, kind: str, name: str, type_: str) -> None:
    """Somebody else applies a condition of its own."""
    told = {"type": type_, "status": "True", "reason": "Fine", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    body = {"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": kind, "metadata": {"name": name, "namespace": "default"}, "status": {"conditions": [told]}}
    server.api.patch(server.plural(kind), ("default", name), body, PatchType.APPLY, WriteOptions(field_manager="somebody", force=True, subresource="status"))


@pytest.mark.parametrize(
    ("kind", "name", "type_"),
    [pytest.param("Cluster", "demo", "TopologyReconciled", id="cluster"), pytest.param("Machine", "m1", "HealthCheckSucceeded", id="machine")],
)
def test_conditions_of_others_stay_and_cause_no_quarrel(kind: str, name: str, type_: str) -> None:
    server = provisioned()
    settle(server)
    foreign(server, kind, name, type_)
    settle(server)
    assert type_ in {one["type"] for one in server.get(kind, name)["status"]["conditions"]}


def test_a_pause_takes_nothing_away_and_is_one_write_each() -> None:
    server = provisioned()
    settle(server)
    foreign(server, "Machine", "m1", "HealthCheckSucceeded")
    settle(server)
    before = server.get("Machine", "m1")["status"]
    server.api.patch(server.plural("Cluster"), ("default", "demo"), {"spec": {"paused": True}}, PatchType.MERGE)
    assert settle(server) == [(1, 1), (0, 0)]
    after = server.get("Machine", "m1")["status"]
    changed = {one["type"] for one in after["conditions"]} - {one["type"] for one in after["conditions"] if one in before["conditions"]}
    assert changed == {"Paused"}
    assert {name: value for name, value in after.items() if name != "conditions"} == {name: value for name, value in before.items() if name != "conditions"}


def test_what_is_no_longer_true_is_taken_away() -> None:
    server = provisioned()
    settle(server)
    stored(server.view, "FooCluster", "demo")["status"]["failureDomains"] = []
    settle(server)
    assert "failureDomains" not in server.get("Cluster", "demo")["status"]


def test_the_clock_alone_changes_nothing() -> None:
    server = provisioned()
    settle(server)
    server.view.later(11)
    assert settle(server) == [(1, 0), (0, 0)], "a Machine of nobody is old enough to lack UpToDate"
    server.view.later(3600)
    assert settle(server) == [(0, 0)]
