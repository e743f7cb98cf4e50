"""The port-forward subresource of an emulated API server: a websocket whose channels end in ports of emulated pods.

``PortForwardHandler`` is an aiohttp handler for ``/api/v1/namespaces/{namespace}/pods/{pod}/portforward``. It answers as kube-apiserver and
the kubelet behind it do, for the plain websocket form that ``fleetwake.kube.port_forward`` describes; the SPDY forms of kubectl and
client-go are refused. A port is a ``ForwardTarget``: it is handed the far end of a socket pair, so no emulated pod needs a listener.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from aiohttp import WSMsgType, web

from fleetwake.kube.port_forward import CHUNK_BYTES_MAX, MESSAGE_BYTES_MAX, PORT_PREFIX_BYTES, SUBPROTOCOL

_log = logging.getLogger(__name__)

PORTS_MAX = 16
CLOSE_LIMIT_SECONDS = 1.0


class ForwardTarget(Protocol):
    """A port of an emulated pod."""

    async def accept(self, sock: socket.socket) -> None:
        """Serve one connection until it ends, then close ``sock``.

        Raises: ConnectionRefusedError, before ``sock`` was touched (the caller closes it), if nothing listens.
        """


PodPorts = Mapping[int, ForwardTarget]
"""The listening ports of one pod."""


@dataclass
class _Stream:
    """One forwarded port: channels 2n (data) and 2n+1 (error)."""

    index: int
    port: int
    target: ForwardTarget | None
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    far: socket.socket

    @property
    def data_channel(self) -> int:
        return 2 * self.index

    @property
    def error_channel(self) -> int:
        return 2 * self.index + 1


class PortForwardHandler:
    """Answer port-forward requests; ``resolve(namespace, pod)`` gives the ports of a running pod, None when there is no such pod."""

    def __init__(self, resolve: Callable[[str, str], PodPorts | None]) -> None:
        self._resolve = resolve

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        """Serve one request; ``match_info`` must hold ``namespace`` and ``pod``. Returns when the forward has ended."""
        namespace, pod = request.match_info["namespace"], request.match_info["pod"]
        ports = self._resolve(namespace, pod)
        if ports is None:
            return _status(404, "NotFound", f'pods "{pod}" not found')
        try:
            wanted = _ports(request.query.getall("ports", []))
        except ValueError as error:
            return _status(400, "BadRequest", str(error))
        websocket = web.WebSocketResponse(protocols=(SUBPROTOCOL,), max_msg_size=MESSAGE_BYTES_MAX, timeout=CLOSE_LIMIT_SECONDS, compress=False)
        ready = websocket.can_prepare(request)
        if not ready.ok:
            return _status(400, "BadRequest", "Upgrade request required")
        if ready.protocol != SUBPROTOCOL:
            return _status(403, "Forbidden", f"requested protocol(s) are not supported; supports [{SUBPROTOCOL}]")
        await websocket.prepare(request)
        await _serve(websocket, pod, [(port, ports.get(port)) for port in wanted])
        return websocket


async def _serve(websocket: web.WebSocketResponse, pod: str, wanted: list[tuple[int, ForwardTarget | None]]) -> None:
    streams: list[_Stream] = []
    forwards: list[asyncio.Task[None]] = []
    try:
        for index, (port, target) in enumerate(wanted):
            near, far = socket.socketpair()
            reader, writer = await asyncio.open_unix_connection(sock=near)
            stream = _Stream(index, port, target, reader, writer, far)
            streams.append(stream)
            prefix = port.to_bytes(PORT_PREFIX_BYTES, "little")
            await websocket.send_bytes(bytes((stream.data_channel,)) + prefix)
            await websocket.send_bytes(bytes((stream.error_channel,)) + prefix)
        forwards = [asyncio.create_task(_forward(websocket, pod, stream)) for stream in streams]
        forwards.append(asyncio.create_task(_close_after(websocket, tuple(forwards))))
        await _receive(websocket, streams)
    except ConnectionError:
        pass  # the client is gone
    finally:
        for task in forwards:
            task.cancel()
        await asyncio.gather(*forwards, return_exceptions=True)
        for stream in streams:
            stream.writer.close()
        await websocket.close()


async def _close_after(websocket: web.WebSocketResponse, forwards: tuple[asyncio.Task[None], ...]) -> None:
    """End the websocket, and with it ``_receive``, when every port has ended."""
    for outcome in await asyncio.gather(*forwards, return_exceptions=True):
        if isinstance(outcome, Exception):
            _log.error("a forwarded port failed", exc_info=outcome)
    await websocket.close()


async def _receive(websocket: web.WebSocketResponse, streams: list[_Stream]) -> None:
    """Carry the client's data to the ports; frames of unknown or error channels are dropped, as the kubelet does."""
    async for message in websocket:
        if message.type is not WSMsgType.BINARY or len(message.data) < 2:
            continue
        index, is_error = divmod(message.data[0], 2)
        if is_error or index >= len(streams):
            continue
        writer = streams[index].writer
        if not writer.is_closing():
            writer.write(message.data[1:])
            with contextlib.suppress(ConnectionError):
                await writer.drain()


async def _forward(websocket: web.WebSocketResponse, pod: str, stream: _Stream) -> None:
    """Carry one port's data to the client until the port ends, and say why if it never began."""
    served = asyncio.create_task(_accept(stream))
    try:
        with contextlib.suppress(ConnectionError):
            while chunk := await stream.reader.read(CHUNK_BYTES_MAX):
                await websocket.send_bytes(bytes((stream.data_channel,)) + chunk)
        await served
    except ConnectionRefusedError as error:
        reason = f"error forwarding port {stream.port} to pod {pod}, uid : failed to connect to localhost:{stream.port}: {error}"
        with contextlib.suppress(ConnectionError):
            await websocket.send_bytes(bytes((stream.error_channel,)) + reason.encode())
    finally:
        stream.writer.close()
        served.cancel()
        await asyncio.gather(served, return_exceptions=True)


async def _accept(stream: _Stream) -> None:
    try:
        if stream.target is None:
            raise ConnectionRefusedError("connection refused")
        await stream.target.accept(stream.far)
    except ConnectionRefusedError:
        stream.far.close()
        raise


def _ports(values: list[str]) -> list[int]:
    """Read ``?ports=1,2&ports=3``. Raises: ValueError with kubelet's wording."""
    if not values:
        raise ValueError('query parameter "ports" is required')
    ports: list[int] = []
    for text in (part for value in values for part in value.split(",")):
        if not text.isascii() or not text.isdigit() or int(text) > 0xFFFF:
            raise ValueError(f'unable to parse "{text}" as a port')
        if int(text) < 1:
            raise ValueError(f'port "{text}" must be > 0')
        ports.append(int(text))
    if len(ports) > PORTS_MAX:
        raise ValueError(f"at most {PORTS_MAX} ports can be forwarded at once")
    return ports


def _status(code: int, reason: str, message: str) -> web.Response:
    body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message, "reason": reason, "code": code}
    return web.json_response(body, status=code)
