"""The configuration of an HAProxy before one cluster: one listener, no page and no port beside it, slots for backends that come and go at run time.

Source: HAProxy 2.6 configuration manual (``fd@``, ``sockpair@``, ``observe layer4``, ``option redispatch``) and management guide (``set server``).
"""

from __future__ import annotations

from collections.abc import Sequence

from services.dev_infrastructure.balancing.load_balancer import CONNECT_SECONDS, CONNECTIONS_MAX, Backend

GROUP = "api"
CHECK_MS = 500
CHECK_DOWN_MS = 250
IDLE_HOURS = 24
"""Watches say nothing for hours."""
NOWHERE = "127.0.0.1:9"
"""Where a free slot points; it is disabled."""
MAINTENANCE = 1
"""The bit of ``srv_admin_state`` by which a slot is free."""


def slot(index: int) -> str:
    """The name of a slot."""
    return f"{GROUP}/slot{index}"


def render(endpoint_fd: int, control_fd: int, slots: Sequence[Backend | None]) -> str:
    """The configuration, given the descriptors that HAProxy inherits: the bound socket of the endpoint, and the pair over which it is told what changes.

    No socket of a file system or a network takes commands: only who holds the other end of the pair can give one.
    """
    lines = [
        "global",
        f"    maxconn {CONNECTIONS_MAX}",
        "    nbthread 1",
        f"    stats socket sockpair@{control_fd} level admin",
        "defaults",
        "    mode tcp",
        f"    timeout connect {CONNECT_SECONDS:g}s",
        f"    timeout client {IDLE_HOURS}h",
        f"    timeout server {IDLE_HOURS}h",
        # refused by one, a connection goes to another at once
        "    retries 3",
        "    option redispatch 1",
        "frontend endpoint",
        f"    bind fd@{endpoint_fd}",
        f"    default_backend {GROUP}",
        f"backend {GROUP}",
        "    balance leastconn",
        f"    default-server check inter {CHECK_MS}ms downinter {CHECK_DOWN_MS}ms fall 1 rise 1 observe layer4 error-limit 1 on-error mark-down",
    ]
    for index, backend in enumerate(slots):
        address = f"{backend.host}:{backend.port}" if backend is not None else f"{NOWHERE} disabled"
        lines.append(f"    server {slot(index).partition('/')[2]} {address}")
    return "\n".join([*lines, ""])


def commands(index: int, backend: Backend | None) -> list[str]:
    """What gives a slot to a backend, or takes it away."""
    if backend is None:
        return [f"set server {slot(index)} state maint"]
    return [f"set server {slot(index)} addr {backend.host} port {backend.port}", f"set server {slot(index)} state ready"]


def ports(states: str) -> dict[str, int]:
    """The port of each slot in use, as ``show servers state`` tells them."""
    rows = [line.split(" ") for line in states.splitlines() if line.strip()]
    names = next((row[1:] for row in rows if row[0] == "#"), [])
    tables = [dict(zip(names, row, strict=False)) for row in rows if row[0] != "#" and len(row) == len(names)]
    in_use = [one for one in tables if not int(one["srv_admin_state"]) & MAINTENANCE]
    return {f"{one['be_name']}/{one['srv_name']}": int(one["srv_port"]) for one in in_use}
