"""The plug point: what a load balancer before a control plane has to do. It passes TCP on, so TLS is between client and API server.

A load balancer is told which backends there are (control plane Machines whose API server has started); which of them answer it finds out for itself: it
sends no new connection to one that does not, tries another for a connection that was refused, and comes back to one that answers again.

The endpoint's socket is bound by whoever starts it and stays theirs: its port is never free, and connections wait in it while a load balancer that died is
started anew.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from fleetwake.errors import UnavailableError

BACKENDS_MAX = 32
CONNECTIONS_MAX = 1000
"""Connections to one endpoint at a time; further ones wait in its backlog or are closed."""
BACKLOG = 128
CONNECT_SECONDS = 1.0
"""After so long a backend that does not accept a connection does not answer."""


class BalancerError(UnavailableError):
    """The load balancer does not run; the message says which part of it, and what to do about it."""


@dataclass(frozen=True, slots=True)
class Backend:
    """An API server: the name of its Machine, and where it listens (``host`` is an IPv4 address)."""

    name: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a load balancer runs: for which cluster, for which provider (``mark`` names its processes), and whom it tells that it ended by itself."""

    cluster: str
    mark: str
    failed: Callable[[str], None]


class LoadBalancer(Protocol):
    """See the module."""

    async def start(self, endpoint: socket.socket, backends: Sequence[Backend]) -> None:
        """Take the connections of a bound socket; nothing if it does.

        Raises:
            BalancerError: it cannot.
        """

    async def set_backends(self, backends: Sequence[Backend]) -> None:
        """Send new connections to these from now on; connections there are stay with their backend until that ends them.

        Raises:
            BalancerError: it does not take them.
        """

    async def stop(self) -> None:
        """End it and every connection through it."""
