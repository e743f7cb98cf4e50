"""An installation that serves older versions: people who write and read v1beta1 and v1alpha4 have clusters, and change what they edit and nothing else."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fleetwake.kube.authority import Lifetimes, first, read
from fleetwake.kube.certificates import utc_now
from fleetwake.rig import Rig
from fleetwake.rig.access_page import grants
from fleetwake.rig.probes import wait_until
from schemas.conversion.catalog import CONVERSIONS
from tests.e2e.fleet import ACCOUNTS, KUBECTL_LIMIT_S, Fleet, watched
from tests.e2e.recorder import condition

pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.apiserver, pytest.mark.redis]

MANIFESTS = Path(__file__).parent / "cluster_v1beta1.yaml"
OLDER = ("v1beta1", "v1alpha4")
CLUSTERS = "clusters.cluster.x-k8s.io"
AUTHORITY = "fleetwake-admission"
LIMIT_S = 30.0


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A system of its own: what it serves is chosen as it is brought up."""
    rig = Rig.up(tmp_path_factory.mktemp("serving"), workers=1, served_versions=",".join(OLDER), bound_to=os.getpid())
    with watched(rig) as found:
        yield found


@pytest.fixture(scope="module")
def old(serving: Fleet) -> str:
    """The namespace of a cluster applied as v1beta1, settled."""
    namespace = serving.namespace("old")
    wait_until(lambda: bool(believed(serving)), LIMIT_S, "admission's CA in the definitions")
    serving.kubectl("-n", namespace, "apply", "-f", str(MANIFESTS))
    serving.settle(namespace, "old")
    return namespace


def believed(fleet: Fleet) -> bytes:
    text = fleet.kubectl("get", "customresourcedefinition", CLUSTERS, "-o", "jsonpath={.spec.conversion.webhook.clientConfig.caBundle}")
    return base64.b64decode(text)


def get(fleet: Fleet, namespace: str, kind: str, version: str, name: str = "") -> dict[str, Any]:
    (model,) = (one.hub_model for one in CONVERSIONS.values() if one.kind == kind)
    found: dict[str, Any] = json.loads(fleet.kubectl("-n", namespace, "get", f"{model.PLURAL}.{version}.{model.GROUP}", *filter(None, [name]), "-o", "json"))
    return found


def edit(fleet: Fleet, namespace: str, resource: str, script: str) -> None:
    """``kubectl edit``, whose editor is sed."""
    endpoints = fleet.rig.endpoints()
    command = [endpoints.kubectl, "--kubeconfig", endpoints.kubeconfig, "-n", namespace, "edit", resource]
    environment = {**os.environ, "KUBE_EDITOR": f"sed -i {script}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=KUBECTL_LIMIT_S, check=False)
    assert done.returncode == 0 and "edited" in done.stdout, (done.stdout, done.stderr)


def test_a_cluster_applied_as_v1beta1_becomes_available(serving: Fleet, old: str) -> None:
    hub = get(serving, old, "Cluster", "v1beta2", "old")
    assert condition(hub, "Available") == "True"
    beta = get(serving, old, "Cluster", "v1beta1", "old")
    assert (beta["status"]["infrastructureReady"], beta["status"]["controlPlaneReady"]) == (True, True)
    assert {one["type"]: one["status"] for one in beta["status"]["conditions"]}["Ready"] == "True"
    assert {one["type"]: one["status"] for one in beta["status"]["v1beta2"]["conditions"]}["Available"] == "True"
    workers = get(serving, old, "MachineDeployment", "v1beta2", "old-workers")
    assert workers["spec"]["deletion"]["order"] == "Oldest"
    assert workers["spec"]["template"]["spec"]["deletion"]["nodeDrainTimeoutSeconds"] == 60
    # applied once more, as people do, nothing changes but the generation: kubectl reads another version in references, which the hub has none of
    before = {kind: get(serving, old, kind, "v1beta2")["items"] for kind in ("Cluster", "KubeadmControlPlane", "MachineDeployment", "MachineHealthCheck")}
    serving.kubectl("-n", old, "apply", "-f", str(MANIFESTS))
    for kind, items in before.items():
        assert [one["spec"] for one in get(serving, old, kind, "v1beta2")["items"]] == [one["spec"] for one in items]
    serving.settle(old, "old")


EDITS = {
    ("Cluster", "v1beta1"): ("old", "'s/serviceDomain: cluster.local/serviceDomain: beta.example/'", "clusterNetwork", {"serviceDomain": "beta.example"}),
    ("Cluster", "v1alpha4"): ("old", "'s/serviceDomain: beta.example/serviceDomain: alpha.example/'", "clusterNetwork", {"serviceDomain": "alpha.example"}),
}


@pytest.mark.parametrize(("kind", "version"), EDITS)
def test_an_edit_changes_what_was_edited(serving: Fleet, old: str, kind: str, version: str) -> None:
    name, script, field, wanted = EDITS[kind, version]
    before = get(serving, old, kind, "v1beta2", name)
    serving.kubectl("-n", old, "get", f"{CLUSTERS.replace('.', f'.{version}.', 1)}", name, "-o", "yaml")
    edit(serving, old, f"{CLUSTERS.replace('.', f'.{version}.', 1)}/{name}", script)
    after = get(serving, old, kind, "v1beta2", name)
    before["spec"][field] |= wanted
    assert after["spec"] == before["spec"]
    assert after["metadata"].get("annotations") == before["metadata"].get("annotations")


@pytest.mark.parametrize("version", OLDER)
def test_every_kind_there_is_can_be_edited_in_an_older_version(serving: Fleet, old: str, version: str) -> None:
    found = 0
    for one in CONVERSIONS.values():
        if version not in one.models or one.hub_model.SCOPE == "Cluster":
            continue
        for obj in get(serving, old, one.kind, "v1beta2")["items"][:1]:
            name, found = obj["metadata"]["name"], found + 1
            edit(serving, old, f"{one.hub_model.PLURAL}.{version}.{one.group}/{name}", annotating(f"edited-{version}-{one.kind}"))
            after = get(serving, old, one.kind, "v1beta2", name)
            assert after["spec"] == obj["spec"], one.kind
            assert after["metadata"]["annotations"][f"edited-{version}-{one.kind}"] == "yes"
    assert found >= 8


def annotating(name: str) -> str:
    """A script that adds an annotation: an object of an older version has at least the one that brings it back whole."""
    return f"'s/^  annotations:$/&\\n    {name}: \"yes\"/'"


def test_an_older_client_scales(serving: Fleet, old: str) -> None:
    serving.kubectl("-n", old, "scale", "machinedeployments.v1beta1.cluster.x-k8s.io/old-workers", "--replicas=1")
    wait_until(lambda: get(serving, old, "MachineDeployment", "v1beta2", "old-workers")["spec"]["replicas"] == 1, LIMIT_S, "scaled")
    serving.settle(old, "old")


def test_conversion_goes_on_while_certificates_are_renewed(serving: Fleet, old: str) -> None:
    api, path = serving.api, f"/apis/cluster.x-k8s.io/v1alpha4/namespaces/{old}/clusters/old"
    failures: list[Exception] = []
    stop = threading.Event()

    def reading() -> None:
        while not stop.is_set():
            try:
                api.get(path)
            except Exception as error:  # whatever it is, it is what somebody would have seen
                failures.append(error)
            stop.wait(0.05)

    reader = threading.Thread(target=reading)
    reader.start()
    try:
        secret = json.loads(serving.kubectl("-n", "fleetwake-system", "get", "secret", AUTHORITY, "-o", "json"))
        following = replace(first(AUTHORITY, now=utc_now(), lifetimes=Lifetimes()), former=(read(secret).pair.cert_pem,))
        body = following.secret("fleetwake-system", AUTHORITY, secret["metadata"]["resourceVersion"])
        serving.kubectl("replace", "-f", "-", stdin=json.dumps(body))
        wait_until(lambda: believed(serving) == following.bundle, LIMIT_S, "both CAs in the definitions")
    finally:
        stop.set()
        reader.join()
    assert failures == []
    # a new pod shows a certificate of the new CA
    serving.rig.restart("admission-0")
    assert api.get(path)["metadata"]["name"] == "old"


def ours(event: dict[str, Any]) -> bool:
    return bool(event["user"]["username"].startswith(ACCOUNTS) and event.get("userAgent", "").startswith("fleetwake-"))


def test_rights_suffice_and_are_used(serving: Fleet, old: str) -> None:
    events = [event for event in serving.audit() if ours(event)]
    forbidden = [event for event in events if event["annotations"]["authorization.k8s.io/decision"] == "forbid"]
    refused = {f"{event['user']['username']} {event['verb']} {event['requestURI']}" for event in forbidden}
    assert refused == set()
    used = set()
    for event in (event for event in events if event.get("objectRef")):
        ref, service = event["objectRef"], event["user"]["username"].removeprefix(ACCOUNTS)
        resource = "/".join(filter(None, (ref["resource"], ref.get("subresource"))))
        used.add((service, resource, event["verb"]))
        if event["verb"] == "patch" and event["responseStatus"]["code"] == 201:
            used.add((service, resource, "create"))
    lacking = {
        f"{grant.service} {verb} {resource}"
        for grant in grants()
        if grant.scope == "older"
        for resource in grant.resources
        for verb in grant.verbs
        if verb not in grant.rare and (grant.service, resource, verb) not in used
    }
    assert lacking == set()
