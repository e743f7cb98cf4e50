"""A client of a workload cluster's etcd: mutual TLS and gRPC inside a port forward to the pod of one member.

Membership is read and changed here; what to change is decided elsewhere. Every failure is an ``EtcdError`` that names the pod, the
operation and the cause; nothing is retried here, and a call whose answer was lost has an unknown outcome. Key material stays in memory
and out of every message.

Source: etcd 3.4 to 3.6 ``api/etcdserverpb/rpc.proto``; kubeadm's static pod serves clients at 2379 of the pod.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from types import TracebackType
from typing import Any, Self

import h2.exceptions
from grpclib.client import Channel
from grpclib.exceptions import GRPCError, StreamTerminatedError
from grpclib.protocol import H2Protocol

from fleetwake.errors import RetryableError
from fleetwake.kube.etcd_pb import etcd_pb2 as pb
from fleetwake.kube.etcd_pb.etcd_grpc import ClusterStub, MaintenanceStub
from fleetwake.kube.pki import load_key_pair
from fleetwake.kube.port_forward import DIAL_LIMIT, ApiAccess, ForwardedPort, PodPort, PortForwardError, port_forward

ETCD_PORT = 2379
CALL_LIMIT = timedelta(seconds=15)


class EtcdError(RetryableError):
    """A call to a member failed.

    ``code`` is the gRPC status (``NOT_FOUND``, ``FAILED_PRECONDITION``, ``UNAVAILABLE``, ``DEADLINE_EXCEEDED``, ...); a member that could not
    be reached is ``UNAVAILABLE``. ``http_status`` is the API server's answer if it was the one to refuse (401: the kubeconfig is stale).
    """

    def __init__(self, cause: str, *, pod: str, operation: str, code: str, http_status: int | None = None) -> None:
        super().__init__(f"{cause} ({code})", operation=f"etcd {operation} through {pod}")
        self.pod = pod
        self.cause = cause
        self.code = code
        self.http_status = http_status


@dataclass(frozen=True)
class EtcdTls:
    """Who we are to etcd (certificate and key, PEM, signed by the cluster's etcd CA) and whom we trust (that CA, PEM).

    The member's certificate must chain to the CA; its names are checked only when ``server_name`` is set, because a pod reached through
    a port forward has no name of its own (kubeadm's certificates hold ``localhost`` and the node's name; others need not).
    """

    ca_pem: bytes
    cert_pem: bytes
    key_pem: bytes = field(repr=False)
    server_name: str | None = None

    @cached_property
    def context(self) -> ssl.SSLContext:
        """The client's TLS context, built once per instance. Raises: ValueError if certificate and key do not fit."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = self.server_name is not None
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=self.ca_pem.decode("ascii"))
        context.set_alpn_protocols(["h2"])
        load_key_pair(context, self.cert_pem, self.key_pem)
        return context


@dataclass(frozen=True)
class EtcdMember:
    """A member of the cluster; ``name`` is ``""`` until it has started once."""

    id: int
    name: str
    peer_urls: tuple[str, ...]
    is_learner: bool


@dataclass(frozen=True)
class EtcdAlarm:
    """An alarm raised by a member: ``NOSPACE`` or ``CORRUPT``."""

    member_id: int
    type: str


@dataclass(frozen=True)
class EtcdStatus:
    """What the member behind the pod says of itself; ``leader_id`` is 0 while it knows no leader."""

    member_id: int
    leader_id: int
    raft_term: int
    db_size_bytes: int
    is_learner: bool
    version: str
    errors: tuple[str, ...]


class EtcdClient:
    """One connection to one member, open for the length of an ``async with``; made by ``through``.

    Calls may run side by side. A lost connection is not remade: leave the block and open another.
    """

    def __init__(self, api: ApiAccess, target: PodPort, tls: EtcdTls, *, call_limit: timedelta, dial_limit: timedelta) -> None:
        self._api = api
        self._target = target
        self._tls = tls
        self._call_limit = call_limit
        self._dial_limit = dial_limit
        self._stack = AsyncExitStack()
        self._channel: _ForwardedChannel | None = None

    @classmethod
    def through(
        cls,
        api: ApiAccess,
        *,
        pod: str,
        tls: EtcdTls,
        namespace: str = "kube-system",
        timeout: timedelta = CALL_LIMIT,
        dial_timeout: timedelta = DIAL_LIMIT,
    ) -> Self:
        """A client of the member whose pod is ``etcd-<node>``; nothing is sent before ``async with``."""
        return cls(api, PodPort(namespace, pod, ETCD_PORT), tls, call_limit=timeout, dial_limit=dial_timeout)

    async def __aenter__(self) -> Self:
        """Open the port forward and shake hands. Raises: EtcdError with operation ``dial``."""
        try:
            async with asyncio.timeout(self._dial_limit.total_seconds()):
                forwarded = await self._stack.enter_async_context(port_forward(self._api, self._target, dial_limit=self._dial_limit))
                channel = _ForwardedChannel(self._target, forwarded, self._tls)
                self._stack.callback(channel.close)
                await channel.dial(self._dial_limit)
        except PortForwardError as error:
            await self._stack.aclose()
            raise self._error("dial", error.message, "UNAVAILABLE", error.http_status) from error
        except TimeoutError as error:
            await self._stack.aclose()
            raise self._error("dial", f"no connection within {self._dial_limit.total_seconds():g} s", "UNAVAILABLE") from error
        except OSError as error:  # ssl.SSLError is one
            cause = forwarded.failure or f"{type(error).__name__}: {error}"
            await self._stack.aclose()
            raise self._error("dial", cause, "UNAVAILABLE") from error
        except BaseException:
            await self._stack.aclose()
            raise
        self._channel = channel
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close connection and port forward."""
        self._channel = None
        await self._stack.aclose()

    async def members(self) -> tuple[EtcdMember, ...]:
        """List the members as the majority knows them (a linearizable read from etcd 3.5 on), ordered by id. Raises: EtcdError."""
        reply = await self._call("MemberList", lambda channel: ClusterStub(channel).MemberList, pb.MemberListRequest(linearizable=True))
        return _members(reply.members)

    async def alarms(self) -> tuple[EtcdAlarm, ...]:
        """List the alarms of all members, removed ones included: etcd keeps an alarm until it is disarmed. Raises: EtcdError."""
        request = pb.AlarmRequest(action=pb.AlarmRequest.GET, memberID=0, alarm=pb.NONE)
        reply = await self._call("AlarmList", lambda channel: MaintenanceStub(channel).Alarm, request)
        return tuple(sorted((EtcdAlarm(alarm.memberID, _alarm_name(alarm.alarm)) for alarm in reply.alarms), key=lambda a: (a.member_id, a.type)))

    async def status(self) -> EtcdStatus:
        """Ask the member behind the pod for its own status; needs no quorum. Raises: EtcdError."""
        reply = await self._call("Status", lambda channel: MaintenanceStub(channel).Status, pb.StatusRequest())
        return EtcdStatus(
            member_id=reply.header.member_id,
            leader_id=reply.leader,
            raft_term=reply.raftTerm,
            db_size_bytes=reply.dbSize,
            is_learner=reply.isLearner,
            version=reply.version,
            errors=tuple(reply.errors),
        )

    async def remove_member(self, member_id: int) -> tuple[EtcdMember, ...]:
        """Remove a member and return those that remain. Raises: EtcdError, ``NOT_FOUND`` if it is no member (any more)."""
        reply = await self._call(f"MemberRemove {member_id:x}", lambda channel: ClusterStub(channel).MemberRemove, pb.MemberRemoveRequest(ID=member_id))
        return _members(reply.members)

    async def move_leader(self, target_id: int) -> None:
        """Hand leadership to ``target_id``. Only the leader's own pod accepts this (else ``FAILED_PRECONDITION``). Raises: EtcdError."""
        await self._call(f"MoveLeader {target_id:x}", lambda channel: MaintenanceStub(channel).MoveLeader, pb.MoveLeaderRequest(targetID=target_id))

    async def _call(self, operation: str, method: Callable[[Channel], Callable[..., Awaitable[Any]]], request: object) -> Any:
        channel = self._channel
        if channel is None:
            raise self._error(operation, "the client is not open", "UNAVAILABLE")
        limit = self._call_limit.total_seconds()
        try:
            return await method(channel)(request, timeout=limit)
        except GRPCError as error:
            raise self._error(operation, error.message or error.status.name, error.status.name) from error
        except TimeoutError as error:
            raise self._error(operation, f"no answer within {limit:g} s", "DEADLINE_EXCEEDED") from error
        except (StreamTerminatedError, h2.exceptions.H2Error, OSError) as error:
            raise self._error(operation, channel.why_lost() or _describe(error), "UNAVAILABLE") from error

    def _error(self, operation: str, cause: str, code: str, http_status: int | None = None) -> EtcdError:
        return EtcdError(cause, pod=f"{self._target.namespace}/{self._target.pod}", operation=operation, code=code, http_status=http_status)


class _Connection(H2Protocol):  # type: ignore[misc]  # grpclib is outside mypy's view
    """An HTTP/2 connection that remembers why it was lost: grpclib keeps only that it was."""

    lost: BaseException | None = None

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost = exc
        super().connection_lost(exc)


class _ForwardedChannel(Channel):  # type: ignore[misc]  # grpclib is outside mypy's view
    """A gRPC channel over the one connection of a port forward."""

    def __init__(self, target: PodPort, forwarded: ForwardedPort, tls: EtcdTls) -> None:
        super().__init__(target.pod, target.port, ssl=tls.context)
        self._forwarded = forwarded
        self._server_name = tls.server_name or target.pod
        self._dial_limit_seconds = DIAL_LIMIT.total_seconds()
        self._dialled = False

    async def dial(self, limit: timedelta) -> None:
        """Shake hands now rather than on the first call. Raises: OSError (ssl.SSLError among them)."""
        self._dial_limit_seconds = limit.total_seconds()
        await self.__connect__()

    def why_lost(self) -> str:
        """What the server, or TLS, said when the connection ended; ``""`` if nothing was said."""
        lost = getattr(self._protocol, "lost", None)
        return self._forwarded.failure or (f"connection lost: {lost}" if lost is not None else "")

    def _protocol_factory(self) -> _Connection:
        protocol = super()._protocol_factory()
        return _Connection(protocol.handler, protocol.config, protocol.h2_config)

    async def _create_connection(self) -> _Connection:
        if self._dialled:
            raise ConnectionResetError("the connection to the member was lost before")
        self._dialled = True
        _, protocol = await asyncio.get_running_loop().create_unix_connection(
            self._protocol_factory,
            sock=self._forwarded.take(),
            ssl=self._ssl,
            server_hostname=self._server_name,
            ssl_handshake_timeout=self._dial_limit_seconds,
        )
        return protocol


def _describe(error: Exception) -> str:
    if isinstance(error, StreamTerminatedError):
        # with TLS 1.3 a server judges our certificate after our side of the handshake is done: a refusal looks like this
        return "the member ended the connection without a reason; it may not trust our certificate"
    return f"{type(error).__name__}: {error}"


def _members(members: Any) -> tuple[EtcdMember, ...]:
    listed = (EtcdMember(member.ID, member.name, tuple(member.peerURLs), member.isLearner) for member in members)
    return tuple(sorted(listed, key=lambda member: member.id))


def _alarm_name(value: int) -> str:
    """The alarm's name, or its number if a newer etcd knows more of them."""
    names: dict[int, str] = {pb.NOSPACE: "NOSPACE", pb.CORRUPT: "CORRUPT"}
    return names.get(value, str(value))
