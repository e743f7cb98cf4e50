"""Calls to upgrade strategies over real TLS: the example's server and servers that misbehave; what decisions are told of each."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from fleetwake.kube.pki import CertificateSpec, KeyPair, generate_key, self_signed_ca, sign_certificate
from schemas.keys import ObjectKey
from services.reconcilers.kinds.machine_deployment.extension import Answer, Told
from services.reconcilers.strategy_calls import ANSWER_BYTES_MAX, StrategyCalls
from tests.decide.strategy_world import canary

NOW = datetime.now(UTC)
KEY = ObjectKey("cluster.x-k8s.io", "MachineDeployment", "default", "workers")
HOST = "127.0.0.1"
SETS = [{"name": "old", "current": False, "replicas": 3, "machines": []}, {"name": "new", "current": True, "replicas": 0, "machines": []}]
REQUEST = {"settings": {}, "machineDeployment": {"name": "workers", "replicas": 3}, "machineSets": SETS}


@pytest.fixture(scope="module")
def authority() -> KeyPair:
    return self_signed_ca("strategies", generate_key("ECDSA-P256"), now=NOW)


def pair(authority: KeyPair, folder: Path, san: str = HOST) -> tuple[str, str]:
    """A server's certificate and key, as files."""
    signed = sign_certificate(authority, CertificateSpec("canary", sans=(san,), usages=("server",)), generate_key("ECDSA-P256"), now=NOW)
    (folder / "tls.crt").write_bytes(signed.cert_pem)
    (folder / "tls.key").write_bytes(signed.key_pem)
    return str(folder / "tls.crt"), str(folder / "tls.key")


@contextmanager
def served(server: ThreadingHTTPServer) -> Iterator[int]:
    """Serve from a thread; gives the port."""
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def answering(files: tuple[str, str], answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[int]:
    """A server that does with each POST what the test says."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            answer(self)

        def log_message(self, format: str, *arguments: Any) -> None:
            return

    server = ThreadingHTTPServer((HOST, 0), Handler)
    server.daemon_threads = True
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*files)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    with served(server) as port:
        yield port


def reply(status: int, body: bytes, **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    """An answer with this status and body."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


async def ask(port: int, authority: KeyPair | None, **changes: Any) -> Answer:
    """Ask once and wait for what comes of it."""
    woken = asyncio.Event()
    calls = StrategyCalls()
    calls.open(lambda: NOW, lambda key: woken.set())
    bundle = base64.b64encode(authority.cert_pem).decode() if authority is not None else ""
    url = f"https://{HOST}:{port}/hooks.fleetwake.io/v1alpha1/planrollout/canary"
    try:
        await calls.ask({"key": str(KEY), "digest": "d", "url": url, "ca_bundle": bundle, "timeout_seconds": 5, "request": REQUEST} | changes)
        assert calls.told(KEY) == Told(None, "d")
        async with asyncio.timeout(10):
            await woken.wait()
        told = calls.told(KEY)
        assert told.asking == ""
        assert told.answer is not None
        return told.answer
    finally:
        await calls.close()


async def test_the_example_answers_over_tls(authority: KeyPair, tmp_path: Path) -> None:
    with served(canary().Server((HOST, 0), *pair(authority, tmp_path))) as port:
        answer = await ask(port, authority)
        discovered = await ask(port, authority, url=f"https://{HOST}:{port}/hooks.runtime.cluster.x-k8s.io/v1alpha1/discovery")
        nonsense = await ask(port, authority, request={})
        elsewhere = await ask(port, authority, url=f"https://{HOST}:{port}/other")
    assert (answer.error, answer.digest, answer.at) == ("", "d", NOW)
    assert [(one["name"], one["replicas"]) for one in answer.body["machineSets"]] == [("new", 1), ("old", 2)]
    assert [one["name"] for one in discovered.body["handlers"]] == ["canary"]
    assert nonsense.body["status"] == "Failure"
    assert (elsewhere.error, elsewhere.failures) == ("answered with HTTP status 404", 1)


async def test_a_server_that_cannot_prove_itself_is_not_asked(authority: KeyPair, tmp_path: Path) -> None:
    asked: list[str] = []
    with answering(pair(authority, tmp_path), lambda handler: asked.append(handler.path)) as port:
        other = self_signed_ca("others", generate_key("ECDSA-P256"), now=NOW)
        assert "certificate verify failed" in (await ask(port, other)).error
        assert "certificate verify failed" in (await ask(port, None)).error
        assert "caBundle is unusable" in (await ask(port, authority, ca_bundle="no PEM")).error
        assert "not reached by https" in (await ask(port, authority, url=f"http://{HOST}:{port}/")).error
    with answering(pair(authority, tmp_path, "elsewhere.example.com"), lambda handler: asked.append(handler.path)) as port:
        assert "IP address mismatch" in (await ask(port, authority)).error
    assert not asked


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param(reply(500, b"{}"), "answered with HTTP status 500", id="status"),
        pytest.param(reply(302, b"", Location="https://elsewhere.example.com/"), "answered with HTTP status 302", id="redirect"),
        pytest.param(reply(200, b"<html>"), "the answer is not JSON", id="no-json"),
        pytest.param(reply(200, b" " * (ANSWER_BYTES_MAX + 1)), f"the answer is longer than {ANSWER_BYTES_MAX} bytes", id="too-long"),
        pytest.param(lambda handler: handler.connection.close(), "call failed", id="closed"),
        pytest.param(lambda handler: threading.Event().wait(1.0), "no answer within 0.3 s", id="silent"),
    ],
)
async def test_a_bad_answer_is_named(authority: KeyPair, tmp_path: Path, answer: Any, error: str) -> None:
    with answering(pair(authority, tmp_path), answer) as port:
        assert error in (await ask(port, authority, timeout_seconds=0.3 if "no answer" in error else 5)).error


async def test_nobody_listens(authority: KeyPair) -> None:
    assert "call failed" in (await ask(1, authority)).error


async def test_an_answer_to_an_older_question_is_not_heard_and_failures_count(authority: KeyPair, tmp_path: Path) -> None:
    first, woken = threading.Event(), asyncio.Queue[ObjectKey]()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if handler.path == "/slow":
            first.wait(5)
        reply(200 if handler.path != "/broken" else 503, json.dumps({"path": handler.path}).encode())(handler)

    with answering(pair(authority, tmp_path), answer) as port:
        calls = StrategyCalls()
        calls.open(lambda: NOW, woken.put_nowait)

        async def question(digest: str, path: str) -> None:
            bundle = base64.b64encode(authority.cert_pem).decode()
            await calls.ask(
                {"key": str(KEY), "digest": digest, "url": f"https://{HOST}:{port}{path}", "ca_bundle": bundle, "timeout_seconds": 5, "request": {}}
            )

        try:
            await question("1", "/slow")
            await question("1", "/slow")
            await question("2", "/quick")
            await asyncio.wait_for(woken.get(), 5)
            first.set()
            for number in (1, 2):
                await question(f"broken{number}", "/broken")
                await asyncio.wait_for(woken.get(), 5)
            assert calls.told(KEY).answer == Answer("broken2", NOW, error="answered with HTTP status 503", failures=2)
            await question("3", "/quick")
            await asyncio.wait_for(woken.get(), 5)
            assert calls.told(KEY) == Told(Answer("3", NOW, {"path": "/quick"}))
        finally:
            first.set()
            await calls.close()
