"""A rig that lets nobody in unknown: certificates and passwords of its servers and clients, in its state folder.

Each identity of ``schemas.access`` has a client certificate and a password; one more, ``admin``, may do everything. Most of them reach Kafka by certificate,
some by password, so that both ways are in use. Whatever is secret is readable by the user alone.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives import serialization

from fleetwake.kube.pki import CertificateSpec, KeyPair, Usage, generate_key, self_signed_ca, sign_certificate
from fleetwake.rig.records import TlsRecord
from schemas.access import ACCESS, Access

ADMIN = Access("admin", "Super user of Kafka, all commands of Redis.")
IDENTITIES = (*ACCESS, ADMIN)
BROKER = "kafka-broker"
"""The brokers' own identity toward each other and the controllers."""
BY_PASSWORD = frozenset({"dev_infrastructure", "views"})
"""Identities that reach Kafka by SCRAM: one with Faust and aiokafka, one with kafka-python."""
ADDRESS = "127.0.0.1"
PASSWORD_BYTES = 24
OWNER_ONLY = 0o600


@dataclass(frozen=True)
class Security:
    """The folder with everything that is secret or signed."""

    folder: Path

    @property
    def ca(self) -> Path:
        """The certificate of the CA that signs all."""
        return self.folder / "ca.crt"

    @property
    def ca_key(self) -> Path:
        """Its key: tests sign with it."""
        return self.folder / "ca.key"

    @property
    def broker_keystore(self) -> Path:
        """Key and certificate of the brokers, in the one file that Kafka wants."""
        return self.folder / BROKER / "keystore.pem"

    @property
    def redis_users(self) -> Path:
        """Redis' ACL file, passwords hashed."""
        return self.folder / "redis" / "users.acl"

    def certificate(self, name: str) -> Path:
        """The certificate of a server or an identity."""
        return self.folder / name / "tls.crt"

    def key(self, name: str) -> Path:
        """Its key."""
        return self.folder / name / "tls.key"

    def password(self, service: str) -> Path:
        """The password of an identity."""
        return self.folder / service / "password"

    def tls(self, name: str) -> TlsRecord:
        """The files by which ``name`` speaks TLS."""
        return TlsRecord(ca_file=str(self.ca), certificate_file=str(self.certificate(name)), key_file=str(self.key(name)))

    def clients(self, by_certificate: str, by_password: str, redis_url: str) -> dict[str, dict[str, str]]:
        """What each identity sets to be let in, given the bootstrap servers of either way and Redis' URL."""
        return {access.service: self._client(access, by_certificate, by_password, redis_url) for access in IDENTITIES}

    def _client(self, access: Access, by_certificate: str, by_password: str, redis_url: str) -> dict[str, str]:
        service = access.service
        certificate, key, password = (str(path(service)) for path in (self.certificate, self.key, self.password))
        found = {"FLEETWAKE_KAFKA_CA_FILE": str(self.ca), "FLEETWAKE_REDIS_URL": redis_url}
        if service in BY_PASSWORD:
            found |= {
                "FLEETWAKE_KAFKA_BOOTSTRAP": by_password,
                "FLEETWAKE_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
                "FLEETWAKE_KAFKA_USERNAME": access.user,
                "FLEETWAKE_KAFKA_PASSWORD_FILE": password,
            }
        else:
            found |= {
                "FLEETWAKE_KAFKA_BOOTSTRAP": by_certificate,
                "FLEETWAKE_KAFKA_SECURITY_PROTOCOL": "SSL",
                "FLEETWAKE_KAFKA_CERTIFICATE_FILE": certificate,
                "FLEETWAKE_KAFKA_KEY_FILE": key,
            }
        return found | {
            "FLEETWAKE_REDIS_USERNAME": access.user,
            "FLEETWAKE_REDIS_PASSWORD_FILE": password,
            "FLEETWAKE_REDIS_CA_FILE": str(self.ca),
            "FLEETWAKE_REDIS_CERTIFICATE_FILE": certificate,
            "FLEETWAKE_REDIS_KEY_FILE": key,
        }


def issue(folder: Path) -> Security:
    """Make a CA, the servers' certificates, and a certificate and a password for every identity, anew."""
    security, now = Security(folder), datetime.fromtimestamp(time.time(), UTC)
    ca = self_signed_ca("fleetwake-rig", generate_key("ECDSA-P256"), now=now)
    write(security.ca, ca.cert_pem)
    write(security.ca_key, ca.key_pem)
    for name in (BROKER, "redis"):
        _keep(security, name, signed(ca, name, ("server", "client"), now))
    # Kafka reads keys of PKCS#8 only
    write(security.broker_keystore, _pkcs8(security.key(BROKER).read_bytes()) + security.certificate(BROKER).read_bytes())
    for access in IDENTITIES:
        _keep(security, access.service, signed(ca, access.user, ("client",), now))
        write(security.password(access.service), secrets.token_urlsafe(PASSWORD_BYTES).encode())
    write(security.redis_users, "\n".join(_redis_users(security, IDENTITIES)).encode() + b"\n")
    return security


def signed(ca: KeyPair, name: str, usages: tuple[Usage, ...], now: datetime, sans: tuple[str, ...] = (ADDRESS,)) -> KeyPair:
    """A certificate of that common name; a server's is for this machine's address alone."""
    spec = CertificateSpec(name, sans=sans if "server" in usages else (), usages=usages)
    return sign_certificate(ca, spec, generate_key("ECDSA-P256"), now=now)


def write(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read, whole or not at all: a client may be reading it."""
    path.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, OWNER_ONLY), "wb") as file:
        file.write(content)
    part.replace(path)


def redis_user(user: str, password: str, rules: Iterable[str]) -> str:
    """A line of Redis' ACL file."""
    return " ".join(("user", user, "on", f"#{hashlib.sha256(password.encode()).hexdigest()}", *rules))


def _redis_users(security: Security, identities: Iterable[Access]) -> list[str]:
    lines = ["user default off"]
    for access in identities:
        rules = ("~*", "&*", "+@all") if access is ADMIN else access.redis_rules()
        if rules:
            lines.append(redis_user(access.user, security.password(access.service).read_text(), rules))
    return lines


def _keep(security: Security, name: str, pair: KeyPair) -> None:
    write(security.certificate(name), pair.cert_pem)
    write(security.key(name), pair.key_pem)


def _pkcs8(key_pem: bytes) -> bytes:
    key = serialization.load_pem_private_key(key_pem, password=None)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
