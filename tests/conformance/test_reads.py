"""Lists in pages, selectors, watches from a version."""

from __future__ import annotations

import pytest
from conformance_clients import Client, Stream, Write
from conformance_kinds import CONFIG_MAPS, NODES, PODS, WIDGETS, config_map, widget

from fleetwake.sim.apiserver import ApiStatusError, PatchType


def names(found: dict[str, list[dict[str, dict[str, str]]]]) -> list[str]:
    """Return the names of a list, in its order."""
    return [item["metadata"]["name"] for item in found["items"]]


def events(stream: Stream, count: int) -> list[tuple[str, str]]:
    """Return the next events as (type, name)."""
    return [(event.type, event.obj["metadata"]["name"]) for event in (stream.next() for _ in range(count))]


def version(client: Client, namespace: str) -> str:
    """Return the version a list of Widgets shows."""
    found: str = client.list(WIDGETS, namespace)["metadata"]["resourceVersion"]
    return found


def test_a_list_has_kind_version_and_order(client: Client, namespace: str) -> None:
    for name in ("b", "a", "c"):
        client.create(WIDGETS, widget(name), namespace)
    found = client.list(WIDGETS, namespace)
    assert (found["kind"], found["apiVersion"]) == ("WidgetList", "conformance.fleetwake.dev/v1")
    assert names(found) == ["a", "b", "c"]
    assert int(found["metadata"]["resourceVersion"]) >= max(int(item["metadata"]["resourceVersion"]) for item in found["items"])


def test_pages_show_one_moment(client: Client, namespace: str) -> None:
    for index in range(5):
        client.create(WIDGETS, widget(f"w{index}"), namespace)
    first = client.list(WIDGETS, namespace, limit="2")
    assert (names(first), first["metadata"]["remainingItemCount"]) == (["w0", "w1"], 3)
    client.create(WIDGETS, widget("w2a"), namespace)
    client.delete(WIDGETS, namespace, "w3")
    second = client.list(WIDGETS, namespace, limit="2", **{"continue": first["metadata"]["continue"]})
    assert names(second) == ["w2", "w3"]
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    third = client.list(WIDGETS, namespace, limit="2", **{"continue": second["metadata"]["continue"]})
    assert names(third) == ["w4"]
    assert not third["metadata"].get("continue")


def test_a_token_of_nothing_is_refused(client: Client, namespace: str) -> None:
    with pytest.raises(ApiStatusError) as refused:
        client.list(WIDGETS, namespace, limit="2", **{"continue": "bogus"})
    assert refused.value.code == 400


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("tier=front", ["a"]),
        ("tier==front", ["a"]),
        ("tier!=front", ["b", "c"]),
        ("tier", ["a", "b"]),
        ("!tier", ["c"]),
        ("tier in (front, back)", ["a", "b"]),
        ("tier notin (front)", ["b", "c"]),
        ("tier in (front,back),zone=x", ["b"]),
        ("tier=", []),
        ("rank>1", ["b"]),
    ],
)
def test_label_selectors(client: Client, namespace: str, selector: str, expected: list[str]) -> None:
    client.create(CONFIG_MAPS, config_map("a", labels={"tier": "front", "rank": "1"}), namespace)
    client.create(CONFIG_MAPS, config_map("b", labels={"tier": "back", "zone": "x", "rank": "2"}), namespace)
    client.create(CONFIG_MAPS, config_map("c"), namespace)
    assert names(client.list(CONFIG_MAPS, namespace, labelSelector=selector)) == expected


def test_a_selector_that_cannot_be_parsed_is_refused(client: Client, namespace: str) -> None:
    with pytest.raises(ApiStatusError) as refused:
        client.list(WIDGETS, namespace, labelSelector="a in b")
    assert refused.value.code == 400


def test_field_selectors(client: Client, namespace: str) -> None:
    for name in ("a", "b"):
        client.create(WIDGETS, widget(name), namespace)
    assert names(client.list(WIDGETS, namespace, fieldSelector="metadata.name=b")) == ["b"]
    assert names(client.list(WIDGETS, namespace, fieldSelector="metadata.name!=b")) == ["a"]
    assert names(client.list(WIDGETS, fieldSelector=f"metadata.namespace={namespace}")) == ["a", "b"]
    with pytest.raises(ApiStatusError) as refused:
        client.list(WIDGETS, namespace, fieldSelector="spec.color=red")
    assert (refused.value.code, refused.value.message) == (400, "field label not supported: spec.color")
    for name, node in (("p", "n1"), ("q", "n2")):
        spec = {"nodeName": node, "containers": [{"name": "c", "image": "i"}]}
        client.create(PODS, {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}, namespace)
    assert names(client.list(PODS, namespace, fieldSelector="spec.nodeName=n2")) == ["q"]
    assert names(client.list(PODS, namespace, fieldSelector="spec.nodeName=n1,status.phase=Pending")) == ["p"]


def test_a_version_of_the_future_times_out(client: Client, namespace: str) -> None:
    with pytest.raises(ApiStatusError) as refused:
        client.list(WIDGETS, namespace, resourceVersion="99999999")
    assert (refused.value.code, refused.value.reason) == (504, "Timeout")
    assert refused.value.details["causes"][0]["reason"] == "ResourceVersionTooLarge"


def test_a_watch_resumes_behind_its_version(client: Client, namespace: str) -> None:
    client.create(WIDGETS, widget("before"), namespace)
    start = version(client, namespace)
    made = client.create(WIDGETS, widget("a"), namespace)
    client.patch(WIDGETS, (namespace, "a"), {"spec": {"replicas": 2}}, PatchType.MERGE)
    with client.watch(WIDGETS, namespace, resourceVersion=start) as stream:
        assert events(stream, 2) == [("ADDED", "a"), ("MODIFIED", "a")]
        client.delete(WIDGETS, namespace, "a")
        assert events(stream, 1) == [("DELETED", "a")]
    with client.watch(WIDGETS, namespace, resourceVersion=made["metadata"]["resourceVersion"]) as stream:
        assert events(stream, 2) == [("MODIFIED", "a"), ("DELETED", "a")]


def test_a_deleted_event_has_the_last_stored_state_and_a_newer_version(client: Client, namespace: str) -> None:
    made = client.create(WIDGETS, widget("a", finalizers=["x.io/f"]), namespace)
    marked = client.delete(WIDGETS, namespace, "a")
    with client.watch(WIDGETS, namespace, resourceVersion=made["metadata"]["resourceVersion"]) as stream:
        client.patch(WIDGETS, (namespace, "a"), {"metadata": {"finalizers": []}}, PatchType.MERGE)
        assert stream.next().obj == marked
        last = stream.next()
    assert last.type == "DELETED"
    assert last.obj["metadata"]["finalizers"] == ["x.io/f"]
    assert int(last.obj["metadata"]["resourceVersion"]) > int(marked["metadata"]["resourceVersion"])


def test_a_write_without_change_is_no_event(client: Client, namespace: str) -> None:
    client.create(WIDGETS, widget("a"), namespace)
    start = version(client, namespace)
    client.patch(WIDGETS, (namespace, "a"), {"spec": {"color": "red"}}, PatchType.MERGE)
    client.patch(WIDGETS, (namespace, "a"), {"spec": {"color": "blue"}}, PatchType.MERGE)
    with client.watch(WIDGETS, namespace, resourceVersion=start) as stream:
        assert stream.next().obj["spec"]["color"] == "blue"


def test_a_watch_without_version_begins_with_what_is(client: Client, namespace: str) -> None:
    for name in ("a", "b"):
        client.create(WIDGETS, widget(name), namespace)
    client.eventually(lambda: len(client.list(WIDGETS, namespace, resourceVersion="0")["items"]) == 2)
    with client.watch(WIDGETS, namespace) as stream:
        assert sorted(events(stream, 2)) == [("ADDED", "a"), ("ADDED", "b")]
        client.create(WIDGETS, widget("c"), namespace)
        assert events(stream, 1) == [("ADDED", "c")]


def test_initial_events_end_with_a_bookmark(client: Client, namespace: str) -> None:
    client.create(WIDGETS, widget("a"), namespace)
    options = {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan", "allowWatchBookmarks": "true"}
    with client.watch(WIDGETS, namespace, **options) as stream:
        assert events(stream, 1) == [("ADDED", "a")]
        mark = stream.next()
    assert mark.type == "BOOKMARK"
    assert mark.obj["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert mark.obj["metadata"]["resourceVersion"].isdigit()


def test_a_watch_of_forgotten_history_is_gone(client: Client, namespace: str) -> None:
    with client.watch(WIDGETS, namespace, resourceVersion="1") as stream:
        event = stream.next()
    assert (event.type, event.obj["code"], event.obj["reason"]) == ("ERROR", 410, "Expired")


def test_objects_enter_and_leave_a_selective_watch(client: Client, namespace: str) -> None:
    client.create(WIDGETS, widget("a"), namespace)
    start = version(client, namespace)
    for labels in ({"x": "1"}, {"x": "1", "y": "1"}, {"x": None}):
        client.patch(WIDGETS, (namespace, "a"), {"metadata": {"labels": labels}}, PatchType.MERGE)
    client.delete(WIDGETS, namespace, "a")
    client.create(WIDGETS, widget("end", labels={"x": "1"}), namespace)
    with client.watch(WIDGETS, namespace, resourceVersion=start, labelSelector="x=1") as stream:
        assert events(stream, 4) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a"), ("ADDED", "end")]


def test_versions_are_one_order_over_all_kinds(client: Client, namespace: str) -> None:
    first = client.create(CONFIG_MAPS, config_map("a"), namespace)
    second = client.create(WIDGETS, widget("a"), namespace)
    third = client.patch(WIDGETS, (namespace, "a"), {"status": {"phase": "x"}}, PatchType.MERGE, Write(subresource="status"))
    order = [int(item["metadata"]["resourceVersion"]) for item in (first, second, third)]
    assert order == sorted(set(order))


def test_a_watch_of_a_cluster_scoped_kind(client: Client, namespace: str) -> None:
    start = client.list(NODES)["metadata"]["resourceVersion"]
    node = f"node-{namespace}"
    client.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}})
    with client.watch(NODES, "", resourceVersion=start, fieldSelector=f"metadata.name={node}") as stream:
        assert events(stream, 1) == [("ADDED", node)]
    client.delete(NODES, "", node)
