"""Certificates of a CA of our own, in a Secret: when they are due, and what follows them. Pure; the clock is an argument.

A CA signs leaves that every replica makes for itself and keeps in memory. A new CA does not end the one before: whoever has to believe is given both until
the older one has expired, so whoever still shows its leaf is believed.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import NameOID

from fleetwake.errors import DecodeError
from fleetwake.kube.pki import CertificateSpec, KeyPair, certificate_expiry, generate_key, is_pair, self_signed_ca, sign_certificate

SECRET_TYPE = "kubernetes.io/tls"
CERTIFICATE, KEY, FORMER = "tls.crt", "tls.key", "former.crt"
RENEWED_AFTER = 2 / 3
"""Of a certificate's life: the rest is what a failing renewal may take."""


@dataclass(frozen=True)
class Lifetimes:
    """How long certificates live."""

    ca: timedelta = timedelta(days=365)
    leaf: timedelta = timedelta(days=7)


HANDED_OUT = Lifetimes(ca=timedelta(days=3650))
"""For a CA whose certificates people carry to clients: nobody tells those of a successor, so that it must not come often."""


@dataclass(frozen=True)
class Authority:
    """The CA that signs, and those before it that have not expired."""

    pair: KeyPair
    former: tuple[bytes, ...] = ()

    @property
    def bundle(self) -> bytes:
        """Every CA that may have signed what is shown now."""
        return b"".join((self.pair.cert_pem, *self.former))

    def secret(self, namespace: str, name: str, resource_version: str = "") -> dict[str, Any]:
        """The Secret that holds it; with a version it replaces that one and no other."""
        data = {CERTIFICATE: self.pair.cert_pem, KEY: self.pair.key_pem, FORMER: b"".join(self.former)}
        metadata = {"name": name, "namespace": namespace} | ({"resourceVersion": resource_version} if resource_version else {})
        encoded = {name: base64.b64encode(value).decode() for name, value in data.items()}
        return {"apiVersion": "v1", "kind": "Secret", "type": SECRET_TYPE, "metadata": metadata, "data": encoded}


def read(secret: Mapping[str, Any]) -> Authority:
    """The authority that a Secret holds.

    Raises:
        DecodeError: it holds none; the message says what to do, and nothing of its content.
    """
    try:
        data = {name: base64.b64decode(text) for name, text in (secret.get("data") or {}).items()}
        pair = KeyPair(data[CERTIFICATE], data[KEY])
        former = tuple(block + b"-----END CERTIFICATE-----\n" for block in data.get(FORMER, b"").split(b"-----END CERTIFICATE-----\n")[:-1])
    except (KeyError, binascii.Error):
        pair, former = KeyPair(b"", b""), ()
    if not is_pair(pair):
        raise DecodeError("the Secret of the CA holds no certificate with its key; delete it and run `fleetwake secrets keys`")
    return Authority(pair, former)


def first(name: str, *, now: datetime, lifetimes: Lifetimes) -> Authority:
    """A CA of that common name."""
    return Authority(self_signed_ca(name, generate_key("ECDSA-P256"), now=now, days=lifetimes.ca.days))


def successor(authority: Authority, *, now: datetime, lifetimes: Lifetimes) -> Authority | None:
    """The authority that follows when the CA is due; None while it is not."""
    if now < due(authority.pair.cert_pem):
        return None
    alive = tuple(cert for cert in (authority.pair.cert_pem, *authority.former) if certificate_expiry(cert) > now)
    (name,) = x509.load_pem_x509_certificate(authority.pair.cert_pem).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return Authority(first(str(name.value), now=now, lifetimes=lifetimes).pair, alive)


def leaf(authority: Authority, host: str, *, now: datetime, lifetimes: Lifetimes) -> KeyPair:
    """A serving certificate for a host."""
    spec = CertificateSpec(common_name=host, sans=(host,), usages=("server",), validity=lifetimes.leaf)
    return sign_certificate(authority.pair, spec, generate_key("ECDSA-P256"), now=now)


def due(certificate: bytes) -> datetime:
    """When a certificate is to be followed by another."""
    found = x509.load_pem_x509_certificate(certificate)
    start, end = found.not_valid_before_utc, found.not_valid_after_utc
    return start + (end - start) * RENEWED_AFTER


def signed_by(certificate: bytes, authority: Authority) -> bool:
    """Whether the authority's own CA signed a leaf."""
    issuer = x509.load_pem_x509_certificate(authority.pair.cert_pem)
    try:
        x509.load_pem_x509_certificate(certificate).verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
