"""What the API server is told: which writes it asks about, whom, and what when nobody answers; and that the pages say the same."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from fleetwake.rig.access import MANIFESTS
from fleetwake.rig.cache import CHECKOUT
from schemas.api.registry import KINDS
from services.admission.catalog import ADMISSIONS, MUTATING, VALIDATING
from services.admission.configurations import TIMEOUT_SECONDS, Address, configurations
from services.admission.page import CHART_FILE, chart_text, rendered
from services.admission.registration import says

URL = "https://127.0.0.1:9443"
DELETED = ("validation.clusterclass.cluster.x-k8s.io",)
MUTATE, VALIDATE = configurations(Address("admission", "system", URL), b"PEM")
WEBHOOKS: list[dict[str, Any]] = [*MUTATE["webhooks"], *VALIDATE["webhooks"]]


def test_each_webhook_leads_to_a_path_that_is_answered() -> None:
    assert {webhook["clientConfig"]["url"].removeprefix(URL) for webhook in MUTATE["webhooks"]} == set(MUTATING)
    assert {webhook["clientConfig"]["url"].removeprefix(URL) for webhook in VALIDATE["webhooks"]} == set(VALIDATING)
    assert "/validate-controlplane-cluster-x-k8s-io-v1beta2-kubeadmcontrolplane" in VALIDATING
    assert {base64.b64decode(webhook["clientConfig"]["caBundle"]) for webhook in WEBHOOKS} == {b"PEM"}
    assert len({webhook["name"] for webhook in WEBHOOKS}) == len(WEBHOOKS)


def test_only_whole_objects_of_our_own_kinds_are_asked_about() -> None:
    ours = {(model.GROUP, model.PLURAL) for model in KINDS}
    for webhook in WEBHOOKS:
        (rule,) = webhook["rules"]
        # no star and no subresource: neither status nor scale
        assert [(group, plural) for group in rule["apiGroups"] for plural in rule["resources"]] == [pair for pair in ours if pair[1] == rule["resources"][0]]
        assert (rule["operations"], rule["apiVersions"], webhook["sideEffects"], webhook["matchPolicy"]) == (
            ["CREATE", "UPDATE", *(["DELETE"] if webhook["name"] in DELETED else [])],
            ["v1beta2"],
            "None",
            "Equivalent",
        )
        conditions = {condition["name"]: condition["expression"] for condition in webhook["matchConditions"]}
        stays = "!has(object.metadata.deletionTimestamp)"
        # a delete comes without the object
        assert conditions["stays"] == (f"request.operation == 'DELETE' || ({stays})" if webhook["name"] in DELETED else stays)
        assert "object.spec != oldObject.spec" in conditions["changes"]


def test_what_repair_needs_is_let_through_when_nobody_answers_and_nothing_else() -> None:
    policies = {webhook["rules"][0]["resources"][0]: webhook["failurePolicy"] for webhook in WEBHOOKS}
    assert {plural for plural, policy in policies.items() if policy == "Ignore"} == {"machines", "machinesets"}
    # what our services make beside those has no webhook at all
    assert not {"kubeadmconfigs", "devmachines", "devclusters"} & policies.keys()
    assert {webhook["timeoutSeconds"] for webhook in WEBHOOKS if webhook["failurePolicy"] == "Ignore"} == {TIMEOUT_SECONDS["Ignore"]}
    assert all(admission.why for admission in ADMISSIONS)


def test_a_service_is_named_where_there_is_no_url_and_one_namespace_alone_where_it_is_said() -> None:
    mutating, validating = configurations(Address("admission", "system", only="team-a"), b"")
    for webhook in (*mutating["webhooks"], *validating["webhooks"]):
        assert webhook["clientConfig"].keys() == {"service"}
        assert webhook["clientConfig"]["service"]["name"] == "admission" and webhook["clientConfig"]["service"]["namespace"] == "system"
        assert webhook["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": "team-a"}}
    assert (mutating["metadata"]["name"], validating["metadata"]["name"]) == ("admission", "admission")


@pytest.mark.parametrize(
    ("stored", "wanted", "same"),
    [
        pytest.param({"a": 1, "b": 2}, {"a": 1}, True, id="more-is-stored"),
        pytest.param({"a": 1}, {"a": 2}, False, id="another-value"),
        pytest.param({}, {"a": 1}, False, id="less-is-stored"),
        pytest.param({"a": [{"b": 1, "c": 2}]}, {"a": [{"b": 1}]}, True, id="more-in-a-list"),
        pytest.param({"a": [1, 2]}, {"a": [1]}, False, id="a-longer-list"),
        pytest.param({"a": None}, {"a": {"b": 1}}, False, id="nothing-there"),
    ],
)
def test_what_is_stored_says_what_is_wanted(stored: Any, wanted: Any, same: bool) -> None:
    assert says(stored, wanted) is same


def test_the_page_and_the_charts_file_are_up_to_date() -> None:
    assert (CHECKOUT / "docs" / "admission.md").read_text() == rendered(), "run `fleetwake schemas generate`"
    assert (MANIFESTS / CHART_FILE).read_text() == chart_text(), "run `make deploy`"


def test_the_page_names_every_rule_and_where_it_is_enforced() -> None:
    page = rendered()
    for admission in ADMISSIONS:
        for rule in admission.rules:
            assert f"| `{rule.path}` | {rule.says} | webhook |" in page
    for model in KINDS:
        assert f"## {model.KIND}\n" in page
    assert "| `spec.clusterName` | field is immutable | CEL |" in page
    assert "| `spec.replicas` | filled in: 1 | schema |" in page
