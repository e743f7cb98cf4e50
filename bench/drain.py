"""Where spans go while their cost is measured: a process of its own that takes OTLP requests, answers, and looks into them only when it is asked.

``python -m bench.drain`` prints its port; ``GET /spans`` gives how many spans came since the last time. Decoding would take the CPU that is measured.
"""

from __future__ import annotations

import gzip
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from fleetwake.tracing.receiver import TRACES_PATH, decode

HOST = "127.0.0.1"
LIMIT_S = 60.0


class Drain:
    """A running drain."""

    def __init__(self, port: int) -> None:
        self.endpoint = f"http://{HOST}:{port}"

    def spans(self) -> int:
        """How many spans came since the last time."""
        with urllib.request.urlopen(f"{self.endpoint}/spans", timeout=LIMIT_S) as answer:
            return int(answer.read())


@contextmanager
def drain() -> Iterator[Drain]:
    """Start one, and end it."""
    process = subprocess.Popen([sys.executable, "-m", "bench.drain"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield Drain(int(process.stdout.readline()))
    finally:
        process.terminate()
        process.wait(LIMIT_S)


def main() -> None:
    """Listen until the process is told to end."""
    bodies: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            """Keep one export request."""
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            if self.path == TRACES_PATH:
                bodies.append(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
            self._answer(b"")

        def do_GET(self) -> None:
            """Count what was kept, and forget it."""
            count = sum(len(decode(body)) for body in bodies)
            bodies.clear()
            self._answer(str(count).encode())

        def _answer(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer((HOST, 0), Handler)
    server.daemon_threads = True
    print(server.server_address[1], flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
