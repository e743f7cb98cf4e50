"""Deletes: preconditions, finalizers, propagation, namespaces, eviction."""

from __future__ import annotations

from typing import Any

import pytest
from conformance_clients import Client, Resource, Write
from conformance_kinds import BUDGETS, CONFIG_MAPS, NAMESPACES, PODS, WIDGETS, conditions, config_map, owned_by, widget

from fleetwake.sim.apiserver import ApiStatusError, PatchType

JsonDict = dict[str, Any]
FINALIZER = "conformance.fleetwake.dev/hold"


def is_gone(client: Client, resource: Resource, namespace: str, name: str) -> bool:
    """Whether the object is absent."""
    try:
        client.get(resource, namespace, name)
    except ApiStatusError as error:
        assert error.code == 404
        return True
    return False


def is_deleting(client: Client, resource: Resource, namespace: str, name: str) -> bool:
    """Whether the object is marked deleted."""
    return "deletionTimestamp" in client.get(resource, namespace, name)["metadata"]


def release(client: Client, resource: Resource, namespace: str, name: str) -> JsonDict:
    """Remove all finalizers."""
    return client.patch(resource, (namespace, name), {"metadata": {"finalizers": None}}, PatchType.MERGE)


@pytest.mark.parametrize("precondition", [{"uid": "00000000-0000-4000-8000-000000000000"}, {"resourceVersion": "1"}], ids=["uid", "resourceVersion"])
def test_a_delete_of_another_state_conflicts(client: Client, namespace: str, precondition: JsonDict) -> None:
    made = client.create(WIDGETS, widget("a"), namespace)
    with pytest.raises(ApiStatusError) as refused:
        client.delete(WIDGETS, namespace, "a", {"preconditions": precondition})
    assert (refused.value.code, refused.value.reason) == (409, "Conflict")
    right = {"uid": made["metadata"]["uid"], "resourceVersion": made["metadata"]["resourceVersion"]}
    client.delete(WIDGETS, namespace, "a", {"preconditions": right})
    assert is_gone(client, WIDGETS, namespace, "a")


def test_a_delete_at_once_answers_with_a_status(client: Client, namespace: str) -> None:
    made = client.create(WIDGETS, widget("a"), namespace)
    answer = client.delete(WIDGETS, namespace, "a")
    assert (answer["kind"], answer["status"]) == ("Status", "Success")
    assert answer["details"] == {"name": "a", "group": WIDGETS.group, "kind": "widgets", "uid": made["metadata"]["uid"]}
    with pytest.raises(ApiStatusError) as refused:
        client.delete(WIDGETS, namespace, "a")
    assert refused.value.code == 404


def test_a_finalizer_holds_a_deleted_object(client: Client, namespace: str) -> None:
    made = client.create(WIDGETS, widget("a", finalizers=[FINALIZER]), namespace)
    marked = client.delete(WIDGETS, namespace, "a")
    assert (marked["kind"], marked["metadata"]["generation"], marked["metadata"]["deletionGracePeriodSeconds"]) == ("Widget", 2, 0)
    assert client.delete(WIDGETS, namespace, "a") == marked
    with pytest.raises(ApiStatusError) as refused:
        client.create(WIDGETS, widget("a"), namespace)
    assert refused.value.reason == "AlreadyExists"
    with pytest.raises(ApiStatusError) as refused:
        client.patch(WIDGETS, (namespace, "a"), {"metadata": {"finalizers": [FINALIZER, "x.io/other"]}}, PatchType.MERGE)
    assert (refused.value.code, refused.value.reason) == (422, "Invalid")
    changed = client.patch(WIDGETS, (namespace, "a"), {"spec": {"color": "blue"}}, PatchType.MERGE)
    assert changed["metadata"]["deletionTimestamp"] == marked["metadata"]["deletionTimestamp"]
    final = release(client, WIDGETS, namespace, "a")
    assert "finalizers" not in final["metadata"]
    assert is_gone(client, WIDGETS, namespace, "a")
    assert client.create(WIDGETS, widget("a"), namespace)["metadata"]["uid"] != made["metadata"]["uid"]


def test_an_apply_that_drops_the_last_finalizer_removes(client: Client, namespace: str) -> None:
    body = widget("a", finalizers=[FINALIZER])
    client.patch(WIDGETS, (namespace, "a"), body, PatchType.APPLY, Write("m"))
    client.delete(WIDGETS, namespace, "a")
    client.patch(WIDGETS, (namespace, "a"), widget("a"), PatchType.APPLY, Write("m"))
    assert is_gone(client, WIDGETS, namespace, "a")


def test_background_collection_follows_the_owner(client: Client, namespace: str) -> None:
    owner = client.create(WIDGETS, widget("owner"), namespace)
    client.create(CONFIG_MAPS, config_map("child", ownerReferences=[owned_by(owner, controller=True)]), namespace)
    client.create(WIDGETS, widget("held", ownerReferences=[owned_by(owner)], finalizers=[FINALIZER]), namespace)
    client.delete(WIDGETS, namespace, "owner")
    assert is_gone(client, WIDGETS, namespace, "owner")
    client.eventually(lambda: is_gone(client, CONFIG_MAPS, namespace, "child"))
    client.eventually(lambda: is_deleting(client, WIDGETS, namespace, "held"))
    release(client, WIDGETS, namespace, "held")
    assert is_gone(client, WIDGETS, namespace, "held")


def test_a_dependent_of_an_absent_uid_is_collected(client: Client, namespace: str) -> None:
    owner = client.create(WIDGETS, widget("owner"), namespace)
    reference = {**owned_by(owner), "uid": "00000000-0000-4000-8000-000000000000"}
    client.create(CONFIG_MAPS, config_map("child", ownerReferences=[reference]), namespace)
    client.eventually(lambda: is_gone(client, CONFIG_MAPS, namespace, "child"))
    assert not is_gone(client, WIDGETS, namespace, "owner")


def test_one_owner_of_two_is_enough(client: Client, namespace: str) -> None:
    one = client.create(WIDGETS, widget("one"), namespace)
    two = client.create(WIDGETS, widget("two"), namespace)
    client.create(CONFIG_MAPS, config_map("child", ownerReferences=[owned_by(one), owned_by(two)]), namespace)
    client.delete(WIDGETS, namespace, "one")
    client.eventually(lambda: len(client.get(CONFIG_MAPS, namespace, "child")["metadata"]["ownerReferences"]) == 1)
    assert client.get(CONFIG_MAPS, namespace, "child")["metadata"]["ownerReferences"][0]["name"] == "two"


@pytest.mark.parametrize("blocking", [True, False])
def test_foreground_deletion_waits_for_blocking_dependents(client: Client, namespace: str, blocking: bool) -> None:
    owner = client.create(WIDGETS, widget("owner"), namespace)
    reference = owned_by(owner, blocking=blocking)
    client.create(WIDGETS, widget("held", ownerReferences=[reference], finalizers=[FINALIZER]), namespace)
    with client.watch(WIDGETS, namespace, resourceVersion=client.list(WIDGETS, namespace)["metadata"]["resourceVersion"]) as stream:
        client.delete(WIDGETS, namespace, "owner", {"propagationPolicy": "Foreground"})
        first = stream.next()
    assert (first.type, first.obj["metadata"]["finalizers"]) == ("MODIFIED", ["foregroundDeletion"])
    client.eventually(lambda: is_deleting(client, WIDGETS, namespace, "held"))
    if blocking:
        assert is_deleting(client, WIDGETS, namespace, "owner")
        release(client, WIDGETS, namespace, "held")
    client.eventually(lambda: is_gone(client, WIDGETS, namespace, "owner"))
    if not blocking:
        release(client, WIDGETS, namespace, "held")


def test_orphans_lose_the_reference_and_live(client: Client, namespace: str) -> None:
    owner = client.create(WIDGETS, widget("owner"), namespace)
    client.create(CONFIG_MAPS, config_map("child", ownerReferences=[owned_by(owner)]), namespace)
    client.delete(WIDGETS, namespace, "owner", {"propagationPolicy": "Orphan"})
    client.eventually(lambda: is_gone(client, WIDGETS, namespace, "owner"))
    assert not client.get(CONFIG_MAPS, namespace, "child")["metadata"].get("ownerReferences")


def test_a_deleted_namespace_empties_and_refuses_creates(client: Client, namespace: str) -> None:
    client.create(CONFIG_MAPS, config_map("a"), namespace)
    client.create(WIDGETS, widget("held", finalizers=[FINALIZER]), namespace)
    marked = client.delete(NAMESPACES, "", namespace)
    assert (marked["status"]["phase"], marked["spec"]["finalizers"]) == ("Terminating", ["kubernetes"])
    with pytest.raises(ApiStatusError) as refused:
        client.create(CONFIG_MAPS, config_map("b"), namespace)
    assert (refused.value.code, refused.value.reason) == (403, "Forbidden")
    assert refused.value.details["causes"][0]["reason"] == "NamespaceTerminating"
    client.eventually(lambda: is_gone(client, CONFIG_MAPS, namespace, "a"))
    client.eventually(lambda: is_deleting(client, WIDGETS, namespace, "held"))
    release(client, WIDGETS, namespace, "held")
    client.eventually(lambda: is_gone(client, NAMESPACES, "", namespace))


def _pod(name: str, node: str = "") -> JsonDict:
    spec: JsonDict = {"containers": [{"name": "c", "image": "i"}], "terminationGracePeriodSeconds": 20}
    if node:
        spec["nodeName"] = node
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "a"}}, "spec": spec}


def _run(client: Client, namespace: str, name: str) -> None:
    status = {"phase": "Running", "conditions": conditions(("Ready", "True"))}
    client.patch(PODS, (namespace, name), {"status": status}, PatchType.STRATEGIC, Write(subresource="status"))


def test_a_pod_on_a_node_ends_by_grace_and_one_without_at_once(client: Client, namespace: str) -> None:
    client.create(PODS, _pod("free"), namespace)
    client.delete(PODS, namespace, "free")
    assert is_gone(client, PODS, namespace, "free")
    client.create(PODS, _pod("bound", "some-node"), namespace)
    marked = client.delete(PODS, namespace, "bound")
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 20
    assert is_deleting(client, PODS, namespace, "bound")
    client.delete(PODS, namespace, "bound", {"gracePeriodSeconds": 0})
    assert is_gone(client, PODS, namespace, "bound")


def test_an_eviction_marks_the_pod(client: Client, namespace: str) -> None:
    client.create(PODS, _pod("a", "some-node"), namespace)
    _run(client, namespace, "a")
    answer = client.evict(namespace, "a")
    assert (answer["kind"], answer["status"]) == ("Status", "Success")
    assert is_deleting(client, PODS, namespace, "a")
    client.delete(PODS, namespace, "a", {"gracePeriodSeconds": 0})


def test_a_budget_without_allowance_refuses_evictions(client: Client, namespace: str) -> None:
    client.create(PODS, _pod("a", "some-node"), namespace)
    _run(client, namespace, "a")
    spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": "a"}}}
    client.create(BUDGETS, {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "b"}, "spec": spec}, namespace)
    status = {"observedGeneration": 1, "disruptionsAllowed": 0, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1}
    client.patch(BUDGETS, (namespace, "b"), {"status": status}, PatchType.MERGE, Write(subresource="status"))
    with pytest.raises(ApiStatusError) as refused:
        client.evict(namespace, "a")
    assert (refused.value.code, refused.value.reason) == (429, "TooManyRequests")
    assert refused.value.message == "Cannot evict pod as it would violate the pod's disruption budget."
    assert refused.value.details["causes"] == [{"reason": "DisruptionBudget", "message": "The disruption budget b needs 1 healthy pods and has 1 currently"}]
    assert not is_deleting(client, PODS, namespace, "a")
    client.delete(PODS, namespace, "a", {"gracePeriodSeconds": 0})
