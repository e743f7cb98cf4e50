"""The Secrets of a kubeadm cluster: their names, how each is made, and the bootstrap token.

Nothing here holds key material: what needs it is a ``Computed`` leaf that the shell renders when it sends.

Source: kinds.md §0.4 (names), §8.1 (certificates, kubeconfig), §9 (tokens); Cluster API v1.14 util/secret; Kubernetes bootstrap tokens
(cluster-bootstrap/token, type bootstrap.kubernetes.io/token).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from fleetwake import labels
from fleetwake.conditions import wire_time
from fleetwake.errors import InvalidError, RetryableError
from fleetwake.plan import Body, Computed, SecretInputs
from schemas.keys import ClusterKey, ObjectKey
from services.reconcilers.kubeadm import pki
from services.reconcilers.kubeadm.documents import Json

CERTIFICATES_DIR = "/etc/kubernetes/pki"
DEFAULT_ALGORITHM = "RSA-2048"
KUBECONFIG_RENEW_AFTER = timedelta(days=365) / 2
"""Half the year its certificate lives."""
ISSUED_AT = "fleetwake.io/certificate-issued-at"
"""Annotation on the kubeconfig Secret: when its client certificate was made. A cache never holds the certificate itself."""

TOKEN_TTL = timedelta(minutes=15)
"""How long a bootstrap token lives unless the settings say otherwise."""
TOKEN_EXPIRES_AT = "fleetwake.io/expires-at"
"""Annotation on a token Secret: its expiration again, because what is read of a Secret's data is only its hash."""
TOKEN_NAMESPACE = "kube-system"
TOKEN_TYPE = "bootstrap.kubernetes.io/token"
TOKEN_GROUP = "system:bootstrappers:kubeadm:default-node-token"
_TOKEN_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
_SECRET_MISSING_RETRY = timedelta(seconds=30)


class Purpose(StrEnum):
    """What a Secret of a cluster is for; the value is the suffix of its name."""

    CA = "ca"
    ETCD = "etcd"
    PROXY = "proxy"
    SERVICE_ACCOUNT = "sa"
    ETCD_CLIENT = "apiserver-etcd-client"
    KUBECONFIG = "kubeconfig"


_COMMON_NAMES = {Purpose.CA: "kubernetes", Purpose.ETCD: "etcd-ca", Purpose.PROXY: "front-proxy-ca"}


@dataclass(frozen=True, slots=True)
class CertificateFile:
    """A certificate of the control plane and where it lies on its nodes. ``generated``: ours to make, else the user brings it."""

    purpose: Purpose
    cert_path: str
    key_path: str
    generated: bool = True


def secret_key(cluster: ClusterKey, purpose: Purpose) -> ObjectKey:
    """The key of a cluster's Secret."""
    return ObjectKey("", "Secret", cluster.namespace, f"{cluster.name}-{purpose.value}")


def certificate_files(configuration: Json) -> tuple[CertificateFile, ...]:
    """The certificates of a control plane node by its ClusterConfiguration (JSON), in the order they are written to disk."""
    directory = configuration.get("certificatesDir") or CERTIFICATES_DIR
    external: Json | None = (configuration.get("etcd") or {}).get("external")
    etcd = CertificateFile(Purpose.ETCD, f"{directory}/etcd/ca.crt", f"{directory}/etcd/ca.key")
    if external:
        etcd = CertificateFile(Purpose.ETCD, external["caFile"], "", generated=False)
    files: tuple[CertificateFile, ...] = (
        CertificateFile(Purpose.CA, f"{directory}/ca.crt", f"{directory}/ca.key"),
        etcd,
        CertificateFile(Purpose.PROXY, f"{directory}/front-proxy-ca.crt", f"{directory}/front-proxy-ca.key"),
        CertificateFile(Purpose.SERVICE_ACCOUNT, f"{directory}/sa.pub", f"{directory}/sa.key"),
    )
    if external:
        files += (CertificateFile(Purpose.ETCD_CLIENT, external["certFile"], external["keyFile"], generated=False),)
    return files


def secret_data(inputs: SecretInputs, key: ObjectKey) -> Mapping[str, bytes]:
    """The data of a Secret that a rendering needs.

    Raises:
        RetryableError: the Secret does not exist (yet).
    """
    found = inputs.secrets.get(key)
    if found is None:
        raise RetryableError(f"Secret {key.namespace}/{key.name} does not exist", after=_SECRET_MISSING_RETRY)
    return found


def key_pair(inputs: SecretInputs, key: ObjectKey) -> pki.KeyPair:
    """The certificate and key in a Secret.

    Raises:
        RetryableError: the Secret does not exist.
        InvalidError: it has no tls.crt or tls.key.
    """
    data = secret_data(inputs, key)
    if not data.get("tls.crt") or not data.get("tls.key"):
        raise InvalidError(f"Secret {key.namespace}/{key.name} needs both tls.crt and tls.key")
    return pki.KeyPair(data["tls.crt"], data["tls.key"])


def secret_body(key: ObjectKey, cluster: str, owner: Mapping[str, Any], data: Any, annotations: Mapping[str, Any] | None = None) -> Body:
    """The body of a Secret of Cluster API's type, labelled with its cluster and owned by ``owner`` (an owner reference as JSON)."""
    metadata: dict[str, Any] = {"name": key.name, "namespace": key.namespace, "labels": {labels.CLUSTER_NAME: cluster}, "ownerReferences": [dict(owner)]}
    if annotations:
        metadata["annotations"] = dict(annotations)
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": labels.SECRET_TYPE, "data": data}


def certificate_data(purpose: Purpose, configuration: Json) -> Computed:
    """The data of a freshly made certificate Secret: algorithm and validity as the ClusterConfiguration says."""
    days = configuration.get("caCertificateValidityPeriodDays") or pki.CA_VALIDITY_DAYS

    def render(inputs: SecretInputs) -> dict[str, bytes]:
        (key,) = inputs.private_keys
        if purpose is Purpose.SERVICE_ACCOUNT:
            pair = pki.service_account_pair(key)
        else:
            pair = pki.self_signed_ca(_COMMON_NAMES[purpose], key, now=inputs.now, days=days)
        return {"tls.crt": pair.cert_pem, "tls.key": pair.key_pem}

    return Computed(f"{purpose.value} certificate and key", render, private_keys=(configuration.get("encryptionAlgorithm") or DEFAULT_ALGORITHM,))


def time_of_sending(what: str, later: timedelta = timedelta(0)) -> Computed:
    """The time a request is sent, plus ``later``, as Kubernetes writes times."""
    return Computed(what, lambda inputs: wire_time(inputs.now + later))


# --- bootstrap tokens --------------------------------------------------------------------------------------------------------------------------


def _letters(digest: bytes, count: int) -> str:
    number, text = int.from_bytes(digest, "big"), ""
    for _ in range(count):
        number, index = divmod(number, len(_TOKEN_ALPHABET))
        text += _TOKEN_ALPHABET[index]
    return text


def token_id(config_uid: str, counter: int = 0) -> str:
    """The public half of a KubeadmConfig's token: six characters that its uid and the counter decide, so that a repeat makes no second token."""
    return _letters(hashlib.sha256(f"bootstrap-token/{config_uid}/{counter}".encode()).digest(), 6)


def token_key(cluster: ClusterKey, identity: str) -> ObjectKey:
    """The key of a token's Secret in the workload cluster."""
    return ObjectKey("", "Secret", TOKEN_NAMESPACE, f"bootstrap-token-{identity}", str(cluster))


def token_secret(inputs: SecretInputs, ca: ObjectKey, config_uid: str, counter: int = 0) -> str:
    """The secret half: sixteen characters keyed by the cluster CA's private key, which nobody but us and the control plane has.

    Raises: RetryableError, InvalidError as ``key_pair``.
    """
    digest = hmac.new(key_pair(inputs, ca).key_pem, f"bootstrap-token/{config_uid}/{counter}".encode(), hashlib.sha256).digest()
    return _letters(digest, 16)


def token(inputs: SecretInputs, ca: ObjectKey, config_uid: str, counter: int = 0) -> str:
    """The whole token, ``id.secret``. Raises: as ``key_pair``."""
    return f"{token_id(config_uid, counter)}.{token_secret(inputs, ca, config_uid, counter)}"


def token_body(cluster: ClusterKey, config_uid: str, counter: int = 0, ttl: timedelta = TOKEN_TTL) -> Body:
    """The body of the token's Secret, expiring ``ttl`` after it is sent."""
    ca, identity = secret_key(cluster, Purpose.CA), token_id(config_uid, counter)

    def render(inputs: SecretInputs) -> dict[str, bytes]:
        return {
            "token-id": identity.encode(),
            "token-secret": token_secret(inputs, ca, config_uid, counter).encode(),
            "expiration": wire_time(inputs.now + ttl).encode(),
            "usage-bootstrap-signing": b"true",
            "usage-bootstrap-authentication": b"true",
            "auth-extra-groups": TOKEN_GROUP.encode(),
            "description": b"token generated by fleetwake for a joining node",
        }

    metadata = {
        "name": token_key(cluster, identity).name,
        "namespace": TOKEN_NAMESPACE,
        "annotations": {TOKEN_EXPIRES_AT: time_of_sending("expiration", ttl)},
    }
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": TOKEN_TYPE, "data": Computed("bootstrap token", render, secrets=(ca,))}


def token_refresh(ttl: timedelta = TOKEN_TTL) -> Body:
    """The merge patch that lets a token live ``ttl`` from now."""
    return {
        "metadata": {"annotations": {TOKEN_EXPIRES_AT: time_of_sending("expiration", ttl)}},
        "data": {"expiration": Computed("expiration", lambda inputs: wire_time(inputs.now + ttl).encode())},
    }


def ca_hashes(inputs: SecretInputs, ca: ObjectKey) -> list[str]:
    """The discovery pins of all certificates in the cluster CA's Secret. Raises: as ``secret_data``; InvalidError without a certificate."""
    bundle = secret_data(inputs, ca).get("tls.crt", b"")
    end = b"-----END CERTIFICATE-----"
    pins = [pki.public_key_hash(part.lstrip() + end + b"\n") for part in bundle.split(end)[:-1]]
    if not pins:
        raise InvalidError(f"Secret {ca.namespace}/{ca.name} has no certificate in tls.crt")
    return pins
