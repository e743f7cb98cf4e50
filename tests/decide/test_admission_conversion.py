"""A ConversionReview is answered with every object in the version asked for, or with why not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fleetwake.errors import DecodeError
from schemas.api.registry import KINDS
from schemas.conversion import ConversionError
from services.admission import conversion
from services.admission.references import References, UnknownKindError, plural
from tests.e2e import manifests

Document = dict[str, Any]


def review(objects: list[Document], desired: str = "cluster.x-k8s.io/v1beta1") -> bytes:
    request = {"uid": "7", "desiredAPIVersion": desired, "objects": objects}
    return json.dumps({"apiVersion": conversion.API_VERSION, "kind": conversion.KIND, "request": request}).encode()


def clusters() -> list[Document]:
    return [next(one for one in manifests.cluster(name, "default") if one["kind"] == "Cluster") for name in ("a", "b")]


async def test_every_object_is_answered_in_its_order() -> None:
    asked = conversion.request_of(review(clusters()))
    answer = json.loads(conversion.converted(asked, await conversion.convert(asked, References(None))))["response"]
    assert (answer["uid"], answer["result"]) == ("7", {"status": "Success"})
    old = answer["convertedObjects"]
    assert [(one["metadata"]["name"], one["apiVersion"]) for one in old] == [("a", "cluster.x-k8s.io/v1beta1"), ("b", "cluster.x-k8s.io/v1beta1")]
    assert old[0]["spec"]["infrastructureRef"] == {
        "apiVersion": "infrastructure.cluster.x-k8s.io/v1beta2",
        "kind": "DevCluster",
        "name": clusters()[0]["spec"]["infrastructureRef"]["name"],
        "namespace": "default",
    }
    alpha = await conversion.convert(conversion.request_of(review(old, "cluster.x-k8s.io/v1alpha4")), References(None))
    hub = await conversion.convert(conversion.request_of(review(alpha, "cluster.x-k8s.io/v1beta2")), References(None))
    assert hub == clusters()


async def test_one_that_cannot_be_said_is_told() -> None:
    (first, second) = clusters()
    second["spec"]["infrastructureRef"] |= {"apiGroup": "other.example", "kind": "Sky"}
    with pytest.raises(ConversionError, match=r"Sky\.other\.example is not known: admission has no account"):
        await conversion.convert(conversion.request_of(review([first, second])), References(None))


def test_a_kind_of_others_is_asked_for_first() -> None:
    with pytest.raises(UnknownKindError):
        References(None).api_version("other.example", "Sky")


def test_the_plurals_of_our_own_kinds_are_conventional() -> None:
    assert {model.KIND: plural(model.KIND) for model in KINDS} == {model.KIND: model.PLURAL for model in KINDS}


@pytest.mark.parametrize(("kind", "name"), [("Proxy", "proxies"), ("Gateway", "gateways"), ("Box", "boxes"), ("DevCluster", "devclusters")])
def test_plurals(kind: str, name: str) -> None:
    assert plural(kind) == name


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"apiVersion":"apiextensions.k8s.io/v1","kind":"ConversionReview","request":{"uid":"1"}}', review([1])])  # type: ignore[list-item]
def test_what_is_no_review(body: bytes) -> None:
    with pytest.raises(DecodeError):
        conversion.request_of(body)
