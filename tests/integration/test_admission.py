"""Admission against a real API server: what it stores and refuses, what goes on while nobody answers, certificates that change under it."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from cryptography import x509

from fleetwake import labels
from fleetwake.kube import config
from fleetwake.kube.client import MERGE_PATCH, ApiClient, Response, resource_path
from fleetwake.rig.ports import free_ports
from fleetwake.rig.probes import http_ok, wait_until
from fleetwake.rig.records import Endpoints
from fleetwake.rig.services import fleetwake_command
from schemas.api import registry
from services.admission.authority import read
from services.admission.certificates import OwnCertificates, Serving, ensure_authority, utc_now
from services.admission.configurations import Address
from services.admission.metrics import AdmissionMetrics
from services.admission.registration import Registration
from services.admission.server import serve
from tests.conftest import Kubectl
from tests.decide.admission_world import changed, of
from tests.decide.test_admission_immutability import CONFIGURATION, FIXED, LEAVES
from tests.e2e import manifests

pytestmark = pytest.mark.apiserver

LIMIT_S = 60.0
NAME, SYSTEM = "fleetwake-admission", "fleetwake-system"
CONFIGURATIONS = ("mutatingwebhookconfigurations", "validatingwebhookconfigurations")
CORE = "cluster.x-k8s.io/v1beta2"
Document = dict[str, Any]


@dataclass
class Service:
    """``fleetwake admit`` as the rig runs it, under its own account."""

    endpoints: Endpoints
    folder: Path
    ports: list[int] = field(default_factory=lambda: free_ports(2))
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start and wait until it is ready."""
        web, webhook = self.ports
        env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("FLEETWAKE_")},
            "FLEETWAKE_KUBECONFIG": f"{self.endpoints.kubeconfig}-admission",
            "FLEETWAKE_WEB_PORT": str(web),
            "FLEETWAKE_WEBHOOK_PORT": str(webhook),
            "FLEETWAKE_WEBHOOK_BIND": "127.0.0.1",
            "FLEETWAKE_WEBHOOK_URL": f"https://127.0.0.1:{webhook}",
        }
        with (self.folder / "admission.log").open("ab") as log:
            self.process = subprocess.Popen([fleetwake_command(), "admit"], env=env, stdout=log, stderr=log)
        wait_until(lambda: http_ok(f"http://127.0.0.1:{web}/readyz"), LIMIT_S, "admission")

    async def asked_about(self, kind: str) -> float:
        """How many requests it has answered about a kind."""
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{self.ports[0]}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        counted = [line for line in lines if line.startswith("controller_runtime_webhook_requests_total{") and f'-{kind}"' in line]
        return sum(float(line.rpartition(" ")[2]) for line in counted)

    def kill(self) -> None:
        """Kill it as a lost node would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(LIMIT_S)


def command(endpoints: Endpoints, *arguments: str, account: str = "prepare") -> None:
    env = {**os.environ, "FLEETWAKE_KUBECONFIG": f"{endpoints.kubeconfig}-{account}"}
    subprocess.run([fleetwake_command(), *arguments], env=env, check=True, capture_output=True, timeout=LIMIT_S)


@pytest.fixture(scope="module")
def prepared(rig_endpoints: Endpoints, kubectl: Kubectl) -> Iterator[Endpoints]:
    """An API server with the definitions, and with no webhooks once these tests are over: other tests share it."""
    command(rig_endpoints, "schemas", "apply")
    command(rig_endpoints, "secrets", "keys")
    yield rig_endpoints
    for plural in CONFIGURATIONS:
        kubectl("delete", plural, NAME, "--ignore-not-found")


@pytest.fixture(scope="module")
def service(prepared: Endpoints, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    running = Service(prepared, tmp_path_factory.mktemp("admission"))
    running.start()
    try:
        yield running
    finally:
        running.kill()


@pytest.fixture
async def api(prepared: Endpoints) -> AsyncIterator[ApiClient]:
    async with ApiClient(config.load(prepared.kubeconfig), service="test") as client:
        yield client


@pytest.fixture
async def asked(api: ApiClient, service: Service, kube_namespace: str) -> ApiClient:
    """A client of an API server that is known to ask: it notices new webhooks in its own time."""
    await until_asked(api, kube_namespace)
    return api


async def until_asked(api: ApiClient, namespace: str) -> None:
    """Wait until an object that only a webhook refuses is refused by it."""
    wrong = changed(manifests.cluster("probe", namespace)[0], "metadata.name", "n" * 64)
    async with asyncio.timeout(LIMIT_S):
        while (await create(api, wrong, dry_run=True)).status != 422:
            await asyncio.sleep(0.05)


def path_of(document: Document, name: str = "", subresource: str = "") -> str:
    model = registry.get(document["apiVersion"].partition("/")[0], document["kind"])
    return resource_path(document["apiVersion"], model.PLURAL, document["metadata"]["namespace"], name, subresource)


async def create(api: ApiClient, document: Document, *, dry_run: bool = False) -> Response:
    return await api.request("POST", path_of(document), query={"dryRun": "All"} if dry_run else None, body=orjson.dumps(document))


async def patch(api: ApiClient, document: Document, body: Document, *, subresource: str = "", dry_run: bool = False) -> Response:
    path = path_of(document, document["metadata"]["name"], subresource)
    return await api.request("PATCH", path, query={"dryRun": "All"} if dry_run else None, body=orjson.dumps(body), content_type=MERGE_PATCH)


def nested(path: str, value: Any) -> Document:
    """A merge patch of one field."""
    first, _, rest = path.partition(".")
    return {first: nested(rest, value) if rest else value}


def causes(answer: Response) -> set[str]:
    return {cause.get("field", "") for cause in (answer.json().get("details") or {}).get("causes", ())}


def one(kind: str, namespace: str, **options: Any) -> Document:
    return next(document for document in manifests.cluster("c", namespace, **options) if document["kind"] == kind)


# ---- while it answers -----------------------------------------------------------------------------------------------------------------------


async def test_defaults_are_stored(asked: ApiClient, kube_namespace: str) -> None:
    bare = one("MachineDeployment", kube_namespace)
    for path in ("spec.replicas", "spec.rollout", "spec.template.metadata"):
        bare = changed(bare, path, None)
    bare = changed(changed(bare, "spec.selector", {}), "spec.template.spec.version", "1.31.0")
    answer = await create(asked, bare)
    assert answer.status == 201, answer.body
    stored = answer.json()
    own = {labels.DEPLOYMENT_NAME: bare["metadata"]["name"], labels.CLUSTER_NAME: "c"}
    assert stored["spec"]["selector"]["matchLabels"] == stored["spec"]["template"]["metadata"]["labels"] == own
    assert (stored["spec"]["replicas"], stored["spec"]["template"]["spec"]["version"]) == (1, "v1.31.0")
    assert stored["spec"]["rollout"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    # the definition's own defaults, with no webhook's help
    plane = (await create(asked, changed(one("KubeadmControlPlane", kube_namespace), "spec.replicas", None))).json()
    assert plane["spec"]["replicas"] == 1


async def test_machines_are_asked_about_only_if_they_lack_something(asked: ApiClient, service: Service, kube_namespace: str) -> None:
    bare = changed(machine(kube_namespace, "bare"), "spec.version", "1.31.0")
    stored = (await create(asked, bare)).json()
    assert stored["metadata"]["labels"] == {labels.CLUSTER_NAME: "c"}
    assert (stored["spec"]["version"], stored["spec"]["deletion"]) == ("v1.31.0", {"nodeDeletionTimeoutSeconds": 10})
    taints = [{"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule", "propagation": "Always"}]
    for wrong, field_ in ((changed(bare, "spec.taints", taints), "spec.taints[0].key"), (changed(bare, "spec.bootstrap", {}), "spec.bootstrap")):
        assert causes(await create(asked, changed(wrong, "metadata.name", "wrong"))) == {field_}
    before = await service.asked_about("machine")
    whole = {**stored, "metadata": {"name": "whole", "namespace": kube_namespace, "labels": stored["metadata"]["labels"]}}
    assert (await create(asked, whole)).status == 201
    assert (await patch(asked, whole, {"spec": {"providerID": "in-memory://whole", "bootstrap": {"dataSecretName": "t"}}})).status == 200
    assert await service.asked_about("machine") == before


async def test_a_refusal_is_what_the_api_servers_own_would_be(asked: ApiClient, kube_namespace: str) -> None:
    wrong = changed(one("MachineDeployment", kube_namespace), "spec.machineNaming", {"template": "UP-{{ .random }}"})
    answer = await create(asked, wrong)
    assert answer.status == 422, answer.body
    body = answer.json()
    assert (body["reason"], body["details"]["kind"], body["details"]["group"]) == ("Invalid", "MachineDeployment", "cluster.x-k8s.io")
    assert causes(answer) == {"spec.machineNaming.template"}
    assert "validation.machinedeployment.cluster.x-k8s.io" in body["message"]


EXTERNAL = {"endpoints": ["https://e:2379"], "caFile": "/ca", "certFile": "/crt", "keyFile": "/key"}
OVERRIDES: dict[str, Any] = {
    "spec.version": "v1.34.1",
    "spec.replicas": 5,
    "spec.rollout.after": "2026-01-01T00:00:00Z",
    "spec.rollout.strategy.rollingUpdate.maxSurge": 0,
    "spec.machineNaming.template": "x-{{ .random }}",
    "spec.machineTemplate.metadata.labels": {"a": "b"},
    "spec.machineTemplate.metadata.annotations": {"a": "b"},
    f"{CONFIGURATION}.dns.imageTag": "v1.12.0",
    f"{CONFIGURATION}.certificateValidityPeriodDays": 100,
    f"{CONFIGURATION}.featureGates": {"Gate": True},
    "spec.kubeadmConfigSpec.diskSetup.partitions": [{"device": "/dev/sdb", "layout": True}],
    "spec.kubeadmConfigSpec.joinConfiguration.discovery.file.kubeConfig.cluster.certificateAuthorityData": "YQ==",
}
TOGETHER = (
    "controlPlaneComponentHealthCheckSeconds",
    "spec.kubeadmConfigSpec.ignition.",
    "discovery.file.",
    "etcd.external.",
    "spec.kubeadmConfigSpec.format",
    "fleetwake.httpProxy.",
    "fleetwake.secretTransport.",
)
"""Fields that only come with others: a rule of their own, or required neighbours."""


def sample(schema: Document, path: str) -> Any:
    """A value that the schema takes."""
    if path in OVERRIDES:
        return OVERRIDES[path]
    if schema.get("type") == "array":
        return [sample(schema["items"], "")]
    if "properties" in schema:
        return {name: sample(schema["properties"][name], "") for name in schema.get("required", ())}
    if "additionalProperties" in schema:
        return {"a": "b"}
    if schema.get("format") == "date-time":
        return "2026-01-01T00:00:00Z"
    match schema.get("type"):
        case "boolean":
            return True
        case "integer":
            return max(int(schema.get("minimum", 0)), 1)
        case _:
            return schema.get("enum", ["a.b" if schema.get("minLength", 0) > 1 else "a"])[-1]


async def test_each_field_of_a_control_plane_may_change_or_is_refused_by_its_path(asked: ApiClient, kube_namespace: str) -> None:
    plane = one("KubeadmControlPlane", kube_namespace, control_planes=3)
    assert (await create(asked, plane)).status == 201
    wrong = []
    tried = [(path, schema) for path, schema in LEAVES if not any(part in path for part in TOGETHER)]
    for path, schema in tried:
        answer = await patch(asked, plane, nested(path, sample(schema, path)), dry_run=True)
        expected = (422, {path}) if path in FIXED else (200, set())
        if (answer.status, causes(answer) if answer.status != 200 else set()) != expected:
            wrong.append((path, answer.status, answer.body.decode()[:300]))
    assert not wrong, "\n".join(map(str, wrong))
    assert len(tried) > 90 and {path for path, _ in tried} > FIXED


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        pytest.param({"initConfiguration": {"timeouts": {"controlPlaneComponentHealthCheckSeconds": 5}}}, {"spec.kubeadmConfigSpec"}, id="one-timeout"),
        pytest.param(
            {part: {"timeouts": {"controlPlaneComponentHealthCheckSeconds": 5}} for part in ("initConfiguration", "joinConfiguration")},
            set(),
            id="both",
        ),
        pytest.param({"format": "ignition", "ignition": {"containerLinuxConfig": {"strict": True}}}, set(), id="ignition"),
        pytest.param({"ignition": {"containerLinuxConfig": {"strict": True}}}, {"spec.kubeadmConfigSpec"}, id="ignition-of-cloud-config"),
        pytest.param({"format": "ignition", "bootCommands": ["x"]}, {"spec.kubeadmConfigSpec.bootCommands"}, id="what-ignition-cannot"),
        pytest.param(
            {"clusterConfiguration": {"etcd": {"external": EXTERNAL}}},
            {"spec.kubeadmConfigSpec.clusterConfiguration.etcd.external"},
            id="from-local-to-external-etcd",
        ),
        pytest.param(
            {"joinConfiguration": {"discovery": {"file": {"kubeConfigPath": "/k", "kubeConfig": {"user": {"exec": {"command": "c"}}}}}}},
            set(),
            id="file",
        ),
        pytest.param(
            {"fleetwake": {"httpProxy": {"httpsProxy": "http://proxy:3128", "noProxy": ["a"], "credentialsSecret": {"name": "c"}}}}, set(), id="proxy"
        ),
        pytest.param({"fleetwake": {"httpProxy": {"noProxy": ["a"]}}}, {"spec.kubeadmConfigSpec.fleetwake.httpProxy"}, id="no-proxy-alone"),
        pytest.param({"fleetwake": {"secretTransport": {"type": "Fetch", "tokenLifetimeSeconds": 600}}}, set(), id="transport"),
    ],
)
async def test_fields_that_come_together(asked: ApiClient, kube_namespace: str, body: Document, fields: set[str]) -> None:
    plane = one("KubeadmControlPlane", kube_namespace)
    await create(asked, plane)
    answer = await patch(asked, plane, {"spec": {"kubeadmConfigSpec": body}}, dry_run=True)
    assert (answer.status, causes(answer) if fields else set()) == (422 if fields else 200, fields), answer.body


def in_namespace(namespace: str, document: Document) -> Document:
    return {**document, "metadata": {**document["metadata"], "namespace": namespace}}


SELECTOR = {"matchLabels": {"a": "b"}}
POOL = {"apiGroup": "ipam.x", "kind": "Pool", "name": "p"}
OBJECTS: dict[str, Callable[[str], Document]] = {
    "Cluster": lambda namespace: one("Cluster", namespace),
    "MachineDeployment": lambda namespace: one("MachineDeployment", namespace),
    "DevMachineTemplate": lambda namespace: one("DevMachineTemplate", namespace),
    "Machine": lambda namespace: machine(namespace, "m"),
    "MachineHealthCheck": lambda namespace: in_namespace(namespace, of(CORE, "MachineHealthCheck", {"clusterName": "c", "selector": SELECTOR})),
    "ClusterResourceSet": lambda namespace: in_namespace(
        namespace,
        of("addons.cluster.x-k8s.io/v1beta2", "ClusterResourceSet", {"clusterSelector": SELECTOR, "resources": [{"kind": "Secret", "name": "s"}]}),
    ),
    "IPAddressClaim": lambda namespace: in_namespace(namespace, of("ipam.cluster.x-k8s.io/v1beta2", "IPAddressClaim", {"poolRef": POOL})),
}


def machine(namespace: str, name: str) -> Document:
    spec = {"clusterName": "c", "bootstrap": {"dataSecretName": "s"}, "infrastructureRef": {"apiGroup": "a.b", "kind": "K", "name": "n"}}
    return {"apiVersion": CORE, "kind": "Machine", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


@pytest.mark.parametrize(
    ("kind", "path", "value", "told"),
    [
        ("Cluster", "spec.infrastructureRef", None, "spec.infrastructureRef"),
        ("Cluster", "spec.controlPlaneRef", None, "spec.controlPlaneRef"),
        ("Cluster", "spec.clusterNetwork.pods.cidrBlocks", ["10.0.0.1/16", "10.0.0.0/99"], "spec.clusterNetwork.pods.cidrBlocks[1]"),
        ("Cluster", "spec.clusterNetwork.services.cidrBlocks", ["10.0.0.0"], "spec.clusterNetwork.services.cidrBlocks[0]"),
        ("MachineDeployment", "spec.template.spec.clusterName", "d", "spec.template.spec.clusterName"),
        ("Machine", "spec.clusterName", "d", "spec.clusterName"),
        ("Machine", "spec.version", "latest", "spec.version"),
        ("MachineHealthCheck", "spec.clusterName", "d", "spec.clusterName"),
        ("MachineHealthCheck", "spec.selector", {"matchLabels": None}, "spec.selector"),
        ("MachineHealthCheck", "spec.checks.nodeStartupTimeoutSeconds", 10, "spec.checks.nodeStartupTimeoutSeconds"),
        ("ClusterResourceSet", "spec.strategy", "Reconcile", "spec.strategy"),
        ("ClusterResourceSet", "spec.clusterSelector.matchLabels.a", "c", "spec.clusterSelector"),
        ("IPAddressClaim", "spec.poolRef.name", "q", "spec"),
        ("DevMachineTemplate", "spec.template.spec.providerID", "x", "spec.template.spec.providerID"),
        ("MachineDeployment", "spec.rollout.strategy.rollingUpdate.maxSurge", 0, "spec.rollout.strategy.rollingUpdate"),
        ("MachineDeployment", "spec.rollout.strategy.rollingUpdate.maxSurge", "many", "spec.rollout.strategy.rollingUpdate.maxSurge"),
        ("MachineDeployment", "spec.remediation.maxInFlight", -1, "spec.remediation.maxInFlight"),
    ],
)
async def test_what_is_fixed_or_wrong_is_refused_by_its_path(asked: ApiClient, kube_namespace: str, kind: str, path: str, value: Any, told: str) -> None:
    document = OBJECTS[kind](kube_namespace)
    made = await create(asked, document)
    assert made.status == 201, made.body
    answer = await patch(asked, document, nested(path, value), dry_run=True)
    assert answer.status == 422, answer.body
    assert told in causes(answer), answer.body


@pytest.mark.parametrize(
    ("address", "prefix", "gateway", "told"),
    [
        ("10.0.0.1", 24, "10.0.0.254", set()),
        ("fd00::1", 64, "fd00::ff", set()),
        ("10.0.0", 24, "10.0.0.254", {"spec.address"}),
        ("10.0.0.1", 64, "10.0.0.254", {"spec.prefix"}),
        ("10.0.0.1", 24, "gate", {"spec.gateway"}),
    ],
)
async def test_addresses_are_the_definitions_to_judge(api: ApiClient, kube_namespace: str, address: str, prefix: int, gateway: str, told: set[str]) -> None:
    spec = {"claimRef": {"name": "c"}, "poolRef": POOL, "address": address, "prefix": prefix, "gateway": gateway}
    answer = await create(api, in_namespace(kube_namespace, of("ipam.cluster.x-k8s.io/v1beta2", "IPAddress", spec)))
    assert (answer.status, causes(answer) if told else set()) == (422 if told else 201, told), answer.body


async def test_scaling_asks_nobody_and_is_guarded_by_the_definition(asked: ApiClient, service: Service, kube_namespace: str) -> None:
    plane = one("KubeadmControlPlane", kube_namespace)
    await create(asked, plane)
    service.kill()
    try:
        for replicas, status in ((3, 200), (2, 422), (0, 422), (1, 200)):
            answer = await patch(asked, plane, {"spec": {"replicas": replicas}}, subresource="scale")
            assert answer.status == status, answer.body
            assert status == 200 or "spec.replicas" in causes(answer)
    finally:
        service.start()


# ---- while nobody answers -------------------------------------------------------------------------------------------------------------------


async def test_nobody_is_locked_out_while_it_is_down(asked: ApiClient, service: Service, kube_namespace: str) -> None:
    cluster, deployment = one("Cluster", kube_namespace), one("MachineDeployment", kube_namespace)
    cluster["metadata"]["finalizers"] = [labels.CLUSTER_FINALIZER]
    for document in (cluster, deployment, machine(kube_namespace, "old")):
        assert (await create(asked, document)).status == 201
    service.kill()
    try:
        # what people make, and changes of its spec, wait
        for answer in (await create(asked, one("KubeadmControlPlane", kube_namespace)), await patch(asked, deployment, {"spec": {"paused": True}})):
            assert answer.status == 500 and "failed calling webhook" in answer.json()["message"], answer.body
        # repair does not: a lost Machine is replaced, its bootstrap and host too
        replacement = await create(asked, machine(kube_namespace, "new"))
        assert replacement.status == 201, replacement.body
        config_ = in_namespace(kube_namespace, of("bootstrap.cluster.x-k8s.io/v1beta2", "KubeadmConfig", {"verbosity": 1}))
        assert (await create(asked, config_)).status == 201
        # and the definitions' own rules hold for those as well
        assert (await create(asked, changed(machine(kube_namespace, "bad"), "spec.version", "latest"))).status == 422
        # status, labels, annotations, finalizers and deletion go on
        writes = [
            await patch(asked, cluster, {"status": {"phase": "Provisioned"}}, subresource="status"),
            await patch(asked, cluster, {"metadata": {"labels": {"a": "b"}, "annotations": {labels.PAUSED: ""}}}),
            await asked.request("DELETE", path_of(cluster, cluster["metadata"]["name"])),
            await patch(asked, cluster, {"metadata": {"finalizers": None}}),
            await asked.request("DELETE", path_of(deployment, deployment["metadata"]["name"])),
        ]
        assert [answer.status for answer in writes] == [200] * len(writes), [answer.body for answer in writes]
        assert (await asked.request("GET", path_of(cluster, cluster["metadata"]["name"]))).status == 404
    finally:
        service.start()
    answer = await create(asked, one("KubeadmControlPlane", kube_namespace))
    assert answer.status == 201, answer.body


async def test_a_service_that_hangs_holds_repair_up_for_a_moment_only(asked: ApiClient, service: Service, kube_namespace: str) -> None:
    assert service.process is not None
    service.process.send_signal(signal.SIGSTOP)
    loop = asyncio.get_running_loop()
    try:
        started = loop.time()
        assert (await create(asked, machine(kube_namespace, "m"))).status == 201
        assert loop.time() - started < 6
    finally:
        service.process.send_signal(signal.SIGCONT)


class Told:
    """The clock of a process that lives through months."""

    def __init__(self, behind: timedelta) -> None:
        self.behind = behind

    def __call__(self) -> datetime:
        return utc_now() - self.behind


@asynccontextmanager
async def renewing(prepared: Endpoints, clock: Told) -> AsyncIterator[tuple[OwnCertificates, Serving]]:
    """The service's own parts, with a clock of the test's."""
    metrics = AdmissionMetrics()
    serving = Serving(metrics)
    async with (
        ApiClient(config.load(f"{prepared.kubeconfig}-admission"), service="test") as client,
        serve(("127.0.0.1", 0), serving.context, metrics) as (_, port),
    ):
        address = Address(NAME, SYSTEM, f"https://127.0.0.1:{port}")
        yield OwnCertificates(client, address, serving, Registration(client, address), clock=clock), serving


async def bundles(api: ApiClient) -> list[list[int]]:
    """The serial numbers of the CAs that the API server believes, by configuration and webhook."""
    found = []
    for plural in CONFIGURATIONS:
        body = (await api.request("GET", resource_path("admissionregistration.k8s.io/v1", plural, "", NAME))).json()
        for webhook in body["webhooks"]:
            pem = base64.b64decode(webhook["clientConfig"]["caBundle"])
            found.append([certificate.serial_number for certificate in x509.load_pem_x509_certificates(pem)])
    return found


async def test_leaf_and_ca_are_renewed_under_an_api_server_that_goes_on_asking(service: Service, api: ApiClient, kube_namespace: str) -> None:
    service.kill()  # it would see the CA that is due, and renew it first
    prepared = service.endpoints
    secret = resource_path("v1", "secrets", SYSTEM, NAME)
    kept = (await api.request("GET", secret)).json()
    await api.request("DELETE", secret)
    try:
        # a CA of a year is due after 243 days; the certificates are made in the past, as the API server's clock is the real one
        clock = Told(timedelta(days=250))
        assert await ensure_authority(api, SYSTEM, NAME, now=clock())
        assert not await ensure_authority(api, SYSTEM, NAME, now=clock()), "what is there stays"
        first = read((await api.request("GET", secret)).json())
        clock.behind = timedelta(days=6, hours=12)
        async with renewing(prepared, Told(timedelta(days=40))) as (early, _):
            await early.renew()
            assert read((await api.request("GET", secret)).json()) == first, "not due yet"
        async with renewing(prepared, clock) as (own, serving):
            await own.renew()
            second = read((await api.request("GET", secret)).json())
            assert second.pair != first.pair and second.former == (first.pair.cert_pem,)
            assert {tuple(one) for one in await bundles(api)} == {
                tuple(x509.load_pem_x509_certificate(pem).serial_number for pem in (second.pair.cert_pem, first.pair.cert_pem))
            }
            await until_asked(api, kube_namespace)
            shown = serving.certificate
            assert await own.renew() > timedelta(0)
            assert serving.certificate == shown, "nothing is due"
            clock.behind = timedelta(0)
            await own.renew()
            assert serving.certificate != shown, "a leaf of six and a half days is followed by another"
            await until_asked(api, kube_namespace)
            before = [await version(api, plural) for plural in CONFIGURATIONS]
            await own.renew()
            assert [await version(api, plural) for plural in CONFIGURATIONS] == before, "what is told already is not written again"
    finally:
        await api.request("DELETE", secret)
        kept["metadata"] = {"name": NAME, "namespace": SYSTEM}
        await api.request("POST", resource_path("v1", "secrets", SYSTEM), body=orjson.dumps(kept))
        service.start()


async def test_a_configuration_that_somebody_deletes_is_back_at_once(asked: ApiClient, kube_namespace: str) -> None:
    paths = [resource_path("admissionregistration.k8s.io/v1", plural, "", NAME) for plural in CONFIGURATIONS]
    assert [(await asked.request("DELETE", path)).status for path in paths] == [200, 200]
    async with asyncio.timeout(LIMIT_S):
        while [(await asked.request("GET", path)).status for path in paths] != [200, 200]:
            await asyncio.sleep(0.05)
    await until_asked(asked, kube_namespace)


async def version(api: ApiClient, plural: str) -> str:
    return str((await api.request("GET", resource_path("admissionregistration.k8s.io/v1", plural, "", NAME))).json()["metadata"]["resourceVersion"])
