"""Structural schemas of custom kinds: pruning, defaults, validation."""

from __future__ import annotations

from typing import Any

import pytest
from conformance_clients import Client, Write
from conformance_kinds import WIDGETS, conditions, widget

from fleetwake.sim.apiserver import ApiStatusError, PatchType


def test_undeclared_fields_are_dropped(client: Client, namespace: str) -> None:
    made = client.create(WIDGETS, {**widget("a", {"replicas": 1, "nope": 1, "parts": {"left": "l", "nope": 1}}), "extra": 1}, namespace)
    assert made["spec"] == {"replicas": 1, "parts": {"left": "l"}}
    assert "extra" not in made
    kept = client.patch(WIDGETS, (namespace, "a"), {"spec": {"anything": {"goes": {"deep": 1}}}}, PatchType.MERGE)
    assert kept["spec"]["anything"] == {"goes": {"deep": 1}}


def test_defaults_fill_declared_objects(client: Client, namespace: str) -> None:
    made = client.create(WIDGETS, widget("a", {"defaulted": {}}), namespace)
    assert made["spec"] == {"defaulted": {"mode": "auto"}}
    reset = client.patch(WIDGETS, (namespace, "a"), {"spec": {"defaulted": {"mode": None, "x": "y"}}}, PatchType.MERGE)
    assert reset["spec"]["defaulted"] == {"mode": "auto", "x": "y"}
    assert client.create(WIDGETS, widget("b", {}), namespace)["spec"] == {}


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"replicas": "three"}, "spec.replicas"),
        ({"replicas": 1.5}, "spec.replicas"),
        ({"parts": "left"}, "spec.parts"),
        ({"color": 1}, "spec.color"),
        ({"size": "medium"}, "spec.size"),
        ({"code": "a"}, "spec.code"),
        ({"code": "abcde"}, "spec.code"),
        ({"code": "A1"}, "spec.code"),
        ({"level": 0}, "spec.level"),
        ({"level": 10}, "spec.level"),
        ({"list": ["a", "b", "c"]}, "spec.list"),
        ({"list": [1]}, "spec.list[0]"),
        ({"either": True}, "spec.either"),
        ({"ports": [{"port": 1}]}, "spec.ports[0].name"),
        ({"ports": [{"name": "a"}, {"name": "a"}]}, "spec.ports[1]"),
        ({"tags": ["a", "a"]}, "spec.tags[1]"),
        ({"free": {"x": 1}}, "spec.free.x"),
    ],
)
def test_values_that_break_the_schema_are_invalid(client: Client, namespace: str, spec: dict[str, Any], field: str) -> None:
    with pytest.raises(ApiStatusError) as refused:
        client.create(WIDGETS, widget("a", spec), namespace)
    assert (refused.value.code, refused.value.reason) == (422, "Invalid")
    assert field in [cause["field"] for cause in refused.value.details["causes"]]


def test_status_is_validated_too(client: Client, namespace: str) -> None:
    client.create(WIDGETS, widget("a"), namespace)
    body = {"status": {"conditions": [{"type": "A"}]}}
    with pytest.raises(ApiStatusError) as refused:
        client.patch(WIDGETS, (namespace, "a"), body, PatchType.MERGE, Write(subresource="status"))
    assert "status.conditions[0].status" in [cause["field"] for cause in refused.value.details["causes"]]
    twice = {"status": {"conditions": conditions(("A", "True"), ("A", "False"))}}
    with pytest.raises(ApiStatusError) as refused:
        client.patch(WIDGETS, (namespace, "a"), twice, PatchType.MERGE, Write(subresource="status"))
    assert refused.value.code == 422
