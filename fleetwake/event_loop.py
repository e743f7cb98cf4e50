"""The event loop of every service: uvloop, without its double close of sockets that others made.

A socket that is handed to ``create_connection`` belongs to libuv from then on. When the peer resets it while uvloop makes the TLS connection, uvloop closes
the descriptor before it has noted whose it is, so the socket object stays open and closes the same number once more when it is collected. By then another
connection may have it: that one ends without being told, and uvloop refuses the number to every later one ("File descriptor 26 is used by transport"). aiohttp
hands over a socket for every connection that it makes, so a workload cluster that died was enough.

Source: uvloop 0.23, ``Loop.create_connection``: the socket is attached, and so detached at the close, only after the wait for ``connection_made``.
"""

from __future__ import annotations

import socket
from typing import Any

import uvloop


class EventLoop(uvloop.Loop):
    """uvloop's, with sockets closed once."""

    async def create_connection(self, *args: Any, sock: socket.socket | None = None, **kwargs: Any) -> Any:
        """As asyncio's; after a failure a given ``sock`` is closed."""
        try:
            return await super().create_connection(*args, sock=sock, **kwargs)
        except BaseException:
            _let_go(sock)
            raise

    async def create_unix_connection(self, *args: Any, sock: socket.socket | None = None, **kwargs: Any) -> Any:
        """As asyncio's; after a failure a given ``sock`` is closed."""
        try:
            return await super().create_unix_connection(*args, sock=sock, **kwargs)
        except BaseException:
            _let_go(sock)
            raise


def _let_go(sock: socket.socket | None) -> None:
    if sock is not None:
        # libuv has its number, and closes it
        sock.detach()
