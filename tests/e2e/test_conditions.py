"""What a user and a tool of either contract read of statuses, on the servers: conditions from the first status on, phases, and failures that end nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e import manifests
from tests.e2e.fleet import Fleet, left_of
from tests.e2e.recorder import Object, World, condition
from tests.status_rules import LEGACY_TYPES, TYPES, legacy, required, wrong_phase

pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.apiserver, pytest.mark.redis]

NAME, LIMIT_S, PROVIDER_LIMIT_S = "told", 60, 30
HOST, GROUP = "EmulatedHost", manifests.INFRASTRUCTURE.partition("/")[0]


@pytest.fixture(scope="module")
def namespace(fleet: Fleet) -> str:
    """A namespace with a cluster of everything, paused when it was made, and then let go."""
    found = fleet.namespace("conditions")
    health = manifests.health_check("workers", NAME, found, {"nodeStartupTimeoutSeconds": 600})
    documents = [*manifests.cluster(NAME, found, workers=1), *manifests.pool(NAME, found, replicas=1), health]
    next(one for one in documents if one["kind"] == "Cluster")["spec"]["paused"] = True
    fleet.apply(*documents)
    paused = {"Cluster", "MachineDeployment", "MachinePool", "MachineHealthCheck"}

    def silent(world: World) -> list[str]:
        return [f"{kind} is not Paused" for kind in paused if [condition(one, "Paused") for one in world.all(kind, found)] != ["True"]]

    fleet.recorder.wait(silent, LIMIT_S, "all paused")
    for kind in paused:
        [one] = fleet.recorder.world.all(kind, found)
        assert {told["type"] for told in one["status"]["conditions"]} >= set(TYPES[kind])
    fleet.patch(found, f"cluster/{NAME}", {"spec": {"paused": None}})
    return found


WAITS = (
    ("cluster", "condition=Available"),
    ("cluster", "jsonpath={.status.phase}=Provisioned"),
    ("kubeadmcontrolplane", "condition=Available"),
    ("machinedeployment", "condition=Available"),
    ("machinepool", "condition=Available"),
    ("machineset", "condition=MachinesReady"),
    ("machine", "condition=Ready"),
    ("machine", "jsonpath={.status.phase}=Running"),
    ("machinehealthcheck", "condition=RemediationAllowed"),
    ("kubeadmconfig", "condition=Ready"),
    ("devcluster", "condition=Ready"),
    ("devmachine", "condition=Ready"),
    ("devmachinepool", "condition=Ready"),
)


def test_kubectl_waits_for_conditions_and_phases_of_every_kind(fleet: Fleet, namespace: str) -> None:
    fleet.kubectl("-n", namespace, "wait", "--for=condition=Available", f"cluster/{NAME}", f"--timeout={LIMIT_S}s")
    fleet.settle(namespace, NAME)
    for resource, what in WAITS:
        fleet.kubectl("-n", namespace, "wait", f"--for={what}", resource, "--all", f"--timeout={LIMIT_S}s")


def _objects(fleet: Fleet, namespace: str) -> list[Object]:
    return [{**one, "kind": key.kind} for key, one in list(fleet.recorder.world.objects.items()) if key.namespace == namespace and key.kind in TYPES]


def test_at_rest_all_conditions_are_there_and_every_phase_follows(fleet: Fleet, namespace: str) -> None:
    fleet.settle(namespace, NAME)
    fleet.fall_silent()
    objects = _objects(fleet, namespace)
    assert {one["kind"] for one in objects} == set(TYPES)
    for one in objects:
        assert {told["type"] for told in one["status"]["conditions"]} >= set(required(one)), f"{one['kind']} {one['metadata']['name']}"
        assert not wrong_phase(one)
    fleet.check_history(namespace)


def test_at_rest_readers_of_the_older_contract_see_all_well(fleet: Fleet, namespace: str) -> None:
    fleet.settle(namespace, NAME)
    fleet.fall_silent()
    for one in _objects(fleet, namespace):
        older, name = legacy(one), f"{one['kind']} {one['metadata']['name']}"
        if one["kind"] not in LEGACY_TYPES:
            continue
        assert "failureReason" not in older
        assert "failureMessage" not in older
        told = {found["type"]: found for found in older["conditions"]}
        assert set(told) >= set(LEGACY_TYPES[one["kind"]]), name
        assert [type_ for type_, found in told.items() if found["status"] != "True" or "reason" in found or "severity" in found] == [], name
        assert [found["type"] for found in older["conditions"]] == sorted(told, key=lambda type_: (type_ != "Ready", type_)), name
    [plane] = fleet.recorder.world.all("KubeadmControlPlane", namespace)
    counted = {field: legacy(plane).get(field) for field in ("updatedReplicas", "readyReplicas", "unavailableReplicas")}
    assert counted == {"updatedReplicas": 1, "readyReplicas": 1, "unavailableReplicas": 0}


# --- failures that providers of the older contract report ------------------------------------------------------------------------------------------


def _definition() -> manifests.Document:
    """A provider of the v1beta1 contract: its kind of hosts, which nobody works on but this test."""
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    schema = {"type": "object", "properties": {"spec": anything, "status": anything}}
    version = {"name": "v1beta1", "served": True, "storage": True, "subresources": {"status": {}}, "schema": {"openAPIV3Schema": schema}}
    plural = f"{HOST.lower()}s"
    names = {"kind": HOST, "plural": plural, "singular": HOST.lower(), "listKind": f"{HOST}List"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}", "labels": {"cluster.x-k8s.io/v1beta1": "v1beta1"}},
        "spec": {"group": GROUP, "names": names, "scope": "Namespaced", "versions": [version]},
    }


@pytest.fixture
def host(fleet: Fleet, namespace: str) -> Iterator[str]:
    """A Machine of the cluster on a host of that provider, just asked for; both have the name."""
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "emulated-hosts", "labels": {"cluster.x-k8s.io/aggregate-to-manager": "true"}},
        "rules": [{"apiGroups": [GROUP], "resources": [f"{HOST.lower()}s"], "verbs": ["get", "list", "watch", "patch", "delete"]}],
    }
    fleet.settle(namespace, NAME)
    fleet.apply(role)
    for _ in range(PROVIDER_LIMIT_S):
        if fleet.may("watcher", "watch", f"{HOST.lower()}s.{GROUP}"):
            break
        time.sleep(1.0)  # the aggregation controller tells nobody when it has done its work
    fleet.apply(_definition())
    crd = f"crd/{HOST.lower()}s.{GROUP}"
    fleet.kubectl("wait", "--for=condition=Established", crd, f"--timeout={PROVIDER_LIMIT_S}s")
    name = "old-host"
    metadata = {"name": name, "namespace": namespace}
    reference = {"apiGroup": GROUP, "kind": HOST, "name": name}
    spec = {"clusterName": NAME, "version": manifests.VERSION, "bootstrap": {"dataSecretName": "brought"}, "infrastructureRef": reference}
    fleet.apply(
        {"apiVersion": f"{GROUP}/v1beta1", "kind": HOST, "metadata": {**metadata, "labels": {"cluster.x-k8s.io/cluster-name": NAME}}, "spec": {}},
        {"apiVersion": manifests.CORE, "kind": "Machine", "metadata": metadata, "spec": spec},
    )
    yield name
    fleet.kubectl("-n", namespace, "delete", f"machine/{name}", f"--timeout={LIMIT_S}s")
    fleet.kubectl("delete", crd, "clusterrole/emulated-hosts")


def test_a_failure_is_told_on_and_ends_nothing(fleet: Fleet, namespace: str, host: str) -> None:
    """The Machine goes on while its host says that it gave up, and needs nobody's hand when that is taken back."""
    resource = f"{HOST.lower()}/{host}"

    def report(status: dict[str, Any]) -> None:
        fleet.kubectl("-n", namespace, "patch", resource, "--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))

    def until(what: str, true: Any) -> Object:
        found: dict[str, Object] = {}

        def lacking(world: World) -> list[str]:
            machine = world.get("Machine", namespace, host)
            if machine is not None and true(machine):
                found["machine"] = machine
                return []
            return [json.dumps((machine or {}).get("status"))]

        fleet.recorder.wait(lacking, LIMIT_S, what)
        return found["machine"]

    until("waiting for its host", lambda one: (one.get("status") or {}).get("phase") == "Provisioning")
    report({"failureReason": "CreateError", "failureMessage": "no quota left"})
    failed = until("the failure told on", lambda one: legacy(one).get("failureReason") == "CreateError")
    assert legacy(failed)["failureMessage"] == f"{HOST} {namespace}/{host} reports a failure: no quota left"
    rest = {name: value for name, value in failed["status"].items() if name != "deprecated"}
    assert "no quota left" not in json.dumps(rest)
    assert failed["status"]["phase"] == "Provisioning"

    fleet.patch(namespace, resource, {"spec": {"providerID": f"old://{host}"}})
    report({"ready": True})
    running = until("provisioned all the same", lambda one: one["status"].get("phase") == "Provisioned")
    assert running["status"]["initialization"]["infrastructureProvisioned"]
    assert legacy(running)["failureReason"] == "CreateError"
    assert condition(running, "InfrastructureReady") == "True"

    report({"failureReason": None, "failureMessage": None})
    until("nothing told any more", lambda one: "failureReason" not in legacy(one) and "failureMessage" not in legacy(one))


def test_deleted_with_its_history_kept_to_the_rules(fleet: Fleet, namespace: str) -> None:
    fleet.kubectl("-n", namespace, "delete", f"cluster/{NAME}", f"--timeout={LIMIT_S}s")
    fleet.recorder.wait(lambda world: [left for left in left_of(world, namespace, NAME) if "Template" not in left], LIMIT_S, "all gone")
    fleet.check_history(namespace)
