"""The generated CustomResourceDefinitions say what the API's users rely on, field by field."""

from __future__ import annotations

import copy
import difflib
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas import crd
from schemas.api.core.v1beta2 import Machine
from schemas.api.meta import KubeObject
from schemas.api.registry import KINDS
from tests.contract import digest

DIGESTS = Path(__file__).parent / "digests"
GENERATED = Path(str(resources.files("schemas"))) / "generated" / "crds"

NOT_IN_DIGESTS = {
    # the digest of the kubeadm group lists KubeadmConfig only; test_a_template_holds_the_same_spec covers the template
    "KubeadmConfigTemplate",
}
PROVIDERS = {
    "bootstrap.cluster.x-k8s.io": "bootstrap-kubeadm",
    "controlplane.cluster.x-k8s.io": "control-plane-kubeadm",
    "infrastructure.cluster.x-k8s.io": "infrastructure-docker",
}

OURS = {
    "KubeadmConfig": (("spec", "fleetwake"),),
    "KubeadmControlPlane": (("spec", "kubeadmConfigSpec", "fleetwake"),),
    "KubeadmControlPlaneTemplate": (("spec", "template", "spec", "kubeadmConfigSpec", "fleetwake"),),
    "DevCluster": (("spec", "backend", "inMemory", "loadBalancer"),),
    "DevClusterTemplate": (("spec", "template", "spec", "backend", "inMemory", "loadBalancer"),),
    "DevMachinePool": (("spec", "backend", "inMemory"), ("status", "capacity"), ("status", "nodeInfo")),
    "DevMachinePoolTemplate": (("spec", "template", "spec", "backend", "inMemory"),),
}
"""The fields that Cluster API does not have: the only difference to its schemas."""

per_kind = pytest.mark.parametrize("model", KINDS, ids=lambda model: model.KIND)


def digests() -> dict[str, list[str]]:
    kinds: dict[str, list[str]] = {}
    for path in sorted(DIGESTS.glob("*.txt")):
        kinds |= digest.read(path.read_text())
    return kinds


def schema_of(model: type[KubeObject], *, additions: bool = True) -> dict[str, Any]:
    (version,) = crd.definition(model, additions=additions)["spec"]["versions"]
    return version["schema"]["openAPIV3Schema"]


def without_ours(definition: dict[str, Any]) -> dict[str, Any]:
    """The definition without the fields of ours; they are nowhere but where they are expected, and may be left out."""
    definition = copy.deepcopy(definition)
    kind = definition["spec"]["names"]["kind"]
    for *path, ours in OURS.get(kind, ()):
        place = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        for name in path:
            place = place["properties"][name]
        assert ours not in place.get("required", ())
        assert place["properties"].pop(ours).get("minProperties") == (1 if ours == "fleetwake" else None)
    return definition


def test_every_kind_of_the_digests_is_modelled_and_no_other() -> None:
    assert set(digests()) | NOT_IN_DIGESTS == {model.KIND for model in KINDS}


@pytest.mark.parametrize("model", [model for model in KINDS if model.KIND not in NOT_IN_DIGESTS], ids=lambda model: model.KIND)
def test_every_field_has_the_facts_of_its_digest(model: type[KubeObject]) -> None:
    wanted, generated = digests()[model.KIND], digest.describe(without_ours(crd.definition(model, additions=False)))
    differences = "\n".join(difflib.unified_diff(wanted, generated, "digest", "generated", n=0, lineterm=""))
    assert not differences, differences


@pytest.mark.parametrize(
    ("template", "resource", "path"),
    [
        ("KubeadmConfigTemplate", "KubeadmConfig", ()),
        ("DevMachineTemplate", "DevMachine", ()),
        ("DevClusterTemplate", "DevCluster", ()),
        ("DevMachinePoolTemplate", "DevMachinePool", ()),
        ("KubeadmControlPlaneTemplate", "KubeadmControlPlane", ("kubeadmConfigSpec",)),
        ("KubeadmControlPlane", "KubeadmConfig", None),
    ],
)
def test_a_template_holds_the_same_spec(template: str, resource: str, path: tuple[str, ...] | None) -> None:
    models = {model.KIND: model for model in KINDS}
    outer, inner = schema_of(models[template])["properties"]["spec"], schema_of(models[resource])["properties"]["spec"]
    if path is None:
        outer = outer["properties"]["kubeadmConfigSpec"]
    else:
        outer = outer["properties"]["template"]["properties"]["spec"]
        for name in path:
            outer, inner = outer["properties"][name], inner["properties"][name]
    assert outer | {"description": ""} == inner | {"description": ""}


@per_kind
def test_the_committed_file_is_what_the_models_generate(model: type[KubeObject]) -> None:
    assert (GENERATED / crd.file_name(model)).read_text() == crd.render(model), "run `fleetwake schemas generate` and commit the result"


def test_no_file_is_left_over() -> None:
    assert {path.name for path in GENERATED.iterdir()} == {crd.file_name(model) for model in KINDS}


@per_kind
def test_the_yaml_reads_back_as_the_definition(model: type[KubeObject]) -> None:
    assert yaml.safe_load(crd.render(model)) == crd.definition(model)


@per_kind
def test_labels_tell_clusterctl_the_provider_and_the_contract(model: type[KubeObject]) -> None:
    wanted = {"clusterctl.cluster.x-k8s.io": "", "cluster.x-k8s.io/provider": PROVIDERS.get(model.GROUP, "cluster-api")}
    if model.GROUP in PROVIDERS:
        wanted["cluster.x-k8s.io/v1beta2"] = "v1beta2"
    assert crd.definition(model)["metadata"] == {"name": f"{model.PLURAL}.{model.GROUP}", "labels": wanted}


@per_kind
def test_every_node_is_structural_and_described(model: type[KubeObject]) -> None:
    def check(schema: dict[str, Any], path: str, described: bool = True) -> None:
        free = schema.get("x-kubernetes-preserve-unknown-fields") or schema.get("x-kubernetes-int-or-string")
        assert free or "type" in schema, f"{path} has no type"
        assert not described or path.endswith(".metadata") or schema.get("description"), f"{path} has no description"
        assert not ("properties" in schema and "additionalProperties" in schema), f"{path} is a map and an object"
        for name, field in schema.get("properties", {}).items():
            check(field, f"{path}.{name}")
        for key in ("items", "additionalProperties"):
            if key in schema:
                check(schema[key], f"{path}[]", described=False)

    check(schema_of(model), model.KIND)


def test_descriptions_are_the_docstrings_of_fields_and_of_item_types() -> None:
    spec = schema_of(Machine)["properties"]["spec"]["properties"]
    assert spec["bootstrap"]["properties"]["configRef"]["description"] == "The bootstrap provider's object that makes the data."
    assert spec["taints"]["description"] == "Taints for the Node."
    assert spec["taints"]["items"]["description"] == "A taint that a Machine's Node gets."
    assert spec["taints"]["items"]["properties"]["key"]["description"] == "Key of the taint."


def test_conditions_merge_per_type() -> None:
    for model in KINDS:
        status = schema_of(model)["properties"].get("status", {}).get("properties", {})
        if "conditions" in status:
            conditions = status["conditions"]
            assert conditions["x-kubernetes-list-type"] == "map"
            assert conditions["x-kubernetes-list-map-keys"] == ["type"]
            item = conditions["items"]
            assert item["required"] == ["lastTransitionTime", "message", "reason", "status", "type"]
            assert item["properties"]["status"]["enum"] == ["True", "False", "Unknown"]
            assert item["properties"]["message"]["maxLength"] == 32768
            assert item["properties"]["reason"]["maxLength"] == 1024
            assert item["properties"]["observedGeneration"]["format"] == "int64"


@pytest.mark.parametrize(("additions", "wanted"), [(False, set()), (True, {"replicas", "strategy", "port"})], ids=["the digests'", "and ours"])
def test_only_what_the_digests_name_and_admission_adds_has_a_server_side_default(additions: bool, wanted: set[str]) -> None:
    found: set[str] = set()

    def collect(schema: dict[str, Any], path: str) -> None:
        if "default" in schema:
            found.add(path)
        for name, field in schema.get("properties", {}).items():
            collect(field, name)
        if "items" in schema:
            collect(schema["items"], path)

    for model in KINDS:
        collect(schema_of(model, additions=additions), model.KIND)
    # name and optional are defaults inside Kubernetes' own shapes (EnvVarSource, LocalObjectReference)
    assert found == {"reason", "name", "optional"} | wanted
