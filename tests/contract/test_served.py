"""What is applied where older versions are served: which versions, and policies that have every rule of ours."""

from __future__ import annotations

import re
from contextlib import nullcontext
from typing import Any

import pytest

from fleetwake.errors import InvalidError
from fleetwake.kube.definitions import refuse_silent_removal
from fleetwake.kube.migration import managed_fields
from schemas import crd, policies, served
from schemas.api import registry

WEBHOOK = {"url": "https://admission/convert"}
MACHINE = registry.get("cluster.x-k8s.io", "Machine")


def versions(definition: dict[str, Any]) -> dict[str, bool]:
    return {one["name"]: one["served"] for one in definition["spec"]["versions"]}


@pytest.mark.parametrize(
    ("text", "named"),
    [("", ()), ("v1beta2", ()), ("v1alpha4,v1beta1", ("v1beta1", "v1alpha4")), ("v1beta1", ("v1beta1",)), ("v1alpha1,v1beta2", ("v1alpha1",))],
)
def test_the_versions_of_a_list(text: str, named: tuple[str, ...]) -> None:
    assert served.versions(text) == named


def test_the_hub_alone_is_what_is_committed() -> None:
    assert served.definitions((), WEBHOOK) == [crd.definition(model) for model in registry.KINDS]


def test_a_version_that_was_there_stays_unserved_until_it_is_migrated() -> None:
    definition = served.definition(MACHINE, ("v1beta1",), WEBHOOK, ("v1beta2", "v1beta1", "v1alpha4"))
    assert versions(definition) == {"v1beta2": True, "v1beta1": True, "v1alpha4": False}
    assert definition["spec"]["conversion"]["webhook"]["clientConfig"] == WEBHOOK
    assert [one["name"] for one in definition["spec"]["versions"] if one["storage"]] == ["v1beta2"]
    assert versions(served.definition(MACHINE, (), WEBHOOK, ("v1beta2", "v1beta1"))) == {"v1beta2": True, "v1beta1": False}
    assert "conversion" not in served.definition(MACHINE, (), WEBHOOK, ("v1beta2",))["spec"]


@pytest.mark.parametrize(
    ("present", "stored", "refused"),
    [(["v1beta2"], ["v1beta2"], False), (["v1beta2", "v1beta1"], ["v1beta2"], True), (["v1beta2"], ["v1beta1", "v1beta2"], True), (["v1beta2"], [], False)],
)
def test_older_versions_do_not_go_in_silence(present: list[str], stored: list[str], refused: bool) -> None:
    found = {"machines": {"spec": {"versions": [{"name": name} for name in present]}, "status": {"storedVersions": stored}}}
    with pytest.raises(InvalidError, match=r"FLEETWAKE_SERVED_VERSIONS.*schemas migrate") if refused else nullcontext():
        refuse_silent_removal(found)


def rules(schema: Any) -> int:
    """How many rules and bounds of ours there are in a schema, wherever they stand."""
    if isinstance(schema, list):
        return sum(map(rules, schema))
    if not isinstance(schema, dict):
        return 0
    own = schema.get(crd.ADDITIONS)
    bounds = len({"minimum", "pattern"} & own.keys()) if isinstance(own, dict) else 0
    return bounds + (schema.get(crd.ADDED) is True) + sum(rules(one) for name, one in schema.items() if name != crd.ADDITIONS)


@pytest.mark.parametrize("model", served.converted(), ids=lambda model: model.KIND)
def test_every_rule_of_ours_is_in_a_policy(model: Any) -> None:
    found = [one["spec"]["validations"] for one in policies.policies() if (one["kind"], one["metadata"]["name"]) == (policies.POLICY, policies.name(model))]
    said = found[0] if found else []
    assert len(said) == rules(crd.marked(model))
    for validation in said:
        # what is compared is guarded by there being something to compare with, and nothing is read that need not be there
        assert ("oldSelf" in validation["expression"]) == validation["expression"].startswith("oldObject == null || ")
        assert re.match(r"(oldObject == null \|\| )?\(!has\((old)?[oO]bject\.spec\)", validation["expression"]), validation
        assert validation["message"].startswith("spec") and validation["reason"] == "Invalid"


def entry(version: str, manager: str = "kubectl") -> dict[str, Any]:
    return {"manager": manager, "operation": "Apply", "apiVersion": f"cluster.x-k8s.io/{version}", "fieldsV1": {"f:spec": {}}}


def test_owners_in_versions_that_are_gone_own_nothing_any_more() -> None:
    gone, hub = {"cluster.x-k8s.io/v1beta1", "cluster.x-k8s.io/v1alpha4"}, "cluster.x-k8s.io/v1beta2"
    assert managed_fields({}, gone, hub) is None
    assert managed_fields({"managedFields": [entry("v1beta2")]}, gone, hub) is None
    assert managed_fields({"managedFields": [entry("v1beta1"), entry("v1beta2", "ours")]}, gone, hub) == [entry("v1beta2", "ours")]
    # none left: the API server would take the next apply for a change of an object that nobody owns
    (left,) = managed_fields({"managedFields": [entry("v1beta1"), entry("v1alpha4")]}, gone, hub) or ()
    assert (left["manager"], left["apiVersion"], left["fieldsV1"]) == ("kubectl", hub, {"f:metadata": {"f:name": {}}})
