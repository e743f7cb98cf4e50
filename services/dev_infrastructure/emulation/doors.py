"""The way into one emulated cluster: a listener that stands for all its API servers, or a load balancer before one listener for each.

Both serve the same promised endpoint, whose bound socket the cluster keeps; one can take the other's place.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from aiohttp import web

from fleetwake.kube.pki import KeyPair
from services.dev_infrastructure.balancing.haproxy import end_leftovers
from services.dev_infrastructure.balancing.implementations import LOAD_BALANCERS
from services.dev_infrastructure.balancing.load_balancer import BACKENDS_MAX, Backend, BalancerError, LoadBalancer, Place
from services.dev_infrastructure.emulation.ports import PortPool
from services.dev_infrastructure.emulation.serving import Listener

LOOPBACK = "127.0.0.1"


class Serving(Protocol):
    """A host whose API server has started, as a door sees it. ``backend_port`` is the port it has behind a load balancer (0: none yet)."""

    uid: str
    name: str
    ca_pem: bytes
    serving: KeyPair | None
    backend_port: int


Make = Callable[["Serving | None"], web.Application]
"""Makes the application that one API server serves; without one, that which the newest serves."""


class Door(Protocol):
    """See the module. ``answering`` are those of the API servers ``started`` that answer now, the newest last."""

    async def open(self) -> None:
        """Begin; nothing if it has begun. Raises: BalancerError."""

    async def serve(self, started: Sequence[Serving], answering: Sequence[Serving]) -> None:
        """Let clients reach exactly those that answer. Raises: BalancerError."""

    async def close(self) -> None:
        """End everything; the endpoint's socket stays bound."""

    def listener_of(self, host: Serving) -> Listener | None:
        """The listener of a host's API server."""

    def listeners(self) -> Sequence[Listener]:
        """All listeners."""


class SharedDoor:
    """One listener for the cluster, with the certificate of the API server that started last."""

    def __init__(self, endpoint: socket.socket, make: Make) -> None:
        self._listener = Listener(endpoint, lambda: make(None))

    async def open(self) -> None:
        """See ``Door``."""

    async def serve(self, started: Sequence[Serving], answering: Sequence[Serving]) -> None:
        """See ``Door``."""
        newest = answering[-1] if answering else None
        if newest is not None and newest.serving is not None:
            await self._listener.serve(newest.ca_pem, newest.serving)
        else:
            await self._listener.stop()

    async def close(self) -> None:
        """See ``Door``."""
        await self._listener.stop()

    def listener_of(self, host: Serving) -> Listener | None:
        """See ``Door``."""
        return self._listener

    def listeners(self) -> Sequence[Listener]:
        """See ``Door``."""
        return (self._listener,)


class BalancedDoor:
    """A load balancer at the endpoint, and behind it each API server at a port of its own."""

    def __init__(self, endpoint: socket.socket, make: Make, balancer: LoadBalancer, ports: PortPool) -> None:
        self._endpoint, self._make, self._balancer, self._ports = endpoint, make, balancer, ports
        self._listeners: dict[str, Listener] = {}
        self._backends: tuple[Backend, ...] = ()

    async def open(self) -> None:
        """See ``Door``."""
        # connections inherit it: those that linger after a crash must not keep the next process from the port
        self._endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        await self._balancer.start(self._endpoint, self._backends)

    async def serve(self, started: Sequence[Serving], answering: Sequence[Serving]) -> None:
        """See ``Door``."""
        if len(started) > BACKENDS_MAX:
            raise BalancerError(f"{len(started)} API servers are more than the {BACKENDS_MAX} a load balancer takes", operation="set its backends")
        up = {host.uid for host in answering}
        for host in started:
            listener = self._listeners.get(host.uid) or self._listen(host)
            if host.uid in up and host.serving is not None:
                await listener.serve(host.ca_pem, host.serving)
            else:
                await listener.stop()
        self._backends = tuple(Backend(host.name, self._ports.host, host.backend_port) for host in started)
        try:
            # one that goes gets no new connection before it stops listening
            await self._balancer.set_backends(self._backends)
        finally:
            for uid in self._listeners.keys() - {host.uid for host in started}:
                await self._listeners.pop(uid).close()

    def _listen(self, host: Serving) -> Listener:
        """The listener of a host, at the port it had before if that is still free: nobody outside knows it."""
        try:
            try:
                reserved = self._ports.reopen(host.backend_port) if host.backend_port else self._ports.reserve()
            except OSError:
                reserved = self._ports.reserve()
        except OSError as error:
            raise BalancerError(f"the API server of {host.name} gets no port: {error}", operation="set the load balancer's backends") from error
        listener = self._listeners[host.uid] = Listener(reserved, lambda: self._make(host))
        host.backend_port = listener.port
        return listener

    async def close(self) -> None:
        """See ``Door``."""
        with suppress(OSError):  # it did not listen
            self._endpoint.shutdown(socket.SHUT_RDWR)
        await self._balancer.stop()
        for listener in self._listeners.values():
            await listener.close()
        self._listeners.clear()

    def listener_of(self, host: Serving) -> Listener | None:
        """See ``Door``."""
        return self._listeners.get(host.uid)

    def listeners(self) -> Sequence[Listener]:
        """See ``Door``."""
        return tuple(self._listeners.values())


@dataclass(frozen=True, slots=True)
class Doorway:
    """What a door is made at: the endpoint's socket and what is served, for which cluster, and who hears of a load balancer that ended by itself."""

    endpoint: socket.socket
    make: Make
    cluster: str
    failed: Callable[[str], None]


class Doors:
    """Makes doors. Ports behind load balancers are of the same range as the endpoints' but always of loopback; ``folder`` tells this provider from others."""

    def __init__(self, ports: PortPool, folder: Path | None) -> None:
        self._ports = ports if ports.host == LOOPBACK else ports.at(LOOPBACK)
        named = f"{folder.absolute()}" if folder is not None else f"pid {os.getpid()}"
        self._mark = f"fleetwake-{sha256(named.encode()).hexdigest()[:16]}"

    def recover(self) -> None:
        """End what a provider that was killed may have left."""
        end_leftovers(self._mark)

    def make(self, kind: str, way: Doorway) -> Door:
        """A door with this kind of load balancer ("": none), not open yet. Raises: BalancerError: there is no such kind."""
        if not kind:
            return SharedDoor(way.endpoint, way.make)
        if kind not in LOAD_BALANCERS:
            raise BalancerError(f"there is no load balancer {kind!r}, only {', '.join(LOAD_BALANCERS)}", operation="make the load balancer")
        return BalancedDoor(way.endpoint, way.make, LOAD_BALANCERS[kind](Place(way.cluster, self._mark, way.failed)), self._ports)
