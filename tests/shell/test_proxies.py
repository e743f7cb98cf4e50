"""Which proxy an API server is reached through, and that requests and TLS go through it."""

from __future__ import annotations

import asyncio
import base64
from datetime import UTC, datetime

import pytest

from fleetwake.kube import config
from fleetwake.kube.client import ApiClient
from fleetwake.kube.config import ConfigError
from fleetwake.kube.pki import generate_key, self_signed_ca
from fleetwake.kube.proxies import bypasses, proxy_of

SERVER = "https://api.example.com:6443"


@pytest.mark.parametrize(
    ("server", "no_proxy", "direct"),
    [
        (SERVER, "", False),
        (SERVER, "example.com", True),
        (SERVER, ".example.com", True),
        (SERVER, "*.example.com", True),
        ("https://example.com", ".example.com", False),
        (SERVER, "ample.com", False),
        (SERVER, "api.example.com:6443", True),
        (SERVER, "api.example.com:443", False),
        (SERVER, "other, API.example.com ", True),
        (SERVER, "*", True),
        ("https://10.1.2.3:6443", "10.1.0.0/16", True),
        ("https://10.1.2.3:6443", "10.1.2.3", True),
        ("https://10.1.2.3:6443", "10.1.2.3:443", False),
        ("https://10.2.2.3", "10.1.0.0/16,nonsense/x", False),
        ("https://[fd00::5]:6443", "fd00::/64", True),
        ("https://[fd00::5]:6443", "[fd00::5]", True),
        ("https://localhost:6443", "", True),
        ("https://127.0.0.7", "", True),
        ("https://[::1]:6443", "", True),
    ],
)
def test_no_proxy(server: str, no_proxy: str, direct: bool) -> None:
    assert bypasses(server, no_proxy) is direct


def test_proxy_url_wins_over_the_environment_and_no_proxy() -> None:
    assert proxy_of(SERVER, "http://u:p@mine:1", "http://theirs:2", "example.com") == "http://u:p@mine:1"
    assert proxy_of(SERVER, "", "theirs:2", "") == "http://theirs:2"
    assert proxy_of(SERVER, "", "http://theirs:2", "example.com") == ""
    with pytest.raises(ValueError, match="socks5") as caught:
        proxy_of(SERVER, "socks5://user:secret@mine:1", "", "")
    assert "secret" not in str(caught.value)


def kubeconfig(server: str, **cluster: str) -> bytes:
    authority = base64.b64encode(self_signed_ca("x", generate_key("ECDSA-P256"), now=datetime.now(UTC)).cert_pem).decode()
    lines = "".join(f"    {name.replace('_', '-')}: {value}\n" for name, value in cluster.items())
    return (
        "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts:\n- name: c\n  context: {cluster: c, user: u}\n"
        f"clusters:\n- name: c\n  cluster:\n    server: {server}\n    certificate-authority-data: {authority}\n{lines}"
        "users:\n- name: u\n  user: {token: t}\n"
    ).encode()


def test_kubeconfig_and_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert config.from_kubeconfig(kubeconfig(SERVER)).proxy == ""
    assert config.from_kubeconfig(kubeconfig(SERVER, proxy_url="http://p:3128")).proxy == "http://p:3128"
    with pytest.raises(ConfigError, match="proxy-url"):
        config.from_kubeconfig(kubeconfig(SERVER, proxy_url="socks5://p:1080"))
    monkeypatch.setenv("HTTPS_PROXY", "http://env:3128")
    assert config.from_kubeconfig(kubeconfig(SERVER)).proxy == "http://env:3128"
    assert config.from_kubeconfig(kubeconfig("https://127.0.0.1:6443")).proxy == ""
    monkeypatch.setenv("NO_PROXY", ".example.com")
    assert config.from_kubeconfig(kubeconfig(SERVER)).proxy == ""
    assert "env" not in repr(config.from_kubeconfig(kubeconfig(SERVER, proxy_url="http://env:3128")))


async def test_requests_go_through_the_proxy_with_its_credentials() -> None:
    asked: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 403 Forbidden\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(proxy, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, ApiClient(config.from_kubeconfig(kubeconfig(SERVER, proxy_url=f"http://user:pass@127.0.0.1:{port}"))) as client:
        with pytest.raises(Exception, match="403"):
            await client.request("GET", "/version")
    (request,) = asked
    assert request.startswith(b"CONNECT api.example.com:6443 HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic " + base64.b64encode(b"user:pass") in request
