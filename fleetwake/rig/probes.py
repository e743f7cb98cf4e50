"""Ask a server or service whether it serves, in its own protocol."""

from __future__ import annotations

import json
import socket
import ssl
import struct
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

from fleetwake.connections.kafka import ANSWER_BYTES, API_VERSIONS, CORRELATION_ID
from fleetwake.rig.errors import RigError

LOCALHOST = "127.0.0.1"
PROBE_LIMIT_S = 1.0
PAUSE_S = 0.05


def wait_until(true: Callable[[], bool], limit_s: float, what: str) -> None:
    """Wait until ``true()``.

    Raises:
        RigError: it was not within ``limit_s`` seconds.
    """
    deadline = time.monotonic() + limit_s
    while not true():
        if time.monotonic() > deadline:
            raise RigError(f"{what} was not ready after {limit_s:.0f} s")
        time.sleep(PAUSE_S)


def http_ok(url: str, ca: Path | None = None) -> bool:
    """Whether a GET is answered with 200. ``ca`` is the certificate authority of an https URL."""
    context = ssl.create_default_context(cafile=str(ca)) if ca else None
    try:
        with urllib.request.urlopen(url, timeout=PROBE_LIMIT_S, context=context) as response:
            return bool(response.status == HTTPStatus.OK)
    except (OSError, urllib.error.URLError, ValueError):
        return False


def apiserver_ready(folder: Path, port: int, pid: int) -> bool:
    """Whether the API server with this ``pid`` answers and has bound the services' accounts (it says so in ``ready.json``)."""
    try:
        ready = json.loads((folder / "ready.json").read_text())
    except (OSError, ValueError):
        return False
    return ready["pid"] == pid and http_ok(f"https://127.0.0.1:{port}/readyz", folder / "pki" / "ca.crt")


def kafka_answers(port: int, tls: ssl.SSLContext | None = None) -> bool:
    """Whether a broker answers an ApiVersions request: it does once its own start is complete and the controller lets it serve."""
    answer = _exchange(port, API_VERSIONS, ANSWER_BYTES, tls)
    if len(answer) < ANSWER_BYTES:
        return False
    _length, correlation, error = struct.unpack(">iih", answer[:ANSWER_BYTES])
    return bool(correlation == CORRELATION_ID and error == 0)


def redis_answers(port: int, tls: ssl.SSLContext | None = None) -> bool:
    """Whether a Redis answers PING, be it that it asks who we are."""
    return _exchange(port, b"PING\r\n", 7, tls) in (b"+PONG\r\n", b"-NOAUTH")


def _exchange(port: int, request: bytes, answer_bytes: int, tls: ssl.SSLContext | None) -> bytes:
    answer = b""
    try:
        with socket.create_connection((LOCALHOST, port), timeout=PROBE_LIMIT_S) as plain, _over(plain, tls) as connection:
            connection.sendall(request)
            while len(answer) < answer_bytes:
                block = connection.recv(answer_bytes - len(answer))
                if not block:
                    break
                answer += block
    except OSError:
        return b""
    return answer


def _over(plain: socket.socket, tls: ssl.SSLContext | None) -> socket.socket:
    return tls.wrap_socket(plain, server_hostname=LOCALHOST) if tls is not None else plain
