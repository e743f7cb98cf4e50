"""One emulated workload cluster: its API server's objects, its etcd, its hosts, its listener; and all of it as bytes to keep."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
from aiohttp import web

from fleetwake.kube.pki import KeyPair
from fleetwake.sim import discovery, etcd
from fleetwake.sim.apiserver import ApiServer, Change, Settings, WriteOptions
from fleetwake.sim.http import Extensions, application
from fleetwake.sim.port_forward import PodPorts, PortForwardHandler
from schemas.keys import ClusterKey
from services.dev_infrastructure.balancing.load_balancer import BalancerError
from services.dev_infrastructure.emulation import objects
from services.dev_infrastructure.emulation.doors import Door, Doors, Doorway, Serving
from services.dev_infrastructure.emulation.kubelet import Kubelet, crash, delete
from services.dev_infrastructure.emulation.serving import ApiServerPort, Authenticator
from services.dev_infrastructure.kinds.state import API_SERVER, NODE, ClusterState, MachineState

log = logging.getLogger(__name__)
JsonDict = dict[str, Any]
FORMAT = 1
API_PORT = 6443
AS_NODE_CONTROLLER = WriteOptions(field_manager="kube-controller-manager", subresource="status")
WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})
HISTORY_MAX = 128
"""Changes kept for watches that come back: more would cost each idle cluster megabytes, fewer would make busy clients list again."""
VERSIONS_AFTER_RESTART = 1000
"""What resourceVersions jump by: changes of the last moment before a crash may be lost, and their versions must not come again."""
NODE_MONITOR_SECONDS = 40.0
"""How long a Node whose kubelet is silent stays Ready (kube-controller-manager's default)."""


@dataclass
class Afflictions:
    """What the cluster and its hosts (by uid) suffer right now: hosts whose API server is ``down``, hosts that are ``lost`` to the network, a network that is
    ``cut``, answers that come so much later.
    """

    down: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)
    cut: bool = False
    slow_seconds: float = 0.0


@dataclass
class Host:
    """An emulated machine by its DevMachine: ``uid`` and ``dev_machine`` name it, ``name`` is the Machine's and the Node's.

    ``components``: the version of its static pods, where kubeadm was told another than its own; ``api_port``: where its API server listens;
    ``backend_port``: the port behind a load balancer that it has there; ``fetched``: what it fetched once and needs until it is a Node.
    """

    uid: str
    dev_machine: str
    name: str
    control_plane: bool
    version: str
    requested: datetime
    done: dict[str, datetime] = field(default_factory=dict)
    failure: str = ""
    failed_data: str = ""
    failed_at: datetime | None = None
    waits: bool = False
    member_id: int = 0
    ca_pem: bytes = b""
    serving: KeyPair | None = None
    components: str = ""
    api_port: int = API_PORT
    backend_port: int = 0
    fetched: bytes = field(default=b"", repr=False)

    def fail(self, message: str, data: str, *, waits: bool = False, at: datetime | None = None) -> None:
        """Note why the bootstrap went no further ("": it did)."""
        self.failure, self.failed_data, self.waits, self.failed_at = message, data, waits, at

    def state(self) -> MachineState:
        """The host as decisions see it."""
        return MachineState(self.requested, dict(self.done), self.failure, self.failed_data, self.failed_at)


class EmulatedCluster:
    """See the module. ``dirty`` is called after every change worth keeping, ``keep`` before a client is told that its write is done, ``worth_a_try`` when
    hosts that wait may find what they wait for, ``fell`` when the load balancer does not run any more.

    ``promised_port`` is the port to reserve again. ``balancer`` names the load balancer ("": none), ``balancer_failure`` says why it
    does not run.
    """

    def __init__(self, key: ClusterKey, dev_cluster: tuple[str, str], now: Callable[[], datetime], dirty: Callable[[EmulatedCluster], None]) -> None:
        self.key, self.dev_cluster, self.uid = key, dev_cluster[0], dev_cluster[1]
        self.host, self.failure, self.promised_port = "", "", 0
        self.lock = asyncio.Lock()
        self.hosts: dict[str, Host] = {}
        self.etcd_ca = b""
        self.etcd_serving: KeyPair | None = None
        self.external_etcd = self.initialized = False
        self.configuration: JsonDict = {}
        self.endpoint: socket.socket | None = None
        self.door: Door | None = None
        self.balancer, self.balancer_failure = "", ""
        self.worth_a_try: Callable[[], None] = lambda: None
        self.keep: Callable[[], None] = lambda: None
        self.fell: Callable[[], None] = lambda: None
        self.afflictions = Afflictions()
        self._now, self._dirty = now, dirty
        self._serving = asyncio.Lock()
        self._etcd_context: ssl.SSLContext | None = None
        self._endpoints: dict[int, etcd.EtcdEndpoint] = {}
        self._timers: set[asyncio.TimerHandle] = set()
        self._authenticator = Authenticator()
        self.etcd = etcd.EmulatedEtcd(f"{key}/{self.uid}")
        self.server, self.kubelet = self._fresh(None)

    # ---- objects ----------------------------------------------------------------------------------------------------------------------
    def _fresh(self, snapshot: bytes | None) -> tuple[ApiServer, Kubelet]:
        # the time is in the seed so that no uid comes twice: not after a restart that lost the last moment, not after a new beginning
        seed = int.from_bytes(hashlib.sha256(f"{self.uid}/{self._now().isoformat()}".encode()).digest()[:6], "big")
        server = ApiServer(self._now, Settings(collect_automatically=True, history_max=HISTORY_MAX, seed=seed))
        if snapshot is not None:
            server.restore(snapshot)
        else:
            for name in objects.NAMESPACES:
                server.create("namespaces", objects.namespace(name))
            server.create("services", objects.kubernetes_service(), "default")
        server.on_change(self._changed)
        return server, Kubelet(server, self.runs)

    def _changed(self, change: Change) -> None:
        self._dirty(self)
        key = change.entry.key
        token = key.resource == "secrets" and key.name.startswith("bootstrap-token-")
        if change.type != "DELETED" and (token or (key.resource, key.name) == ("configmaps", "kubeadm-config")):
            self.worth_a_try()

    def begin_anew(self) -> None:
        """A control plane that lost all its hosts lost its etcd: what comes next begins with nothing."""
        self.kubelet.close()
        self.etcd = etcd.EmulatedEtcd(f"{self.key}/{self.uid}")
        self.initialized, self.configuration = False, {}
        self.server, self.kubelet = self._fresh(None)

    def runs(self, node: str) -> bool:
        """Whether the host of a Node runs."""
        return any(host.name == node and NODE in host.done and host.uid not in self.afflictions.lost for host in self.hosts.values())

    @property
    def api_servers(self) -> list[Host]:
        """The hosts whose API server answers, the newest last."""
        up = (host for host in self.hosts.values() if API_SERVER in host.done and host.uid not in self.afflictions.down)
        return sorted(up, key=lambda host: host.done[API_SERVER])

    @property
    def port(self) -> int:
        """The endpoint's port; 0 while it is not reserved."""
        return int(self.endpoint.getsockname()[1]) if self.endpoint is not None else 0

    def state(self) -> ClusterState:
        """The cluster as decisions see it."""
        machines = {uid: host.state() for uid, host in self.hosts.items()}
        return ClusterState(self.uid, self.host, self.port, self.failure, machines, balancer=self.balancer, balancer_failure=self.balancer_failure)

    # ---- the way in -------------------------------------------------------------------------------------------------------------------
    def listen(self, reserved: socket.socket) -> None:
        """Take over a reserved port; ``balance`` opens the door at it."""
        self.endpoint = reserved

    async def balance(self, kind: str, doors: Doors) -> None:
        """Let clients in at the endpoint through this kind of load balancer ("": none), and start it anew if it fell. A change of kind cuts connections."""
        if self.endpoint is None or (self.door is not None and (self.balancer, self.balancer_failure) == (kind, "")):
            return
        async with self._serving:
            try:
                if self.door is None or self.balancer != kind:
                    if self.door is not None:
                        await self.door.close()
                    self.balancer, self.door = kind, None
                    self.door = doors.make(kind, Doorway(self.endpoint, self._application, str(self.key), self._fell))
                self.balancer_failure = ""
                await self.door.open()
            except BalancerError as error:
                self.balancer_failure = error.message
                return
        await self.serve()

    def _fell(self, message: str) -> None:
        log.warning("the load balancer of %s does not run: %s", self.key, message, extra={"about": self.key})
        self.balancer_failure = message
        self.fell()

    def _application(self, host: Serving | None) -> web.Application:
        """What an API server serves; ``host`` None: the newest of them."""
        forward = PortForwardHandler(self.ports_of)

        async def port_forward(request: web.Request, namespace: str, name: str) -> web.StreamResponse:
            request.match_info.update(namespace=namespace, pod=name)
            return await forward(request)

        async def version(_: web.Request) -> web.Response:
            mine = [one for one in self.api_servers if host is None or one is host]
            told = mine[-1].version if mine else objects.DEFAULT_VERSION
            return web.Response(body=orjson.dumps(discovery.version(told)), content_type="application/json")

        extensions = Extensions(authenticate=self._authenticator, subresources={("pods", "portforward"): port_forward}, routes=(web.get("/version", version),))
        served = application(self.server, extensions)
        served.middlewares.append(self._kept_first)
        return served

    @web.middleware
    async def _kept_first(self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
        """A write that a client was told of must outlive a kill, as etcd's do: a lost bootstrap token would leave a host waiting for ever."""
        if self.afflictions.slow_seconds:
            await asyncio.sleep(self.afflictions.slow_seconds)
        response = await handler(request)
        if request.method in WRITES:
            self.keep()
        return response

    async def serve(self) -> None:
        """Serve if an API server is registered and its etcd can agree on something, else do not."""
        async with self._serving:
            if self.door is None:
                return
            agreeing = self.external_etcd or not self.etcd.members or self.etcd.has_quorum
            started = sorted((host for host in self.hosts.values() if API_SERVER in host.done), key=lambda host: host.done[API_SERVER])
            try:
                await self.door.serve(started, self.api_servers if agreeing and not self.afflictions.cut else [])
            except BalancerError as error:
                self._fell(error.message)

    def ports_of(self, namespace: str, pod: str) -> PodPorts | None:
        """The ports that a pod listens on; None when there is no such pod."""
        if not self.server.store.tables.get("pods", {}).get(namespace, {}).get(pod):
            return None
        for host in self.hosts.values() if namespace == objects.SYSTEM else ():
            if pod == f"etcd-{host.name}" and host.member_id:
                return {2379: self._endpoint(host.member_id)}
            if pod == f"kube-apiserver-{host.name}" and host.serving is not None:
                listener = self.door.listener_of(host) if self.door is not None else None
                return {host.api_port: ApiServerPort(listener, host.ca_pem, host.serving)} if listener is not None else {}
        return {}

    def _endpoint(self, member_id: int) -> etcd.EtcdEndpoint:
        found = self._endpoints.get(member_id)
        if found is None:
            if self._etcd_context is None:
                assert self.etcd_serving is not None  # a member was joined with it
                self._etcd_context = etcd.server_context(self.etcd_ca, self.etcd_serving)
            found = etcd.EtcdEndpoint(self.etcd, member_id, self._etcd_context, changed=self._etcd_changed)
            self._endpoints[member_id] = found
        return found

    def _etcd_changed(self) -> None:
        for host in self.hosts.values():
            if host.member_id in self.etcd.removed:
                # etcd ends itself where it was removed, and is not started again
                crash(self.server, f"etcd-{host.name}")
        self._dirty(self)
        self.keep()
        self.worth_a_try()

    def trust_etcd(self, ca_pem: bytes, serving: KeyPair) -> None:
        """Serve etcd with this certificate to clients of this CA."""
        self.etcd_ca, self.etcd_serving, self._etcd_context = ca_pem, serving, None

    # ---- hosts ------------------------------------------------------------------------------------------------------------------------
    async def remove_host(self, uid: str) -> None:
        """Switch a host off for good: its kubelet, its static pods, its etcd member, its API server. The Node stays until somebody deletes it."""
        host = self.hosts.pop(uid, None)
        if host is None:
            return
        if host.member_id:
            self._lose(host.member_id)
            endpoint = self._endpoints.pop(host.member_id, None)
            if endpoint is not None:
                endpoint.hang_up()
        for component in objects.STATIC_PODS if host.control_plane else ():
            delete(self.server, "pods", objects.SYSTEM, f"{component}-{host.name}")
        if API_SERVER in host.done:
            await self.serve()
        if NODE in host.done:
            self.miss(host.name)

    def _lose(self, member_id: int) -> None:
        """What becomes of a member whose host is gone: etcd keeps it in its list, unless nothing is left of etcd."""
        if any(other.member_id in self.etcd.members for other in self.hosts.values()):
            self.etcd.lose(member_id)
            return
        for left in tuple(self.etcd.members):
            self.etcd.forget(left)

    def miss(self, node: str) -> None:
        """Wait whether the kubelet of a Node that is not heard of any more reports again."""
        self._timers.add(asyncio.get_running_loop().call_later(NODE_MONITOR_SECONDS, self.tell_silent, node))

    def tell_silent(self, name: str) -> None:
        """Tell what the node controller tells when a kubelet has been silent for long."""
        self._timers = {handle for handle in self._timers if handle.when() > asyncio.get_running_loop().time()}
        found = self.server.store.tables.get("nodes", {}).get("", {}).get(name)
        if found is None or self.runs(name):
            return
        taint = {"key": objects.UNREACHABLE_TAINT, "effect": "NoExecute", "timeAdded": objects.timestamp(self._now())}
        kept = [one for one in found.obj.get("spec", {}).get("taints") or () if one.get("key") != objects.UNREACHABLE_TAINT]
        self.server.update("nodes", {**found.obj, "spec": {**found.obj.get("spec", {}), "taints": [*kept, taint]}})
        told = self.server.get("nodes", "", name)
        lost = {**told, "status": {**told.get("status", {}), "conditions": objects.node_conditions(self._now(), lost=True)}}
        self.server.update("nodes", lost, "", AS_NODE_CONTROLLER)

    async def close(self) -> None:
        """End everything and let the port go."""
        self.kubelet.close()
        for handle in self._timers:
            handle.cancel()
        for endpoint in self._endpoints.values():
            endpoint.hang_up()
        async with self._serving:
            self.promised_port = self.port or self.promised_port
            door, self.door = self.door, None
            reserved, self.endpoint = self.endpoint, None
            if door is not None:
                await door.close()
            if reserved is not None:
                reserved.close()
                await asyncio.sleep(0)  # uvloop closes the duplicate at its next turn

    # ---- keeping ----------------------------------------------------------------------------------------------------------------------
    def to_bytes(self) -> bytes:
        """Everything that must outlive the process: one line of facts, then the objects. It holds keys of leaf certificates, none of a CA."""
        head = {
            "format": FORMAT,
            "cluster": str(self.key),
            "devCluster": self.dev_cluster,
            "uid": self.uid,
            "host": self.host,
            "port": self.port or self.promised_port,
            "balancer": self.balancer,
            "initialized": self.initialized,
            "externalEtcd": self.external_etcd,
            "configuration": self.configuration,
            "etcd": self.etcd.to_json(),
            "etcdCA": self.etcd_ca.decode(),
            "etcdServing": _pair_json(self.etcd_serving),
            "hosts": [_host_json(host) for host in self.hosts.values()],
        }
        return orjson.dumps(head) + b"\n" + self.server.snapshot()

    @classmethod
    def from_bytes(cls, state: bytes, now: Callable[[], datetime], dirty: Callable[[EmulatedCluster], None]) -> EmulatedCluster:
        """The cluster that ``to_bytes`` wrote, without its listener.

        Raises:
            ValueError, KeyError: it is none.
        """
        first, _, snapshot = state.partition(b"\n")
        head = orjson.loads(first)
        if head["format"] != FORMAT:
            raise ValueError(f"state of format {head['format']}; this version reads {FORMAT}")
        cluster = cls(ClusterKey.parse(head["cluster"]), (head["devCluster"], head["uid"]), now, dirty)
        cluster.kubelet.close()
        cluster.host, cluster.promised_port, cluster.balancer = head["host"], head["port"], head.get("balancer", "")
        cluster.initialized, cluster.external_etcd, cluster.configuration = head["initialized"], head["externalEtcd"], head["configuration"]
        cluster.etcd = etcd.EmulatedEtcd.from_json(head["etcd"])
        cluster.etcd_ca, cluster.etcd_serving = head["etcdCA"].encode(), _pair(head["etcdServing"])
        cluster.hosts = {one["uid"]: _host(one) for one in head["hosts"]}
        numbers, _, rest = snapshot.partition(b"\n")
        header = orjson.loads(numbers)
        header["version"] += VERSIONS_AFTER_RESTART
        cluster.server, cluster.kubelet = cluster._fresh(orjson.dumps(header) + (b"\n" + rest if rest else b""))
        for node in cluster.server.store.tables.get("nodes", {}).get("", {}):
            if not cluster.runs(node):
                cluster.miss(node)
        return cluster


def _pair_json(pair: KeyPair | None) -> JsonDict | None:
    return {"certificate": pair.cert_pem.decode(), "key": pair.key_pem.decode()} if pair is not None else None


def _pair(value: JsonDict | None) -> KeyPair | None:
    return KeyPair(value["certificate"].encode(), value["key"].encode()) if value is not None else None


def _host_json(host: Host) -> JsonDict:
    return {
        "uid": host.uid,
        "devMachine": host.dev_machine,
        "name": host.name,
        "controlPlane": host.control_plane,
        "version": host.version,
        "requested": host.requested.isoformat(),
        "done": {stage: at.isoformat() for stage, at in host.done.items()},
        "failure": host.failure,
        "failedData": host.failed_data,
        "failedAt": host.failed_at.isoformat() if host.failed_at is not None else None,
        "waits": host.waits,
        "memberID": f"{host.member_id:x}",
        "ca": host.ca_pem.decode(),
        "serving": _pair_json(host.serving),
        "components": host.components,
        "apiPort": host.api_port,
        "backendPort": host.backend_port,
        "fetched": base64.b64encode(host.fetched).decode(),
    }


def _host(value: JsonDict) -> Host:
    return Host(
        value["uid"],
        value["devMachine"],
        value["name"],
        value["controlPlane"],
        value["version"],
        datetime.fromisoformat(value["requested"]),
        {stage: datetime.fromisoformat(at) for stage, at in value["done"].items()},
        value["failure"],
        value["failedData"],
        datetime.fromisoformat(value["failedAt"]) if value["failedAt"] else None,
        value["waits"],
        int(value["memberID"], 16),
        value["ca"].encode(),
        _pair(value["serving"]),
        value.get("components", ""),
        value.get("apiPort", API_PORT),
        value.get("backendPort", 0),
        base64.b64decode(value.get("fetched", "")),
    )
