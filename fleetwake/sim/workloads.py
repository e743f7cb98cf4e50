"""Workload clusters in memory, as a worker's connections reach them: an API server, an etcd, and a network that may be cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import timedelta
from typing import Any

import orjson

from fleetwake.errors import NotConnectedError, NotFoundError, UnavailableError
from fleetwake.plan import EtcdMoveLeader, EtcdRemoveMember
from fleetwake.shell.dial import ETCD_CHANGE_WAIT
from fleetwake.shell.ports import Clock, Request, Response
from fleetwake.shell.workload import WorkloadEvent
from fleetwake.sim.apiserver import ApiServer, ListOptions, Settings, WatchEvent, WatchOptions
from fleetwake.sim.etcd import EmulatedEtcd, EtcdRefusal
from fleetwake.sim.kube import SimNetwork
from fleetwake.sim.loop import Process
from schemas.keys import ClusterKey

JsonDict = dict[str, Any]
SELECTIONS: Mapping[str, tuple[str, str, WatchOptions]] = {
    "nodes": ("nodes", "", WatchOptions()),
    "pods": ("pods", "kube-system", WatchOptions(label_selector="tier=control-plane")),
    "kubeadm-config": ("configmaps", "kube-system", WatchOptions(field_selector="metadata.name=kubeadm-config")),
}
CERTIFICATE_DAYS = 365


class SimWorkload:
    """One workload cluster. ``serving`` says whether its API server answers; ``cut`` is set while the network to it is gone."""

    def __init__(self, cluster: ClusterKey, uid: str, clock: Clock) -> None:
        self.cluster, self.uid, self._clock = cluster, uid, clock
        seed = sum(uid.encode())
        self.server = ApiServer(clock.now, Settings(create_namespaces=True, collect_automatically=True, seed=seed, graceful_pods=False))
        self.etcd = EmulatedEtcd(f"{cluster}/{uid}")
        self.serving = self.cut = False
        self.broken: list[Callable[[], None]] = []

    def sever(self) -> None:
        """Cut the network: requests fail, watches break."""
        self.cut = True
        broken, self.broken = self.broken, []
        for callback in broken:
            callback()

    def mend(self) -> None:
        """The network is back."""
        self.cut = False

    @property
    def reachable(self) -> bool:
        """Whether requests are answered: not without the network, nor without an etcd that can agree on something."""
        return self.serving and not self.cut and (not self.etcd.members or self.etcd.has_quorum)


class SimWorkloadApi:
    """``fleetwake.shell.workload.WorkloadApi`` of one process."""

    def __init__(self, network: SimNetwork, process: Process, workload: SimWorkload, clock: Clock) -> None:
        self._network, self._process, self._workload, self._clock = network, process, workload, clock

    def _server(self) -> ApiServer | None:
        return self._workload.server if self._workload.reachable else None

    async def request(self, request: Request) -> Response:
        """Send a request."""
        return await self._network.send(self._process, self._server, request)

    async def close(self) -> None:
        """Nothing is held."""

    async def watch(self, selection: str) -> AsyncIterator[WorkloadEvent]:
        """Follow a selection for ever."""
        resource, namespace, options = SELECTIONS[selection]
        while True:
            if not self._workload.reachable:
                yield WorkloadEvent("lost")
                await asyncio.sleep(1.0)
                continue
            queue: asyncio.Queue[WatchEvent | None] = asyncio.Queue()
            server = self._workload.server
            listing = ListOptions(options.label_selector, options.field_selector)
            found = server.list(resource, namespace, listing)
            since = WatchOptions(options.label_selector, options.field_selector, found["metadata"]["resourceVersion"])
            watch = server.watch(resource, namespace, since, queue.put_nowait)
            self._workload.broken.append(lambda queue=queue: queue.put_nowait(None))  # type: ignore[misc]
            try:
                await self._wire()
                for item in found["items"]:
                    yield WorkloadEvent("changed", _slim(item))
                yield WorkloadEvent("listed", keep=frozenset(item["metadata"]["name"] for item in found["items"]))
                while (event := await queue.get()) is not None and event.type != "ERROR":
                    await self._wire()
                    yield WorkloadEvent("deleted" if event.type == "DELETED" else "changed", _slim(event.obj))
            finally:
                watch.stop()
            yield WorkloadEvent("lost")

    async def _wire(self) -> None:
        await asyncio.sleep(self._network.faults.latency(0.001))
        self._process.check()

    async def look(self, query: str, via: tuple[str, ...]) -> Any:
        """Read what a ``Look`` asks for."""
        what, _, rest = query.partition("/")
        await self._wire()
        if not self._workload.reachable:
            raise UnavailableError("no answer", operation=f"look {query}")
        server = self._workload.server
        match what:
            case "etcd":
                return self._look_etcd(via)
            case "pods":
                return self._items(server, "pods", rest)
            case "namespaces":
                return self._items(server, "namespaces", "")
            case "volumes":
                return {"attachments": [], "volumes": [], "pods": self._items(server, "pods", rest)}
            case "certificate":
                return {"notAfter": (self._clock.now() + timedelta(days=CERTIFICATE_DAYS)).isoformat()}
            case "get":
                group, _, kind, namespace, name = rest.split("/", 4)
                definition = server.by_kind.get((group, kind))
                if definition is None:
                    return None
                response = await self.request(_get(definition.api_version, definition.plural, namespace if definition.namespaced else "", name))
                return orjson.loads(response.body) if response.status == 200 else None
        raise NotFoundError(f"no look is called {query!r}", operation="look")

    @staticmethod
    def _items(server: ApiServer, resource: str, node: str) -> list[Any]:
        field = f"spec.nodeName={node}" if node else ""
        items: list[Any] = server.list(resource, "", ListOptions(field_selector=field))["items"]
        return items

    def _look_etcd(self, via: tuple[str, ...]) -> Any:
        etcd, node = self._workload.etcd, self._asked(via)
        members = [{"id": member.id, "name": member.name, "isLearner": member.is_learner} for member in etcd.members.values()]
        alarms = [{"memberID": member_id, "alarm": alarm} for member_id, alarm in sorted(etcd.alarms)]
        return {"members": members, "alarms": alarms, "leader": etcd.leader_id, "via": node}

    def _asked(self, via: tuple[str, ...]) -> str:
        for node in via:
            member = self._workload.etcd.find(node)
            if member is not None and member.running:
                return node
        raise NotConnectedError("no member answers", operation=f"etcd of {self._workload.cluster}")

    async def _effect(self) -> EmulatedEtcd:
        await self._wire()
        if not self._workload.reachable:
            raise UnavailableError("no answer", operation="etcd")
        return self._workload.etcd

    async def remove_member(self, step: EtcdRemoveMember) -> None:
        """Remove an etcd member; one that is gone already is success."""
        etcd = await self._effect()
        if step.member_id not in etcd.members:
            return
        local = etcd.find(self._asked(step.via))
        assert local is not None  # it was just asked
        try:
            etcd.remove(local.id, step.member_id)
        except EtcdRefusal as refusal:
            raise UnavailableError(refusal.message, operation="remove etcd member", after=ETCD_CHANGE_WAIT) from refusal

    async def move_leader(self, step: EtcdMoveLeader) -> None:
        """Move etcd's leadership."""
        etcd = await self._effect()
        heirs = (step.to_member_id, *step.others)
        if etcd.leader_id in heirs:
            return None
        refused = "no leader"
        for heir in heirs:
            try:
                return etcd.move_leader(etcd.leader_id, heir)
            except EtcdRefusal as refusal:
                refused = refusal.message
        raise UnavailableError(refused, operation="move etcd leader", after=ETCD_CHANGE_WAIT)


def _get(api_version: str, plural: str, namespace: str, name: str) -> Request:
    root = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
    place = f"/namespaces/{namespace}" if namespace else ""
    return Request("GET", f"{root}{place}/{plural}/{name}")


def _slim(state: JsonDict) -> JsonDict:
    return {**state, "metadata": {name: value for name, value in state["metadata"].items() if name != "managedFields"}}
