"""A load balancer inside of the provider's own process: least connections, no configuration, no process beside.

A backend that refuses a connection gets no more until it answers a probe; probes run only while some backend does not answer, so that a sound control plane
costs nothing.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from fleetwake.background import Background
from services.dev_infrastructure.balancing.load_balancer import BACKLOG, CONNECT_SECONDS, CONNECTIONS_MAX, Backend, BalancerError, Place

log = logging.getLogger(__name__)
PROBE_SECONDS = 0.25


@dataclass
class Target:
    """A backend as the load balancer knows it. ``turn`` is when it got its last connection: of two with as many, the one that waited longer is next."""

    backend: Backend
    connections: int = 0
    turn: int = 0
    down: bool = False


class InProcess:
    """See the module."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._targets: list[Target] = []
        self._turns = itertools.count(1)
        self._server: asyncio.Server | None = None
        self._sides: set[Side] = set()
        self._background = Background(lambda error: log.error("the load balancer of %s failed at a connection", place.cluster, exc_info=error))
        self._probing = False

    async def start(self, endpoint: socket.socket, backends: Sequence[Backend]) -> None:
        """See ``LoadBalancer``."""
        await self.set_backends(backends)
        if self._server is not None:
            return
        try:
            self._server = await asyncio.get_running_loop().create_server(lambda: Side(self), sock=endpoint.dup(), backlog=BACKLOG)
        except OSError as error:
            raise BalancerError(f"the endpoint's port cannot be listened on: {error.strerror or error}", operation="start the load balancer") from error

    async def set_backends(self, backends: Sequence[Backend]) -> None:
        """See ``LoadBalancer``."""
        known = {target.backend: target for target in self._targets}
        self._targets = [known.get(backend) or Target(backend) for backend in backends]

    async def stop(self) -> None:
        """See ``LoadBalancer``."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        await self._background.stop()
        for side in tuple(self._sides):
            side.abort()

    # ---- one connection ---------------------------------------------------------------------------------------------------------------
    def accepted(self, client: Side) -> None:
        """A client connected: find it a backend."""
        self._sides.add(client)
        if len(self._sides) > 2 * CONNECTIONS_MAX:
            client.abort()
        else:
            self._background.spawn(self._connect(client))

    def ended(self, side: Side) -> None:
        """One side of a connection is over."""
        self._sides.discard(side)

    async def _connect(self, client: Side) -> None:
        """Join a client with the backend that has the fewest connections; one that refuses is passed over, and its turn comes last."""
        tried: set[Backend] = set()
        while not client.over:
            target = self._next(tried)
            if target is None:
                client.abort()
                return
            tried.add(target.backend)
            target.connections += 1
            try:
                server = await self._reach(target)
            except OSError:  # TimeoutError is one
                target.connections -= 1
                self._fell(target)
                continue
            target.down = False
            if server.over:  # it hung up before it was sent a byte: another may be asked
                target.connections -= 1
                continue
            self._sides.add(server)
            server.target = target
            if client.over:
                server.abort()
            else:
                client.join(server)
            return

    async def _reach(self, target: Target) -> Side:
        async with asyncio.timeout(CONNECT_SECONDS):
            made = await asyncio.get_running_loop().create_connection(lambda: Side(self, of_client=False), target.backend.host, target.backend.port)
        return made[1]

    def _next(self, tried: set[Backend]) -> Target | None:
        """Who answers and has the fewest connections; else one that did not answer, which may again."""
        left = [target for target in self._targets if target.backend not in tried]
        found = min(left, key=lambda target: (target.down, target.connections, target.turn), default=None)
        if found is not None:
            found.turn = next(self._turns)
        return found

    # ---- backends that do not answer ----------------------------------------------------------------------------------------------------
    def _fell(self, target: Target) -> None:
        if not target.down:
            log.info("%s: the API server of %s does not answer", self._place.cluster, target.backend.name)
        target.down = True
        if not self._probing:
            self._probing = True
            self._background.spawn(self._probe())

    async def _probe(self) -> None:
        try:
            while fallen := [target for target in self._targets if target.down]:
                await asyncio.sleep(PROBE_SECONDS)
                for target in fallen:
                    try:
                        (await self._reach(target)).abort()
                    except OSError:
                        continue
                    target.down = False
        finally:
            self._probing = False


class Side(asyncio.Protocol):
    """One side of a connection: what comes in goes out at the other, no faster than that takes it."""

    def __init__(self, balancer: InProcess, *, of_client: bool = True) -> None:
        self._balancer, self._of_client = balancer, of_client
        self._transport: asyncio.Transport | None = None
        self._other: Side | None = None
        self._early = b""
        self._finished = False
        self.target: Target | None = None
        self.over = False

    def join(self, server: Side) -> None:
        """Let bytes flow between this client and a backend, from those on that came too early."""
        self._other, server._other = server, self
        for side in (self, server):
            if side._early:
                early, side._early = side._early, b""
                side.data_received(early)
            if side._transport is not None:
                side._transport.resume_reading()

    def abort(self) -> None:
        """End it at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        self._transport.pause_reading()  # uvloop reads once all the same
        if self._of_client:
            self._balancer.accepted(self)

    def data_received(self, data: bytes) -> None:
        if self._other is None:
            self._early += data
            if self._transport is not None:
                self._transport.pause_reading()
        elif self._other._transport is not None:
            self._other._transport.write(data)

    def eof_received(self) -> bool:
        self._finished = True
        if self._other is None or self._other._transport is None or self._other.over or self._other._finished:
            return False  # both have said all: the connection ends
        self._other._transport.write_eof()
        return True

    def pause_writing(self) -> None:
        if self._other is not None and self._other._transport is not None and not self._other.over:
            self._other._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._other is not None and self._other._transport is not None and not self._other.over:
            self._other._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self.over = True
        self._balancer.ended(self)
        if self.target is not None:
            self.target.connections -= 1
            self.target = None
        other = self._other
        if other is not None and other._transport is not None and not other.over:
            if exc is None:
                other._transport.close()  # after what it still has to write
            else:
                other._transport.abort()
