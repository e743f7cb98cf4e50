"""Server-side apply: ownership, conflicts, removal, order, creation."""

from __future__ import annotations

from typing import Any

import pytest
from conformance_clients import Client, Write
from conformance_kinds import CONFIG_MAPS, GROUP, WIDGETS, conditions, config_map, owned_by, status_config, widget

from fleetwake.sim.apiserver import ApiStatusError, PatchType

JsonDict = dict[str, Any]
STATUS = Write(subresource="status")


def apply(client: Client, namespace: str, body: JsonDict, manager: str, **options: Any) -> JsonDict:
    """Apply ``body`` by its name."""
    return client.patch(WIDGETS, (namespace, body["metadata"]["name"]), body, PatchType.APPLY, Write(manager, **options))


def apply_status(client: Client, namespace: str, body: JsonDict, manager: str, *, force: bool = False) -> JsonDict:
    """Apply ``body`` to the status."""
    return apply(client, namespace, body, manager, force=force, subresource="status")


def owners(obj: JsonDict) -> dict[tuple[str, str, str], JsonDict]:
    """Return the field set of each manager by (manager, operation, subresource)."""
    return {(e["manager"], e["operation"], e.get("subresource", "")): e["fieldsV1"] for e in obj["metadata"].get("managedFields", ())}


def statuses(obj: JsonDict) -> dict[str, str]:
    """Return the conditions' statuses by type."""
    return {condition["type"]: condition["status"] for condition in obj["status"]["conditions"]}


def test_apply_creates_what_is_absent(client: Client, namespace: str) -> None:
    made = apply(client, namespace, {**widget("a", labels={"x": "1"}, finalizers=["x.io/f"]), "status": {"phase": "Ready"}}, "m")
    assert made["metadata"]["generation"] == 1
    assert "status" not in made
    assert owners(made) == {
        ("m", "Apply", ""): {
            "f:metadata": {"f:finalizers": {'v:"x.io/f"': {}}, "f:labels": {"f:x": {}}},
            "f:spec": {"f:color": {}, "f:replicas": {}},
        }
    }
    client.patch(WIDGETS, (namespace, "a"), {"metadata": {"finalizers": None}}, PatchType.MERGE)


def test_apply_that_names_a_uid_creates_nothing(client: Client, namespace: str) -> None:
    with pytest.raises(ApiStatusError) as refused:
        apply(client, namespace, widget("a", uid="00000000-0000-4000-8000-000000000000"), "m", force=True)
    assert (refused.value.code, refused.value.reason) == (409, "Conflict")
    assert "no existing object was found" in refused.value.message


def test_apply_that_names_only_a_version_creates_what_is_absent(client: Client, namespace: str) -> None:
    assert apply(client, namespace, widget("a", resourceVersion="5"), "m")["metadata"]["uid"]


def test_apply_of_the_status_of_an_absent_object_is_not_found(client: Client, namespace: str) -> None:
    with pytest.raises(ApiStatusError) as refused:
        apply_status(client, namespace, status_config("a", ("A", "True")), "m")
    assert refused.value.code == 404


def test_two_managers_own_their_conditions(client: Client, namespace: str) -> None:
    client.create(WIDGETS, widget("a"), namespace, Write("creator"))
    apply_status(client, namespace, status_config("a", ("A", "True")), "one")
    both = apply_status(client, namespace, status_config("a", ("B", "False"), phase="Ready"), "two")
    assert statuses(both) == {"A": "True", "B": "False"}
    condition = {".": {}, "f:lastTransitionTime": {}, "f:reason": {}, "f:status": {}, "f:type": {}}
    assert owners(both) == {
        ("creator", "Update", ""): {"f:spec": {".": {}, "f:color": {}, "f:replicas": {}}},
        ("one", "Apply", "status"): {"f:status": {"f:conditions": {'k:{"type":"A"}': condition}}},
        ("two", "Apply", "status"): {"f:status": {"f:conditions": {'k:{"type":"B"}': condition}, "f:phase": {}}},
    }
    assert both["metadata"]["generation"] == 1


def test_a_manager_removes_only_its_own_condition(client: Client, namespace: str) -> None:
    client.create(WIDGETS, widget("a"), namespace)
    apply_status(client, namespace, status_config("a", ("A", "True")), "one")
    apply_status(client, namespace, status_config("a", ("B", "True")), "two")
    left = apply_status(client, namespace, status_config("a"), "one")
    assert statuses(left) == {"B": "True"}
    assert ("one", "Apply", "status") not in owners(left) or owners(left)[("one", "Apply", "status")] == {}


def test_a_conflict_names_manager_and_field(client: Client, namespace: str) -> None:
    client.create(WIDGETS, widget("a"), namespace)
    before = apply_status(client, namespace, status_config("a", ("A", "True")), "one")
    with pytest.raises(ApiStatusError) as refused:
        apply_status(client, namespace, status_config("a", ("A", "False")), "two")
    assert (refused.value.code, refused.value.reason) == (409, "Conflict")
    assert refused.value.message == 'Apply failed with 1 conflict: conflict with "one" with subresource "status": .status.conditions[type="A"].status'
    assert refused.value.details["causes"] == [
        {"reason": "FieldManagerConflict", "message": 'conflict with "one" with subresource "status"', "field": '.status.conditions[type="A"].status'}
    ]
    assert client.get(WIDGETS, namespace, "a") == before


def test_force_takes_the_field_over(client: Client, namespace: str) -> None:
    client.create(WIDGETS, widget("a"), namespace)
    apply_status(client, namespace, status_config("a", ("A", "True")), "one")
    taken = apply_status(client, namespace, status_config("a", ("A", "False")), "two", force=True)
    assert statuses(taken) == {"A": "False"}
    one = owners(taken)[("one", "Apply", "status")]["f:status"]["f:conditions"]['k:{"type":"A"}']
    assert "f:status" not in one and "f:type" in one
    left = apply_status(client, namespace, status_config("a"), "one")
    assert statuses(left) == {"A": "False"}


def test_equal_values_are_shared(client: Client, namespace: str) -> None:
    apply(client, namespace, widget("a", {"color": "red"}), "one")
    shared = apply(client, namespace, widget("a", {"color": "red"}), "two")
    assert {key[0] for key in owners(shared)} == {"one", "two"}
    dropped = apply(client, namespace, widget("a", {"replicas": 1}), "one")
    assert dropped["spec"] == {"color": "red", "replicas": 1}
    gone = apply(client, namespace, widget("a", {"replicas": 1}), "two")
    assert gone["spec"] == {"replicas": 1}


def test_a_plain_write_takes_ownership(client: Client, namespace: str) -> None:
    apply(client, namespace, widget("a", {"color": "red", "replicas": 1}), "one")
    written = client.patch(WIDGETS, (namespace, "a"), {"spec": {"color": "blue"}}, PatchType.MERGE, Write("two"))
    assert owners(written) == {("one", "Apply", ""): {"f:spec": {"f:replicas": {}}}, ("two", "Update", ""): {"f:spec": {"f:color": {}}}}
    with pytest.raises(ApiStatusError) as refused:
        apply(client, namespace, widget("a", {"color": "red", "replicas": 1}), "one")
    assert refused.value.message == f'Apply failed with 1 conflict: conflict with "two" using {GROUP}/v1: .spec.color'


def test_what_is_no_longer_applied_goes_unless_others_own_it(client: Client, namespace: str) -> None:
    one = {
        "color": "red",
        "parts": {"left": "l"},
        "free": {"x": "1"},
        "ports": [{"name": "p", "port": 1}],
        "tags": ["a"],
        "atoms": ["x"],
    }
    apply(client, namespace, widget("a", one), "one")
    two = {"parts": {"right": "r"}, "free": {"y": "1"}, "ports": [{"name": "p", "note": "n"}, {"name": "q"}], "tags": ["b"]}
    both = apply(client, namespace, widget("a", two), "two")
    assert both["spec"] == {
        "atoms": ["x"],
        "color": "red",
        "free": {"x": "1", "y": "1"},
        "parts": {"left": "l", "right": "r"},
        "ports": [{"name": "p", "note": "n", "port": 1}, {"name": "q"}],
        "tags": ["a", "b"],
    }
    left = apply(client, namespace, widget("a", {"color": "red"}), "one")
    assert left["spec"] == {"color": "red", "free": {"y": "1"}, "parts": {"right": "r"}, "ports": [{"name": "p", "note": "n"}, {"name": "q"}], "tags": ["b"]}
    assert apply(client, namespace, widget("a", {}), "two")["spec"] == {"color": "red"}


def test_a_field_of_a_plain_writer_survives_the_removal_of_its_neighbour(client: Client, namespace: str) -> None:
    apply(client, namespace, widget("a", {"parts": {"left": "l"}}), "one")
    client.patch(WIDGETS, (namespace, "a"), {"spec": {"parts": {"right": "r"}}}, PatchType.MERGE, Write("two"))
    left = apply(client, namespace, widget("a", {}), "one")
    assert left["spec"] == {"parts": {"right": "r"}}


def test_keyed_lists_follow_the_order_applied(client: Client, namespace: str) -> None:
    apply(client, namespace, widget("a", {"ports": [{"name": "c"}, {"name": "a"}, {"name": "x"}]}), "one")
    merged = apply(client, namespace, widget("a", {"ports": [{"name": "b"}, {"name": "a"}, {"name": "c"}]}), "two")
    assert [port["name"] for port in merged["spec"]["ports"]] == ["b", "a", "x", "c"]


def test_an_apply_without_change_keeps_the_version(client: Client, namespace: str) -> None:
    client.create(WIDGETS, widget("a"), namespace)
    body = status_config("a", ("A", "True"))
    first = apply_status(client, namespace, body, "one")
    assert apply_status(client, namespace, body, "one") == first
    main = apply(client, namespace, widget("a"), "two")
    assert apply(client, namespace, widget("a"), "two") == main


def test_finalizers_and_owners_are_applied_by_item(client: Client, namespace: str) -> None:
    owner = client.create(CONFIG_MAPS, config_map("owner"), namespace)
    client.create(WIDGETS, widget("a", finalizers=["x.io/one"]), namespace)
    config = {"apiVersion": f"{GROUP}/v1", "kind": "Widget", "metadata": {"name": "a"}}
    both = apply(client, namespace, {**config, "metadata": {"name": "a", "finalizers": ["x.io/two"], "ownerReferences": [owned_by(owner)]}}, "m")
    assert both["metadata"]["finalizers"] == ["x.io/one", "x.io/two"]
    left = apply(client, namespace, config, "m")
    assert left["metadata"]["finalizers"] == ["x.io/one"]
    assert "ownerReferences" not in left["metadata"]
    client.patch(WIDGETS, (namespace, "a"), {"metadata": {"finalizers": None}}, PatchType.MERGE)


def test_apply_needs_a_manager_and_no_managed_fields(client: Client, namespace: str) -> None:
    with pytest.raises(ApiStatusError) as refused:
        apply(client, namespace, widget("a"), "")
    assert (refused.value.code, refused.value.reason) == (422, "Invalid")
    with pytest.raises(ApiStatusError) as refused:
        apply(client, namespace, widget("a", managedFields=[{"manager": "m"}]), "m")
    assert (refused.value.code, refused.value.message) == (400, "metadata.managedFields must be nil")
    with pytest.raises(ApiStatusError) as refused:
        client.patch(WIDGETS, (namespace, "a"), {}, PatchType.MERGE, Write("m", force=True))
    assert refused.value.code == 422


def test_a_dry_run_apply_shows_the_merge_and_writes_nothing(client: Client, namespace: str) -> None:
    made = apply(client, namespace, widget("a", {"color": "red"}), "one")
    dry = apply(client, namespace, widget("a", {"color": "blue"}), "one", dry_run=True)
    assert (dry["spec"]["color"], dry["metadata"]["generation"]) == ("blue", 2)
    assert client.get(WIDGETS, namespace, "a") == made


def test_core_kinds_have_owners_too(client: Client, namespace: str) -> None:
    client.create(CONFIG_MAPS, config_map("a", {"x": "1"}, labels={"l": "1"}), namespace, Write("creator"))
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"y": "2"}}
    merged = client.patch(CONFIG_MAPS, (namespace, "a"), body, PatchType.APPLY, Write("m"))
    assert merged["data"] == {"x": "1", "y": "2"}
    assert owners(merged) == {
        ("creator", "Update", ""): {"f:data": {".": {}, "f:x": {}}, "f:metadata": {"f:labels": {".": {}, "f:l": {}}}},
        ("m", "Apply", ""): {"f:data": {"f:y": {}}},
    }


def test_managed_fields_can_be_reset(client: Client, namespace: str) -> None:
    apply(client, namespace, widget("a"), "one")
    reset = client.patch(WIDGETS, (namespace, "a"), [{"op": "replace", "path": "/metadata/managedFields", "value": [{}]}], PatchType.JSON)
    assert "managedFields" not in reset["metadata"]


def test_conditions_written_plainly_belong_to_the_status_writer(client: Client, namespace: str) -> None:
    client.create(WIDGETS, widget("a"), namespace, Write("creator"))
    written = client.patch(WIDGETS, (namespace, "a"), {"status": {"conditions": conditions(("A", "True"))}}, PatchType.MERGE, Write("m", subresource="status"))
    condition = {".": {}, "f:lastTransitionTime": {}, "f:reason": {}, "f:status": {}, "f:type": {}}
    assert owners(written)[("m", "Update", "status")] == {"f:status": {".": {}, "f:conditions": {".": {}, 'k:{"type":"A"}': condition}}}
