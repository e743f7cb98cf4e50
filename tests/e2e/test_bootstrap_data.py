"""How hosts get what is secret: every format, fetched with a token that works once; Windows beside Linux; data that goes once its Node is Ready; a thief."""

from __future__ import annotations

import base64
import json
import os
import re
import ssl
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any

import pytest
import redis

from fleetwake.rig.services import fleetwake_command
from fleetwake.views.results import decode
from schemas.results import Done, Planned
from tests.e2e import manifests
from tests.e2e.fleet import Fleet
from tests.e2e.manifests import Document
from tests.e2e.recorder import World, condition, told
from tests.e2e.topics import TOPICS, read

pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.apiserver, pytest.mark.redis]

FETCH = {"secretTransport": {"type": "Fetch"}}
PROXY = {"httpProxy": "http://proxy.example.com:3128", "credentialsSecret": {"name": "proxy-login"}}
PASSWORD = "pr0xy-p4ss"
COMMAND_LIMIT_S = 60
KEY_MATERIAL = re.compile(r"PRIVATE KEY|\b[a-z0-9]{6}\.[a-z0-9]{16}\b|" + PASSWORD)
SECRET_FILES = [{"path": "/etc/login", "permissions": "0600", "contentFrom": {"secret": {"name": "proxy-login", "key": "password"}}}]
WORKERS: dict[str, dict[str, Any]] = {
    "cloud": {"fleetwake": {**FETCH, "httpProxy": PROXY}, "files": SECRET_FILES},
    "ignition": {"format": "ignition", "fleetwake": {**FETCH, "httpProxy": PROXY}, "files": SECRET_FILES},
    "butane": {"format": "ignition", "fleetwake": {**FETCH, "ignitionVersion": "3.4"}},
    "kubelet": {"fleetwake": {**FETCH, "bootstrapper": "kubelet"}},
    "windows": {"fleetwake": {**FETCH, "operatingSystem": "windows"}},
    "inline": {"format": "ignition", "fleetwake": {"dataDeletion": {"afterNodeReadySeconds": 1}}},
}


def _documents(name: str, namespace: str) -> list[Document]:
    """A cluster with three control planes of Ignition that fetch, and one worker of each kind."""
    made = manifests.cluster(name, namespace, control_planes=3, workers=1)
    by_kind = {(document["kind"], document["metadata"]["name"]): document for document in made}
    plane = by_kind["KubeadmControlPlane", f"{name}-control-plane"]["spec"]["kubeadmConfigSpec"]
    plane |= {"format": "ignition", "fleetwake": {**FETCH, "httpProxy": PROXY}}
    workers = by_kind.pop(("MachineDeployment", f"{name}-workers"))
    template = by_kind.pop(("KubeadmConfigTemplate", f"{name}-workers"))
    infra = by_kind.pop(("DevMachineTemplate", f"{name}-workers"))
    documents = list(by_kind.values())
    for kind, spec in WORKERS.items():
        one: list[Document] = json.loads(json.dumps([workers, template, infra]).replace(f"{name}-workers", f"{name}-{kind}"))
        inner = one[1]["spec"]["template"]["spec"]
        inner |= spec
        if kind == "windows":
            inner["joinConfiguration"] = {"nodeRegistration": {"criSocket": "npipe:////./pipe/containerd-containerd"}}
            one[2]["spec"]["template"]["metadata"] = {"annotations": {"dev.fleetwake.io/operating-system": "windows"}}
        documents += one
    login = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "proxy-login", "namespace": namespace}}
    return [{**login, "stringData": {"username": "fleet", "password": PASSWORD}}, *documents]


@pytest.fixture(scope="module")
def mixed(fleet: Fleet) -> str:
    """The namespace of the cluster ``mixed``, settled."""
    namespace = fleet.namespace("transport")
    fleet.apply(*_documents("mixed", namespace))
    fleet.settle(namespace, "mixed")
    return namespace


def _machines(world: World, namespace: str, kind: str) -> list[dict[str, Any]]:
    return [value for value in world.all("Machine", namespace) if value["metadata"]["name"].startswith(f"mixed-{kind}-")]


@dataclass(frozen=True)
class Order:
    """What the user data of a host says about fetching the rest."""

    url: str
    authority: str
    token: str


def _order(text: str) -> Order:
    token, url = re.search(r"Bearer (\S+)", text), re.search(r"https://127\.0\.0\.1:\d+/v1/bootstrap-data/[a-z0-9./-]+", text)
    authority = re.search(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", text, re.DOTALL)
    assert token is not None and url is not None and authority is not None
    return Order(url[0], "\n".join(line.strip() for line in authority[0].splitlines()) + "\n", token[1])


def _get(url: str, authority: str, token: str) -> int:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=10, context=ssl.create_default_context(cadata=authority)) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def _user_data(fleet: Fleet, namespace: str, name: str) -> tuple[dict[str, Any], str]:
    """A bootstrap Secret and its user data, every data URL in it opened."""
    secret = fleet.api.get(f"/api/v1/namespaces/{namespace}/secrets/{name}")
    text = base64.b64decode(secret["data"]["value"]).decode()
    return secret, urllib.parse.unquote(text)


def test_the_provider_can_read_no_key(fleet: Fleet, mixed: str) -> None:
    """What an infrastructure provider needs: its own kinds, Machines and Clusters, and the Secrets that Machines name; and KubeadmConfigs beside them."""
    world = fleet.recorder.world
    fetching = [one for one in world.all("Machine", mixed) if not one["metadata"]["name"].startswith("mixed-inline-")]
    assert len(fetching) == 3 + 5
    readable = []
    for one in fetching:
        secret, text = _user_data(fleet, mixed, one["spec"]["bootstrap"]["dataSecretName"])
        readable += [json.dumps(secret["metadata"]), text]
        assert secret["metadata"]["annotations"]["fleetwake.io/fetched-by"] == "127.0.0.1"
    for plural in ("devmachines", "devclusters", "devmachinetemplates"):
        readable.append(fleet.kubectl("-n", mixed, "get", plural, "-o", "json"))
    readable += [fleet.kubectl("-n", mixed, "get", plural, "-o", "json") for plural in ("machines", "clusters", "events")]
    configs = json.loads(fleet.kubectl("-n", mixed, "get", "kubeadmconfigs", "-o", "json"))["items"]
    readable += [json.dumps(config) for config in configs if not config["metadata"]["name"].startswith("mixed-inline-")]
    found = [match[0][:12] for text in readable for match in KEY_MATERIAL.finditer(text)]
    assert not found
    # the search finds what it looks for where nothing was fetched
    assert KEY_MATERIAL.search("abcdef.0123456789abcdef") and KEY_MATERIAL.search("-----BEGIN EC PRIVATE KEY-----")


def test_a_token_works_once_and_replay_is_told(fleet: Fleet, mixed: str) -> None:
    (machine,) = _machines(fleet.recorder.world, mixed, "cloud")
    name = machine["spec"]["bootstrap"]["dataSecretName"]
    _, text = _user_data(fleet, mixed, name)
    found = _order(text)
    assert _get(found.url, found.authority, found.token) == 410
    assert _get(found.url, found.authority, "x" * len(found.token)) == 403
    assert _get(found.url.replace(name, f"{name}-not"), found.authority, found.token) in (403, 410)
    # Redis forgets everything: the API server does not
    with redis.Redis.from_url(fleet.rig.endpoints().redis_url) as client:
        client.flushall()
    assert _get(found.url, found.authority, found.token) == 410
    records = [record for record in _results(fleet, mixed) if record.key.endswith(f"/{name}")]
    planned = [record for record in records if isinstance(record, Planned) and "fetches its bootstrap data" in record.cause.change]
    assert len(planned) == 1 and [step.reason for step in planned[0].steps] == ["fetched by 127.0.0.1"]
    refused = [record.error for record in records if isinstance(record, Done) and "is refused to 127.0.0.1" in record.error]
    assert sum("used before" in error for error in refused) >= 2 and sum("not the one" in error for error in refused) == 1
    audited = [event for event in fleet.audit() if event["auditID"] == planned[0].steps[0].audit_id]
    told = _fleetwake(fleet, "audit", f"secret/{name}", "-n", mixed)
    assert "fetched by 127.0.0.1" in told and "refused to 127.0.0.1" in told and "the token has been used before" in told
    # some of these records lie in partitions that the worker who wrote them does not own: the seals hold there too
    assert "no fault" in _fleetwake(fleet, "audit", "verify")
    assert {event["verb"] for event in audited} == {"patch"} and {event["responseStatus"]["code"] for event in audited} == {200}


def _fleetwake(fleet: Fleet, *arguments: str) -> str:
    command = [fleetwake_command(), *arguments, "--state", str(fleet.rig.state_dir)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_LIMIT_S, check=False, env={**os.environ, "COLUMNS": "200"})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _results(fleet: Fleet, namespace: str) -> list[Any]:
    records = read(fleet.rig.endpoints().bootstrap_servers, TOPICS.results)
    decoded = (decode(list(record.headers), record.value) for record in records)
    return [record for record in decoded if record is not None and record.cluster == f"{namespace}/mixed"]


def test_a_windows_worker_among_linux_ones(fleet: Fleet, mixed: str, tmp_path: Any) -> None:
    (machine,) = _machines(fleet.recorder.world, mixed, "windows")
    kubeconfig = fleet.workload_kubeconfig(mixed, "mixed", tmp_path)
    nodes = json.loads(fleet.kubectl("get", "nodes", "-o", "json", kubeconfig=kubeconfig))["items"]
    systems = {node["metadata"]["name"]: node["metadata"]["labels"]["kubernetes.io/os"] for node in nodes}
    assert sorted(systems.values()) == ["linux"] * 8 + ["windows"]
    assert systems[machine["status"]["nodeRef"]["name"]] == "windows"
    assert machine["status"]["nodeInfo"]["operatingSystem"] == "windows"
    _, text = _user_data(fleet, mixed, machine["spec"]["bootstrap"]["dataSecretName"])
    assert "C:\\run\\fleetwake\\fetch.ps1" in text and "/bin/sh" not in text


def test_data_goes_once_its_node_is_ready(fleet: Fleet, mixed: str) -> None:
    (machine,) = _machines(fleet.recorder.world, mixed, "inline")
    name = machine["spec"]["bootstrap"]["dataSecretName"]
    fleet.recorder.wait(lambda world: [name] if world.get("Secret", mixed, name) is not None else [], 30.0, "bootstrap data deleted")
    config = fleet.api.get(f"/apis/bootstrap.cluster.x-k8s.io/v1beta2/namespaces/{mixed}/kubeadmconfigs/{name}")
    assert condition(config, "Ready") == "True"


def test_a_thief_takes_the_place_of_a_host_and_is_seen(fleet: Fleet, mixed: str) -> None:
    """Somebody reads the user data and is faster: the host is refused, does not become a Node, and everything that shows it says why."""
    documents = {one["kind"]: one for one in _documents("mixed", mixed) if one["metadata"]["name"] == "mixed-cloud"}
    slow: list[Document] = json.loads(json.dumps(list(documents.values())).replace("mixed-cloud", "mixed-robbed"))
    by_kind = {one["kind"]: one for one in slow}
    # the host takes its time to boot, the thief does not
    by_kind["DevMachineTemplate"]["spec"]["template"]["spec"]["backend"]["inMemory"]["vm"] = {"provisioning": {"startupDuration": "10s"}}
    fleet.apply(*slow)

    def named(world: World) -> list[str]:
        found = _machines(world, mixed, "robbed")
        return [] if found and found[0]["spec"]["bootstrap"].get("dataSecretName") else ["no bootstrap data"]

    fleet.recorder.wait(named, 30.0, "data for the host")
    (machine,) = _machines(fleet.recorder.world, mixed, "robbed")
    _, text = _user_data(fleet, mixed, machine["spec"]["bootstrap"]["dataSecretName"])
    found = _order(text)
    assert _get(found.url, found.authority, found.token) == 200

    def unexplained(world: World) -> list[str]:
        (robbed,) = _machines(world, mixed, "robbed")
        host = next(one for one in world.all("DevMachine", mixed) if one["metadata"]["name"] == robbed["spec"]["infrastructureRef"]["name"])
        reason, shown = "the bootstrap data is refused: 410", [("DevMachine", told(host, "NodeProvisioned")), ("Machine", told(robbed, "InfrastructureReady"))]
        shown.append(("Cluster", told(world.get("Cluster", mixed, "mixed"), "WorkerMachinesReady")))
        return [f"{kind} says {said}" for kind, said in shown if reason not in said] + [
            "no reason BootstrapFailed" for _, said in shown[:1] if not said.startswith("BootstrapFailed")
        ]

    fleet.recorder.wait(unexplained, 45.0, "the failure explained")
    assert not (machine.get("status") or {}).get("nodeRef")
    errors = [one.error for one in _results(fleet, mixed) if isinstance(one, Done) and one.key.endswith(f"/{machine['metadata']['name']}")]
    assert any("is refused to 127.0.0.1: the token has been used before" in error for error in errors)
    fleet.kubectl("-n", mixed, "delete", "machinedeployment", "mixed-robbed", "--wait=false")
    fleet.recorder.wait(lambda world: [one["metadata"]["name"] for one in _machines(world, mixed, "robbed")], 45.0, "the robbed host gone")


def test_a_change_of_the_proxy_rolls_the_control_plane_and_says_so(fleet: Fleet, mixed: str) -> None:
    """Rolling is the control plane's own business: here it is enough that its Machines count as outdated."""
    change = {"spec": {"kubeadmConfigSpec": {"fleetwake": {"httpProxy": {"noProxy": ["registry.example.com"]}}}}}
    fleet.patch(mixed, "kubeadmcontrolplane/mixed-control-plane", change)
    end = time.monotonic() + 30
    while True:
        planes = [one for one in fleet.recorder.world.all("Machine", mixed) if "cluster.x-k8s.io/control-plane" in one["metadata"].get("labels", {})]
        if any(condition(one, "UpToDate") == "False" for one in planes):
            return
        assert time.monotonic() < end, "no control plane Machine is outdated"
        time.sleep(0.2)
