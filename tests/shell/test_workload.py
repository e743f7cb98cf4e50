"""Workload connections: who has one, when it degrades, what wakes. In virtual time, against a workload cluster that can be cut off."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest

from fleetwake.errors import NotConnectedError, UnavailableError
from fleetwake.kind import CONNECTION, Change, Looked
from fleetwake.plan import EtcdRemoveMember
from fleetwake.shell.ports import Request, Response
from fleetwake.shell.workload import (
    CLUSTER,
    CONNECT_BACKOFF_SECONDS_MAX,
    GRACES,
    PROBE_FAILURES_MAX,
    PROBE_SECONDS,
    WATCHED,
    ConnectionDirector,
    NoWorkloads,
    Outside,
    WorkloadConnections,
    WorkloadEvent,
)
from fleetwake.sim.loop import SimClock
from schemas.keys import ClusterKey, ObjectKey
from tests.shell.shell_world import simulated, status_response

DEMO = ClusterKey("default", "demo")
SECRET = ObjectKey("", "Secret", "default", "demo-kubeconfig")
Json = dict[str, Any]


class Api:
    """One connection to the far cluster."""

    def __init__(self, far: Far) -> None:
        self.far, self.closed = far, False

    async def request(self, request: Request) -> Response:
        await asyncio.sleep(0.01)
        if self.far.gone:
            raise UnavailableError("no route to host", operation=request.path)
        if self.far.revoked:
            return status_response(401, "Unauthorized", "who are you")
        return Response(200, b"{}")

    async def watch(self, selection: str) -> AsyncIterator[WorkloadEvent]:
        held = self.far.objects[selection]
        for state in list(held.values()):
            yield WorkloadEvent("changed", state)
        yield WorkloadEvent("listed", keep=frozenset(held))
        queue: asyncio.Queue[WorkloadEvent] = asyncio.Queue()
        self.far.watchers.append((selection, queue))
        while True:
            yield await queue.get()

    async def look(self, query: str, via: tuple[str, ...]) -> Any:
        self.far.looks.append(query)
        await asyncio.sleep(1)
        if self.far.gone:
            raise UnavailableError("no route to host", operation=query)
        return {"answer": query}

    async def remove_member(self, step: EtcdRemoveMember) -> None:
        self.far.removed.append(step.member_name)

    async def move_leader(self, step: Any) -> None:
        self.far.removed.append(f"leader to {step.to}")

    async def close(self) -> None:
        await asyncio.sleep(self.far.close_seconds)
        self.closed = True


class Far:
    """A workload cluster, seen from outside."""

    def __init__(self) -> None:
        self.gone = self.revoked = False
        self.dial_seconds, self.close_seconds = 0.1, 0.0
        self.dials: list[float] = []
        self.apis: list[Api] = []
        self.watchers: list[tuple[str, asyncio.Queue[WorkloadEvent]]] = []
        self.objects: dict[str, dict[str, Json]] = {name: {} for name in WATCHED}
        self.looks: list[str] = []
        self.removed: list[str] = []

    async def dial(self, cluster: ClusterKey) -> Api:
        self.dials.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.dial_seconds)
        if self.gone or self.revoked:
            raise UnavailableError("connection refused", operation=f"connect to {cluster}")
        self.apis.append(Api(self))
        return self.apis[-1]

    def put(self, selection: str, name: str, version: int, type_: str = "changed", **meta: Any) -> None:
        """An object changes there."""
        state = {"metadata": {"name": name, "uid": f"u-{name}", "resourceVersion": str(version), **meta}}
        if type_ == "changed":
            self.objects[selection][name] = state
        else:
            self.objects[selection].pop(name, None)
        for watched, queue in self.watchers:
            if watched == selection:
                queue.put_nowait(WorkloadEvent(type_, state))

    def tell(self, selection: str, type_: str) -> None:
        """Something becomes of the watch itself."""
        for watched, queue in self.watchers:
            if watched == selection:
                queue.put_nowait(WorkloadEvent(type_))


class Near:
    """The worker's side: the connections, the cache they read, and what was woken."""

    def __init__(self) -> None:
        loop: Any = asyncio.get_running_loop()
        self.loop, self.far = loop, Far()
        self.told: list[tuple[float, Change]] = []
        self.connections = WorkloadConnections(Outside(self.far.dial, SimClock(loop), lambda change: self.told.append((loop.time(), change))))
        self.cache: dict[ObjectKey, Json] = {}
        self.director = ConnectionDirector(self.connections, self.cache.get)

    def put(self, key: ObjectKey, state: Json | None) -> None:
        """An object of the management API changes."""
        before = self.cache.pop(key, None)
        if state is not None:
            self.cache[key] = state
        self.director.changed(Change(key, DEMO, before, state))

    def cluster(self, **changes: Any) -> None:
        """The Cluster, provisioned and with an endpoint."""
        state = {
            "metadata": {"name": "demo", "namespace": "default"},
            "spec": {"controlPlaneEndpoint": {"host": "10.0.0.1", "port": 6443}},
            "status": {"initialization": {"infrastructureProvisioned": True}},
            **changes,
        }
        self.put(ObjectKey(CLUSTER.group, CLUSTER.kind, "default", "demo"), state)

    def kubeconfig(self, value: str = "v1") -> None:
        """Its kubeconfig Secret."""
        self.put(SECRET, {"metadata": {"name": "demo-kubeconfig", "namespace": "default"}, "data": {"value": value}})

    async def connected(self) -> None:
        """Connect."""
        self.cluster()
        self.kubeconfig()
        await asyncio.sleep(1)
        assert self.state.connected and self.state.watch_synced

    @property
    def state(self) -> Any:
        return self.connections.state(DEMO)

    def events(self) -> list[str]:
        """What was told about the connection itself."""
        return [change.state["event"] for _, change in self.told if change.key.group_kind == CONNECTION]


@pytest.mark.parametrize("selection", WATCHED)
@simulated
async def test_a_watch_that_goes_on_where_it_was_is_in_sync_again_and_tells(selection: str) -> None:
    """A short interruption lists nothing again: without a word of its end whoever waits for sight would be blind for ever."""
    near = Near()
    await near.connected()
    near.far.put(selection, "kept", 5)
    near.far.tell(selection, "lost")
    await asyncio.sleep(1)
    assert not near.state.watch_synced
    told = len(near.events())
    near.far.tell(selection, "resumed")
    await asyncio.sleep(1)
    assert near.state.watch_synced and near.events()[told:] == ["synced"]


class TestWhoHasOne:
    @pytest.mark.parametrize(
        "changes",
        [
            pytest.param({"status": {}}, id="infrastructure not provisioned"),
            pytest.param({"spec": {}}, id="no endpoint"),
            pytest.param({"spec": {"controlPlaneEndpoint": {"host": "", "port": 0}}}, id="an empty endpoint"),
        ],
    )
    @simulated
    async def test_nobody_is_dialled_too_early(self, changes: Json) -> None:
        near = Near()
        near.cluster(**changes)
        near.kubeconfig()
        await asyncio.sleep(60)
        assert not near.far.dials and not near.state.connected
        near.cluster()
        await asyncio.sleep(1)
        assert near.state.connected
        await near.connections.close()

    @simulated
    async def test_the_kubeconfig_may_come_last(self) -> None:
        near = Near()
        near.cluster()
        await asyncio.sleep(60)
        assert not near.far.dials
        near.kubeconfig()
        await asyncio.sleep(1)
        assert near.state.connected and near.events() == ["connected", "synced"]
        await near.connections.close()

    @simulated
    async def test_a_deleted_cluster_has_none(self) -> None:
        near = Near()
        await near.connected()
        near.put(ObjectKey(CLUSTER.group, CLUSTER.kind, "default", "demo"), None)
        await asyncio.sleep(1)
        assert near.connections.all() == () and near.far.apis[0].closed and not near.state.connected
        told = len(near.told)
        await asyncio.sleep(1000)
        assert len(near.told) == told, "nobody is told of it any more"


class TestConnecting:
    @simulated
    async def test_it_tries_again_ever_more_slowly(self) -> None:
        near = Near()
        near.far.gone = True
        near.cluster()
        near.kubeconfig()
        await asyncio.sleep(600)
        gaps = [round(later - earlier, 3) for earlier, later in itertools.pairwise(near.far.dials)]
        assert gaps == sorted(gaps) and gaps[0] < 0.5 and gaps[-1] == pytest.approx(CONNECT_BACKOFF_SECONDS_MAX + 0.1)
        assert near.state.consecutive_failures == len(near.far.dials)
        near.far.gone = False
        await asyncio.sleep(CONNECT_BACKOFF_SECONDS_MAX + 1)
        assert near.state.connected and near.state.consecutive_failures == 0
        await near.connections.close()

    @simulated
    async def test_a_control_plane_that_comes_up_is_dialled_at_once(self) -> None:
        near = Near()
        near.far.gone = True
        near.cluster()
        near.kubeconfig()
        await asyncio.sleep(600)
        near.far.gone = False
        before, after = {"status": {"initialization": {}}}, {"status": {"initialization": {"controlPlaneInitialized": True}}}
        near.director.changed(Change(ObjectKey("controlplane.cluster.x-k8s.io", "KubeadmControlPlane", "default", "demo"), DEMO, before, after))
        await asyncio.sleep(0.5)
        assert near.state.connected
        await near.connections.close()

    @simulated
    async def test_a_changed_kubeconfig_reconnects(self) -> None:
        near = Near()
        await near.connected()
        near.kubeconfig("v2")
        await asyncio.sleep(1)
        assert len(near.far.apis) == 2 and near.far.apis[0].closed and near.state.connected
        near.kubeconfig("v2")
        await asyncio.sleep(60)
        assert len(near.far.apis) == 2, "the same bytes change nothing"
        await near.connections.close()

    @simulated
    async def test_a_kubeconfig_that_changes_while_it_is_dialled_counts(self) -> None:
        near = Near()
        near.far.dial_seconds = 3
        near.cluster()
        near.kubeconfig("v1")
        await asyncio.sleep(1)
        near.kubeconfig("v2")
        await asyncio.sleep(10)
        assert len(near.far.dials) == 2 and near.far.apis[0].closed and near.state.connected
        await near.connections.close()


class TestDegrading:
    @simulated
    async def test_five_failed_probes_disconnect_and_what_was_known_stays(self) -> None:
        near = Near()
        near.far.put("nodes", "n1", 5)
        await near.connected()
        near.far.gone = True
        await asyncio.sleep(PROBE_FAILURES_MAX * (PROBE_SECONDS + 0.1) - 2)
        assert near.state.connected and near.state.consecutive_failures == PROBE_FAILURES_MAX - 1
        await asyncio.sleep(3)
        assert not near.state.connected
        assert [node["metadata"]["name"] for node in near.state.nodes] == ["n1"]
        assert [event for event in near.events() if event != "grace passed"] == ["connected", "synced", "probe failed", "disconnected"]
        await near.connections.close()

    @simulated
    async def test_the_graces_wake_when_conditions_change(self) -> None:
        near = Near()
        await near.connected()
        await asyncio.sleep(100)
        success = near.state.last_probe_success
        near.far.gone = True
        last = near.loop.time() - (SimClock(near.loop).now() - success).total_seconds()
        await asyncio.sleep(400)
        assert near.state.last_probe_success == success
        for grace in GRACES:
            ages = [at - last - grace.total_seconds() for at, _ in near.told]
            assert any(0 <= age < 0.2 for age in ages), f"somebody decides anew at {grace}: {ages}"
        await near.connections.close()

    @simulated
    async def test_a_probe_that_succeeds_again_tells_and_calls_the_graces_off(self) -> None:
        near = Near()
        await near.connected()
        near.far.gone = True
        await asyncio.sleep(2.5 * PROBE_SECONDS)
        near.far.gone = False
        await asyncio.sleep(400)
        assert near.events() == ["connected", "synced", "probe failed", "probe succeeded"]
        assert near.state.connected and near.state.consecutive_failures == 0
        await near.connections.close()

    @pytest.mark.parametrize("by", ["probe", "request"])
    @simulated
    async def test_refused_credentials_drop_the_connection(self, by: str) -> None:
        near = Near()
        await near.connected()
        near.far.revoked = True
        if by == "request":
            response = await near.connections.send(Request("GET", "/api/v1/nodes", cluster=str(DEMO)))
            assert response.status == 401
        await asyncio.sleep(1 if by == "request" else PROBE_SECONDS + 1)
        assert not near.state.connected and near.far.apis[0].closed
        near.far.revoked = False
        await asyncio.sleep(CONNECT_BACKOFF_SECONDS_MAX + 1)
        assert near.state.connected
        await near.connections.close()


class TestWhatIsKnown:
    @simulated
    async def test_nodes_come_change_and_go(self) -> None:
        near = Near()
        near.far.put("nodes", "n2", 5)
        near.far.put("nodes", "n1", 6)
        await near.connected()
        assert [node["metadata"]["name"] for node in near.state.nodes] == ["n1", "n2"]
        near.told.clear()
        near.far.put("nodes", "n1", 7, labels={"a": "b"})
        near.far.put("nodes", "n1", 6)
        near.far.put("nodes", "n2", 8, "deleted")
        await asyncio.sleep(0.1)
        assert [(change.key.name, change.after is None) for _, change in near.told] == [("n1", False), ("n2", True)], "an old event says nothing"
        assert near.told[0][1].key == ObjectKey("", "Node", "", "n1", str(DEMO))
        await near.connections.close()

    @simulated
    async def test_what_vanished_while_disconnected_is_seen_to_be_gone(self) -> None:
        near = Near()
        near.far.put("nodes", "n1", 5)
        near.far.put("nodes", "n2", 6)
        await near.connected()
        near.far.watchers.clear()
        near.far.put("nodes", "n1", 7, "deleted")
        near.told.clear()
        near.kubeconfig("v2")
        await asyncio.sleep(1)
        assert [node["metadata"]["name"] for node in near.state.nodes] == ["n2"]
        assert [change.key.name for _, change in near.told if change.after is None] == ["n1"]
        await near.connections.close()

    @simulated
    async def test_an_answer_of_ours_is_known_at_once(self) -> None:
        near = Near()
        near.far.put("nodes", "n1", 5)
        await near.connected()
        node = {"metadata": {"name": "n1", "uid": "u-n1", "resourceVersion": "9", "labels": {"ours": "1"}}}
        near.connections.answered(DEMO, ObjectKey("", "Node", "", "n1", str(DEMO)), node)
        assert near.state.nodes[0]["metadata"]["labels"] == {"ours": "1"}
        near.connections.answered(DEMO, ObjectKey("", "Node", "", "n1", str(DEMO)), None)
        assert near.state.nodes == ()
        await near.connections.close()

    @simulated
    async def test_a_cluster_that_goes_while_its_connection_is_being_closed_leaves_nothing_open(self) -> None:
        near = Near()
        await near.connected()
        near.far.close_seconds = 1.0
        near.connections.kubeconfig_changed(DEMO)
        await asyncio.sleep(0.5)
        near.connections.forget(DEMO)
        await near.connections.close()
        assert near.far.apis and all(api.closed for api in near.far.apis)

    @simulated
    async def test_evictions_are_remembered(self) -> None:
        near = Near()
        await near.connected()
        near.connections.evicted(DEMO, ObjectKey("", "Pod", "default", "web", str(DEMO)), 429, "the budget forbids it")
        looked = near.state.looks["eviction/default/web"]
        assert looked.value == {"status": 429, "message": "the budget forbids it"}
        await near.connections.close()


class TestLooks:
    @simulated
    async def test_looks_of_the_same_thing_join_and_wake_all(self) -> None:
        near = Near()
        await near.connected()
        woken: list[str] = []
        near.connections.look(DEMO, "etcd", (), lambda: woken.append("a"))
        near.connections.look(DEMO, "etcd", (), lambda: woken.append("b"))
        near.connections.look(DEMO, "pods/n1", (), lambda: woken.append("c"))
        assert near.far.looks == [] and not near.state.looks
        await asyncio.sleep(2)
        assert sorted(near.far.looks) == ["etcd", "pods/n1"] and sorted(woken) == ["a", "b", "c"]
        assert near.state.looks["etcd"].value == {"answer": "etcd"} and near.state.looks["etcd"].error == ""
        await near.connections.close()

    @simulated
    async def test_a_failed_look_says_why_and_wakes(self) -> None:
        near = Near()
        await near.connected()
        near.far.gone = True
        woken: list[str] = []
        near.connections.look(DEMO, "etcd", (), lambda: woken.append("a"))
        await asyncio.sleep(2)
        looked: Looked = near.state.looks["etcd"]
        assert woken == ["a"] and looked.value is None and "no route to host" in looked.error
        await near.connections.close()

    @simulated
    async def test_a_look_cut_off_by_a_disconnect_wakes_too(self) -> None:
        near = Near()
        await near.connected()
        woken: list[str] = []
        near.connections.look(DEMO, "etcd", (), lambda: woken.append("a"))
        await asyncio.sleep(0.5)
        near.kubeconfig("v2")
        await asyncio.sleep(0.01)
        assert woken == ["a"]
        await near.connections.close()


class TestNotConnected:
    @simulated
    async def test_requests_and_etcd_are_refused(self) -> None:
        near = Near()
        step = EtcdRemoveMember(DEMO, 1, "n1", (), "its Machine is gone")
        with pytest.raises(NotConnectedError):
            await near.connections.send(Request("GET", "/", cluster=str(DEMO)))
        with pytest.raises(NotConnectedError):
            await near.connections.etcd_remove_member(step)
        await near.connected()
        await near.connections.etcd_remove_member(step)
        assert near.far.removed == ["n1"]
        await near.connections.close()

    @simulated
    async def test_a_service_without_connections_refuses_all(self) -> None:
        none = NoWorkloads()
        with pytest.raises(NotConnectedError):
            await none.send(Request("GET", "/", cluster=str(DEMO)))
        assert not none.state(DEMO).connected


@simulated
async def test_clusters_do_not_notice_each_other() -> None:
    near = Near()
    await near.connected()
    other = {"metadata": {"name": "other", "namespace": "default"}, "spec": {"controlPlaneEndpoint": {"host": "x", "port": 1}}}
    near.connections.cluster_seen({**other, "status": {"initialization": {"infrastructureProvisioned": True}}}, kubeconfig=True)
    near.far.gone = True
    await asyncio.sleep(1)
    assert near.state.connected and not near.connections.state(ClusterKey("default", "other")).connected
    await near.connections.close()
