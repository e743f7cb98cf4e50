"""The real API server's word on every manifest: server-side dry-run of all objects, third-party kinds by their published definitions, pods by Pod Security."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleetwake.rig.access import MANIFESTS
from fleetwake.rig.rendering import NAMESPACE, helm_template, kustomize_build
from tests.deployment.manifests import OVERLAYS, workloads
from tests.deployment.published import definitions

pytestmark = pytest.mark.apiserver

Kubectl = Callable[..., str]
RENDERED: Mapping[str, Callable[[], Iterable[Mapping[str, Any]]]] = {
    **{f"kustomize {name}": lambda name=name: [one.body for one in kustomize_build(MANIFESTS / "overlays" / name)] for name in OVERLAYS},
    **{f"helm {name}": lambda name=name: [one.body for one in helm_template([MANIFESTS / "values" / f"{name}.yaml"])] for name in OVERLAYS},
}


@pytest.fixture(scope="module")
def third_party_kinds(kubectl: Kubectl) -> Iterator[None]:
    """The kinds of Strimzi, KEDA and Prometheus' operator as published, served while these tests run."""
    arguments = [argument for path in definitions() for argument in ("-f", str(path))]
    kubectl("apply", "--server-side", *arguments)
    kubectl("wait", "--for=condition=Established", *arguments, "--timeout=30s")
    yield
    kubectl("delete", *arguments, "--wait=false")


@pytest.mark.parametrize("rendered", RENDERED)
def test_the_api_server_takes_every_object(kubectl: Kubectl, third_party_kinds: None, rendered: str, tmp_path: Path) -> None:
    documents = list(RENDERED[rendered]())
    path = tmp_path / "all.yaml"
    path.write_text(yaml.safe_dump_all(documents))
    said = kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "--field-manager=test", "--force-conflicts", "-f", str(path)).splitlines()
    assert len([line for line in said if "serverside-applied (server dry run)" in line]) == len(documents)


def test_the_api_server_refuses_a_manifest_that_is_wrong(kubectl: Kubectl, third_party_kinds: None) -> None:
    """The test above can fail."""
    scaled = next(body for body in RENDERED["helm production"]() if body["kind"] == "ScaledObject")
    wrong = json.dumps({**scaled, "spec": {**scaled["spec"], "maxReplicas": 3}})
    with pytest.raises(AssertionError, match="maxReplicas"):
        kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", stdin=wrong)


@pytest.fixture
def restricted(kubectl: Kubectl, kube_namespace: str) -> Iterator[str]:
    """A namespace in which only pods of the standard "restricted" may be, and the priority that ours have."""
    kubectl("label", "namespace", kube_namespace, "pod-security.kubernetes.io/enforce=restricted")
    priority = (MANIFESTS / "base" / "priority.yaml").read_text()
    kubectl("apply", "-f", "-", stdin=priority)
    yield kube_namespace
    kubectl("delete", "-f", "-", stdin=priority)


def test_every_pod_is_admitted_where_only_restricted_ones_are(kubectl: Kubectl, restricted: str) -> None:
    """A workload is only warned about; it is its pods that Pod Security refuses, so those are asked for here."""
    pods = [_pod(f"of-{one.name}", one.pod) for one in workloads()]
    said = kubectl("create", "-n", restricted, "--dry-run=server", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": pods}))
    assert len(said.splitlines()) == len(pods)
    spoilt = json.loads(json.dumps(pods[0]))
    spoilt["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    with pytest.raises(AssertionError, match='violates PodSecurity "restricted'):
        kubectl("create", "-n", restricted, "--dry-run=server", "-f", "-", stdin=json.dumps(spoilt))


def _pod(name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    # a StatefulSet gives its pods their claims as volumes
    mounted = {mount["name"] for container in spec["containers"] for mount in container["volumeMounts"]}
    claimed = mounted - {volume["name"] for volume in spec["volumes"]}
    volumes = [*spec["volumes"], *({"name": claim, "persistentVolumeClaim": {"claimName": claim}} for claim in sorted(claimed))]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {**spec, "volumes": volumes}}


def test_the_rig_runs_with_the_roles_of_the_base(kubectl: Kubectl) -> None:
    """Applying the permissions once more changes nothing: what every test on real servers runs with is what is committed."""
    said = kubectl("diff", "--server-side", "-f", str(MANIFESTS / "base" / "rbac"), "-f", str(MANIFESTS / "components" / "dev-infrastructure" / "rbac"))
    assert said == ""
    bound = kubectl("get", "clusterrolebindings", "-o", "json")
    admins = [
        subject
        for binding in json.loads(bound)["items"]
        if binding["roleRef"]["name"] == "cluster-admin"
        for subject in binding.get("subjects", ())
        if subject.get("namespace") == NAMESPACE
    ]
    assert admins == []
