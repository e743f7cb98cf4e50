"""Keys, certificates and kubeconfigs: what they say, and that TLS itself accepts them."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509.oid import ExtendedKeyUsageOID

from fleetwake.kube.pki import (
    CLOCK_SKEW,
    KEY_ALGORITHMS,
    CertificateSpec,
    KeyAlgorithm,
    KeyPair,
    KeyPool,
    certificate_expiry,
    generate_key,
    is_pair,
    kubeconfig_client_certificate,
    load_key_pair,
    public_key_hash,
    render_kubeconfig,
    self_signed_ca,
    service_account_pair,
    sign_certificate,
)

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
ADMIN = CertificateSpec("kubernetes-admin", ("system:masters",))


@pytest.fixture(scope="module")
def ca() -> KeyPair:
    return self_signed_ca("kubernetes", generate_key("ECDSA-P256"), now=NOW)


@pytest.mark.parametrize("algorithm", KEY_ALGORITHMS)
def test_keys_are_what_kubeadm_reads(algorithm: KeyAlgorithm) -> None:
    pem = generate_key(algorithm)
    family, size = algorithm.split("-")
    assert pem.startswith(b"-----BEGIN RSA PRIVATE KEY-----\n" if family == "RSA" else b"-----BEGIN EC PRIVATE KEY-----\n")
    assert serialization.load_pem_private_key(pem, None).key_size == int(size.lstrip("P"))  # type: ignore[union-attr]


@pytest.mark.parametrize("algorithm", ["RSA-2048", "ECDSA-P384"])
def test_a_ca_signs_leaves_and_nothing_else(algorithm: KeyAlgorithm) -> None:
    pair = self_signed_ca("etcd-ca", generate_key(algorithm), now=NOW, days=30)
    certificate = x509.load_pem_x509_certificate(pair.cert_pem)
    assert certificate.subject.rfc4514_string() == certificate.issuer.rfc4514_string() == "CN=etcd-ca"
    basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert basic.critical and basic.value == x509.BasicConstraints(ca=True, path_length=0)
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.key_cert_sign and usage.digital_signature and usage.key_encipherment is (algorithm == "RSA-2048")
    assert certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    start = NOW.replace(microsecond=0)
    assert certificate.not_valid_before_utc == start - CLOCK_SKEW
    assert certificate_expiry(pair.cert_pem) == start + timedelta(days=30)
    assert is_pair(pair)


def test_a_ca_lives_ten_years(ca: KeyPair) -> None:
    assert certificate_expiry(ca.cert_pem) == NOW.replace(microsecond=0) + timedelta(days=3650)


def test_the_clients_certificate(ca: KeyPair) -> None:
    pair = sign_certificate(ca, ADMIN, generate_key("ECDSA-P256"), now=NOW)
    certificate = x509.load_pem_x509_certificate(pair.cert_pem)
    certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(ca.cert_pem))
    assert certificate.subject.rfc4514_string() == "CN=kubernetes-admin,O=system:masters"
    assert list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert certificate_expiry(pair.cert_pem) == NOW.replace(microsecond=0) + timedelta(days=365)


def test_names_and_addresses_are_told_apart(ca: KeyPair) -> None:
    spec = CertificateSpec("kube-apiserver", sans=("kubernetes.default.svc", "10.0.0.1", "fd00::1"), usages=("server",))
    certificate = x509.load_pem_x509_certificate(sign_certificate(ca, spec, generate_key("ECDSA-P256"), now=NOW).cert_pem)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["kubernetes.default.svc"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.1", "fd00::1"]


def test_a_certificate_does_not_outlive_its_ca() -> None:
    short = self_signed_ca("kubernetes", generate_key("ECDSA-P256"), now=NOW, days=10)
    pair = sign_certificate(short, ADMIN, generate_key("ECDSA-P256"), now=NOW + timedelta(days=1))
    assert certificate_expiry(pair.cert_pem) <= certificate_expiry(short.cert_pem)


def test_what_cannot_be_signed(ca: KeyPair) -> None:
    key = generate_key("ECDSA-P256")
    with pytest.raises(ValueError, match="do not belong together"):
        sign_certificate(KeyPair(ca.cert_pem, key), ADMIN, key, now=NOW)
    with pytest.raises(ValueError, match="without usages"):
        sign_certificate(ca, CertificateSpec("anything", usages=()), key, now=NOW)
    with pytest.raises(ValueError, match="not an unencrypted private key"):
        sign_certificate(ca, ADMIN, b"-----BEGIN RSA PRIVATE KEY-----\nnonsense\n", now=NOW)
    with pytest.raises(ValueError, match="has expired"):
        sign_certificate(ca, ADMIN, key, now=NOW + timedelta(days=4000))


def test_the_service_account_pair_is_a_bare_public_key() -> None:
    pair = service_account_pair(generate_key("RSA-2048"))
    assert pair.cert_pem.startswith(b"-----BEGIN PUBLIC KEY-----\n")
    private = serialization.load_pem_private_key(pair.key_pem, None)
    assert serialization.load_pem_public_key(pair.cert_pem) == private.public_key()


def test_openssl_agrees(tmp_path: Path) -> None:
    root = self_signed_ca("kubernetes", generate_key("RSA-2048"), now=datetime.now(UTC))
    leaf = sign_certificate(root, ADMIN, generate_key("RSA-2048"), now=datetime.now(UTC))
    (tmp_path / "ca.pem").write_bytes(root.cert_pem)
    (tmp_path / "leaf.pem").write_bytes(leaf.cert_pem)
    verify = ["openssl", "verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", str(tmp_path / "ca.pem"), str(tmp_path / "leaf.pem")]
    assert subprocess.run(verify, capture_output=True, check=False, text=True).stdout.endswith("leaf.pem: OK\n")
    public = subprocess.run(["openssl", "x509", "-in", str(tmp_path / "ca.pem"), "-pubkey", "-noout"], capture_output=True, check=True).stdout
    der = serialization.load_pem_public_key(public).public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert public_key_hash(root.cert_pem) == "sha256:" + hashlib.sha256(der).hexdigest()


def test_the_pin_of_a_certificate_is_the_same_in_pem_and_der(ca: KeyPair) -> None:
    der = x509.load_pem_x509_certificate(ca.cert_pem).public_bytes(serialization.Encoding.DER)
    assert public_key_hash(der) == public_key_hash(ca.cert_pem)
    assert certificate_expiry(der) == certificate_expiry(ca.cert_pem)


def test_a_kubeconfig_names_everything_after_the_cluster(ca: KeyPair) -> None:
    client = sign_certificate(ca, ADMIN, generate_key("ECDSA-P256"), now=NOW)
    rendered = render_kubeconfig("c1", "https://10.0.0.1:6443", ca.cert_pem, client)
    document = yaml.safe_load(rendered)
    assert document["current-context"] == "c1-admin@c1"
    assert document["contexts"] == [{"name": "c1-admin@c1", "context": {"cluster": "c1", "user": "c1-admin"}}]
    assert document["clusters"][0]["cluster"]["server"] == "https://10.0.0.1:6443"
    assert kubeconfig_client_certificate(rendered) == client.cert_pem
    assert rendered == render_kubeconfig("c1", "https://10.0.0.1:6443", ca.cert_pem, client)
    other = yaml.safe_load(render_kubeconfig("c1", "https://10.0.0.1:6443", ca.cert_pem, client, name="jane", acting_as={"as": "jane", "as-groups": ["a"]}))
    assert other["current-context"] == "c1-jane@c1"
    assert {name: other["users"][0]["user"][name] for name in ("as", "as-groups")} == {"as": "jane", "as-groups": ["a"]}


@pytest.mark.parametrize("document", [b"", b"[]", b"users: []", b"\x00", b"{current-context: x, contexts: [], users: []}"])
def test_a_broken_kubeconfig_is_told_without_its_content(document: bytes) -> None:
    with pytest.raises(ValueError, match="no embedded client certificate") as error:
        kubeconfig_client_certificate(document)
    assert error.value.__cause__ is None


def test_keys_stay_out_of_what_is_printed(ca: KeyPair) -> None:
    assert "PRIVATE" not in repr(ca)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    with pytest.raises(ValueError, match="not a certificate with its key") as error:
        load_key_pair(context, ca.cert_pem, generate_key("ECDSA-P256"))
    assert "PRIVATE" not in str(error.value)
    assert not is_pair(KeyPair(ca.cert_pem, generate_key("ECDSA-P256")))
    assert not is_pair(KeyPair(b"", b""))


async def test_the_pool_hands_out_each_key_once() -> None:
    async with KeyPool({"RSA-2048": 2}, threads=2) as pool:
        keys = await asyncio.gather(*(pool.take("RSA-2048") for _ in range(5)), pool.take("ECDSA-P256"))
        assert len(set(keys)) == 6
        async with asyncio.timeout(30):
            while pool.ready("RSA-2048") < 2:  # what was taken is replaced
                await asyncio.sleep(0.01)
        assert pool.ready("RSA-4096") == 0
    with pytest.raises(RuntimeError, match="not running"):
        await pool.take("RSA-2048")


async def test_generating_does_not_stop_the_loop() -> None:
    longest = 0.0
    async with KeyPool({}) as pool:
        waiting = asyncio.gather(*(pool.take("RSA-4096") for _ in range(2)))
        began = time.monotonic()
        while not waiting.done():
            before = time.monotonic()
            await asyncio.sleep(0)
            longest = max(longest, time.monotonic() - before)
        lasted = time.monotonic() - began
        await waiting
    assert longest < lasted / 2
