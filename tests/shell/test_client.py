"""The API client against a server of its own making, for what a real one does not do on demand; and configurations held in memory."""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fleetwake import errors
from fleetwake.kube.client import APPLY_PATCH, ApiClient, Response, raise_for, resource_path
from fleetwake.kube.config import ApiConfig, ConfigError, from_kubeconfig, load

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """An HTTP server whose answer each test chooses."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.handler: Handler | None = None
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path_qs, dict(request.headers), await request.read()))
        assert self.handler is not None
        return await self.handler(request)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    found = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", found.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield found
    await runner.cleanup()


async def test_a_request_carries_what_the_audit_log_and_the_trace_need(server: Server) -> None:
    async def handler(_: web.Request) -> web.Response:
        return web.json_response({"kind": "Machine"})

    server.handler = handler
    config = ApiConfig(server.url, authorization=lambda: "Bearer abc")
    async with ApiClient(config, service="reconcilers") as client:
        path = resource_path("cluster.x-k8s.io/v1beta2", "machines", "default", "m1", "status")
        answer = await client.request(
            "PATCH", path, query={"fieldManager": "capi machine"}, body=b"{}", content_type=APPLY_PATCH, audit_id="id-1", traceparent="00-aa-bb-01"
        )
    assert answer.status == 200 and answer.json() == {"kind": "Machine"}
    method, path_qs, headers, body = server.requests[0]
    assert (method, body) == ("PATCH", b"{}")
    assert path_qs == "/apis/cluster.x-k8s.io/v1beta2/namespaces/default/machines/m1/status?fieldManager=capi+machine"
    assert headers["Audit-ID"] == "id-1" and headers["traceparent"] == "00-aa-bb-01" and headers["Authorization"] == "Bearer abc"
    assert headers["User-Agent"].startswith("fleetwake-reconcilers/") and headers["Content-Type"] == APPLY_PATCH


@pytest.mark.parametrize(
    ("parts", "path"),
    [
        (("v1", "secrets", "default"), "/api/v1/namespaces/default/secrets"),
        (("v1", "nodes", "", "n1"), "/api/v1/nodes/n1"),
        (("apps/v1", "deployments", "a", "b", "scale"), "/apis/apps/v1/namespaces/a/deployments/b/scale"),
        (("v1", "secrets", "a", "odd/name"), "/api/v1/namespaces/a/secrets/odd%2Fname"),
    ],
)
def test_paths(parts: tuple[str, ...], path: str) -> None:
    assert resource_path(*parts) == path


@pytest.mark.parametrize(
    ("status", "reason", "headers", "error"),
    [
        (400, "BadRequest", {}, errors.InvalidError),
        (401, "Unauthorized", {}, errors.ForbiddenError),
        (403, "Forbidden", {}, errors.ForbiddenError),
        (404, "NotFound", {}, errors.NotFoundError),
        (405, "MethodNotAllowed", {}, errors.TerminalError),
        (409, "AlreadyExists", {}, errors.AlreadyExistsError),
        (409, "Conflict", {}, errors.ConflictError),
        (410, "Expired", {}, errors.WatchExpiredError),
        (413, "RequestEntityTooLarge", {}, errors.InvalidError),
        (422, "Invalid", {}, errors.InvalidError),
        (429, "TooManyRequests", {"Retry-After": "3"}, errors.ThrottledError),
        (500, "InternalError", {}, errors.UnavailableError),
        (503, "ServiceUnavailable", {}, errors.UnavailableError),
        (503, "ServiceUnavailable", {"Retry-After": "3"}, errors.ThrottledError),
        (504, "Timeout", {}, errors.UnavailableError),
    ],
)
def test_a_status_is_the_error_that_says_what_to_do(status: int, reason: str, headers: dict[str, str], error: type[errors.FleetwakeError]) -> None:
    body = f'{{"kind":"Status","reason":"{reason}","message":"it is so"}}'.encode()
    with pytest.raises(errors.FleetwakeError, match="patch Machine default/m1: it is so") as caught:
        raise_for(Response(status, body, headers), "patch Machine default/m1")
    assert type(caught.value) is error
    if headers:
        assert isinstance(caught.value, errors.RetryableError) and caught.value.after == timedelta(seconds=3)


def test_an_invalid_object_names_its_fields() -> None:
    body = b'{"reason":"Invalid","message":"bad","details":{"causes":[{"field":"spec.replicas","message":"must be positive"}]}}'
    with pytest.raises(errors.InvalidError) as caught:
        raise_for(Response(422, body, {}), "create")
    assert caught.value.causes == (("spec.replicas", "must be positive"),)


def test_an_answer_that_is_no_status_object_is_quoted() -> None:
    with pytest.raises(errors.UnavailableError, match="502 upstream is away"):
        raise_for(Response(502, b"upstream is away\n", {}), "get")


async def test_no_answer_in_time_is_an_unknown_outcome(server: Server) -> None:
    release = asyncio.Event()

    async def handler(_: web.Request) -> web.Response:
        await release.wait()
        return web.Response()

    server.handler = handler
    async with ApiClient(ApiConfig(server.url)) as client:
        with pytest.raises(errors.UnavailableError, match="no answer within"):
            await client.request("PUT", "/x", body=b"{}", timeout_seconds=0.05)
        release.set()


async def test_no_server_is_an_unavailable_error() -> None:
    async with ApiClient(ApiConfig("http://127.0.0.1:1")) as client:
        with pytest.raises(errors.UnavailableError, match="GET /x"):
            await client.request("GET", "/x")


async def test_a_refused_token_is_read_again(server: Server) -> None:
    tokens = iter(["Bearer old", "Bearer new"])

    async def handler(request: web.Request) -> web.Response:
        return web.json_response({}, status=200 if request.headers["Authorization"] == "Bearer new" else 401)

    server.handler = handler
    async with ApiClient(ApiConfig(server.url, authorization=lambda: next(tokens))) as client:
        assert [(await client.request("GET", "/x")).status for _ in range(3)] == [401, 200, 200]


def pem_pair() -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    day = datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(7)
    certificate = builder.not_valid_before(day).not_valid_after(day + timedelta(days=36500)).sign(key, hashes.SHA256())
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(serialization.Encoding.PEM), private


def kubeconfig(cluster: dict[str, object], user: dict[str, object]) -> bytes:
    entries = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": {"server": "https://127.0.0.1:6443", **cluster}}],
        "users": [{"name": "u", "user": user}],
    }
    return yaml.safe_dump(entries).encode()


def test_key_material_of_a_kubeconfig_reaches_no_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = pem_pair()
    encoded = {name: base64.b64encode(value).decode() for name, value in {"certificate": certificate, "key": key}.items()}
    document = kubeconfig(
        {"certificate-authority-data": encoded["certificate"]}, {"client-certificate-data": encoded["certificate"], "client-key-data": encoded["key"]}
    )
    opened: list[str] = []
    real = os.open
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def watching(path: str, *rest: int, **more: int) -> int:
        opened.append(str(path))
        return real(path, *rest, **more)

    monkeypatch.setattr(os, "open", watching)
    found = from_kubeconfig(document)
    assert found.server == "https://127.0.0.1:6443"
    assert found.tls is not None and found.tls.verify_mode == ssl.CERT_REQUIRED and found.tls.check_hostname
    assert not [path for path in opened if tmp_path in Path(path).parents and Path(path).parent != tmp_path] and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("cluster", "user", "field"),
    [
        ({"insecure-skip-tls-verify": True}, {"token": "t"}, "insecure-skip-tls-verify"),
        ({}, {"exec": {"command": "sh"}}, "exec"),
        ({}, {"client-certificate": "/etc/x", "client-key": "/etc/y"}, "client-certificate"),
        ({"certificate-authority": "/etc/x"}, {"token": "t"}, "certificate-authority"),
        ({"certificate-authority-data": "!"}, {"token": "t"}, "kubeconfig"),
    ],
)
def test_a_kubeconfig_of_a_secret_may_not_reach_this_machine(cluster: dict[str, object], user: dict[str, object], field: str) -> None:
    with pytest.raises(ConfigError, match=field):
        from_kubeconfig(kubeconfig(cluster, user))


def test_a_token_of_a_file_is_sent_as_bearer(tmp_path: Path) -> None:
    certificate, _ = pem_pair()
    path = tmp_path / "config"
    path.write_bytes(kubeconfig({"certificate-authority-data": base64.b64encode(certificate).decode()}, {"token": "abc"}))
    assert load(str(path)).authorization() == "Bearer abc"


def test_a_missing_kubeconfig_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="FLEETWAKE_KUBECONFIG"):
        load(str(tmp_path / "none"))


class TestLeaving:
    """A request that may not be sent any more by the time it could be."""

    async def _tried(self, server: Server, calls_before: int, *, first: bool = False) -> None:
        """Send a patch that may leave at its first ``calls_before`` questions only, over a pool of one connection, which another request holds if ``first``."""
        may, asked = asyncio.Event(), 0

        async def handler(request: web.Request) -> web.Response:
            if request.path == "/first":
                await may.wait()
            return web.json_response({})

        def leaving() -> None:
            nonlocal asked
            asked += 1
            if asked > calls_before:
                raise errors.FencedError("too late", operation="send")

        server.handler = handler
        async with ApiClient(ApiConfig(server.url), connections_max=1) as client:
            earlier = asyncio.create_task(client.request("GET", "/first")) if first else None
            late = asyncio.create_task(client.request("PATCH", "/late", body=b"{}", leaving=leaving))
            await asyncio.wait([late], timeout=0.1)
            assert late.done() is (earlier is None)
            assert asked == (0 if first else calls_before + 1)
            may.set()
            if earlier is not None:
                await earlier
            with pytest.raises(errors.FencedError):
                await late
            assert (await client.request("PATCH", "/next", body=b"{}")).status == 200
        assert [path for _, path, _, _ in server.requests] == [*(["/first"] if first else []), "/next"]

    async def test_is_asked_once_it_has_its_connection(self, server: Server) -> None:
        await self._tried(server, 0, first=True)

    async def test_and_when_its_bytes_go(self, server: Server) -> None:
        await self._tried(server, 1)

    async def test_one_without_a_body_is_asked_too(self, server: Server) -> None:
        def leaving() -> None:
            raise errors.FencedError("too late", operation="send")

        async with ApiClient(ApiConfig(server.url)) as client:
            with pytest.raises(errors.FencedError):
                await client.request("DELETE", "/late", leaving=leaving)
        assert not server.requests
