"""Older versions on a real API server: read, edited and created with kubectl, stored as the hub has them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import orjson
import pytest

from fleetwake.kube import config
from fleetwake.kube.authority import Lifetimes, first, leaf
from fleetwake.kube.certificates import Serving, utc_now
from fleetwake.kube.client import APPLY_PATCH, MERGE_PATCH, ApiClient, raise_for, resource_path
from fleetwake.rig.records import Endpoints
from schemas import crd
from schemas.api import registry
from schemas.api.meta import KubeObject
from schemas.conversion import CONVERSION_DATA
from schemas.conversion.catalog import CONVERSIONS
from services.admission import conversion
from services.admission.configurations import Address
from services.admission.metrics import AdmissionMetrics
from services.admission.references import References
from services.admission.server import Sources, serve
from tests.conftest import Kubectl
from tests.e2e import manifests
from tests.integration.admission_service import LIMIT_S, command

pytestmark = pytest.mark.apiserver

HOST = "127.0.0.1"
MANAGER = "fleetwake"
Document = dict[str, Any]


@asynccontextmanager
async def webhook(api: ApiClient) -> AsyncIterator[tuple[Address, bytes]]:
    """The conversion webhook in this process, with a certificate of its own."""
    lifetimes = Lifetimes(ca=timedelta(days=1), leaf=timedelta(days=1))
    authority = first("test", now=utc_now(), lifetimes=lifetimes)
    pair = leaf(authority, HOST, now=utc_now(), lifetimes=lifetimes)
    metrics = AdmissionMetrics()
    serving = Serving(metrics)
    serving.load(pair.cert_pem, pair.key_pem)
    async with serve((HOST, 0), serving.context, metrics, Sources(References(api))) as (host, port):
        yield Address("test", "default", url=f"https://{host}:{port}"), authority.bundle


async def apply(api: ApiClient, definition: Document) -> None:
    path = resource_path("apiextensions.k8s.io/v1", "customresourcedefinitions", name=definition["metadata"]["name"])
    query = {"fieldManager": MANAGER, "force": "true", "fieldValidation": "Strict"}
    raise_for(await api.request("PATCH", path, query=query, body=orjson.dumps(definition), content_type=APPLY_PATCH, timeout_seconds=30.0), "apply")


@pytest.fixture
async def api(rig_endpoints: Endpoints) -> AsyncIterator[ApiClient]:
    async with ApiClient(config.load(rig_endpoints.kubeconfig), service="test") as client:
        yield client


@pytest.fixture
async def served(api: ApiClient, rig_endpoints: Endpoints) -> AsyncIterator[None]:
    """Every kind in all its versions; other tests share the API server, so afterwards the hub alone is served again."""
    await asyncio.to_thread(command, rig_endpoints, "schemas", "apply")
    kinds = [(one, registry.get(one.group, one.kind)) for one in CONVERSIONS.values()]
    async with webhook(api) as (address, bundle):
        try:
            client_config = address.client_config(conversion.PATH, bundle)
            await asyncio.gather(*(apply(api, crd.served(model, one.models.values(), client_config)) for one, model in kinds))
            await _served(api)
            yield
        finally:
            await asyncio.gather(*(apply(api, _hub_alone(model)) for _, model in kinds))


def _hub_alone(model: type[KubeObject]) -> Document:
    definition = crd.definition(model)
    return {**definition, "spec": {**definition["spec"], "conversion": {"strategy": "None"}}}


async def _served(api: ApiClient) -> None:
    """The API server serves a new version in its own time."""
    async with asyncio.timeout(LIMIT_S):
        for one in CONVERSIONS.values():
            for version in one.models:
                path = resource_path(f"{one.group}/{version}", one.hub_model.PLURAL)
                while (await api.request("GET", path, query={"limit": "1"})).status != 200:
                    await asyncio.sleep(0.05)


async def test_old_versions_are_read_and_edited_and_nothing_else_changes(served: None, api: ApiClient, kubectl: Kubectl, kube_namespace: str) -> None:
    made = {document["kind"]: await _created(api, document) for document in manifests.cluster("c", kube_namespace) if _converted(document)}
    assert made.keys() >= {"Cluster", "KubeadmControlPlane", "MachineDeployment", "KubeadmConfigTemplate"}

    async def get(kind: str, version: str) -> Document:
        model = registry.get(*next(key for key in CONVERSIONS if key[1] == kind))
        # in a thread: the webhook answers from this one
        text = await asyncio.to_thread(
            kubectl, "get", f"{model.PLURAL}.{version}.{model.GROUP}", made[kind]["metadata"]["name"], "-n", kube_namespace, "-o", "json"
        )
        return json.loads(text)  # type: ignore[no-any-return]

    for version in ("v1beta1", "v1alpha4"):
        old = await get("Cluster", version)
        assert old["apiVersion"] == f"cluster.x-k8s.io/{version}"
        assert old["spec"]["infrastructureRef"] | {"namespace": kube_namespace} == old["spec"]["infrastructureRef"]
        assert CONVERSION_DATA in old["metadata"]["annotations"]
        # through the old version, as kubectl edit does: the whole object is written back
        old["spec"]["clusterNetwork"]["serviceDomain"] = f"{version}.example"
        await asyncio.to_thread(kubectl, "replace", "-f", "-", stdin=json.dumps(old))
        new = await get("Cluster", "v1beta2")
        made["Cluster"]["spec"]["clusterNetwork"]["serviceDomain"] = f"{version}.example"
        assert new["spec"] == made["Cluster"]["spec"]
        assert CONVERSION_DATA not in new["metadata"].get("annotations", {})

    # a patch of one field, sent to the old version
    patch = {"spec": {"machineTemplate": {"nodeDrainTimeout": "2m30s"}}}
    name = made["KubeadmControlPlane"]["metadata"]["name"]
    path = resource_path("controlplane.cluster.x-k8s.io/v1beta1", "kubeadmcontrolplanes", kube_namespace, name)
    answer = await api.request("PATCH", path, body=orjson.dumps(patch), content_type=MERGE_PATCH)
    assert answer.status == 200, answer.body
    assert "deprecated" in answer.headers["Warning"]
    wanted = made["KubeadmControlPlane"]["spec"]
    wanted["machineTemplate"]["spec"].setdefault("deletion", {})["nodeDrainTimeoutSeconds"] = 150
    assert (await get("KubeadmControlPlane", "v1beta2"))["spec"] == wanted

    # every kind lists in every version, and v1alpha2 is not there
    for one in CONVERSIONS.values():
        for version in one.models:
            answer = await api.request("GET", resource_path(f"{one.group}/{version}", one.hub_model.PLURAL))
            assert answer.status == 200, answer.body
    assert (await api.request("GET", resource_path("cluster.x-k8s.io/v1alpha2", "clusters"))).status == 404


async def test_an_object_made_in_an_old_version_is_one_of_the_hub(served: None, api: ApiClient, kubectl: Kubectl, kube_namespace: str) -> None:
    manifest = {
        "apiVersion": "cluster.x-k8s.io/v1beta1",
        "kind": "MachineHealthCheck",
        "metadata": {"name": "old", "namespace": kube_namespace},
        "spec": {
            "clusterName": "c",
            "selector": {"matchLabels": {"a": "b"}},
            "maxUnhealthy": "40%",
            "unhealthyConditions": [{"type": "Ready", "status": "Unknown", "timeout": "5m"}],
        },
    }
    # server-side apply: the API server converts the object for each manager's version
    await asyncio.to_thread(kubectl, "apply", "--server-side", "-f", "-", stdin=json.dumps(manifest))
    path = resource_path("cluster.x-k8s.io/v1beta2", "machinehealthchecks", kube_namespace, "old")
    stored = (await api.request("GET", path)).json()
    assert stored["spec"] == {
        "clusterName": "c",
        "selector": {"matchLabels": {"a": "b"}},
        "checks": {"unhealthyNodeConditions": [{"type": "Ready", "status": "Unknown", "timeoutSeconds": 300}]},
        "remediation": {"triggerIf": {"unhealthyLessThanOrEqualTo": "40%"}},
    }
    manifest["spec"]["maxUnhealthy"] = 1
    await asyncio.to_thread(kubectl, "apply", "--server-side", "-f", "-", stdin=json.dumps(manifest))
    stored["spec"]["remediation"]["triggerIf"]["unhealthyLessThanOrEqualTo"] = 1
    assert (await api.request("GET", path)).json()["spec"] == stored["spec"]

    wrong = {**manifest, "metadata": {"name": "wrong", "namespace": kube_namespace}, "spec": {**manifest["spec"], "nodeStartupTimeout": "soon"}}
    answer = await api.request("POST", resource_path("cluster.x-k8s.io/v1beta1", "machinehealthchecks", kube_namespace), body=orjson.dumps(wrong))
    assert answer.status >= 400
    assert b"nodeStartupTimeout: 'soon' is not a duration" in answer.body


def _converted(document: Document) -> bool:
    return (document["apiVersion"].partition("/")[0], document["kind"]) in CONVERSIONS


async def _created(api: ApiClient, document: Document) -> Document:
    model = registry.get(document["apiVersion"].partition("/")[0], document["kind"])
    path = resource_path(document["apiVersion"], model.PLURAL, document["metadata"]["namespace"])
    answer = await api.request("POST", path, body=orjson.dumps(document))
    assert answer.status == 201, answer.body
    return answer.json()
