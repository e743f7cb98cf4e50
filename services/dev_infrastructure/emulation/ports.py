"""Ports of emulated API servers: each is held by a bound socket from the day it is promised, so that nobody else can take it.

A fresh port is bound without SO_REUSEADDR: only then does a socket that does not listen yet exclude others. A promised port is bound with it, or
connections of before a restart that linger would keep it closed.
"""

from __future__ import annotations

import socket


class PortPool:
    """The ports of one address."""

    def __init__(self, host: str, first: int, last: int) -> None:
        self.host, self._first, self._last = host, first, last
        self._next = first

    def at(self, host: str) -> PortPool:
        """The same ports of another address."""
        return PortPool(host, self._first, self._last)

    def reserve(self) -> socket.socket:
        """A socket bound to a free port.

        Raises:
            OSError: every port is taken.
        """
        for _ in range(self._last - self._first + 1):
            port, self._next = self._next, self._next + 1 if self._next < self._last else self._first
            try:
                return self._bound(port, reuse=False)
            except OSError:
                continue
        raise OSError(f"no free port on {self.host} between {self._first} and {self._last}")

    def reopen(self, port: int) -> socket.socket:
        """A socket bound to a port that was promised before.

        Raises:
            OSError: somebody else has it.
        """
        return self._bound(port, reuse=True)

    def _bound(self, port: int, *, reuse: bool) -> socket.socket:
        bound = socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET, socket.SOCK_STREAM)
        try:
            if reuse:
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind((self.host, port))
        except OSError:
            bound.close()
            raise
        bound.setblocking(False)
        return bound
