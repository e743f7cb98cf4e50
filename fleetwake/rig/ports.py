"""Ports that stay free while a killed server is started again."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path

from fleetwake.rig.errors import RigError

PORT_MIN = 30_001
EMULATED_MIN, EMULATED_MAX = 20_000, 30_000
"""Where emulated API servers listen: apart from the servers' own, so that none takes the port of a server that is down for a moment."""
EMULATED_STEP = 500
EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
EPHEMERAL_MIN_DEFAULT = 32_768
TRIES_PER_PORT = 50


def free_ports(count: int) -> list[int]:
    """Choose ``count`` different ports that nobody listens on.

    They lie below the range from which the kernel gives clients their ports: while a killed server is down, a client that tries to
    reach it again could otherwise be given that very port, and the server could not be started again.

    Raises:
        RigError: nearly every port is taken.
    """
    low, high = PORT_MIN, _ephemeral_min()
    if high - low < count * 4:
        low, high = 1024, EPHEMERAL_MIN_DEFAULT
    chosen: set[int] = set()
    for _ in range(count * TRIES_PER_PORT):
        if len(chosen) == count:
            break
        port = low + secrets.randbelow(high - low)
        if port not in chosen and _free(port):
            chosen.add(port)
    if len(chosen) < count:
        raise RigError(f"found only {len(chosen)} of {count} free ports between {low} and {high}")
    return list(chosen)


def first_emulated_port() -> int:
    """The first port of one rig's emulated clusters: rigs on one machine begin at different places, or a cluster that is down for a moment loses its port."""
    return EMULATED_MIN + EMULATED_STEP * secrets.randbelow((EMULATED_MAX - EMULATED_MIN) // EMULATED_STEP - 1)


def _free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _ephemeral_min() -> int:
    try:
        return int(EPHEMERAL_RANGE.read_text().split()[0])
    except (OSError, ValueError):
        return EPHEMERAL_MIN_DEFAULT
