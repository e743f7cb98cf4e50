"""Objects made from templates: what is copied, what wins, what is always set."""

from __future__ import annotations

from typing import Any

from fleetwake.cloning import Clone, clone, made_kind
from fleetwake.kind import External
from schemas.api.meta import ObjectMeta
from schemas.keys import GroupKind, ObjectKey

GROUP = "infrastructure.example.com"
CLUSTER_NAME = "cluster.x-k8s.io/cluster-name"


def template(inner: Any) -> External:
    key = ObjectKey(GROUP, "FooMachineTemplate", "default", "first")
    return External(key, f"{GROUP}/v1alpha7", ObjectMeta(name="first", namespace="default"), {"spec": {"template": inner}})


def test_the_whole_inner_object_is_copied() -> None:
    inner = {
        "metadata": {"labels": {"a": "template", "b": "template"}, "annotations": {"n": "template"}, "finalizers": ["no"], "uid": "no"},
        "spec": {"size": "big", "disks": [{"gb": 10}]},
        "status": {"ready": True},
    }
    owner = {"kind": "Machine", "name": "m", "uid": "u"}
    body = clone(template(inner), Clone("m", "demo", {"b": "machine", CLUSTER_NAME: "other"}, {"n": "machine"}, (owner,)))
    assert body == {
        "apiVersion": f"{GROUP}/v1alpha7",
        "kind": "FooMachine",
        "metadata": {
            "name": "m",
            "namespace": "default",
            "labels": {"a": "template", "b": "machine", CLUSTER_NAME: "demo"},
            "annotations": {
                "n": "machine",
                "cluster.x-k8s.io/cloned-from-name": "first",
                "cluster.x-k8s.io/cloned-from-groupkind": f"FooMachineTemplate.{GROUP}",
            },
            "ownerReferences": [owner],
        },
        "spec": {"size": "big", "disks": [{"gb": 10}]},
    }


def test_a_template_without_an_inner_object_gives_an_empty_one() -> None:
    for inner in (None, "nonsense", {"metadata": "nonsense"}):
        body = clone(template(inner), Clone("m", "demo"))
        assert body["kind"] == "FooMachine"
        assert "spec" not in body and "ownerReferences" not in body["metadata"]
        assert body["metadata"]["labels"] == {CLUSTER_NAME: "demo"}


def test_the_inner_object_may_name_its_own_kind() -> None:
    found = template({"apiVersion": "other.example.com/v1", "kind": "Bar"})
    assert made_kind(found) == GroupKind("other.example.com", "Bar")
    assert clone(found, Clone("m", "demo"))["apiVersion"] == "other.example.com/v1"
