"""What is read from the wire is written back as it was, field by field, for every kind."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from schemas import crd
from schemas.api import registry
from schemas.api.bootstrap.v1beta2 import KubeadmConfig
from schemas.api.core.v1beta2 import Cluster, Machine
from schemas.api.infrastructure.v1beta2 import DevCluster
from schemas.api.meta import KubeObject
from schemas.api.registry import KINDS
from schemas.sensitive import redact

MANIFESTS = Path(__file__).parent / "manifests"
BY_PATTERN = ("name", "a/v1", "[1-2]", "http://name:1")
"""Texts of which one matches whichever pattern a field has."""


def manifests() -> list[dict[str, Any]]:
    return [document for path in sorted(MANIFESTS.glob("*.yaml")) for document in yaml.safe_load_all(path.read_text())]


def dump(parsed: KubeObject) -> dict[str, Any]:
    return parsed.model_dump(mode="json", by_alias=True, exclude_unset=True)


def group(document: dict[str, Any]) -> str:
    return str(document["apiVersion"].partition("/")[0])


def example(schema: dict[str, Any]) -> Any:
    """A value with every field and one item per list; patterns are tried by the model."""
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return {"any": ["json", 1, None]}
    if schema.get("x-kubernetes-int-or-string"):
        return "10%" if "pattern" not in schema else "10Gi"
    if "enum" in schema:
        return schema["enum"][-1]
    match schema["type"]:
        case "object":
            if "additionalProperties" in schema:
                return {"key": example(schema["additionalProperties"])}
            return {name: example(field) for name, field in schema.get("properties", {}).items()}
        case "array":
            return [example(schema["items"])]
        case "boolean":
            return False
        case "integer":
            return schema.get("minimum", 7)
    if schema.get("format") == "date-time":
        return "2026-02-03T04:05:06Z"
    return next(text for text in BY_PATTERN if re.match(schema.get("pattern", ""), text))


@pytest.mark.parametrize("document", manifests(), ids=lambda document: f"{document['kind']}-{document['metadata']['name']}")
def test_a_manifest_reads_and_writes_back_the_same(document: dict[str, Any]) -> None:
    model = registry.get(group(document), document["kind"])
    parsed = model.model_validate(document)
    assert dump(parsed) == document
    assert dump(model.model_validate_json(parsed.model_dump_json(by_alias=True, exclude_unset=True))) == document


@pytest.mark.parametrize("model", KINDS, ids=lambda model: model.KIND)
def test_every_field_reads_and_writes_back_under_its_own_attribute(model: type[KubeObject]) -> None:
    (version,) = crd.definition(model)["spec"]["versions"]
    document = example(version["schema"]["openAPIV3Schema"])
    document |= {"apiVersion": f"{model.GROUP}/{model.VERSION}", "kind": model.KIND, "metadata": {"name": "full"}}
    parsed = model.model_validate(document)
    assert dump(parsed) == document
    assert unknown_fields(parsed) == []


def unknown_fields(value: Any) -> list[str]:
    """Wire names that no attribute took."""
    if isinstance(value, tuple):
        return [name for item in value for name in unknown_fields(item)]
    if not hasattr(value, "model_extra"):
        return []
    return [*value.model_extra, *(name for attribute in type(value).model_fields for name in unknown_fields(getattr(value, attribute)))]


def test_a_field_of_a_newer_server_survives() -> None:
    document = {
        "apiVersion": "cluster.x-k8s.io/v1beta2",
        "kind": "Cluster",
        "metadata": {"name": "a", "selfLink": "/a"},
        "spec": {"paused": True, "fromTheFuture": {"x": [1]}},
        "status": {"novel": "thing"},
    }
    assert dump(Cluster.model_validate(document)) == document


def test_absent_objects_read_as_empty_and_are_not_written() -> None:
    document = {"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Cluster", "metadata": {"name": "a"}, "spec": {"paused": False}}
    cluster = Cluster.model_validate(document)
    assert cluster.status.initialization.infrastructure_provisioned is None
    assert cluster.status.deprecated.v1beta1.conditions == ()
    assert not cluster.spec.control_plane_endpoint.valid
    assert cluster.spec.topology is None
    assert dump(cluster) == document


def test_presence_of_an_empty_object_is_told_apart() -> None:
    backend = DevCluster.model_validate({"spec": {"backend": {"inMemory": {}}}}).spec.backend
    assert backend.in_memory is not None
    assert backend.docker is None


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "clusterName"), "x" * 64),
        (("spec", "minReadySeconds"), -1),
        (("spec", "infrastructureRef", "name"), "Not_A_Name"),
        (("status", "phase"), "Sleeping"),
        (("status", "conditions"), [{"type": "Ready", "status": "Maybe", "lastTransitionTime": "2026-02-03T04:05:06Z", "reason": "A"}]),
        (("status", "conditions"), [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-02-03T04:05:06", "reason": "A"}]),
    ],
    ids=["too long", "negative", "no name", "no phase", "no status", "no time zone"],
)
def test_what_the_api_server_would_refuse_is_refused(path: tuple[str, ...], value: Any) -> None:
    reference = {"apiGroup": "infrastructure.cluster.x-k8s.io", "kind": "DevMachine", "name": "m"}
    document: dict[str, Any] = {"spec": {"clusterName": "a", "bootstrap": {"dataSecretName": ""}, "infrastructureRef": reference}, "status": {}}
    Machine.model_validate(document)
    place = document
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    with pytest.raises(ValidationError):
        Machine.model_validate(document)


def test_kinds_are_found_by_group_and_kind() -> None:
    assert registry.find("cluster.x-k8s.io", "Machine") is Machine
    assert registry.find("infrastructure.example.com", "Machine") is None
    assert len({(model.GROUP, model.KIND) for model in KINDS}) == len(KINDS)
    for model in KINDS:
        assert registry.get(model.GROUP, model.KIND) is model


def test_redacted_objects_are_still_read() -> None:
    """In caches and records a hash of 76 characters stands for each sensitive value: no bound of a model may refuse it."""
    wire = {
        "apiVersion": "bootstrap.cluster.x-k8s.io/v1beta2",
        "kind": "KubeadmConfig",
        "metadata": {"name": "a", "namespace": "default"},
        "spec": {
            "initConfiguration": {"bootstrapTokens": [{"token": "abcdef.0123456789abcdef"}]},
            "joinConfiguration": {"discovery": {"bootstrapToken": {"token": "abcdef.0123456789abcdef"}, "tlsBootstrapToken": "x"}},
            "users": [{"name": "a", "passwd": "secret"}],
            "files": [{"path": "/a", "content": "secret"}],
        },
    }
    read = KubeadmConfig.model_validate(redact(wire, b"key"))
    assert read.spec.init_configuration.bootstrap_tokens[0].token.startswith("hmac-sha256:")
