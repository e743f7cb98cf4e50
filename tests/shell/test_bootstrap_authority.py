"""The certificate that bootstrap data is served with: made where there is none, ours renewed in time, somebody else's only read."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from fleetwake.errors import InvalidError
from fleetwake.kube.pki import CertificateSpec, certificate_expiry, certificate_names, generate_key, self_signed_ca, sign_certificate
from fleetwake.sim.apiserver import WORKLOAD_KINDS, ApiServer, Settings, WriteOptions
from fleetwake.sim.loop import SimClock
from schemas.keys import ObjectKey
from services.reconcilers.bootstrap_data.authority import RENEW_WHEN_LEFT, SECRET_NAME, VALIDITY, Authority
from tests.shell.shell_world import Wire, simulated

SYSTEM = "fleetwake-system"
NO_CHECK_TIME = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME: the certificates are of the simulation's years."""
URL = "https://bootstrap.example.com:9443"


class World:
    """The API server, and workers that serve."""

    def __init__(self) -> None:
        loop: Any = asyncio.get_running_loop()
        self.clock = SimClock(loop)
        self.api = ApiServer(self.clock.now, Settings(create_namespaces=True, first_version=100), list(WORKLOAD_KINDS))
        self.kube = Wire(self.api)

    def worker(self, url: str = URL) -> Authority:
        return Authority(self.kube, ObjectKey("", "Secret", SYSTEM, SECRET_NAME), url, self.clock.now)

    def data(self) -> dict[str, bytes]:
        return {name: base64.b64decode(value) for name, value in self.api.get("secrets", SYSTEM, SECRET_NAME)["data"].items()}

    def bring(self, data: Mapping[str, bytes]) -> None:
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET_NAME, "namespace": SYSTEM}}
        encoded = {name: base64.b64encode(value).decode() for name, value in data.items()}
        self.api.create("secrets", {**body, "data": encoded}, SYSTEM, WriteOptions("cert-manager"))

    def pair(self, days: int = 365) -> dict[str, bytes]:
        authority = self_signed_ca("theirs", generate_key("ECDSA-P256"), now=self.clock.now())
        spec = CertificateSpec("theirs", sans=("other.example.com",), usages=("server",), validity=timedelta(days=days))
        pair = sign_certificate(authority, spec, generate_key("ECDSA-P256"), now=self.clock.now())
        return {"ca.crt": authority.cert_pem, "tls.crt": pair.cert_pem, "tls.key": pair.key_pem}


def presented(authority: Authority, ca: bytes, host: str) -> bytes:
    """The certificate of a handshake in memory, verified by the CA for the host, in DER."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = authority.context.wrap_bio(to_server, to_client, server_side=True)
    context = ssl.create_default_context(cadata=ca.decode())
    context.verify_flags |= NO_CHECK_TIME  # type: ignore[assignment]
    client = context.wrap_bio(to_client, to_server, server_hostname=host)
    for end in (client, server, client, server):
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            continue
    return client.getpeercert(binary_form=True) or b""


@simulated
async def test_workers_that_start_together_serve_with_one_certificate() -> None:
    world = World()
    workers = [world.worker() for _ in range(3)]
    await asyncio.gather(*(worker.refresh() for worker in workers))
    data = world.data()
    shown = {presented(worker, data["ca.crt"], "bootstrap.example.com") for worker in workers}
    assert len(shown) == 1 and certificate_names(shown.pop()) == {"bootstrap.example.com"}
    assert certificate_expiry(data["tls.crt"]) == world.clock.now().replace(microsecond=0) + VALIDITY


@simulated
async def test_ours_is_renewed_before_it_ends_and_hosts_go_on_believing_it() -> None:
    world = World()
    worker = world.worker()
    await worker.refresh()
    before = world.data()
    await asyncio.sleep((VALIDITY - RENEW_WHEN_LEFT).total_seconds() - 60)
    await worker.refresh()
    assert world.data() == before
    await asyncio.sleep(120)
    await worker.refresh()
    after = world.data()
    assert (after["ca.crt"], after["ca.key"]) == (before["ca.crt"], before["ca.key"]) and after["tls.crt"] != before["tls.crt"]
    assert certificate_expiry(presented(worker, before["ca.crt"], "bootstrap.example.com")) == certificate_expiry(after["tls.crt"])


@pytest.mark.parametrize(("url", "name"), [("https://elsewhere.example.com", "elsewhere.example.com"), ("https://192.0.2.7:9443", "192.0.2.7")])
def test_another_url_is_another_certificate_of_the_same_authority(url: str, name: str) -> None:
    @simulated
    async def moved() -> None:
        world = World()
        await world.worker().refresh()
        before, worker = world.data(), world.worker(url)
        await worker.refresh()
        assert world.data()["ca.crt"] == before["ca.crt"]
        assert certificate_names(presented(worker, before["ca.crt"], name)) == {name}

    moved()


@simulated
async def test_somebody_elses_is_used_as_it_is() -> None:
    world = World()
    world.bring(world.pair(days=1))
    worker = world.worker()
    await worker.refresh()
    assert presented(worker, world.data()["ca.crt"], "other.example.com") and not world.kube.writes
    renewed = {name: base64.b64encode(value).decode() for name, value in world.pair().items()}
    world.api.patch("secrets", (SYSTEM, SECRET_NAME), {"data": renewed}, "merge", WriteOptions("cert-manager"))
    await worker.refresh()
    assert presented(worker, world.data()["ca.crt"], "other.example.com") and not world.kube.writes


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tls.key": b""}, "it needs ca.crt, tls.crt and tls.key"),
        ({"tls.crt": b"-----BEGIN NONSENSE", "ca.key": b"x"}, SECRET_NAME),
        ({"tls.key": generate_key("ECDSA-P256")}, SECRET_NAME),
    ],
    ids=["incomplete", "no certificate", "another key"],
)
def test_what_cannot_be_served_with_is_told_by_name(change: dict[str, bytes], said: str) -> None:
    @simulated
    async def refused() -> None:
        world = World()
        worker = world.worker()
        world.bring({**world.pair(), **change})
        with pytest.raises(InvalidError, match=said):
            await worker.refresh()

    refused()
