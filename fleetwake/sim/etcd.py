"""An emulated etcd cluster: its membership, and the part of etcd's gRPC interface that manages it.

``EmulatedEtcd`` is the state of one workload cluster's etcd and knows its rules: no IO, no clock, JSON in and out. ``EtcdEndpoint`` is port
2379 of one member's pod: TLS with a client certificate required, gRPC, one connection at a time handed to it by the port forward. Keys and
values do not exist here. A refusal carries etcd's own status and words, because clients match them.

Source: etcd 3.6 ``server/etcdserver/server.go`` (mayRemoveMember, MoveLeader), ``api/membership/cluster.go``, ``api/v3rpc``.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.protocol import H2Protocol
from grpclib.server import Server, Stream

from fleetwake.kube.etcd_pb import etcd_pb2 as pb
from fleetwake.kube.etcd_pb.etcd_grpc import ClusterBase, MaintenanceBase
from fleetwake.kube.pki import KeyPair, load_key_pair

VERSION = "3.6.5"
DB_SIZE_BYTES = 4 * 1024 * 1024
HANDSHAKE_LIMIT_SECONDS = 10.0
ALARM_TYPES = ("NOSPACE", "CORRUPT")

_log = logging.getLogger(__name__)


class EtcdRefusal(Exception):
    """A request that etcd refuses, with its gRPC status and message."""

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass
class EmulatedMember:
    """A member. ``name`` is ``""`` until it has started; ``running`` is whether its process answers."""

    id: int
    name: str
    peer_urls: tuple[str, ...]
    is_learner: bool = False
    running: bool = True

    @property
    def started(self) -> bool:
        """Whether the member ever joined: etcd knows it by its published name."""
        return self.name != ""


class EmulatedEtcd:
    """The membership of one etcd cluster, ordered by joining. Not safe for use from several threads."""

    def __init__(self, cluster: str) -> None:
        self.cluster_id = _identity(cluster)
        self.members: dict[int, EmulatedMember] = {}
        self.removed: set[int] = set()
        self.alarms: set[tuple[int, str]] = set()
        self.leader_id = 0
        self.raft_term = 1
        self.joins = 0

    def join(self, name: str, peer_urls: tuple[str, ...], *, is_learner: bool = False) -> EmulatedMember:
        """Add a member whatever etcd would say, as the first of all or one brought back; with ``name=""``, one that was added and never started.

        A name that left before comes back with a new id.
        """
        self.joins += 1
        member_id = _identity(f"{self.cluster_id:x}/{name}/{self.joins}")
        member = EmulatedMember(member_id, name, peer_urls, is_learner, running=name != "")
        self.members[member.id] = member
        self._elect()
        return member

    def add(self, name: str, peer_urls: tuple[str, ...]) -> EmulatedMember:
        """Add a member by a request of its host, which starts it at once. Raises: EtcdRefusal.

        etcd takes no member while one of its voters is away, nor while one learns.
        """
        if any(not voter.running for voter in self._voters()):
            raise EtcdRefusal(Status.UNAVAILABLE, "etcdserver: unhealthy cluster")
        if any(member.is_learner for member in self.members.values()):
            raise EtcdRefusal(Status.FAILED_PRECONDITION, "etcdserver: too many learner members in cluster")
        return self.join(name, peer_urls)

    def promote(self, member_id: int) -> None:
        """Make a learner a voter. Raises: EtcdRefusal."""
        member = self._member(member_id)
        if not member.is_learner:
            raise EtcdRefusal(Status.FAILED_PRECONDITION, "etcdserver: can only promote a learner member")
        member.is_learner = False
        self._elect()

    def set_running(self, member_id: int, running: bool) -> None:
        """Stop or start the process of a member; a stopped leader is replaced if a majority runs. Raises: EtcdRefusal."""
        self._member(member_id).running = running
        self._elect()

    def lose(self, member_id: int) -> None:
        """The host of a member is gone: the member stays listed, and away, until somebody removes it. Safe to repeat."""
        if member_id in self.members:
            self.set_running(member_id, False)

    def forget(self, member_id: int) -> None:
        """Take a member out without asking. Safe to repeat."""
        if self.members.pop(member_id, None) is not None:
            self.removed.add(member_id)
            self._elect()

    @property
    def has_quorum(self) -> bool:
        """Whether a majority of the voters runs."""
        voters = self._voters()
        return sum(voter.running for voter in voters) >= len(voters) // 2 + 1

    def require_quorum(self) -> None:
        """Raises: EtcdRefusal, as the time-out of an agreement that no majority can reach."""
        if not self.has_quorum:
            raise EtcdRefusal(Status.UNAVAILABLE, "etcdserver: request timed out")

    def serving(self, member_id: int) -> bool:
        """Whether the member's process listens: a removed one has ended itself."""
        member = self.members.get(member_id)
        return member is not None and member.running

    def find(self, name: str) -> EmulatedMember | None:
        """The member of that name, if any."""
        return next((member for member in self.members.values() if member.name == name), None)

    def remove(self, local_id: int, member_id: int) -> None:
        """Remove a member by a request to ``local_id``. Raises: EtcdRefusal.

        The order of the checks is etcd's: started voters, connected voters, a majority to agree, and only then whether the member exists.
        """
        target = self.members.get(member_id)
        if target is None or not target.is_learner:
            rest = [voter for voter in self._voters() if voter.id != member_id]
            if sum(voter.started for voter in rest) < len(rest) // 2 + 1:
                # etcd maps this one error to a value without a gRPC status, so it travels as UNKNOWN (seen from 3.4 to 3.6)
                raise EtcdRefusal(Status.UNKNOWN, "etcdserver: re-configuration failed due to not enough started members")
            voters = self._voters()
            if target is not None and (target.running or member_id == local_id):
                active = sum(voter.running for voter in voters)
                if active - 1 < 1 + (len(voters) - 1) // 2:
                    raise EtcdRefusal(Status.UNAVAILABLE, "etcdserver: unhealthy cluster")
        self.require_quorum()
        self._member(member_id)
        self.forget(member_id)

    def move_leader(self, local_id: int, target_id: int) -> None:
        """Hand leadership from ``local_id`` to ``target_id``. Raises: EtcdRefusal."""
        if local_id != self.leader_id:
            raise EtcdRefusal(Status.FAILED_PRECONDITION, "etcdserver: not leader")
        target = self.members.get(target_id)
        if target is None or target.is_learner:
            raise EtcdRefusal(Status.FAILED_PRECONDITION, "etcdserver: bad leader transferee")
        if not target.running:
            raise EtcdRefusal(Status.UNKNOWN, "etcdserver: request timed out, leader transfer took too long")
        if target_id != self.leader_id:
            self.leader_id = target_id
            self.raft_term += 1

    def raise_alarm(self, member_id: int, type_: str) -> None:
        """Raise ``NOSPACE`` or ``CORRUPT``; it stays until disarmed, even after the member is gone, as in etcd."""
        if type_ not in ALARM_TYPES:
            raise ValueError(f"no such alarm: {type_}")
        self.alarms.add((member_id, type_))

    def disarm(self, member_id: int, type_: str) -> bool:
        """Lower an alarm; says whether it was up."""
        up = (member_id, type_) in self.alarms
        self.alarms.discard((member_id, type_))
        return up

    def to_json(self) -> dict[str, Any]:
        """The whole state as JSON values; ids in hexadecimal, as etcd prints them (JSON readers lose bits of 64)."""
        return {
            "clusterID": f"{self.cluster_id:x}",
            "leaderID": f"{self.leader_id:x}",
            "raftTerm": self.raft_term,
            "joins": self.joins,
            "members": [
                {"id": f"{m.id:x}", "name": m.name, "peerURLs": list(m.peer_urls), "isLearner": m.is_learner, "running": m.running}
                for m in self.members.values()
            ],
            "removed": sorted(f"{member_id:x}" for member_id in self.removed),
            "alarms": [{"memberID": f"{member_id:x}", "alarm": type_} for member_id, type_ in sorted(self.alarms)],
        }

    @classmethod
    def from_json(cls, state: dict[str, Any]) -> EmulatedEtcd:
        """The state that ``to_json`` wrote. Raises: KeyError, ValueError if it is not that."""
        etcd = cls("")
        etcd.cluster_id = int(state["clusterID"], 16)
        etcd.leader_id = int(state["leaderID"], 16)
        etcd.raft_term = state["raftTerm"]
        etcd.joins = state["joins"]
        for m in state["members"]:
            member = EmulatedMember(int(m["id"], 16), m["name"], tuple(m["peerURLs"]), m["isLearner"], m["running"])
            etcd.members[member.id] = member
        etcd.removed = {int(member_id, 16) for member_id in state["removed"]}
        etcd.alarms = {(int(alarm["memberID"], 16), alarm["alarm"]) for alarm in state["alarms"]}
        return etcd

    def _voters(self) -> list[EmulatedMember]:
        return [member for member in self.members.values() if not member.is_learner]

    def _member(self, member_id: int) -> EmulatedMember:
        member = self.members.get(member_id)
        if member is None:
            raise EtcdRefusal(Status.NOT_FOUND, "etcdserver: member not found")
        return member

    def _elect(self) -> None:
        """Keep a leader that can lead; else elect the running voter that joined first, in a new term; else have none."""
        candidates = [voter for voter in self._voters() if voter.running] if self.has_quorum else []
        if any(voter.id == self.leader_id for voter in candidates):
            return
        self.leader_id = candidates[0].id if candidates else 0
        self.raft_term += 1


def server_context(ca_pem: bytes, serving: KeyPair) -> ssl.SSLContext:
    """The TLS context of a member: shows ``serving``, demands a client certificate that chains to ``ca_pem`` (the cluster's etcd CA)."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=ca_pem.decode("ascii"))
    context.set_alpn_protocols(["h2"])
    load_key_pair(context, serving.cert_pem, serving.key_pem)
    return context


class EtcdEndpoint:
    """Port 2379 of the pod of one member: a ``ForwardTarget``.

    ``changed`` is called after a request changed the state, so that the owner can persist it. ``delay_seconds`` makes every answer late
    (the ``slow`` knob of the emulation).
    """

    def __init__(self, etcd: EmulatedEtcd, member_id: int, tls: ssl.SSLContext, *, changed: Callable[[], None] | None = None) -> None:
        self.delay_seconds = 0.0
        self._etcd = etcd
        self._member_id = member_id
        self._tls = tls
        self._connections: set[_ServerConnection] = set()
        member = _LocalMember(self, etcd, member_id, changed or (lambda: None))
        self._server = Server([_ClusterService(member), _MaintenanceService(member)])

    async def accept(self, sock: socket.socket) -> None:
        """Serve one connection until it ends. Raises: ConnectionRefusedError if the member is stopped or removed."""
        if not self._etcd.serving(self._member_id):
            raise ConnectionRefusedError("connect: connection refused")
        protocol = self._protocol()
        try:
            # the protocol is made here, not taken from the answer: uvloop answers with its own TLS protocol
            await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, sock, ssl=self._tls, ssl_handshake_timeout=HANDSHAKE_LIMIT_SECONDS)
        except OSError as error:  # ssl.SSLError is one
            _log.info("etcd member %x refused a client: %s", self._member_id, error)
            return
        self._connections.add(protocol)
        try:
            await protocol.ended
        finally:
            self._connections.discard(protocol)
            protocol.abort()

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._connections)

    def hang_up(self) -> None:
        """End all connections at once, as a process that dies does."""
        for protocol in tuple(self._connections):
            protocol.abort()

    def _protocol(self) -> _ServerConnection:
        # grpclib serves listeners only; making its protocol for a socket that is connected already takes its own factory
        protocol = self._server._protocol_factory()
        return _ServerConnection(protocol.handler, protocol.config, protocol.h2_config)


class _ServerConnection(H2Protocol):  # type: ignore[misc]  # grpclib is outside mypy's view
    """An HTTP/2 connection whose end can be awaited."""

    def __init__(self, handler: Any, config: Any, h2_config: Any) -> None:
        super().__init__(handler, config, h2_config)
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        if not self.ended.done():
            self.ended.set_result(None)

    def abort(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()


class _LocalMember:
    """What one member answers: the cluster's state seen from it."""

    def __init__(self, endpoint: EtcdEndpoint, etcd: EmulatedEtcd, member_id: int, changed: Callable[[], None]) -> None:
        self.etcd = etcd
        self.id = member_id
        self.changed = changed
        self._endpoint = endpoint

    async def answer(self, stream: Stream[Any, Any], reply: Callable[[Any], Any], *, for_learner: bool = False) -> None:
        """Answer one unary call with ``reply(request)``; an ``EtcdRefusal`` becomes the call's status."""
        request = await stream.recv_message()
        if self._endpoint.delay_seconds:
            await asyncio.sleep(self._endpoint.delay_seconds)
        if not self.etcd.serving(self.id):
            self._endpoint.hang_up()  # stopped or removed since the connection was made: the process is gone
            return
        try:
            if self.etcd.members[self.id].is_learner and not for_learner:
                raise EtcdRefusal(Status.FAILED_PRECONDITION, "etcdserver: rpc not supported for learner")
            message = reply(request)
        except EtcdRefusal as refusal:
            raise GRPCError(refusal.status, refusal.message) from refusal
        await stream.send_message(message)

    def header(self) -> pb.ResponseHeader:
        return pb.ResponseHeader(cluster_id=self.etcd.cluster_id, member_id=self.id, revision=1, raft_term=self.etcd.raft_term)

    def members(self) -> list[pb.Member]:
        return [pb.Member(ID=m.id, name=m.name, peerURLs=m.peer_urls, isLearner=m.is_learner) for m in self.etcd.members.values()]


class _ClusterService(ClusterBase):  # type: ignore[misc]  # generated, outside mypy's view
    def __init__(self, member: _LocalMember) -> None:
        self._member = member

    async def MemberList(self, stream: Stream[Any, Any]) -> None:
        await self._member.answer(stream, self._list)

    async def MemberRemove(self, stream: Stream[Any, Any]) -> None:
        await self._member.answer(stream, self._remove)

    def _list(self, request: pb.MemberListRequest) -> pb.MemberListResponse:
        if request.linearizable:
            self._member.etcd.require_quorum()
        return pb.MemberListResponse(header=self._member.header(), members=self._member.members())

    def _remove(self, request: pb.MemberRemoveRequest) -> pb.MemberRemoveResponse:
        self._member.etcd.remove(self._member.id, request.ID)
        self._member.changed()
        return pb.MemberRemoveResponse(header=self._member.header(), members=self._member.members())


class _MaintenanceService(MaintenanceBase):  # type: ignore[misc]  # generated, outside mypy's view
    def __init__(self, member: _LocalMember) -> None:
        self._member = member

    async def Alarm(self, stream: Stream[Any, Any]) -> None:
        await self._member.answer(stream, self._alarm)

    async def Status(self, stream: Stream[Any, Any]) -> None:
        await self._member.answer(stream, self._status, for_learner=True)

    async def MoveLeader(self, stream: Stream[Any, Any]) -> None:
        await self._member.answer(stream, self._move_leader)

    def _alarm(self, request: pb.AlarmRequest) -> pb.AlarmResponse:
        etcd = self._member.etcd
        etcd.require_quorum()
        name = pb.AlarmType.Name(request.alarm) if request.alarm in pb.AlarmType.values() else ""
        if request.action == pb.AlarmRequest.GET:
            listed = [alarm for alarm in sorted(etcd.alarms) if request.alarm == pb.NONE or alarm[1] == name]
        elif request.action == pb.AlarmRequest.ACTIVATE and name in ALARM_TYPES:
            etcd.raise_alarm(request.memberID, name)
            listed = [(request.memberID, name)]
            self._member.changed()
        elif request.action == pb.AlarmRequest.DEACTIVATE and etcd.disarm(request.memberID, name):
            listed = [(request.memberID, name)]
            self._member.changed()
        else:
            listed = []
        alarms = [pb.AlarmMember(memberID=member_id, alarm=type_) for member_id, type_ in listed]
        return pb.AlarmResponse(header=self._member.header(), alarms=alarms)

    def _status(self, request: pb.StatusRequest) -> pb.StatusResponse:
        etcd = self._member.etcd
        errors = [] if etcd.leader_id else ["etcdserver: no leader"]
        errors += [f"memberID:{member_id} alarm:{type_} " for member_id, type_ in sorted(etcd.alarms)]
        return pb.StatusResponse(
            header=self._member.header(),
            version=VERSION,
            dbSize=DB_SIZE_BYTES,
            dbSizeInUse=DB_SIZE_BYTES // 2,
            leader=etcd.leader_id,
            raftTerm=etcd.raft_term,
            isLearner=etcd.members[self._member.id].is_learner,
            errors=errors,
        )

    def _move_leader(self, request: pb.MoveLeaderRequest) -> pb.MoveLeaderResponse:
        self._member.etcd.move_leader(self._member.id, request.targetID)
        self._member.changed()
        return pb.MoveLeaderResponse()


def _identity(text: str) -> int:
    """A stable 64-bit id, never 0 (etcd's "none")."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") or 1
