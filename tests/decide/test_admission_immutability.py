"""Every field of the kinds whose spec is partly fixed: which may change. The table is the schema's own fields, so a new one has to be decided upon."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from fleetwake import labels
from schemas import crd
from schemas.api.controlplane.v1beta2 import KubeadmControlPlane
from schemas.api.meta import KubeObject
from services.admission.rules.kubeadm_control_plane import ADMISSION
from services.admission.rules.rule import Asked
from tests.decide.admission_world import Document, changed, document, of, refused

CONFIGURATION = "spec.kubeadmConfigSpec.clusterConfiguration"
FIXED = {f"{CONFIGURATION}.{name}" for name in ("caCertificateValidityPeriodDays", "certificatesDir", "controlPlaneEndpoint")}
"""What a KubeadmControlPlane keeps for life (roadmap.md row 10)."""


def leaves(model: type[KubeObject]) -> list[tuple[str, dict[str, Any]]]:
    """Every field of the spec that has no fields of its own, with its schema."""
    (version,) = crd.definition(model)["spec"]["versions"]
    return list(_leaves(version["schema"]["openAPIV3Schema"]["properties"]["spec"], "spec"))


def _leaves(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if "properties" not in schema:
        yield path, schema
    for name, field in schema.get("properties", {}).items():
        yield from _leaves(field, f"{path}.{name}")


def values(schema: dict[str, Any]) -> tuple[Any, Any]:
    """Two values of a field that differ. Rules on their content are not asked here: each is its own test."""
    if schema.get("type") == "array":
        return [{"name": "one"}], [{"name": "two"}]
    if schema.get("type") == "boolean":
        return True, False
    if schema.get("type") == "integer" or schema.get("x-kubernetes-int-or-string"):
        return 3, 5
    if "additionalProperties" in schema:
        return {"one": "1"}, {"two": "2"}
    return schema.get("enum", ["v1.31.0", "v1.31.1"])[0], schema.get("enum", ["v1.31.0", "v1.31.1"])[-1]


LEAVES = leaves(KubeadmControlPlane)
PLANE = document("KubeadmControlPlane")


def fixed_paths(new: Document, old: Document) -> set[str]:
    """The fields that the list of mutable ones refuses."""
    (rule,) = (rule for rule in ADMISSION.rules if rule.path == "spec.**")
    whole = KubeadmControlPlane.model_validate(PLANE)
    return {violation.path for violation in rule.check(Asked(whole, whole, new, old))}


def test_the_table_is_not_empty() -> None:
    assert len(LEAVES) > 100 and {path for path, _ in LEAVES} > FIXED


@pytest.mark.parametrize(("path", "schema"), LEAVES, ids=[path.removeprefix("spec.") for path, _ in LEAVES])
def test_a_field_of_a_control_plane_changes_comes_and_goes_or_is_refused_by_its_path(path: str, schema: dict[str, Any]) -> None:
    one, other = values(schema)
    expected = {path} if path in FIXED else set()
    bare, first = changed(PLANE, path, None), changed(PLANE, path, one)
    if one != other:
        assert fixed_paths(changed(PLANE, path, other), first) == expected, "changes"
    assert fixed_paths(first, bare) == expected, "comes"
    assert fixed_paths(bare, first) == expected, "goes"
    # its parent goes with it: what may go one by one may go together
    parent = path.rpartition(".")[0]
    if parent not in ("spec", "spec.machineTemplate", "spec.kubeadmConfigSpec"):
        alone = changed(changed(PLANE, parent, None), path, one)
        assert fixed_paths(changed(alone, parent, None), alone) == expected, "goes with its parent"


@pytest.mark.parametrize("path", sorted(FIXED))
def test_the_refusal_of_a_fixed_field_is_told_as_the_api_server_tells_it(path: str) -> None:
    assert refused(changed(PLANE, path, "x" if "Days" not in path else 100), PLANE) == [(path, "Forbidden")]


def test_several_fixed_fields_are_all_told_and_allowed_ones_are_not() -> None:
    new = changed(changed(PLANE, f"{CONFIGURATION}.certificatesDir", "/x"), f"{CONFIGURATION}.controlPlaneEndpoint", "x:1")
    new = changed(new, f"{CONFIGURATION}.imageRepository", "registry")
    assert refused(new, PLANE) == [(f"{CONFIGURATION}.{name}", "Forbidden") for name in ("certificatesDir", "controlPlaneEndpoint")]


def running(*versions: str, spec: str = "v1.31.0") -> Document:
    made = changed(PLANE, "spec.version", spec)
    return made | ({"status": {"versions": [{"version": one, "replicas": 1} for one in versions]}} if versions else {})


@pytest.mark.parametrize(
    ("wanted", "old", "allowed"),
    [
        pytest.param("v1.31.4", running(), True, id="patch"),
        pytest.param("v1.32.0", running(), True, id="minor"),
        pytest.param("v1.33.0", running(), False, id="two-minors"),
        pytest.param("v2.0.0", running(), False, id="major"),
        pytest.param("v1.30.9", running(), False, id="back"),
        pytest.param("v1.31.0-rc.1", running(), False, id="before-the-release"),
        pytest.param("v1.32.0", running("v1.30.0", spec="v1.31.0"), False, id="a-second-minor-before-the-first-is-there"),
        pytest.param("v1.30.0", running("v1.30.0", spec="v1.31.0"), True, id="back-to-what-runs-when-nothing-newer-came-up"),
        pytest.param("v1.30.0", running("v1.30.0", "v1.31.0", spec="v1.31.0"), False, id="back-when-something-newer-runs"),
        pytest.param("v1.31.2", running("v1.30.0", "v1.31.0", spec="v1.31.0"), True, id="a-patch-in-the-middle-of-a-rollout"),
    ],
)
def test_versions_of_a_control_plane(wanted: str, old: Document, allowed: bool) -> None:
    assert refused(changed(old, "spec.version", wanted), old) == ([] if allowed else [("spec.version", "Forbidden")])


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        pytest.param("v1.11.3", "v1.12.0", [], id="up"),
        pytest.param("v1.11.3", "v1.11.3-build.2", [], id="another-build"),
        pytest.param("v1.12.0", "v1.11.3", [(f"{CONFIGURATION}.dns.imageTag", "Forbidden")], id="back"),
        pytest.param(None, "v1.11.3", [], id="first"),
        pytest.param("v1.11.3", None, [], id="gone"),
        pytest.param("v1.11.3", "latest", [(f"{CONFIGURATION}.dns.imageTag", "Invalid")], id="no-version"),
    ],
)
def test_the_tag_of_coredns(before: str | None, after: str | None, expected: list[tuple[str, str]]) -> None:
    old, new = (changed(PLANE, f"{CONFIGURATION}.dns", {"imageTag": tag} if tag else None) for tag in (before, after))
    assert refused(new, old) == expected
    if expected and expected[0][1] == "Forbidden":
        new["metadata"] = {**new["metadata"], "annotations": {labels.SKIP_COREDNS: ""}}
        assert refused(new, old) == []


TEMPLATES = {
    "KubeadmControlPlaneTemplate": of(
        "controlplane.cluster.x-k8s.io/v1beta2", "KubeadmControlPlaneTemplate", {"template": {"spec": {"kubeadmConfigSpec": {"verbosity": 1}}}}
    ),
    "DevMachineTemplate": document("DevMachineTemplate"),
    "DevClusterTemplate": of("infrastructure.cluster.x-k8s.io/v1beta2", "DevClusterTemplate", {"template": {"spec": {"backend": {"inMemory": {}}}}}),
    "DevMachinePoolTemplate": of("infrastructure.cluster.x-k8s.io/v1beta2", "DevMachinePoolTemplate", {"template": {"spec": {}}}),
}


@pytest.mark.parametrize("kind", TEMPLATES)
def test_a_template_keeps_its_spec(kind: str) -> None:
    old = TEMPLATES[kind]
    new = copy.deepcopy(old)
    new["spec"]["template"]["spec"]["added"] = {"deep": 1}
    assert refused(new, old) == [("spec.template.spec.added.deep", "Forbidden")]
    assert refused(old, new) == [("spec.template.spec.added", "Forbidden")]
    assert refused(changed(old, "spec.template.metadata", {"labels": {"a": "b"}}), old) == []
    dry_run = {**new, "metadata": {**new["metadata"], "annotations": {labels.TOPOLOGY_DRY_RUN: ""}}}
    assert refused(dry_run, old) == []


def test_a_template_of_bootstrap_data_may_be_edited() -> None:
    old = document("KubeadmConfigTemplate")
    assert refused(changed(old, "spec.template.spec.verbosity", 5), old) == []
    assert refused(changed(old, "spec.template.metadata", {"labels": {"a": "b c"}}), old) == [("spec.template.metadata.labels", "Invalid")]
