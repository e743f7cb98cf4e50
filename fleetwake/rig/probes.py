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

from fleetwake.rig.errors import RigError

PROBE_LIMIT_S = 1.0
PAUSE_S = 0.05
API_VERSIONS_KEY = 18
CORRELATION_ID = 7


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


def kafka_answers(port: int) -> bool:
    """Whether a broker answers an ApiVersions request: it does once its own start is complete and the controller lets it serve."""
    request = struct.pack(">hhih", API_VERSIONS_KEY, 0, CORRELATION_ID, -1)  # version 0, no client id
    answer = _exchange(port, struct.pack(">i", len(request)) + request, 10)
    if len(answer) < 10:
        return False
    _length, correlation, error = struct.unpack(">iih", answer[:10])
    return bool(correlation == CORRELATION_ID and error == 0)


def redis_answers(port: int) -> bool:
    """Whether a Redis answers PING."""
    return _exchange(port, b"PING\r\n", 7) == b"+PONG\r\n"


def _exchange(port: int, request: bytes, answer_bytes: int) -> bytes:
    answer = b""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=PROBE_LIMIT_S) as connection:
            connection.sendall(request)
            while len(answer) < answer_bytes:
                block = connection.recv(answer_bytes - len(answer))
                if not block:
                    break
                answer += block
    except OSError:
        return b""
    return answer
