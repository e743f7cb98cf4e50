"""An installation that serves older versions, on a real API server: applied by command, converted by admission's own process, held to the same rules, ended."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterator
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from fleetwake.kube import config
from fleetwake.kube.authority import Lifetimes, first, read
from fleetwake.kube.certificates import utc_now
from fleetwake.kube.client import APPLY_PATCH, MERGE_PATCH, ApiClient, raise_for, resource_path
from fleetwake.rig.access import MANIFESTS, OLDER_VERSIONS
from fleetwake.rig.records import Endpoints
from schemas import policies, served
from schemas.api import registry
from tests.conftest import Kubectl
from tests.decide.admission_world import changed
from tests.integration.admission_service import LIMIT_S, Service, command

pytestmark = pytest.mark.apiserver

Document = dict[str, Any]
NAME, SYSTEM = "fleetwake-admission", "fleetwake-system"
SERVED = "v1beta1,v1alpha4,v1alpha1"
PAIRS = sorted((Path(__file__).parents[1] / "conversion" / "pairs").glob("*.yaml"))
CHECKS = "machinehealthchecks.cluster.x-k8s.io"


@pytest.fixture(scope="module")
def service(rig_endpoints: Endpoints, kubectl: Kubectl, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Older versions served; others share the API server, so at the end they go the way that an operator takes."""
    kubectl("apply", "--server-side", "--filename", str(MANIFESTS / OLDER_VERSIONS))
    command(rig_endpoints, "secrets", "keys")
    running = Service(rig_endpoints, tmp_path_factory.mktemp("admission"), settings={"FLEETWAKE_SERVED_VERSIONS": SERVED})
    # definitions and admission come up beside each other, as in an installation
    command(rig_endpoints, "schemas", "apply", settings={"FLEETWAKE_SERVED_VERSIONS": SERVED, "FLEETWAKE_WEBHOOK_URL": running.url})
    running.start()
    try:
        asyncio.run(until_converted(rig_endpoints))
        yield running
        if "v1beta1" in kubectl("get", "customresourcedefinition", CHECKS, "-o", "jsonpath={.spec.versions[*].name}"):
            ended(rig_endpoints, running)
    finally:
        running.kill()
        for plural in ("mutatingwebhookconfigurations", "validatingwebhookconfigurations"):
            kubectl("delete", plural, NAME, "--ignore-not-found")
        for one in policies.policies():
            kubectl("delete", policies.PLURALS[one["kind"]], one["metadata"]["name"])
        kubectl("delete", "--filename", str(MANIFESTS / OLDER_VERSIONS))


def ended(endpoints: Endpoints, running: Service) -> str:
    """No older version is served any more, and none is left in a definition."""
    settings = {"FLEETWAKE_SERVED_VERSIONS": "v1beta2", "FLEETWAKE_WEBHOOK_URL": running.url}
    command(endpoints, "schemas", "apply", settings=settings)
    told = command(endpoints, "schemas", "migrate", settings=settings)
    command(endpoints, "schemas", "apply")
    return told


async def until_converted(endpoints: Endpoints) -> None:
    """Admission tells the API server of its CA in its own time."""
    async with ApiClient(config.load(endpoints.kubeconfig), service="test") as client, asyncio.timeout(LIMIT_S):
        for name in (served.name(model) for model in served.converted()):
            while not await believed(client, name):
                await asyncio.sleep(0.05)
        while (await client.request("GET", resource_path("cluster.x-k8s.io/v1alpha4", "clusters"))).status != 200:
            await asyncio.sleep(0.05)


@pytest.fixture
async def api(service: Service, rig_endpoints: Endpoints) -> AsyncIterator[ApiClient]:
    async with ApiClient(config.load(rig_endpoints.kubeconfig), service="test") as client:
        yield client


async def believed(api: ApiClient, name: str) -> bytes:
    """The CAs that the API server believes where it has objects of a definition converted."""
    definition = (await api.request("GET", resource_path("apiextensions.k8s.io/v1", "customresourcedefinitions", name=name))).json()
    return base64.b64decode(definition["spec"]["conversion"]["webhook"]["clientConfig"].get("caBundle", ""))


def path_of(document: Document, name: str = "") -> str:
    model = registry.get(document["apiVersion"].partition("/")[0], document["kind"])
    return resource_path(document["apiVersion"], model.PLURAL, document["metadata"].get("namespace", ""), name)


def old_objects(namespace: str) -> dict[str, Document]:
    """By kind and version, objects that say nearly everything."""
    found = [yaml.safe_load(path.read_text())["old"] for path in PAIRS]
    for document in found:
        document.pop("status", None)
        # references of older versions name versions, which only definitions that are there tell
        for reference in ("infrastructureRef", "controlPlaneRef"):
            document["spec"].pop(reference, None) if document["kind"] == "Cluster" else None
        document["metadata"] = {"name": document["metadata"]["name"], **({"namespace": namespace} if "namespace" in document["metadata"] else {})}
    return {f"{document['kind']} {document['apiVersion'].rpartition('/')[2]}": document for document in found}


async def test_no_rule_fails_on_what_it_is_not_for(api: ApiClient, kube_namespace: str) -> None:
    """Every policy is asked about an object with nearly every field; what it says is a rule's message, or nothing."""
    answers = {}
    for name, document in old_objects(kube_namespace).items():
        answer = await api.request("POST", path_of(document), query={"dryRun": "All"}, body=orjson.dumps(document))
        answers[name] = (answer.status, answer.body.decode())
    assert {name: text for name, (_, text) in answers.items() if "resulted in error" in text or "failed" in text} == {}
    assert {name for name, (status, _) in answers.items() if status not in (201, 422)} == set(), answers
    assert len(answers) >= 9


def health_check(namespace: str, version: str = "v1beta1") -> Document:
    spec = {
        "clusterName": "c",
        "selector": {"matchLabels": {"a": "b"}},
        "unhealthyConditions": [{"type": "Ready", "status": "Unknown", "timeout": "5m"}],
        "nodeStartupTimeout": "10m0s",
    }
    metadata = {"name": f"check-{version}", "namespace": namespace}
    return {"apiVersion": f"cluster.x-k8s.io/{version}", "kind": "MachineHealthCheck", "metadata": metadata, "spec": spec}


def control_plane(namespace: str, version: str = "v1beta1") -> Document:
    reference = {"apiVersion": "infrastructure.cluster.x-k8s.io/v1beta1", "kind": "DevMachineTemplate", "name": "t", "namespace": namespace}
    spec = {"version": "v1.31.0", "kubeadmConfigSpec": {}, "machineTemplate": {"infrastructureRef": reference}}
    metadata = {"name": f"plane-{version}", "namespace": namespace}
    return {"apiVersion": f"controlplane.cluster.x-k8s.io/{version}", "kind": "KubeadmControlPlane", "metadata": metadata, "spec": spec}


@pytest.mark.parametrize("version", ["v1beta1", "v1alpha4"])
@pytest.mark.parametrize(
    "case",
    [
        (health_check, "spec.clusterName", "d", "spec.clusterName: field is immutable"),
        (health_check, "spec.selector", {}, "spec.selector: selector must not be empty"),
        (health_check, "spec.nodeStartupTimeout", "5s", "spec.checks.nodeStartupTimeoutSeconds"),
        (health_check, "spec.maxUnhealthy", "many", "spec.remediation.triggerIf.unhealthyLessThanOrEqualTo: must be like"),
        (health_check, "spec.maxUnhealthy", -1, "spec.remediation.triggerIf.unhealthyLessThanOrEqualTo: must be at least 0"),
        (control_plane, "spec.version", "latest", "spec.version: must be a valid semantic version"),
        (control_plane, "spec.replicas", 2, "spec.replicas"),
        (control_plane, "spec.replicas", 0, "spec.replicas"),
        (control_plane, "spec.rolloutStrategy", {"rollingUpdate": {"maxSurge": 2}}, "spec.rollout.strategy.rollingUpdate.maxSurge"),
        (control_plane, "spec.kubeadmConfigSpec.files", [{"path": "/a", "content": "a"}, {"path": "/a", "content": "b"}], "spec.kubeadmConfigSpec.files"),
    ],
)
async def test_rules_of_the_hub_hold_for_older_requests(api: ApiClient, kube_namespace: str, case: tuple[Any, str, Any, str], version: str) -> None:
    make, path, value, told = case
    document = make(kube_namespace, version)
    made = await api.request("POST", path_of(document), body=orjson.dumps(document))
    assert made.status == 201, made.body
    name = document["metadata"]["name"]
    wrong = changed(document, path, value)
    answer = await api.request("PATCH", path_of(document, name), query={"dryRun": "All"}, body=orjson.dumps({"spec": wrong["spec"]}), content_type=MERGE_PATCH)
    if path == "spec.selector":
        # a merge patch takes nothing away
        answer = await api.request("PUT", path_of(document, name), query={"dryRun": "All"}, body=orjson.dumps(replaced(made.json(), wrong["spec"])))
    assert answer.status == 422, answer.body
    assert told in answer.json()["message"], answer.body


def replaced(stored: Document, spec: Document) -> Document:
    return {**stored, "spec": spec}


@pytest.mark.parametrize("version", ["v1beta1", "v1alpha4"])
async def test_scaling_in_an_older_version_is_guarded_too(api: ApiClient, kube_namespace: str, version: str) -> None:
    plane = control_plane(kube_namespace, version)
    assert (await api.request("POST", path_of(plane), body=orjson.dumps(plane))).status == 201
    path = f"{path_of(plane, plane['metadata']['name'])}/scale"
    for replicas, status in ((3, 200), (2, 422), (0, 422), (1, 200)):
        answer = await api.request("PATCH", path, body=orjson.dumps({"spec": {"replicas": replicas}}), content_type=MERGE_PATCH)
        assert answer.status == status, answer.body
        assert status == 200 or "spec.replicas" in answer.json()["message"]


@pytest.mark.parametrize("version", ["v1beta1", "v1alpha4"])
async def test_defaults_are_filled_in_whatever_the_version(api: ApiClient, kube_namespace: str, version: str) -> None:
    plane = control_plane(kube_namespace, version)
    made = (await api.request("POST", path_of(plane), body=orjson.dumps(plane))).json()
    assert made["spec"]["replicas"] == 1
    assert made["spec"]["rolloutStrategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}
    hub = (await api.request("GET", path_of({**plane, "apiVersion": "controlplane.cluster.x-k8s.io/v1beta2"}, plane["metadata"]["name"]))).json()
    assert (hub["spec"]["replicas"], hub["spec"]["rollout"]["strategy"]["rollingUpdate"]["maxSurge"]) == (1, 1)


async def test_a_ca_that_is_renewed_is_believed_before_it_signs(api: ApiClient, service: Service, rig_endpoints: Endpoints, kube_namespace: str) -> None:
    check = health_check(kube_namespace)
    assert (await api.request("POST", path_of(check), body=orjson.dumps(check))).status == 201
    path = resource_path("v1", "secrets", SYSTEM, NAME)
    secret = (await api.request("GET", path)).json()
    following = replace(first(NAME, now=utc_now(), lifetimes=Lifetimes()), former=(read(secret).pair.cert_pem,))
    raise_for(await api.request("PUT", path, body=orjson.dumps(following.secret(SYSTEM, NAME, secret["metadata"]["resourceVersion"]))), "put")
    async with asyncio.timeout(LIMIT_S):
        while await believed(api, CHECKS) != following.bundle:
            await asyncio.sleep(0.05)
    # a process that starts now shows a leaf of the new CA
    service.kill()
    service.start()
    answer = await api.request("GET", path_of(check, check["metadata"]["name"]))
    assert answer.status == 200, answer.body
    # somebody who applies the definitions again does not take the CA away
    settings = {"FLEETWAKE_SERVED_VERSIONS": SERVED, "FLEETWAKE_WEBHOOK_URL": service.url}
    await asyncio.to_thread(command, rig_endpoints, "schemas", "apply", settings=settings)
    assert await believed(api, CHECKS) == following.bundle


async def test_what_an_outage_of_admission_costs(api: ApiClient, service: Service, kube_namespace: str) -> None:
    hub_made, old_made = changed(health_check(kube_namespace), "metadata.name", "hub"), health_check(kube_namespace)
    hub_made = {**hub_made, "apiVersion": "cluster.x-k8s.io/v1beta2", "spec": {"clusterName": "c", "selector": {"matchLabels": {"a": "b"}}}}
    for document in (hub_made, old_made):
        assert (await api.request("POST", path_of(document), body=orjson.dumps(document))).status == 201
    service.kill()
    try:
        found = {}
        for document in (hub_made, old_made):
            name = document["metadata"]["name"]
            path = path_of({**document, "apiVersion": "cluster.x-k8s.io/v1beta2"}, name)
            body = {"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "MachineHealthCheck", "metadata": {"name": name}, "status": {"expectedMachines": 1}}
            label = orjson.dumps({"metadata": {"labels": {"x": "y"}}})
            answers = {
                "read": await api.request("GET", path),
                "applied": await api.request("PATCH", f"{path}/status", query={"fieldManager": "f"}, body=orjson.dumps(body), content_type=APPLY_PATCH),
                "patched": await api.request("PATCH", path, body=label, content_type=MERGE_PATCH),
                "read as it was": await api.request("GET", path_of({**document, "apiVersion": "cluster.x-k8s.io/v1beta1"}, name)),
            }
            found[name] = {what: answer.status for what, answer in answers.items()}
        assert found["hub"] == {"read": 200, "applied": 200, "patched": 200, "read as it was": 500}
        # who owned a field in an older version is asked about at every apply
        assert found["check-v1beta1"] == {"read": 200, "applied": 500, "patched": 200, "read as it was": 500}
    finally:
        service.start()


async def test_what_was_stored_in_an_older_version_is_stored_anew_and_the_version_goes(
    api: ApiClient, service: Service, rig_endpoints: Endpoints, kubectl: Kubectl, kube_namespace: str
) -> None:
    """As of an installation of Cluster API from when v1beta1 was stored: definitions, objects and the owners of their fields."""
    path = resource_path("apiextensions.k8s.io/v1", "customresourcedefinitions", name=CHECKS)
    definition = (await api.request("GET", path)).json()
    hub_stored = deepcopy(definition["spec"]["versions"])
    for version in definition["spec"]["versions"]:
        version["storage"] = version["name"] == "v1beta1"
    raise_for(await api.request("PATCH", path, body=orjson.dumps({"spec": {"versions": definition["spec"]["versions"]}}), content_type=MERGE_PATCH), "patch")
    check = health_check(kube_namespace)
    await asyncio.to_thread(kubectl, "apply", "--server-side", "--field-manager=old", "-f", "-", stdin=json.dumps(check))
    raise_for(await api.request("PATCH", path, body=orjson.dumps({"spec": {"versions": hub_stored}}), content_type=MERGE_PATCH), "patch")
    assert (await api.request("GET", path)).json()["status"]["storedVersions"] == ["v1beta2", "v1beta1"]
    hub = path_of({**check, "apiVersion": "cluster.x-k8s.io/v1beta2"}, check["metadata"]["name"])
    before = (await api.request("GET", hub)).json()
    assert {entry["apiVersion"] for entry in before["metadata"]["managedFields"]} >= {"cluster.x-k8s.io/v1beta1"}

    told = await asyncio.to_thread(ended, rig_endpoints, service)

    assert f"{CHECKS}: v1beta1, v1alpha4" in told
    definition = (await api.request("GET", path)).json()
    assert definition["status"]["storedVersions"] == ["v1beta2"] == [version["name"] for version in definition["spec"]["versions"]]
    assert definition["spec"]["conversion"] == {"strategy": "None"}
    after = (await api.request("GET", hub)).json()
    assert (after["spec"], after["metadata"]["uid"]) == (before["spec"], before["metadata"]["uid"])
    assert {entry["apiVersion"] for entry in after["metadata"]["managedFields"]} == {"cluster.x-k8s.io/v1beta2"}
    # an apply by whoever wrote in the older version is nobody's conflict
    body = {"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "MachineHealthCheck", "metadata": {"name": check["metadata"]["name"]}, "spec": after["spec"]}
    answer = await api.request("PATCH", hub, query={"fieldManager": "old"}, body=orjson.dumps(body), content_type=APPLY_PATCH)
    assert answer.status == 200, answer.body
    assert (await api.request("GET", path_of(check))).status == 404
