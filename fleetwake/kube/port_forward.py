"""A pod's port, reached through its API server: one websocket per connection, the near end a socket.

This is what ``kubectl port-forward`` does, spoken in the plain websocket form ``v4.channel.k8s.io``: kube-apiserver passes the upgrade to
the kubelet, which passes it to the container runtime. Each port of the query ``?ports=`` has two channels, data (2n) and error (2n+1);
every binary message starts with the channel's number; the first two bytes that the server sends on each channel are the port, little
endian. There is no half-close: when either side ends, the websocket ends.

What travels inside (TLS, gRPC) is the caller's business; this module never looks at it and never logs it.

Source: kubernetes 1.36 ``k8s.io/kubelet/pkg/cri/streaming/portforward/websocket.go`` and ``k8s.io/streaming/pkg/httpstream/wsstream``.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from urllib.parse import quote

import aiohttp

from fleetwake.errors import RetryableError

SUBPROTOCOL = "v4.channel.k8s.io"
DIAL_LIMIT = timedelta(seconds=10)
CLOSE_LIMIT_SECONDS = 1.0
CHUNK_BYTES_MAX = 64 * 1024
MESSAGE_BYTES_MAX = 4 * 1024 * 1024
FAILURE_BYTES_MAX = 4096
PORT_PREFIX_BYTES = 2

_DATA, _ERROR = 0, 1


@dataclass(frozen=True)
class ApiAccess:
    """How to reach one cluster's API server. ``base_url`` has no trailing path; ``tls=None`` leaves TLS to the session's connector.

    Every open port forward holds one connection of the session's pool (aiohttp's default limit is 100 per session).
    """

    session: aiohttp.ClientSession
    base_url: str
    tls: ssl.SSLContext | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class PodPort:
    """One TCP port of one pod."""

    namespace: str
    pod: str
    port: int

    def __str__(self) -> str:
        return f"{self.namespace}/{self.pod}:{self.port}"


class PortForwardError(RetryableError):
    """A pod's port could not be reached. ``http_status`` is the API server's answer when it gave one (401: the credentials are stale)."""

    def __init__(self, message: str, *, target: PodPort, http_status: int | None = None) -> None:
        super().__init__(message, operation=f"port-forward {target}")
        self.target = target
        self.http_status = http_status


class ForwardedPort:
    """The near end of an open port forward; made by ``port_forward``.

    ``failure`` is what the server reported on the error channel, or why the websocket ended, and ``""`` as long as nothing failed.
    """

    def __init__(self, websocket: aiohttp.ClientWebSocketResponse, port: int, near: socket.socket) -> None:
        self.failure = ""
        self._near: socket.socket | None = near
        self._websocket = websocket
        self._prefix = port.to_bytes(PORT_PREFIX_BYTES, "little")
        self._pending = {_DATA: PORT_PREFIX_BYTES, _ERROR: PORT_PREFIX_BYTES}

    def take(self) -> socket.socket:
        """The connected unix stream socket of the near end, once: whoever wraps it in a transport owns and closes it."""
        near, self._near = self._near, None
        if near is None:
            raise ConnectionResetError("the near end of this port forward was taken before")
        return near

    async def _pump_to_pod(self, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(ConnectionError):
            while chunk := await reader.read(CHUNK_BYTES_MAX):
                await self._websocket.send_bytes(bytes((_DATA,)) + chunk)
        await self._websocket.close()

    async def _pump_from_pod(self, writer: asyncio.StreamWriter) -> None:
        try:
            async for message in self._websocket:
                if message.type is not aiohttp.WSMsgType.BINARY or len(message.data) < 1:
                    continue
                channel, payload = message.data[0], self._without_prefix(message.data[0], message.data[1:])
                if channel == _DATA and payload:
                    writer.write(payload)
                    await writer.drain()
                elif channel == _ERROR and payload and len(self.failure) < FAILURE_BYTES_MAX:
                    self.failure += payload.decode("utf-8", "replace")
            if not self.failure and (cause := self._websocket.exception()) is not None:
                self.failure = f"{type(cause).__name__}: {cause}"
        except ConnectionError:
            pass  # the near end was closed first: nobody is left to tell
        finally:
            writer.close()

    def _without_prefix(self, channel: int, payload: bytes) -> bytes:
        """Drop the port number that opens each channel; it may share a message with what follows."""
        pending = self._pending.get(channel, 0)
        if not pending:
            return payload
        cut = payload[:pending]
        if cut != self._prefix[PORT_PREFIX_BYTES - pending :][: len(cut)] and not self.failure:
            self.failure = "the server opened a channel for another port"
        self._pending[channel] = pending - len(cut)
        return payload[len(cut) :]


@contextlib.asynccontextmanager
async def port_forward(api: ApiAccess, target: PodPort, *, dial_limit: timedelta = DIAL_LIMIT) -> AsyncIterator[ForwardedPort]:
    """Open one connection to a pod's port and close it with the block.

    Raises: PortForwardError if the API server refuses the upgrade or does not answer within ``dial_limit``. That the port itself refuses
    shows later, as end of stream on the near end with ``failure`` set: the API server answers the upgrade before it dials the pod.
    """
    websocket = await _open_websocket(api, target, dial_limit)
    near, far = socket.socketpair()
    forwarded = ForwardedPort(websocket, target.port, near)
    pumps: tuple[asyncio.Task[None], ...] = ()
    try:
        reader, writer = await asyncio.open_unix_connection(sock=far)
        pumps = (asyncio.create_task(forwarded._pump_to_pod(reader)), asyncio.create_task(forwarded._pump_from_pod(writer)))
        yield forwarded
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        if pumps:
            writer.close()
        else:
            far.close()
        if forwarded._near is not None:
            forwarded._near.close()
        await websocket.close()


async def _open_websocket(api: ApiAccess, target: PodPort, dial_limit: timedelta) -> aiohttp.ClientWebSocketResponse:
    url = f"{api.base_url.rstrip('/')}/api/v1/namespaces/{quote(target.namespace)}/pods/{quote(target.pod)}/portforward?ports={target.port}"
    try:
        async with asyncio.timeout(dial_limit.total_seconds()):
            websocket = await api.session.ws_connect(
                url,
                protocols=(SUBPROTOCOL,),
                ssl=api.tls if api.tls is not None else True,
                headers=dict(api.headers),
                max_msg_size=MESSAGE_BYTES_MAX,
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_LIMIT_SECONDS),
            )
    except aiohttp.WSServerHandshakeError as error:
        raise PortForwardError(f"the API server answered {error.status}: {error.message}", target=target, http_status=error.status) from error
    except TimeoutError as error:
        raise PortForwardError(f"no answer within {dial_limit.total_seconds():g} s", target=target) from error
    except (aiohttp.ClientError, OSError) as error:
        raise PortForwardError(f"{type(error).__name__}: {error}", target=target) from error
    if websocket.protocol != SUBPROTOCOL:
        await websocket.close()
        raise PortForwardError(f"the API server does not speak {SUBPROTOCOL}", target=target)
    return websocket


async def peer_certificate(api: ApiAccess, target: PodPort, tls: ssl.SSLContext, *, dial_limit: timedelta = DIAL_LIMIT) -> bytes:
    """Read the certificate (DER) that a pod's TLS port serves; the API server's own expiry is read this way.

    ``tls`` decides whether and against what the chain is verified. Raises: PortForwardError.
    """
    async with port_forward(api, target, dial_limit=dial_limit) as forwarded:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(dial_limit.total_seconds()):
                transport, _ = await loop.create_unix_connection(asyncio.Protocol, sock=forwarded.take(), ssl=tls, server_hostname="localhost")
        except TimeoutError as error:
            raise PortForwardError(f"no TLS handshake within {dial_limit.total_seconds():g} s", target=target) from error
        except OSError as error:
            raise PortForwardError(forwarded.failure or f"TLS handshake failed: {error}", target=target) from error
        try:
            certificate: bytes | None = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        finally:
            transport.abort()
    if certificate is None:
        raise PortForwardError("the pod served no certificate", target=target)
    return certificate
