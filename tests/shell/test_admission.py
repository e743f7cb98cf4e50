"""Admission's certificates and its HTTPS front: when what is renewed, what a client sees, what is counted."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from cryptography import x509

from fleetwake.connections.files import TlsFiles
from fleetwake.errors import DecodeError, SettingsError
from fleetwake.kube.authority import Authority, Lifetimes, due, first, leaf, read, signed_by, successor
from fleetwake.kube.certificates import MountedCertificates, Serving
from fleetwake.kube.pki import CertificateSpec, KeyPair, certificate_expiry, generate_key, self_signed_ca, sign_certificate
from services.admission.configurations import Address
from services.admission.metrics import AdmissionMetrics
from services.admission.server import serve
from tests.decide.admission_world import changed, document, request

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
LIFETIMES = Lifetimes(ca=timedelta(days=90), leaf=timedelta(days=9))
HOST = "127.0.0.1"


def authority() -> Authority:
    return first("fleetwake-admission-ca", now=NOW, lifetimes=LIFETIMES)


def test_a_ca_is_followed_in_time_and_believed_to_its_end() -> None:
    one = authority()
    assert successor(one, now=NOW + timedelta(days=59), lifetimes=LIFETIMES) is None
    two = successor(one, now=NOW + timedelta(days=61), lifetimes=LIFETIMES)
    assert two is not None and two.former == (one.pair.cert_pem,)
    assert two.bundle == two.pair.cert_pem + one.pair.cert_pem
    three = successor(two, now=NOW + timedelta(days=125), lifetimes=LIFETIMES)
    assert three is not None and three.former == (two.pair.cert_pem,), "the first has expired by then"


def test_the_secret_gives_back_what_was_put_in() -> None:
    one = authority()
    two = successor(one, now=NOW + timedelta(days=61), lifetimes=LIFETIMES)
    assert two is not None
    for put in (one, two):
        secret = put.secret("system", "name", "7")
        assert read(secret) == put
        assert secret["metadata"] == {"name": "name", "namespace": "system", "resourceVersion": "7"}


@pytest.mark.parametrize("data", [{}, {"tls.crt": "AAAA"}, {"tls.crt": "?", "tls.key": "?"}, {"tls.crt": "c2VjcmV0", "tls.key": "c2VjcmV0"}])
def test_a_secret_without_a_ca_is_told_with_the_remedy_and_without_its_content(data: dict[str, str]) -> None:
    with pytest.raises(DecodeError, match="fleetwake secrets keys") as told:
        read({"data": data})
    assert "secret" not in str(told.value).replace("fleetwake secrets keys", "")


def test_a_leaf_is_of_its_authority_and_host_and_due_before_it_ends() -> None:
    one = authority()
    made = leaf(one, HOST, now=NOW, lifetimes=LIFETIMES)
    assert signed_by(made.cert_pem, one) and not signed_by(made.cert_pem, authority())
    assert NOW + timedelta(days=5) < due(made.cert_pem) < NOW + timedelta(days=7)
    assert certificate_expiry(made.cert_pem) == NOW.replace(microsecond=0) + timedelta(days=9)
    names = x509.load_pem_x509_certificate(made.cert_pem).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name) for name in names.get_values_for_type(x509.IPAddress)] == [HOST]


@pytest.mark.parametrize(
    ("address", "host"),
    [
        (Address("admission", "system"), "admission.system.svc"),
        (Address("admission", "system", "https://127.0.0.1:9443"), "127.0.0.1"),
        (Address("admission", "system", "https://admission:9443"), "admission"),
        (Address("admission", "system", "https://[::1]:9443"), "::1"),
        (Address("admission", "system", "https://admission.example.org"), "admission.example.org"),
    ],
)
def test_the_certificate_is_for_the_host_that_the_api_server_asks(address: Address, host: str) -> None:
    assert address.host == host


# ---- over HTTPS -----------------------------------------------------------------------------------------------------------------------------


class Rotated:
    """Files of a certificate as somebody else renews them."""

    def __init__(self, folder: Path) -> None:
        self.ca = self_signed_ca("ca", generate_key("ECDSA-P256"), now=datetime.now(UTC))
        self.certificate, self.key = folder / "tls.crt", folder / "tls.key"

    def pair(self) -> KeyPair:
        spec = CertificateSpec("webhooks", sans=(HOST,), usages=("server",))
        return sign_certificate(self.ca, spec, generate_key("ECDSA-P256"), now=datetime.now(UTC))

    def write(self, pair: KeyPair, *, half: bool = False) -> None:
        self.certificate.write_bytes(pair.cert_pem)
        if not half:
            self.key.write_bytes(pair.key_pem)


class Front:
    """A running front with mounted certificates, and a client that believes their CA."""

    def __init__(self, rotated: Rotated, certificates: MountedCertificates, metrics: AdmissionMetrics, port: int) -> None:
        self.rotated, self.certificates, self.metrics, self.port = rotated, certificates, metrics, port
        self.trust = ssl.create_default_context(cadata=rotated.ca.cert_pem.decode())

    async def serial(self) -> int:
        """Serial number of the certificate that a new connection is shown."""
        _, writer = await asyncio.open_connection(HOST, self.port, ssl=self.trust, server_hostname=HOST)
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        return x509.load_der_x509_certificate(shown).serial_number

    async def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of an answer."""
        reader, writer = await asyncio.open_connection(HOST, self.port, ssl=self.trust, server_hostname=HOST)
        head = f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        whole = await reader.read()
        writer.close()
        headers, _, answer = whole.partition(b"\r\n\r\n")
        return int(headers.split()[1]), answer

    def count(self, name: str, **labels: str) -> float:
        """The value of a series."""
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture
async def front(tmp_path: Path) -> AsyncIterator[Front]:
    rotated, metrics = Rotated(tmp_path), AdmissionMetrics()
    rotated.write(rotated.pair())
    serving = Serving(metrics)
    certificates = MountedCertificates(TlsFiles("FLEETWAKE_WEBHOOK", "", str(rotated.certificate), str(rotated.key)), serving)
    await certificates.renew()
    async with serve((HOST, 0), serving.context, metrics) as (_, port):
        yield Front(rotated, certificates, metrics, port)


def review(new: dict[str, Any], old: dict[str, Any] | None = None) -> bytes:
    return orjson.dumps({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request(new, old)})


VALIDATE = "/validate-cluster-x-k8s-io-v1beta2-cluster"


async def test_mounted_certificates_are_taken_into_use_without_a_restart(front: Front) -> None:
    before = await front.serial()
    assert front.count("fleetwake_admission_certificate_renewals_total") == 1
    following = front.rotated.pair()
    front.rotated.write(following, half=True)
    with pytest.raises(SettingsError, match="FLEETWAKE_WEBHOOK_CERTIFICATE_FILE"):
        await front.certificates.renew()
    assert await front.serial() == before, "half a rotation changes nothing"
    front.rotated.write(following)
    await front.certificates.renew()
    assert await front.serial() == x509.load_pem_x509_certificate(following.cert_pem).serial_number
    assert front.count("fleetwake_admission_certificate_expiry_seconds") == certificate_expiry(following.cert_pem).timestamp()
    await front.certificates.renew()
    assert front.count("fleetwake_admission_certificate_renewals_total") == 2, "the same files are not loaded again"


async def test_reviews_are_answered_and_counted_under_controller_runtimes_names(front: Front, caplog: pytest.LogCaptureFixture) -> None:
    topology = {"classRef": {"name": "c"}, "version": "v1.31.0", "controlPlane": {"metadata": {"labels": {"a": "not to be told"}}}}
    good, wrong = document("Cluster"), changed(document("Cluster"), "spec.topology", topology)
    status, answer = await front.post(VALIDATE, review(good))
    assert (status, orjson.loads(answer)["response"]) == (200, {"uid": "1", "allowed": True})
    with caplog.at_level(logging.INFO, "services.admission"):
        _, answer = await front.post(VALIDATE, review(wrong))
    response = orjson.loads(answer)["response"]
    assert response["allowed"] is False and response["status"]["code"] == 422
    (line,) = (record.getMessage() for record in caplog.records if "refused" in record.getMessage())
    assert "spec.topology.controlPlane.metadata.labels" in line and "somebody" in line and "not to be told" not in line
    assert (await front.post(VALIDATE, b"{}"))[0] == 400
    assert (await front.post("/validate-nothing", review(good)))[0] == 404
    for code, expected in (("200", 2), ("400", 1)):
        assert front.count("controller_runtime_webhook_requests_total", webhook=VALIDATE, code=code) == expected, code
    assert front.count("controller_runtime_webhook_latency_seconds_count", webhook=VALIDATE) == 3
    assert front.count("controller_runtime_webhook_requests_in_flight", webhook=VALIDATE) == 0
    assert front.count("fleetwake_admission_refused_total", webhook=VALIDATE) == 1


async def test_a_client_that_believes_another_ca_gets_nothing(front: Front) -> None:
    stranger = self_signed_ca("other", generate_key("ECDSA-P256"), now=datetime.now(UTC))
    trust = ssl.create_default_context(cadata=stranger.cert_pem.decode())
    with pytest.raises(ssl.SSLCertVerificationError):
        await asyncio.open_connection(HOST, front.port, ssl=trust, server_hostname=HOST)
