"""A real API server takes the generated CustomResourceDefinitions, and enforces and merges what they say."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml

from fleetwake.cli import schemas as commands
from fleetwake.kube import config, definitions
from fleetwake.kube.client import APPLY_PATCH, ApiClient, Response, resource_path
from fleetwake.rig.records import Endpoints
from schemas.api import registry

pytestmark = pytest.mark.apiserver

MANIFESTS = Path(__file__).parents[1] / "contract" / "manifests"
COMMAND = "import sys; from fleetwake.cli.schemas import app; app(sys.argv[1:])"


@pytest.fixture
async def api(rig_endpoints: Endpoints) -> AsyncIterator[ApiClient]:
    async with ApiClient(config.load(rig_endpoints.kubeconfig), service="test") as client:
        await definitions.apply_definitions(client, commands.definitions())
        yield client


def path_of(document: dict[str, Any], namespace: str, subresource: str = "") -> str:
    model = registry.get(document["apiVersion"].partition("/")[0], document["kind"])
    return resource_path(document["apiVersion"], model.PLURAL, namespace if model.SCOPE == "Namespaced" else "", document["metadata"]["name"], subresource)


async def apply(api: ApiClient, document: dict[str, Any], namespace: str, *, manager: str = "test", subresource: str = "") -> Response:
    query = {"fieldManager": manager, "fieldValidation": "Strict"}
    return await api.request("PATCH", path_of(document, namespace, subresource), query=query, body=orjson.dumps(document), content_type=APPLY_PATCH)


async def generations(api: ApiClient) -> dict[str, int]:
    listed = (await api.request("GET", resource_path(definitions.API_VERSION, definitions.PLURAL))).json()["items"]
    return {item["metadata"]["name"]: item["metadata"]["generation"] for item in listed}


def manifests() -> list[dict[str, Any]]:
    return [document for path in sorted(MANIFESTS.glob("*.yaml")) for document in yaml.safe_load_all(path.read_text())]


def machine(name: str) -> dict[str, Any]:
    reference = {"apiGroup": "infrastructure.cluster.x-k8s.io", "kind": "DevMachine", "name": name}
    return {
        "apiVersion": "cluster.x-k8s.io/v1beta2",
        "kind": "Machine",
        "metadata": {"name": name},
        "spec": {"clusterName": "a", "bootstrap": {"dataSecretName": ""}, "infrastructureRef": reference},
    }


async def test_the_command_applies_all_and_applying_again_changes_nothing(rig_endpoints: Endpoints, api: ApiClient) -> None:
    before = await generations(api)
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", COMMAND, "apply", "--kubeconfig", rig_endpoints.kubeconfig],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"{len(registry.KINDS)} CustomResourceDefinitions established\n"), done.stderr
    assert await generations(api) == before
    assert set(before) >= {f"{model.PLURAL}.{model.GROUP}" for model in registry.KINDS}


async def test_the_schemas_are_structural_and_every_kind_is_served(api: ApiClient) -> None:
    listed = (await api.request("GET", resource_path(definitions.API_VERSION, definitions.PLURAL))).json()["items"]
    violations = {
        item["metadata"]["name"]: condition["message"]
        for item in listed
        for condition in item["status"]["conditions"]
        if condition["type"] == "NonStructuralSchema" and condition["status"] == "True"
    }
    assert violations == {}
    for model in registry.KINDS:
        answer = await api.request("GET", resource_path(f"{model.GROUP}/{model.VERSION}", model.PLURAL))
        assert answer.status == 200, model.KIND


async def test_a_definition_made_anew_is_served_when_apply_returns(api: ApiClient) -> None:
    (definition,) = (each for each in commands.definitions() if each["spec"]["names"]["kind"] == "IPAddressClaim")
    name = definition["metadata"]["name"]
    for _ in range(3):
        deleted = resource_path(definitions.API_VERSION, definitions.PLURAL, name=name)
        await api.request("DELETE", deleted)
        async with asyncio.timeout(20):
            while (await api.request("GET", deleted)).status != 404:
                await asyncio.sleep(0.05)
        assert await definitions.apply_definitions(api, [definition]) == [name]
        assert (await api.request("GET", resource_path("ipam.cluster.x-k8s.io/v1beta2", "ipaddressclaims"))).status == 200


@pytest.mark.parametrize("document", manifests(), ids=lambda document: f"{document['kind']}-{document['metadata']['name']}")
async def test_nothing_of_a_manifest_is_pruned(api: ApiClient, kube_namespace: str, document: dict[str, Any]) -> None:
    answer = await apply(api, document, kube_namespace)
    assert answer.status == 201, answer.body.decode()
    stored = answer.json()
    try:
        assert stored["spec"] == document["spec"]
        parsed = registry.get(document["apiVersion"].partition("/")[0], document["kind"]).model_validate(stored)
        assert parsed.model_dump(mode="json", by_alias=True, exclude_unset=True)["spec"] == document["spec"]
    finally:
        await api.request("DELETE", path_of(document, kube_namespace))


async def test_conditions_of_two_managers_are_merged_per_type(api: ApiClient, kube_namespace: str) -> None:
    await apply(api, machine("m"), kube_namespace)
    for type_, manager in (("Ready", "reconcilers"), ("HealthCheckSucceeded", "remediation")):
        condition = {"type": type_, "status": "True", "reason": "Fine", "message": "", "lastTransitionTime": "2026-02-03T04:05:06Z"}
        body = {key: machine("m")[key] for key in ("apiVersion", "kind", "metadata")} | {"status": {"conditions": [condition]}}
        answer = await apply(api, body, kube_namespace, manager=manager, subresource="status")
        assert answer.status == 200, answer.body.decode()
    assert {condition["type"] for condition in answer.json()["status"]["conditions"]} == {"Ready", "HealthCheckSucceeded"}


async def test_rules_of_the_schema_are_enforced(api: ApiClient, kube_namespace: str) -> None:
    twice = [{"name": "v", "value": "1"}, {"name": "v", "value": "2"}]
    specs = {
        "extraArgs name must be unique": {"clusterConfiguration": {"apiServer": {"extraArgs": twice}}},
        "exactly one of the fields": {"diskSetup": {"partitions": [{"device": "/dev/sdb"}]}},
        "partitionType must be one of": {"diskSetup": {"partitions": [{"device": "/dev/sdb", "diskLayout": [{"percentage": 1, "partitionType": "Other"}]}]}},
        "should have at least 1 properties": {"ntp": {}},
    }
    for message, spec in specs.items():
        document = {"apiVersion": "bootstrap.cluster.x-k8s.io/v1beta2", "kind": "KubeadmConfig", "metadata": {"name": "c"}, "spec": spec}
        answer = await apply(api, document, kube_namespace)
        assert answer.status == 422, (message, answer.body.decode())
        assert message in answer.json()["message"]


async def test_the_scale_subresource_changes_replicas(api: ApiClient, kube_namespace: str) -> None:
    template = {"spec": machine("m")["spec"]}
    document = {
        "apiVersion": "cluster.x-k8s.io/v1beta2",
        "kind": "MachineDeployment",
        "metadata": {"name": "md"},
        "spec": {"clusterName": "a", "replicas": 1, "selector": {}, "template": template},
    }
    assert (await apply(api, document, kube_namespace)).status == 201
    answer = await api.request(
        "PATCH", path_of(document, kube_namespace, "scale"), body=b'{"spec":{"replicas":5}}', content_type="application/merge-patch+json"
    )
    assert answer.status == 200, answer.body.decode()
    assert (await api.request("GET", path_of(document, kube_namespace))).json()["spec"]["replicas"] == 5
