"""Keys, certificates and kubeconfigs of workload clusters, in the forms kubeadm writes and reads.

Everything is bytes in, bytes out; time is passed in; nothing is read from or written to disk. Keys are PKCS#1 / SEC1 PEM (``RSA PRIVATE
KEY``, ``EC PRIVATE KEY``), as kubeadm's are. No key material appears in a repr or a message.

Source: Cluster API 1.13 ``util/certs`` and ``util/secret``; kubeadm 1.36 ``app/util/pkiutil``, ``app/util/pubkeypin``.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ipaddress
import os
import ssl
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Literal, Self, get_args

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fleetwake import yaml_text

KeyAlgorithm = Literal["RSA-2048", "RSA-3072", "RSA-4096", "ECDSA-P256", "ECDSA-P384"]
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
Usage = Literal["client", "server"]

KEY_ALGORITHMS: tuple[KeyAlgorithm, ...] = get_args(KeyAlgorithm)
CA_VALIDITY_DAYS = 3650
CERTIFICATE_VALIDITY = timedelta(days=365)
CLOCK_SKEW = timedelta(minutes=5)
"""How far before ``now`` a certificate starts, for machines whose clocks are behind."""

_RSA_BITS: Mapping[str, int] = {"RSA-2048": 2048, "RSA-3072": 3072, "RSA-4096": 4096}
_USAGE_OIDS: Mapping[Usage, x509.ObjectIdentifier] = {"client": ExtendedKeyUsageOID.CLIENT_AUTH, "server": ExtendedKeyUsageOID.SERVER_AUTH}


@dataclass(frozen=True)
class KeyPair:
    """The two halves of a certificate Secret: ``tls.crt`` and ``tls.key``. For a service-account pair ``cert_pem`` is the public key."""

    cert_pem: bytes
    key_pem: bytes = field(repr=False)


@dataclass(frozen=True)
class CertificateSpec:
    """What a certificate shall say. ``usages`` must not be empty; ``sans`` are URIs with ``://``, IP addresses where they parse as such, else DNS names."""

    common_name: str
    organizations: tuple[str, ...] = ()
    sans: tuple[str, ...] = ()
    usages: tuple[Usage, ...] = ("client",)
    validity: timedelta = CERTIFICATE_VALIDITY


def generate_key(algorithm: KeyAlgorithm) -> bytes:
    """Generate a private key as PEM. RSA costs tens of milliseconds of CPU and more (the GIL is released meanwhile): see ``KeyPool``."""
    key: PrivateKey
    if algorithm in _RSA_BITS:
        key = rsa.generate_private_key(public_exponent=65537, key_size=_RSA_BITS[algorithm])
    else:
        key = ec.generate_private_key(ec.SECP256R1() if algorithm == "ECDSA-P256" else ec.SECP384R1())
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())


def self_signed_ca(common_name: str, key_pem: bytes, *, now: datetime, days: int = CA_VALIDITY_DAYS) -> KeyPair:
    """Make a CA of its own: kubeadm's names are ``kubernetes``, ``etcd-ca``, ``front-proxy-ca``.

    It may sign leaves only (path length 0). Raises: ValueError if ``key_pem`` is not a key of ``KEY_ALGORITHMS``.
    """
    key = _load_key(key_pem)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = _builder(name, name, key, now, timedelta(days=days))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_key_usage(key, ca=True), critical=True)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(common_name)]), critical=False)
    return KeyPair(_pem(builder.sign(key, hashes.SHA256())), key_pem)


def service_account_pair(key_pem: bytes) -> KeyPair:
    """The pair that signs service-account tokens: no certificate, the bare public key (PKIX PEM) in ``cert_pem``."""
    public = _load_key(key_pem).public_key()
    return KeyPair(public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo), key_pem)


def sign_certificate(ca: KeyPair, spec: CertificateSpec, key_pem: bytes, *, now: datetime) -> KeyPair:
    """Sign a certificate for ``key_pem``; it never outlives the CA.

    Raises: ValueError if ``spec.usages`` is empty, the CA has expired, or its certificate and key do not belong together.
    """
    if not spec.usages:
        raise ValueError("a certificate without usages would serve for everything")
    issuer, issuer_key, key = x509.load_pem_x509_certificate(ca.cert_pem), _load_key(ca.key_pem), _load_key(key_pem)
    if issuer.public_key() != issuer_key.public_key():
        raise ValueError(f"certificate and key of the CA {issuer.subject.rfc4514_string()} do not belong together")
    subject = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization) for organization in spec.organizations]
    subject.append(x509.NameAttribute(NameOID.COMMON_NAME, spec.common_name))
    validity = min(spec.validity, issuer.not_valid_after_utc - now)
    if validity <= timedelta(0):
        raise ValueError(f"the CA {issuer.subject.rfc4514_string()} has expired")
    builder = _builder(x509.Name(subject), issuer.subject, key, now, validity)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_key_usage(key, ca=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([_USAGE_OIDS[usage] for usage in spec.usages]), critical=False)
    # as the CA's certificate spells it, not as we would compute it: a user's CA may use another method, and chains are built by equality
    try:
        issuer_id = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        authority = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_id)
    except x509.ExtensionNotFound:
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    builder = builder.add_extension(authority, critical=False)
    if spec.sans:
        builder = builder.add_extension(x509.SubjectAlternativeName([_general_name(san) for san in spec.sans]), critical=False)
    return KeyPair(_pem(builder.sign(issuer_key, hashes.SHA256())), key_pem)


def render_kubeconfig(
    cluster: str, server: str, ca_pem: bytes, client: KeyPair, *, name: str = "admin", acting_as: Mapping[str, str | list[str]] | None = None
) -> bytes:
    """Render a kubeconfig as YAML: user ``<cluster>-<name>``, context ``<cluster>-<name>@<cluster>``, all data embedded.

    ``server`` is a whole URL, ``https://host:port``. ``acting_as``: whom the client impersonates (``as``, ``as-groups``), nobody by default.
    """
    user = f"{cluster}-{name}"
    context = f"{user}@{cluster}"
    credentials = {"client-certificate-data": _base64(client.cert_pem), "client-key-data": _base64(client.key_pem)}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": cluster, "cluster": {"certificate-authority-data": _base64(ca_pem), "server": server}}],
        "contexts": [{"name": context, "context": {"cluster": cluster, "user": user}}],
        "current-context": context,
        "preferences": {},
        "users": [{"name": user, "user": {**credentials, **(acting_as or {})}}],
    }
    return yaml_text.dump(document, width=1 << 20).encode()


def kubeconfig_client_certificate(kubeconfig: bytes) -> bytes:
    """Read the client certificate (PEM) of the current context's user. Raises: ValueError if the document has none embedded."""
    try:
        document = yaml_text.load(kubeconfig)
        contexts = {entry["name"]: entry["context"] for entry in document["contexts"]}
        users = {entry["name"]: entry["user"] for entry in document["users"]}
        return base64.b64decode(users[contexts[document["current-context"]]["user"]]["client-certificate-data"], validate=True)
    except (yaml_text.YAMLError, KeyError, TypeError, ValueError):
        # the document holds a key: nothing of it may be chained into an error
        raise ValueError("the kubeconfig has no embedded client certificate for its current context") from None


def certificate_expiry(certificate: bytes) -> datetime:
    """When a certificate (PEM or DER; the first of a chain) ends, in UTC. Raises: ValueError if it is none."""
    return _load_certificate(certificate).not_valid_after_utc


def certificate_names(certificate: bytes) -> frozenset[str]:
    """The host names and addresses a certificate (PEM or DER; the first of a chain) is made for. Raises: ValueError if it is none."""
    try:
        found = _load_certificate(certificate).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    return frozenset(str(name.value) for name in found)


def public_key_hash(certificate: bytes) -> str:
    """The discovery pin of a certificate: ``sha256:`` and the hex digest of its SubjectPublicKeyInfo. Raises: ValueError if it is none."""
    public = _load_certificate(certificate).public_key()
    spki = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return f"sha256:{hashlib.sha256(spki).hexdigest()}"


def is_pair(pair: KeyPair) -> bool:
    """Whether certificate and key parse and belong together."""
    try:
        return x509.load_pem_x509_certificate(pair.cert_pem).public_key() == _load_key(pair.key_pem).public_key()
    except ValueError:
        return False


def load_key_pair(context: ssl.SSLContext, cert_pem: bytes, key_pem: bytes) -> None:
    """Give a TLS context a certificate and its key without writing them to a disk (the ssl module reads files only: an anonymous one).

    Raises: ValueError if they do not parse or belong together.
    """
    descriptor = os.memfd_create("tls", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(cert_pem.rstrip() + b"\n" + key_pem)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    except ssl.SSLError as error:
        raise ValueError(f"not a certificate with its key: {error.reason}") from None
    finally:
        os.close(descriptor)


class KeyPool:
    """RSA keys generated ahead of need, on threads of its own: generation releases the GIL, so the event loop keeps running.

    ``ahead`` says how many keys of an algorithm lie ready; what is taken is replaced in the background. Algorithms not in it, and all of
    ECDSA (12 µs a key), are generated when asked for. Used as an ``async with`` block; the keys left over are forgotten with it.
    """

    def __init__(self, ahead: Mapping[KeyAlgorithm, int], *, threads: int = 1) -> None:
        self._ahead = {algorithm: count for algorithm, count in ahead.items() if algorithm in _RSA_BITS}
        self._threads = threads
        self._ready: dict[KeyAlgorithm, deque[Future[bytes]]] = {algorithm: deque() for algorithm in KEY_ALGORITHMS}
        self._executor: ThreadPoolExecutor | None = None

    async def __aenter__(self) -> Self:
        """Start generating."""
        self._executor = ThreadPoolExecutor(max_workers=self._threads, thread_name_prefix="keys")
        for algorithm in self._ahead:
            self._top_up(algorithm, self._executor)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop after the keys being generated now (at most one per thread)."""
        executor, self._executor = self._executor, None
        for futures in self._ready.values():
            futures.clear()
        if executor is not None:
            await asyncio.to_thread(executor.shutdown, wait=True, cancel_futures=True)

    async def take(self, algorithm: KeyAlgorithm) -> bytes:
        """A fresh private key (PEM), no one else's; takers of one algorithm are served in the order they asked.

        Raises: RuntimeError outside the block.
        """
        executor = self._executor
        if executor is None:
            raise RuntimeError("the key pool is not running")
        if algorithm not in _RSA_BITS:
            return generate_key(algorithm)
        ready = self._ready[algorithm]
        future = ready.popleft() if ready else executor.submit(generate_key, algorithm)
        self._top_up(algorithm, executor)
        return await asyncio.wrap_future(future)

    def ready(self, algorithm: KeyAlgorithm) -> int:
        """How many keys could be taken at once without waiting."""
        return sum(future.done() for future in self._ready[algorithm])

    def _top_up(self, algorithm: KeyAlgorithm, executor: ThreadPoolExecutor) -> None:
        ready = self._ready[algorithm]
        while len(ready) < self._ahead.get(algorithm, 0):
            ready.append(executor.submit(generate_key, algorithm))


def _builder(subject: x509.Name, issuer: x509.Name, key: PrivateKey, now: datetime, validity: timedelta) -> x509.CertificateBuilder:
    start = now.astimezone(UTC).replace(microsecond=0)
    return (
        x509.CertificateBuilder(subject_name=subject, issuer_name=issuer, public_key=key.public_key(), serial_number=x509.random_serial_number())
        .not_valid_before(start - CLOCK_SKEW)
        .not_valid_after(start + validity)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _key_usage(key: PrivateKey, *, ca: bool) -> x509.KeyUsage:
    """Signatures for all, key encipherment where the key can do it (RSA), certificate signing for a CA."""
    return x509.KeyUsage(
        digital_signature=True,
        key_encipherment=isinstance(key, rsa.RSAPrivateKey),
        key_cert_sign=ca,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def _load_key(key_pem: bytes) -> PrivateKey:
    # The validation that is skipped is a primality test of RSA factors (tens of ms); a key that lies about itself breaks only its own signatures.
    try:
        key = serialization.load_pem_private_key(key_pem, password=None, unsafe_skip_rsa_key_validation=True)
    except (ValueError, TypeError):
        raise ValueError("not an unencrypted private key in PEM form") from None
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise ValueError("only RSA and ECDSA keys are supported")
    return key


def _load_certificate(certificate: bytes) -> x509.Certificate:
    if certificate.lstrip().startswith(b"-----BEGIN"):
        return x509.load_pem_x509_certificate(certificate)
    return x509.load_der_x509_certificate(certificate)


def _general_name(san: str) -> x509.GeneralName:
    if "://" in san:
        return x509.UniformResourceIdentifier(san)
    try:
        return x509.IPAddress(ipaddress.ip_address(san))
    except ValueError:
        return x509.DNSName(san)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
