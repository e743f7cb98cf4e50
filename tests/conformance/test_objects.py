"""Creates, updates, patches: locks, generation, the no-op rule, subresources."""

from __future__ import annotations

import pytest
from conformance_clients import Client, Write
from conformance_kinds import CONFIG_MAPS, DEPLOYMENTS, NODES, SECRETS, WIDGETS, conditions, config_map, widget

from fleetwake.sim.apiserver import ApiStatusError, PatchType

STATUS = Write(subresource="status")
OTHER_UID = "00000000-0000-4000-8000-000000000000"


def test_a_created_object_gets_identity_and_version(client: Client, namespace: str) -> None:
    made = client.create(WIDGETS, {**widget("a"), "status": {"phase": "Ready"}}, namespace)
    metadata = made["metadata"]
    assert metadata["uid"] and metadata["resourceVersion"].isdigit() and metadata["creationTimestamp"].endswith("Z")
    assert (metadata["generation"], metadata["namespace"]) == (1, namespace)
    assert "status" not in made
    assert client.get(WIDGETS, namespace, "a") == made


def test_a_second_create_of_a_name_is_refused(client: Client, namespace: str) -> None:
    client.create(CONFIG_MAPS, config_map("a"), namespace)
    with pytest.raises(ApiStatusError) as refused:
        client.create(CONFIG_MAPS, config_map("a"), namespace)
    assert (refused.value.code, refused.value.reason) == (409, "AlreadyExists")
    assert refused.value.message == 'configmaps "a" already exists'
    assert refused.value.details == {"name": "a", "kind": "configmaps"}


def test_an_absent_object_is_not_found(client: Client, namespace: str) -> None:
    with pytest.raises(ApiStatusError) as refused:
        client.get(WIDGETS, namespace, "a")
    assert (refused.value.code, refused.value.reason) == (404, "NotFound")
    assert refused.value.message == 'widgets.conformance.fleetwake.dev "a" not found'
    assert refused.value.details == {"name": "a", "group": "conformance.fleetwake.dev", "kind": "widgets"}


def test_a_create_in_an_absent_namespace_is_not_found(client: Client) -> None:
    with pytest.raises(ApiStatusError) as refused:
        client.create(CONFIG_MAPS, config_map("a"), "no-such-namespace")
    assert (refused.value.code, refused.value.message) == (404, 'namespaces "no-such-namespace" not found')


def test_a_bad_name_is_invalid(client: Client, namespace: str) -> None:
    with pytest.raises(ApiStatusError) as refused:
        client.create(CONFIG_MAPS, config_map("Not_a_name"), namespace)
    assert (refused.value.code, refused.value.reason) == (422, "Invalid")
    assert refused.value.details["causes"][0]["field"] == "metadata.name"


def test_a_version_on_create_is_refused(client: Client, namespace: str) -> None:
    with pytest.raises(ApiStatusError) as refused:
        client.create(CONFIG_MAPS, config_map("a", resourceVersion="5"), namespace)
    assert refused.value.code in (400, 500)
    assert "resourceVersion should not be set on objects to be created" in refused.value.message


def test_generated_names_have_the_prefix_and_five_characters(client: Client, namespace: str) -> None:
    template = config_map("x")
    template["metadata"] = {"generateName": "node-"}
    names = {client.create(CONFIG_MAPS, template, namespace)["metadata"]["name"] for _ in range(3)}
    assert len(names) == 3
    assert all(name.startswith("node-") and len(name) == 10 for name in names)


def test_two_controllers_are_invalid(client: Client, namespace: str) -> None:
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "controller": True}
    with pytest.raises(ApiStatusError) as refused:
        client.create(CONFIG_MAPS, config_map("a", ownerReferences=[{**owner, "uid": "1"}, {**owner, "uid": "2"}]), namespace)
    assert refused.value.code == 422


def test_an_update_with_an_old_version_conflicts(client: Client, namespace: str) -> None:
    made = client.create(WIDGETS, widget("a"), namespace)
    client.update(WIDGETS, {**made, "spec": {"replicas": 2}}, namespace)
    with pytest.raises(ApiStatusError) as refused:
        client.update(WIDGETS, {**made, "spec": {"replicas": 3}}, namespace)
    assert (refused.value.code, refused.value.reason) == (409, "Conflict")
    assert "the object has been modified; please apply your changes to the latest version and try again" in refused.value.message


def test_an_update_of_a_custom_object_needs_a_version(client: Client, namespace: str) -> None:
    client.create(WIDGETS, widget("a"), namespace)
    with pytest.raises(ApiStatusError) as refused:
        client.update(WIDGETS, widget("a", {"replicas": 2}), namespace)
    assert (refused.value.code, refused.value.reason) == (422, "Invalid")
    client.create(CONFIG_MAPS, config_map("a"), namespace)
    assert client.update(CONFIG_MAPS, config_map("a", {"other": "1"}), namespace)["data"] == {"other": "1"}


@pytest.mark.parametrize(
    ("type_", "subresource"),
    [(PatchType.MERGE, ""), (PatchType.MERGE, "status"), (PatchType.MERGE, "scale"), (PatchType.APPLY, ""), (PatchType.APPLY, "status")],
)
def test_a_patch_that_names_another_version_conflicts(client: Client, namespace: str, type_: PatchType, subresource: str) -> None:
    made = client.create(WIDGETS, widget("a"), namespace)
    body = {**widget("a", {"replicas": 5}, resourceVersion="1"), "status": {"phase": "Ready"}}
    if subresource == "scale":
        body = {"metadata": {"resourceVersion": "1"}, "spec": {"replicas": 5}}
    with pytest.raises(ApiStatusError) as refused:
        client.patch(WIDGETS, (namespace, "a"), body, type_, Write("m", force=type_ is PatchType.APPLY, subresource=subresource))
    assert (refused.value.code, refused.value.reason) == (409, "Conflict")
    assert client.get(WIDGETS, namespace, "a") == made


@pytest.mark.parametrize("type_", [PatchType.MERGE, PatchType.APPLY])
@pytest.mark.parametrize("subresource", ["", "status"])
def test_another_uid_in_a_patch_is_invalid_but_ignored_on_a_custom_status(client: Client, namespace: str, type_: PatchType, subresource: str) -> None:
    client.create(WIDGETS, widget("a"), namespace)
    body = {**widget("a", {"replicas": 5}, uid=OTHER_UID), "status": {"phase": "Ready"}}
    write = Write("m", force=type_ is PatchType.APPLY, subresource=subresource)
    if subresource == "status":
        assert client.patch(WIDGETS, (namespace, "a"), body, type_, write)["status"] == {"phase": "Ready"}
        return
    with pytest.raises(ApiStatusError) as refused:
        client.patch(WIDGETS, (namespace, "a"), body, type_, write)
    assert (refused.value.code, refused.value.reason) == (422, "Invalid")
    assert refused.value.details["causes"][0]["field"] == "metadata.uid"
    assert client.get(WIDGETS, namespace, "a")["spec"]["replicas"] == 1


@pytest.mark.parametrize("subresource", ["", "status"])
def test_another_uid_in_an_update_conflicts(client: Client, namespace: str, subresource: str) -> None:
    made = client.create(WIDGETS, widget("a"), namespace)
    with pytest.raises(ApiStatusError) as refused:
        client.update(
            WIDGETS, {**made, "metadata": {**made["metadata"], "uid": OTHER_UID}, "status": {"phase": "Lost"}}, namespace, Write(subresource=subresource)
        )
    assert (refused.value.code, refused.value.reason) == (409, "Conflict")
    assert client.get(WIDGETS, namespace, "a") == made


@pytest.mark.parametrize("subresource", ["", "status"])
def test_a_json_patch_can_test_the_uid_on_every_subresource(client: Client, namespace: str, subresource: str) -> None:
    made = client.create(WIDGETS, widget("a"), namespace)
    change = {"op": "add", "path": "/status", "value": {"phase": "Ready"}} if subresource else {"op": "replace", "path": "/spec/replicas", "value": 4}
    write = Write(subresource=subresource)
    with pytest.raises(ApiStatusError) as refused:
        client.patch(WIDGETS, (namespace, "a"), [{"op": "test", "path": "/metadata/uid", "value": OTHER_UID}, change], PatchType.JSON, write)
    assert refused.value.code == 422
    uid = {"op": "test", "path": "/metadata/uid", "value": made["metadata"]["uid"]}
    written = client.patch(WIDGETS, (namespace, "a"), [uid, change], PatchType.JSON, write)
    assert written["metadata"]["resourceVersion"] != made["metadata"]["resourceVersion"]


def test_another_uid_in_a_patch_of_a_node_status_is_invalid(client: Client, namespace: str) -> None:
    node = f"node-{namespace}"
    client.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}})
    with pytest.raises(ApiStatusError) as refused:
        client.patch(NODES, ("", node), {"metadata": {"uid": OTHER_UID}, "status": {"conditions": conditions(("Ready", "True"))}}, PatchType.MERGE, STATUS)
    assert refused.value.code == 422
    labelled = client.patch(NODES, ("", node), {"metadata": {"labels": {"a": "b"}}}, PatchType.STRATEGIC, STATUS)
    assert labelled["metadata"]["labels"]["a"] == "b"
    client.delete(NODES, "", node)


@pytest.mark.parametrize("type_", [PatchType.MERGE, PatchType.APPLY])
def test_a_patch_that_names_the_right_uid_and_version_is_written(client: Client, namespace: str, type_: PatchType) -> None:
    made = client.create(WIDGETS, widget("a"), namespace)["metadata"]
    body = widget("a", {"replicas": 5}, uid=made["uid"], resourceVersion=made["resourceVersion"])
    assert client.patch(WIDGETS, (namespace, "a"), body, type_, Write("m", force=type_ is PatchType.APPLY))["spec"]["replicas"] == 5


@pytest.mark.parametrize("subresource", ["", "status"])
def test_a_merge_patch_of_an_absent_object_is_not_found(client: Client, namespace: str, subresource: str) -> None:
    with pytest.raises(ApiStatusError) as refused:
        client.patch(WIDGETS, (namespace, "a"), {"spec": {"replicas": 2}}, PatchType.MERGE, Write(subresource=subresource))
    assert refused.value.code == 404


def test_null_in_a_merge_patch_removes(client: Client, namespace: str) -> None:
    client.create(WIDGETS, widget("a", {"replicas": 1, "parts": {"left": "l", "right": "r"}}, labels={"x": "1", "y": "2"}), namespace)
    patched = client.patch(WIDGETS, (namespace, "a"), {"metadata": {"labels": {"x": None}}, "spec": {"parts": {"left": None}}}, PatchType.MERGE)
    assert patched["metadata"]["labels"] == {"y": "2"}
    assert patched["spec"]["parts"] == {"right": "r"}


def test_a_write_without_change_keeps_the_version(client: Client, namespace: str) -> None:
    made = client.create(WIDGETS, widget("a"), namespace)
    assert client.update(WIDGETS, made, namespace) == made
    assert client.patch(WIDGETS, (namespace, "a"), {"spec": {"color": "red"}}, PatchType.MERGE) == made
    assert (
        client.patch(WIDGETS, (namespace, "a"), {"metadata": {"annotations": {}}}, PatchType.MERGE)["metadata"]["resourceVersion"]
        == made["metadata"]["resourceVersion"]
    )
    ready = client.patch(WIDGETS, (namespace, "a"), {"status": {"phase": "Ready"}}, PatchType.MERGE, STATUS)
    again = client.patch(WIDGETS, (namespace, "a"), {"status": {"phase": "Ready"}}, PatchType.MERGE, STATUS)
    assert again == ready


def test_generation_counts_spec_changes_only(client: Client, namespace: str) -> None:
    client.create(WIDGETS, widget("a"), namespace)
    labelled = client.patch(WIDGETS, (namespace, "a"), {"metadata": {"labels": {"x": "1"}}}, PatchType.MERGE)
    status = client.patch(WIDGETS, (namespace, "a"), {"status": {"phase": "Ready"}}, PatchType.MERGE, STATUS)
    spec = client.patch(WIDGETS, (namespace, "a"), {"spec": {"replicas": 7}}, PatchType.MERGE)
    assert [item["metadata"]["generation"] for item in (labelled, status, spec)] == [1, 1, 2]


def test_kinds_without_generation_have_none(client: Client, namespace: str) -> None:
    made = client.create(CONFIG_MAPS, config_map("a"), namespace)
    assert "generation" not in made["metadata"]


def test_main_and_status_writes_do_not_touch_each_other(client: Client, namespace: str) -> None:
    made = client.create(WIDGETS, widget("a", labels={"x": "1"}), namespace)
    status = client.update(
        WIDGETS, {**made, "metadata": {**made["metadata"], "labels": {"x": "2"}}, "spec": {"replicas": 9}, "status": {"phase": "Ready"}}, namespace, STATUS
    )
    assert (status["spec"]["replicas"], status["status"]["phase"], status["metadata"]["labels"]) == (1, "Ready", {"x": "1"})
    main = client.update(WIDGETS, {**status, "spec": {"replicas": 9}, "status": {"phase": "Lost"}}, namespace)
    assert (main["spec"]["replicas"], main["status"]["phase"]) == (9, "Ready")


def test_a_merge_patch_replaces_lists(client: Client, namespace: str) -> None:
    client.create(WIDGETS, widget("a"), namespace)
    client.patch(WIDGETS, (namespace, "a"), {"status": {"conditions": conditions(("A", "True"), ("B", "True"))}}, PatchType.MERGE, STATUS)
    patched = client.patch(WIDGETS, (namespace, "a"), {"status": {"conditions": conditions(("C", "True"))}}, PatchType.MERGE, STATUS)
    assert [c["type"] for c in patched["status"]["conditions"]] == ["C"]


def test_json_patch_applies_in_order_and_tests(client: Client, namespace: str) -> None:
    client.create(CONFIG_MAPS, config_map("a", {"one": "1"}), namespace)
    patched = client.patch(
        CONFIG_MAPS,
        (namespace, "a"),
        [
            {"op": "test", "path": "/data/one", "value": "1"},
            {"op": "add", "path": "/data/two", "value": "2"},
            {"op": "copy", "from": "/data/two", "path": "/data/b"},
            {"op": "remove", "path": "/data/one"},
        ],
        PatchType.JSON,
    )
    assert patched["data"] == {"two": "2", "b": "2"}
    for operation in ({"op": "test", "path": "/data/two", "value": "3"}, {"op": "remove", "path": "/data/none"}):
        with pytest.raises(ApiStatusError) as refused:
            client.patch(CONFIG_MAPS, (namespace, "a"), [operation], PatchType.JSON)
        assert refused.value.code == 422


def test_strategic_merge_patch_merges_node_conditions_by_type(client: Client, namespace: str) -> None:
    node = f"node-{namespace}"
    made = client.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}, "spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}})
    assert "generation" not in made["metadata"]
    for type_ in ("Ready", "MemoryPressure"):
        client.patch(NODES, ("", node), {"status": {"conditions": conditions((type_, "True"))}}, PatchType.STRATEGIC, STATUS)
    ready = client.patch(NODES, ("", node), {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}, PatchType.STRATEGIC, STATUS)
    assert {c["type"]: c["status"] for c in ready["status"]["conditions"]} == {"Ready": "False", "MemoryPressure": "True"}
    assert next(c for c in ready["status"]["conditions"] if c["type"] == "Ready")["reason"] == "Because"
    body = {"status": {"conditions": [{"type": "Ready", "$patch": "delete"}]}}
    gone = client.patch(NODES, ("", node), body, PatchType.STRATEGIC, STATUS)
    assert [c["type"] for c in gone["status"]["conditions"]] == ["MemoryPressure"]
    tainted = client.patch(NODES, ("", node), {"spec": {"unschedulable": True, "taints": [{"key": "b", "effect": "NoExecute"}]}}, PatchType.STRATEGIC)
    assert [taint["key"] for taint in tainted["spec"]["taints"] if not taint["key"].startswith("node.kubernetes.io/")] == ["b"]
    client.delete(NODES, "", node)


def test_strategic_merge_patch_is_not_for_custom_kinds(client: Client, namespace: str) -> None:
    client.create(WIDGETS, widget("a"), namespace)
    with pytest.raises(ApiStatusError) as refused:
        client.patch(WIDGETS, (namespace, "a"), {"spec": {"replicas": 2}}, PatchType.STRATEGIC)
    assert refused.value.code == 415


def test_strategic_merge_patch_of_containers(client: Client, namespace: str) -> None:
    labels = {"app": "a"}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "one", "image": "one:1"}, {"name": "two", "image": "two:1"}]}}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": pod}
    client.create(DEPLOYMENTS, {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": spec}, namespace)
    body = {"spec": {"template": {"spec": {"containers": [{"name": "two", "image": "two:2"}]}}}}
    patched = client.patch(DEPLOYMENTS, (namespace, "a"), body, PatchType.STRATEGIC)
    assert [c["image"] for c in patched["spec"]["template"]["spec"]["containers"]] == ["one:1", "two:2"]
    assert patched["metadata"]["generation"] == 2


def test_scale_reads_and_writes_replicas(client: Client, namespace: str) -> None:
    made = client.create(WIDGETS, widget("a", {"replicas": 3}), namespace)
    client.patch(WIDGETS, (namespace, "a"), {"status": {"replicas": 2, "selector": "a=b"}}, PatchType.MERGE, STATUS)
    scale = client.get(WIDGETS, namespace, "a", "scale")
    assert (scale["kind"], scale["spec"], scale["status"]) == ("Scale", {"replicas": 3}, {"replicas": 2, "selector": "a=b"})
    assert scale["metadata"]["uid"] == made["metadata"]["uid"]
    scaled = client.patch(WIDGETS, (namespace, "a"), {"spec": {"replicas": 5}}, PatchType.MERGE, Write(subresource="scale"))
    assert scaled["spec"] == {"replicas": 5}
    after = client.get(WIDGETS, namespace, "a")
    assert (after["spec"]["replicas"], after["metadata"]["generation"]) == (5, 2)
    with pytest.raises(ApiStatusError) as refused:
        client.update(WIDGETS, {**scale, "spec": {"replicas": 8}}, namespace, Write(subresource="scale"))
    assert refused.value.code == 409


def test_a_dry_run_writes_nothing(client: Client, namespace: str) -> None:
    dry = client.create(WIDGETS, widget("a"), namespace, Write(dry_run=True))
    assert dry["metadata"]["uid"] and "resourceVersion" not in dry["metadata"]
    made = client.create(WIDGETS, widget("a"), namespace)
    patched = client.patch(WIDGETS, (namespace, "a"), {"spec": {"replicas": 9}}, PatchType.MERGE, Write(dry_run=True))
    assert (patched["spec"]["replicas"], patched["metadata"]["generation"]) == (9, 2)
    assert patched["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    client.delete(WIDGETS, namespace, "a", {"dryRun": ["All"]})
    assert client.get(WIDGETS, namespace, "a") == made


def test_an_object_beyond_the_store_limit_is_refused(client: Client, namespace: str) -> None:
    with pytest.raises(ApiStatusError) as refused:
        client.create(WIDGETS, widget("a", {"color": "x" * 1_600_000}), namespace)
    assert refused.value.code in (413, 500)
    with pytest.raises(ApiStatusError) as refused:
        client.create(WIDGETS, widget("a", {"color": "x" * 3_300_000}), namespace)
    assert refused.value.code in (413, 500)


def test_a_secret_gets_a_type(client: Client, namespace: str) -> None:
    made = client.create(SECRETS, {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "stringData": {"k": "v"}}, namespace)
    assert (made["type"], made["data"]) == ("Opaque", {"k": "dg=="})
    assert "stringData" not in made


def test_a_body_of_another_place_is_refused(client: Client, namespace: str) -> None:
    with pytest.raises(ApiStatusError) as refused:
        client.create(CONFIG_MAPS, config_map("a", namespace="default"), namespace)
    assert refused.value.code == 400
    with pytest.raises(ApiStatusError) as refused:
        client.create(CONFIG_MAPS, {**config_map("a"), "kind": "Secret"}, namespace)
    assert refused.value.code == 400
