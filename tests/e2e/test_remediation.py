"""md-remediations, live: Nodes are broken by kubectl in emulated clusters; health checks mark, MachineSets replace, limits hold; darkness is no sickness."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fleetwake.rig.services import client_env, fleetwake_command
from tests.e2e import manifests
from tests.e2e.fleet import Fleet
from tests.e2e.invariants import violations
from tests.e2e.recorder import Object, World, condition, controller, told

pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.apiserver, pytest.mark.redis]

NAME, CHECK = "heal", "workers"
BROKEN = "e2e.remediation.condition"
"""A Node condition of nobody's: no kubelet puts it right."""
TIMEOUT_S = 4
LATE_S = 1.0
"""How long after its deadline a health check acts at most."""
DARK_TIMEOUT_S = 25
DARK_S = 32.0
STARTUP_TIMEOUT_S = 30
SHOWN_S = 10.0
REPLACED_S = 45.0
REPAIRS_LIMIT_S = 20
ACCOUNT = "system:serviceaccount:fleetwake-system:fleetwake-remediation"
PROVIDER = "dev.fleetwake.io/"


def health_check(name: str, namespace: str) -> manifests.Document:
    """The MachineHealthCheck over the workers of a cluster."""
    checks = {
        "nodeStartupTimeoutSeconds": STARTUP_TIMEOUT_S,
        "unhealthyNodeConditions": [{"type": BROKEN, "status": "False", "timeoutSeconds": TIMEOUT_S}],
    }
    return manifests.health_check(CHECK, name, namespace, checks)


@dataclass
class Ward:
    """A cluster with three workers under a health check, and what a user does to it."""

    fleet: Fleet
    namespace: str
    kubeconfig: str
    name: str = NAME

    @property
    def workers(self) -> dict[str, str]:
        """The living worker Machines, their uids by name; Nodes are called alike. A successor may bear the name of the one it replaces."""
        return {one["metadata"]["name"]: one["metadata"]["uid"] for one in self.machines() if "deletionTimestamp" not in one["metadata"]}

    def some(self, count: int) -> dict[str, str]:
        """The first few of them."""
        return dict(sorted(self.workers.items())[:count])

    def machines(self, world: World | None = None) -> list[Object]:
        """All worker Machines."""
        found = (world or self.fleet.recorder.world).all("Machine", self.namespace, self.name)
        return [one for one in found if controller(one)[0] == "MachineSet"]

    def turn(self, names: Iterable[str], status: str = "False") -> datetime:
        """Give Nodes the condition, since this moment; returns that, in whole seconds."""
        at = datetime.now(UTC).replace(microsecond=0)
        since = at.isoformat().replace("+00:00", "Z")
        found = {"type": BROKEN, "status": status, "reason": "Told", "message": "by the test", "lastTransitionTime": since, "lastHeartbeatTime": since}
        body = json.dumps({"status": {"conditions": [found]}})
        for name in names:
            self.fleet.kubectl("patch", "node", name, "--subresource=status", "--type=strategic", "-p", body, kubeconfig=self.kubeconfig)
        return at

    def lift(self) -> None:
        """Let the cluster be reached again."""
        self.annotate(f"devcluster/{self.name}", f"{PROVIDER}partition-")

    def annotate(self, resource: str, *annotations: str) -> None:
        """Set annotations, or (with a - behind the key) take them away."""
        self.fleet.kubectl("-n", self.namespace, "annotate", resource, *annotations)

    def limit(self, **trigger: Any) -> None:
        """Change when remediation is triggered."""
        self.fleet.patch(self.namespace, f"machinehealthcheck/{CHECK}", {"spec": {"remediation": {"triggerIf": trigger} if trigger else None}})

    def replaced(self, victims: Mapping[str, str] | None = None, limit_s: float = REPLACED_S) -> float:
        """Wait until these Machines are gone, and the cluster is whole again with all of its workers found healthy."""
        wanted = victims or {}

        def lacking(world: World) -> list[str]:
            here = {one["metadata"]["uid"] for one in self.machines(world)}
            found = [f"{name} is still there" for name, uid in wanted.items() if uid in here]
            sick = [one["metadata"]["name"] for one in self.machines(world) if condition(one, "HealthCheckSucceeded") != "True"]
            return found + [f"{name} is not found healthy" for name in sick]

        seconds = self.fleet.recorder.wait(lacking, limit_s, f"{', '.join(wanted)} replaced")
        self.fleet.settle(self.namespace, self.name)
        return seconds

    def unhealthy(self, names: Iterable[str]) -> None:
        """Wait until the health check has found these Machines unhealthy."""
        wanted = set(names)
        self.fleet.recorder.wait(
            lambda world: [
                one["metadata"]["name"]
                for one in self.machines(world)
                if one["metadata"]["name"] in wanted and condition(one, "HealthCheckSucceeded") != "False"
            ],
            TIMEOUT_S + 15.0,
            f"{', '.join(wanted)} found unhealthy",
        )

    def going(self, since: float) -> list[tuple[float, set[str]]]:
        """Which workers were on their way out at each instant since a monotonic time."""
        leaving: set[str] = set()
        found = []
        for seen in self.fleet.recorder.events(self.namespace):
            if seen.name.kind != "Machine" or controller(seen.object)[0] != "MachineSet":
                continue
            if seen.deleted:
                leaving.discard(seen.name.name)
            elif "deletionTimestamp" in seen.object["metadata"]:
                leaving.add(seen.name.name)
            if seen.at >= since:
                found.append((seen.at, set(leaving)))
        return found


@pytest.fixture(scope="module")
def ward(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Ward:
    """The cluster, whole, its workers found healthy; one is remediated at a time."""
    namespace = fleet.namespace("remedy")
    documents = manifests.cluster(NAME, namespace)
    deployment = next(one for one in documents if one["kind"] == "MachineDeployment")
    deployment["spec"]["remediation"] = {"maxInFlight": 1}
    fleet.apply(*documents, health_check(NAME, namespace))
    fleet.settle(namespace, NAME)
    made = Ward(fleet, namespace, fleet.workload_kubeconfig(namespace, NAME, tmp_path_factory.mktemp("remedy")))
    made.replaced()
    return made


def _marked_at(fleet: Fleet, name: str) -> datetime:
    """When the API server received the write that found a Machine unhealthy: the first of the service's on it since it was found healthy."""
    writes = [
        event
        for event in fleet.our_writes()
        if event["user"]["username"] == ACCOUNT and event["objectRef"]["resource"] == "machines" and event["objectRef"]["name"] == name
    ]
    return datetime.fromisoformat(writes[1]["requestReceivedTimestamp"].replace("Z", "+00:00"))


def test_a_broken_node_is_marked_at_its_deadline_and_its_machine_replaced(ward: Ward) -> None:
    victims = ward.some(1)
    [victim], others = victims, set(ward.workers.values()) - set(victims.values())
    since = ward.turn(victims)
    ward.replaced(victims)
    late = (_marked_at(ward.fleet, victim) - since - timedelta(seconds=TIMEOUT_S)).total_seconds()
    assert 0 <= late <= LATE_S, f"acted {late:.3f} s after the deadline"
    assert others < set(ward.workers.values())


def test_one_is_remediated_at_a_time(ward: Ward) -> None:
    began, victims = time.monotonic(), ward.some(2)
    ward.turn(victims)
    ward.replaced(victims)
    crowds = [leaving for _, leaving in ward.going(began) if len(leaving) > 1]
    assert not crowds, f"on their way out at once: {crowds}"
    said = {
        told(seen.object, "OwnerRemediated").partition(":")[0]
        for seen in ward.fleet.recorder.events(ward.namespace)
        if seen.name.kind == "Machine" and seen.object["metadata"]["uid"] in victims.values()
    }
    assert {"RemediationDeferred", "MachineDeleting"} <= said


def test_nothing_is_done_while_too_many_are_unhealthy(ward: Ward) -> None:
    ward.limit(unhealthyLessThanOrEqualTo=0)
    victims = ward.some(1)
    [victim] = victims
    ward.turn(victims)
    ward.unhealthy(victims)

    def restricted(world: World) -> list[str]:
        check = world.get("MachineHealthCheck", ward.namespace, CHECK)
        said, status = told(check, "RemediationAllowed"), (check or {}).get("status") or {}
        counts = tuple(status.get(name) for name in ("expectedMachines", "currentHealthy", "remediationsAllowed"))
        return [] if said.startswith("TooManyUnhealthy: Remediation is not allowed") and counts == (3, 2, 0) else [f"{said} {counts}"]

    ward.fleet.recorder.wait(restricted, 10.0, "the restriction told")
    time.sleep(TIMEOUT_S)
    machine = ward.fleet.recorder.world.get("Machine", ward.namespace, victim)
    assert machine is not None and "deletionTimestamp" not in machine["metadata"] and condition(machine, "OwnerRemediated") == ""
    ward.limit()
    ward.replaced(victims)


def test_a_machine_that_recovers_while_it_waits_is_let_off(ward: Ward) -> None:
    """Three writers of one Machine's conditions (its own controller, the health check, the owner) take turns without taking from each other."""
    deployment, before = f"machinedeployment/{NAME}-workers", ward.workers
    ward.fleet.patch(ward.namespace, deployment, {"spec": {"remediation": {"maxInFlight": 0}}})
    [victim] = ward.some(1)
    ward.turn([victim])

    def state(world: World, health: str, owner: str) -> list[str]:
        machine = world.get("Machine", ward.namespace, victim)
        found = (condition(machine, "HealthCheckSucceeded"), told(machine, "OwnerRemediated").partition(":")[0])
        whole = all(condition(machine, type_) for type_ in ("Ready", "Available", "NodeHealthy", "InfrastructureReady", "UpToDate"))
        return [] if found == (health, owner) and whole else [f"{found}, of its own controller {whole}"]

    ward.fleet.recorder.wait(lambda world: state(world, "False", "RemediationDeferred"), TIMEOUT_S + 15.0, "deferred")
    ward.turn([victim], "True")
    ward.fleet.recorder.wait(lambda world: state(world, "True", ""), 15.0, "let off")
    ward.fleet.patch(ward.namespace, deployment, {"spec": {"remediation": {"maxInFlight": 1}}})
    ward.replaced()
    assert ward.workers == before


def test_annotations_except_and_ask(ward: Ward) -> None:
    (spared, uid), (chosen, gone) = ward.some(2).items()
    ward.annotate(f"machine/{spared}", "cluster.x-k8s.io/skip-remediation=")
    ward.turn([spared])
    ward.annotate(f"machine/{chosen}", "cluster.x-k8s.io/remediate-machine=")
    ward.fleet.recorder.wait(lambda world: [one for one in (chosen,) if gone in ward.workers.values()], REPLACED_S, f"{chosen} gone")
    time.sleep(TIMEOUT_S)
    assert uid in ward.workers.values()
    ward.annotate(f"machine/{spared}", "cluster.x-k8s.io/skip-remediation-")
    ward.replaced({spared: uid})


def _provider_of_repairs() -> list[manifests.Document]:
    """What a provider of external remediations installs: its kinds, and a role by which managers may use them."""
    kinds, group = ("EmulatedRepair", "EmulatedRepairTemplate"), manifests.INFRASTRUCTURE.partition("/")[0]
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    verbs = ["get", "list", "watch", "create", "patch", "delete"]
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "emulated-repairs", "labels": {"cluster.x-k8s.io/aggregate-to-manager": "true"}},
        "rules": [{"apiGroups": [group], "resources": [f"{kind.lower()}s" for kind in kinds], "verbs": verbs}],
    }
    return [role, *(_definition(kind, group, anything) for kind in kinds)]


def _definition(kind: str, group: str, schema: manifests.Document) -> manifests.Document:
    names = {"kind": kind, "plural": f"{kind.lower()}s", "singular": kind.lower(), "listKind": f"{kind}List"}
    properties = {"type": "object", "properties": {"spec": schema, "status": schema}}
    version = {"name": "v1beta2", "served": True, "storage": True, "subresources": {"status": {}}, "schema": {"openAPIV3Schema": properties}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{names['plural']}.{group}", "labels": {"cluster.x-k8s.io/v1beta2": "v1beta2"}},
        "spec": {"group": group, "names": names, "scope": "Namespaced", "versions": [version]},
    }


@pytest.fixture
def repairs(ward: Ward) -> Iterator[manifests.Document]:
    """A provider whose requests the health check makes, named in its spec."""
    fleet, role_and_kinds = ward.fleet, _provider_of_repairs()
    fleet.apply(role_and_kinds[0])
    for _ in range(REPAIRS_LIMIT_S):
        if fleet.may("watcher", "watch", f"emulatedrepairs.{manifests.INFRASTRUCTURE.partition('/')[0]}"):
            break
        time.sleep(1.0)  # the aggregation controller tells nobody when it has done its work
    fleet.apply(*role_and_kinds[1:])
    definitions = [f"crd/{one['metadata']['name']}" for one in role_and_kinds[1:]]
    fleet.kubectl("wait", "--for=condition=Established", *definitions, f"--timeout={REPAIRS_LIMIT_S}s")
    spec = {"template": {"spec": {"strategy": "power-cycle"}}}
    fleet.apply(
        {"apiVersion": manifests.INFRASTRUCTURE, "kind": "EmulatedRepairTemplate", "metadata": {"name": "cycle", "namespace": ward.namespace}, "spec": spec}
    )
    reference = {"apiVersion": manifests.INFRASTRUCTURE, "kind": "EmulatedRepairTemplate", "name": "cycle"}
    fleet.patch(ward.namespace, f"machinehealthcheck/{CHECK}", {"spec": {"remediation": {"templateRef": reference}}})
    yield reference
    fleet.patch(ward.namespace, f"machinehealthcheck/{CHECK}", {"spec": {"remediation": None}})
    fleet.kubectl("delete", *definitions, "clusterrole/emulated-repairs")


@pytest.mark.usefixtures("repairs")
def test_an_external_remediation_is_requested_and_withdrawn_when_it_has_helped(ward: Ward) -> None:
    """The request is made and deleted with the rights that a provider's role grants; the Machine is left to it."""
    fleet, before, [victim] = ward.fleet, ward.workers, ward.some(1)
    ward.turn([victim])

    def state(world: World, wanted: tuple[str, str, str]) -> list[str]:
        machine = world.get("Machine", ward.namespace, victim)
        words = (told(machine, one).partition(":")[0] for one in ("ExternallyRemediated", "OwnerRemediated"))
        found = (condition(machine, "HealthCheckSucceeded"), *words)
        return [] if found == wanted else [f"{found}"]

    fleet.recorder.wait(lambda world: state(world, ("False", "WaitingForRemediation", "")), TIMEOUT_S + 15.0, "requested of the provider")
    request = json.loads(fleet.kubectl("-n", ward.namespace, "get", "emulatedrepair", victim, "-o", "json"))
    [owner] = request["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("Machine", victim, before[victim])
    assert request["spec"] == {"strategy": "power-cycle"}
    assert request["metadata"]["labels"]["cluster.x-k8s.io/cluster-name"] == NAME
    assert request["metadata"]["annotations"]["cluster.x-k8s.io/cloned-from-name"] == "cycle"

    ward.turn([victim], "True")
    # whether the repair has helped is the provider's word; this one says nothing
    fleet.recorder.wait(lambda world: state(world, ("True", "WaitingForRemediation", "")), 15.0, "let off")
    fleet.kubectl("-n", ward.namespace, "wait", "--for=delete", f"emulatedrepair/{victim}", "--timeout=15s")
    assert ward.workers == before


def test_darkness_is_no_sickness_and_a_failed_bootstrap_is(ward: Ward, tmp_path: Path) -> None:
    """Two clusters at once: one is cut off with all of its Nodes bad, in the other a host does not become a Node."""
    fleet, other = ward.fleet, "born"
    late = Ward(fleet, fleet.namespace("bootstrap"), "", other)
    fleet.apply(*manifests.cluster(other, late.namespace, workers=1), health_check(other, late.namespace))
    fleet.settle(late.namespace, other)

    # the one goes dark with every Node bad
    checks = {"unhealthyNodeConditions": [{"type": BROKEN, "status": "False", "timeoutSeconds": DARK_TIMEOUT_S}]}
    fleet.patch(ward.namespace, f"machinehealthcheck/{CHECK}", {"spec": {"checks": checks}})
    before = ward.workers
    ward.turn(before)
    ward.annotate(f"devcluster/{NAME}", f"{PROVIDER}partition=")
    dark = time.monotonic()

    # meanwhile a host of the other fails
    template = f"devmachinetemplate/{other}-workers"
    fail = {"spec": {"template": {"metadata": {"annotations": {f"{PROVIDER}fail-bootstrap": ""}}}}}
    fleet.patch(late.namespace, template, fail)
    held = set(late.workers.values())
    fleet.scale(late.namespace, f"machinedeployment/{other}-workers", 2)
    fleet.recorder.wait(lambda world: [] if set(late.workers.values()) - held else ["no second Machine"], 20.0, "a second Machine")
    [(failing, uid)] = [(name, uid) for name, uid in late.workers.items() if uid not in held]
    # its own from now on: what comes after it shall become a Node
    late.annotate(f"machine/{failing}", f"{PROVIDER}fail-bootstrap=")
    shown = fleet.recorder.wait(lambda world: _unexplained(world, late, failing), 60.0, "the failure explained")
    assert shown <= SHOWN_S
    fail["spec"]["template"]["metadata"]["annotations"][f"{PROVIDER}fail-bootstrap"] = None  # type: ignore[assignment]
    fleet.patch(late.namespace, template, fail)

    # past the deadline in the dark, nobody was touched
    time.sleep(max(0.0, dark + DARK_S - time.monotonic()))
    assert ward.workers == before
    assert [condition(one, "HealthCheckSucceeded") for one in ward.machines()] == ["True"] * 3
    ward.lift()
    ward.replaced(before, REPLACED_S * 2)

    late.replaced({failing: uid}, STARTUP_TIMEOUT_S + REPLACED_S)
    for namespace in (ward.namespace, late.namespace):
        # a Machine that is found unhealthy is not available: only that rule of the history is broken, by the test
        found = [text for text in violations(fleet.recorder.events(namespace), fleet.unseen) if "Machines available" not in text]
        assert not found, "\n".join(found)


def _unexplained(world: World, late: Ward, failing: str) -> list[str]:
    """Where the reason of a failed bootstrap does not show."""
    reason = "kubeadm failed: /run/cluster-api/bootstrap-success.complete was not written"
    shown = {
        "DevMachine": told(world.get("DevMachine", late.namespace, failing), "NodeProvisioned"),
        "Machine": told(world.get("Machine", late.namespace, failing), "InfrastructureReady"),
        "Machine Ready": told(world.get("Machine", late.namespace, failing), "Ready"),
        "Cluster": told(world.get("Cluster", late.namespace, late.name), "WorkerMachinesReady"),
    }
    lacking = [f"{where}: {text}" for where, text in shown.items() if reason not in text]
    return lacking if shown["DevMachine"].startswith("BootstrapFailed") else [*lacking, "the DevMachine's reason"]


def test_the_history_tells_of_every_remediation(ward: Ward) -> None:
    endpoints = ward.fleet.rig.endpoints()
    command = [fleetwake_command(), "audit", "--remediations", "-n", ward.namespace, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **client_env(endpoints, "views")})
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert sorted(one["outcome"] for one in found) == ["recovered by itself"] * 2 + ["replaced"] * (1 + 2 + 1 + 2 + 3)
    assert {one["reason"] for one in found} == {"UnhealthyNode", "HasRemediateAnnotation"}
    broken = [one for one in found if one["reason"] == "UnhealthyNode"]
    assert all(f"Condition {BROKEN} on Node is reporting status False with reason Told for more than " in one["why"] for one in broken)
    assert any(word["reason"] == "RemediationDeferred" for one in found for word in one["words"])
    living = {one["metadata"]["name"] for one in ward.machines()}
    assert {one["replacement"].rpartition("/")[2] for one in found} & living
    assert all(one["cluster"] == f"{ward.namespace}/{NAME}" and one["check"] == f"MachineHealthCheck/{CHECK}" for one in found)
