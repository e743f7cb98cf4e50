"""What only the in-memory server has: repeatability, snapshots, hooks, collection in steps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from conformance_kinds import CRD, CRDS, WIDGETS, config_map, owned_by, widget

from fleetwake.sim.apiserver import (
    ApiServer,
    ApiStatusError,
    Change,
    DeleteOptions,
    ListOptions,
    PatchType,
    ResourceDefinition,
    Settings,
    WatchOptions,
    WriteOptions,
    list_map,
    structure,
)

JsonDict = dict[str, Any]
START = datetime(2026, 1, 1, tzinfo=UTC)
GADGETS = ResourceDefinition("g.dev", "v1", "Gadget", "gadgets", structure=structure({"status.conditions": list_map("type")}))


class Clock:
    """A clock that moves when told."""

    def __init__(self) -> None:
        self.at = START

    def __call__(self) -> datetime:
        return self.at


def server(**settings: Any) -> ApiServer:
    """Return a server with a CRD, a definition and a namespace."""
    made = ApiServer(Clock(), Settings(create_namespaces=True, **settings))
    made.register(GADGETS)
    made.create(CRDS.name, CRD)
    return made


def play(api: ApiServer) -> bytes:
    """Do a little of everything and return the state."""
    for index in range(3):
        api.create(WIDGETS.name, {**widget("x"), "metadata": {"generateName": "w-"}}, "ns", WriteOptions(f"m{index}"))
    api.create(GADGETS.resource, {"metadata": {"name": "g"}, "spec": {"a": 1}}, "ns")
    gadget = {"metadata": {"name": "g"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}
    api.patch(GADGETS.resource, ("ns", "g"), gadget, PatchType.APPLY, WriteOptions("ctl", subresource="status"))
    api.create("configmaps", config_map("c"), "ns")
    api.delete("configmaps", "ns", "c")
    return api.snapshot()


def test_equal_seeds_give_equal_worlds() -> None:
    assert play(server(seed=7)) == play(server(seed=7))
    assert play(server(seed=7)) != play(server(seed=8))


def test_a_restored_server_goes_on_where_it_was() -> None:
    api = server(seed=7)
    state = play(api)
    restored = ApiServer(Clock(), Settings(create_namespaces=True, seed=7))
    restored.register(GADGETS)
    restored.restore(state)
    assert restored.snapshot() == state
    assert restored.list(WIDGETS.name, "ns") == api.list(WIDGETS.name, "ns")
    again = restored.create(WIDGETS.name, widget("next"), "ns")
    assert again == api.create(WIDGETS.name, widget("next"), "ns")
    assert int(again["metadata"]["resourceVersion"]) > int(api.get(GADGETS.resource, "ns", "g")["metadata"]["resourceVersion"])
    watch = restored.watch(WIDGETS.name, "ns", WatchOptions(resource_version="1"))
    assert [event.obj["code"] for event in watch.take()] == [410]
    with pytest.raises(ValueError, match="empty"):
        restored.restore(state)


def test_every_change_is_told_in_order() -> None:
    api = server()
    seen: list[tuple[str, str, int]] = []

    def note(change: Change) -> None:
        seen.append((change.type, change.entry.key.name, change.entry.version))

    api.on_change(note)
    api.create("configmaps", config_map("a"), "ns")
    api.patch("configmaps", ("ns", "a"), {"data": {"x": "y"}}, PatchType.MERGE)
    api.delete("configmaps", "ns", "a")
    assert [(type_, name) for type_, name, _ in seen] == [("ADDED", "ns"), ("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]
    assert [version for *_, version in seen] == sorted({version for *_, version in seen})


def test_collection_waits_for_its_step() -> None:
    api = server()
    owner = api.create(WIDGETS.name, widget("owner"), "ns")
    api.create("configmaps", config_map("child", ownerReferences=[owned_by(owner)]), "ns")
    api.create(GADGETS.resource, {"metadata": {"name": "grandchild", "ownerReferences": [owned_by(api.get("configmaps", "ns", "child"))]}}, "ns")
    api.delete(WIDGETS.name, "ns", "owner")
    assert api.get("configmaps", "ns", "child")
    assert api.collect_garbage() == 2
    assert api.collect_garbage() == 0
    with pytest.raises(ApiStatusError):
        api.get(GADGETS.resource, "ns", "grandchild")


def test_an_owner_of_a_kind_not_served_keeps_its_dependents() -> None:
    api = server()
    foreign = {"apiVersion": "elsewhere.dev/v1", "kind": "Thing", "name": "t", "uid": "u"}
    api.create("configmaps", config_map("child", ownerReferences=[foreign]), "ns")
    assert api.collect_garbage() == 0


def test_history_is_bounded_and_older_watches_expire() -> None:
    api = server(history_max=10)
    api.create("configmaps", config_map("a"), "ns")
    start = api.version
    for index in range(20):
        api.patch("configmaps", ("ns", "a"), {"data": {"n": str(index)}}, PatchType.MERGE)
    assert [event.type for event in api.watch("configmaps", "ns", WatchOptions(resource_version=str(start))).take()] == ["ERROR"]
    recent = api.watch("configmaps", "ns", WatchOptions(resource_version=str(api.version - 5)))
    assert len(recent.take()) == 5


def test_a_packed_server_answers_the_same() -> None:
    api = server()
    play(api)
    before = api.list(WIDGETS.name, "ns")
    watch = api.watch(WIDGETS.name, "ns", WatchOptions(resource_version=str(api.version)))
    api.pack()
    assert api.list(WIDGETS.name, "ns") == before
    api.create(WIDGETS.name, widget("later"), "ns")
    assert [event.type for event in watch.take()] == ["ADDED"]


def test_bookmarks_reach_those_who_asked() -> None:
    api = server()
    asked = api.watch("configmaps", "", WatchOptions(resource_version=str(api.version), bookmarks=True))
    silent = api.watch("configmaps", "", WatchOptions(resource_version=str(api.version)))
    api.create(WIDGETS.name, widget("a"), "ns")
    api.send_bookmarks()
    assert [(event.type, event.obj["metadata"]["resourceVersion"]) for event in asked.take()] == [("BOOKMARK", str(api.version))]
    assert silent.take() == []


def test_the_expiry_of_page_tokens() -> None:
    api = server()
    for index in range(3):
        api.create("configmaps", config_map(f"c{index}"), "ns")
    token = api.list("configmaps", "ns", ListOptions(limit=1))["metadata"]["continue"]
    for _ in range(64):
        api.list("configmaps", "ns", ListOptions(limit=1))
    with pytest.raises(ApiStatusError) as refused:
        api.list("configmaps", "ns", ListOptions(limit=1, continue_=token))
    assert (refused.value.code, refused.value.reason) == (410, "Expired")


def test_managers_beyond_the_limit_are_folded() -> None:
    api = server()
    api.create("configmaps", config_map("a"), "ns", WriteOptions("m0"))
    for index in range(1, 15):
        api.patch("configmaps", ("ns", "a"), {"data": {f"k{index}": "v"}}, PatchType.MERGE, WriteOptions(f"m{index}"))
    entries = api.get("configmaps", "ns", "a")["metadata"]["managedFields"]
    assert len(entries) == 10
    assert "ancient-changes" in {entry["manager"] for entry in entries}


def test_admission_sees_and_may_refuse_each_write() -> None:
    def admit(definition: ResourceDefinition, obj: JsonDict, old: JsonDict | None) -> JsonDict:
        if definition.resource == "configmaps" and "bad" in obj.get("data", {}):
            raise ApiStatusError(422, "Invalid", "bad data")
        return {**obj, "data": {**obj["data"], "admitted": "create" if old is None else "update"}} if definition.resource == "configmaps" else obj

    api = ApiServer(Clock(), Settings(create_namespaces=True), admission=admit)
    assert api.create("configmaps", config_map("a"), "ns")["data"]["admitted"] == "create"
    assert api.patch("configmaps", ("ns", "a"), {"data": {"x": "y"}}, PatchType.MERGE)["data"]["admitted"] == "update"
    with pytest.raises(ApiStatusError):
        api.patch("configmaps", ("ns", "a"), {"data": {"bad": "y"}}, PatchType.MERGE)


def test_a_deleted_crd_takes_its_kind_away() -> None:
    api = server()
    api.create(WIDGETS.name, widget("a"), "ns")
    api.delete(CRDS.name, "", CRD["metadata"]["name"])
    with pytest.raises(ApiStatusError) as refused:
        api.list(WIDGETS.name, "ns")
    assert refused.value.code == 404


def test_a_pod_goes_when_its_kubelet_says_so() -> None:
    api = server()
    clock = api.now
    assert isinstance(clock, Clock)
    api.create("pods", {"metadata": {"name": "p"}, "spec": {"nodeName": "n", "containers": []}}, "ns")
    marked = api.delete("pods", "ns", "p", DeleteOptions(grace_seconds=30))
    assert marked["metadata"]["deletionTimestamp"] == "2026-01-01T00:00:30Z"
    clock.at += timedelta(seconds=30)
    api.delete("pods", "ns", "p", DeleteOptions(grace_seconds=0))
    assert api.list("pods", "ns")["items"] == []


def test_the_callers_object_stays_the_callers() -> None:
    api = server()
    mine = config_map("a", {"x": "1"})
    api.create("configmaps", mine, "ns")
    mine["data"]["x"] = "changed"
    assert api.get("configmaps", "ns", "a")["data"] == {"x": "1"}
