"""How kinds are addressed: our models, the CRDs that were seen, the core."""

from __future__ import annotations

from typing import Any

import pytest

from fleetwake.shell.resources import Resources, contract_version, version_rank
from schemas.api.registry import KINDS
from schemas.keys import GroupKind, ObjectKey

MACHINE = ObjectKey("cluster.x-k8s.io", "Machine", "default", "m1")
DOCKER = GroupKind("infrastructure.cluster.x-k8s.io", "DockerMachine")


def crd(*versions: str, labels: dict[str, str] | None = None, scope: str = "Namespaced", unserved: tuple[str, ...] = ()) -> tuple[dict[str, Any], ObjectKey]:
    served = [{"name": name, "served": name not in unserved} for name in versions]
    spec = {"group": DOCKER.group, "names": {"kind": DOCKER.kind, "plural": "dockermachines"}, "scope": scope, "versions": served}
    key = ObjectKey("apiextensions.k8s.io", "CustomResourceDefinition", "", f"dockermachines.{DOCKER.group}")
    return {"metadata": {"name": key.name, "labels": labels or {}}, "spec": spec}, key


@pytest.mark.parametrize(
    ("newer", "older"),
    [("v2", "v1"), ("v1", "v1beta1"), ("v1beta2", "v1beta1"), ("v1beta1", "v1alpha4"), ("v1alpha10", "v1alpha9"), ("v10", "v9"), ("v1alpha1", "nonsense")],
)
def test_versions_are_ordered_as_kubernetes_does(newer: str, older: str) -> None:
    assert version_rank(newer) > version_rank(older)


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        pytest.param({}, None, id="no contract"),
        pytest.param({"cluster.x-k8s.io/v1beta2": "v1beta2"}, ("v1beta2", "v1beta2"), id="one"),
        pytest.param({"cluster.x-k8s.io/v1beta1": "v1beta1_v1beta2"}, ("v1beta2", "v1beta1"), id="the newest version of the contract"),
        pytest.param({"cluster.x-k8s.io/v1beta1": "v1beta1", "cluster.x-k8s.io/v1beta2": "v1alpha7"}, ("v1alpha7", "v1beta2"), id="the newest contract first"),
        pytest.param({"cluster.x-k8s.io/v1beta2": ""}, None, id="an empty label"),
    ],
)
def test_contract_versions(labels: dict[str, str], found: tuple[str, str] | None) -> None:
    assert contract_version(labels) == found


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param({"key": MACHINE}, "/apis/cluster.x-k8s.io/v1beta2/namespaces/default/machines/m1", id="ours"),
        pytest.param({"key": MACHINE, "subresource": "status"}, "/apis/cluster.x-k8s.io/v1beta2/namespaces/default/machines/m1/status", id="status"),
        pytest.param({"key": MACHINE, "collection": True}, "/apis/cluster.x-k8s.io/v1beta2/namespaces/default/machines", id="collection"),
        pytest.param(
            {"key": MACHINE, "api_version": "cluster.x-k8s.io/v1beta1"}, "/apis/cluster.x-k8s.io/v1beta1/namespaces/default/machines/m1", id="version"
        ),
        pytest.param({"key": ObjectKey("", "Secret", "default", "s")}, "/api/v1/namespaces/default/secrets/s", id="core"),
        pytest.param({"key": ObjectKey("", "Node", "", "n")}, "/api/v1/nodes/n", id="cluster-scoped"),
    ],
)
def test_paths(path: dict[str, Any], expected: str) -> None:
    assert Resources(KINDS).path(**path) == expected


def test_a_definition_teaches_a_kind_and_takes_it_away() -> None:
    resources = Resources(KINDS)
    machine = ObjectKey(*DOCKER, "default", "d1")
    with pytest.raises(LookupError, match="DockerMachine"):
        resources.path(machine)
    state, key = crd("v1beta1", "v1beta2", "v1beta3", labels={"cluster.x-k8s.io/v1beta2": "v1beta2"})
    resources.take_crd(state, key)
    assert resources.path(machine) == "/apis/infrastructure.cluster.x-k8s.io/v1beta2/namespaces/default/dockermachines/d1"
    found = resources.find(DOCKER)
    assert found is not None and found.contract == "v1beta2"
    resources.take_crd(None, key)
    assert resources.find(DOCKER) is None


def test_without_contract_labels_the_newest_served_version_counts() -> None:
    resources = Resources(())
    state, key = crd("v1alpha1", "v1", "v2", scope="Cluster", unserved=("v2",))
    resources.take_crd(state, key)
    assert resources.path(ObjectKey(*DOCKER, "", "d1")) == "/apis/infrastructure.cluster.x-k8s.io/v1/dockermachines/d1"


def test_our_own_models_are_not_overruled_by_a_definition() -> None:
    resources = Resources(KINDS)
    spec = {"group": "cluster.x-k8s.io", "names": {"kind": "Machine", "plural": "machines"}, "versions": [{"name": "v9"}]}
    resources.take_crd({"metadata": {}, "spec": spec}, ObjectKey("apiextensions.k8s.io", "CustomResourceDefinition", "", "machines.cluster.x-k8s.io"))
    assert "/v1beta2/" in resources.path(MACHINE)
