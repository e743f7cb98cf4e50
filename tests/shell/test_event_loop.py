"""Sockets are closed once: a descriptor's number soon belongs to another connection."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import ssl
import struct
import weakref
from collections.abc import Callable

import pytest
import uvloop

from fleetwake.event_loop import EventLoop

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: a close is a reset."""
LIMIT_S = 5.0


def _reset_pair() -> socket.socket:
    """A connected TCP socket whose peer has reset it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        far.close()
    return near


def _closed_pair() -> socket.socket:
    """A connected unix socket whose peer is gone."""
    near, far = socket.socketpair()
    far.close()
    return near


async def _next_owner_keeps_its_descriptor(pair: Callable[[], socket.socket]) -> bool:
    """Whether a socket that gets the number of one whose TLS connection failed is still open when all that is left of that one is collected."""
    near = pair()
    loop, number = asyncio.get_running_loop(), near.fileno()
    make = loop.create_connection if near.family == socket.AF_INET else loop.create_unix_connection
    try:
        await make(asyncio.Protocol, sock=near, ssl=ssl.create_default_context(), server_hostname="localhost")
    except OSError:
        pass  # kept by nobody: its traceback would keep the socket
    else:
        pytest.fail("connected to a peer that is gone")
    other = socket.socket()
    async with asyncio.timeout(LIMIT_S):
        while other.fileno() != number:  # libuv closes in a turn of its own
            await asyncio.sleep(0)
            other.close()
            other = socket.socket()
        collected = weakref.ref(near)
        del near
        while collected() is not None:
            await asyncio.sleep(0)
            gc.collect()
    try:
        os.fstat(number)
    except OSError:
        other.detach()
        return False
    other.close()
    return True


@pytest.mark.parametrize("pair", [_reset_pair, _closed_pair])
def test_a_failed_tls_connection_closes_no_other(pair: Callable[[], socket.socket]) -> None:
    with asyncio.Runner(loop_factory=EventLoop) as runner:
        assert runner.run(_next_owner_keeps_its_descriptor(pair))


def test_the_fault_is_still_in_uvloop() -> None:
    """When this fails, ``fleetwake/event_loop.py`` has nothing to do any more."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert not runner.run(_next_owner_keeps_its_descriptor(_reset_pair))
