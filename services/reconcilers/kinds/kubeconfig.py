"""The Secret ``<cluster>-kubeconfig``: how it looks, and how its bytes come from the cluster's CA when it is sent.

Shared by Cluster (no control plane provider) and control planes; the bytes never enter a plan.

Source: kinds.md §0.4 (names, type, keys); Cluster API v1.14 util/kubeconfig.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fleetwake import labels
from fleetwake.errors import InvalidError
from fleetwake.kube.pki import CertificateSpec, KeyPair, render_kubeconfig, sign_certificate
from fleetwake.patches import owner_wire
from fleetwake.plan import Computed, Create, SecretInputs
from schemas.api.core.v1beta2.shared import APIEndpoint
from schemas.api.meta import OwnerReference
from schemas.keys import ClusterKey, ObjectKey

CLIENT_KEY_ALGORITHM = "ECDSA-P256"
"""Of the client key where the control plane's configuration sets no encryptionAlgorithm (upstream: RSA-2048). Nobody else signs with it, and clients
understand either; making and using an RSA key costs a thousand times the CPU. CAs and the service-account key stay RSA-2048 by default."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose kubeconfig it is: ``name`` within the file, the certificate it shows, and whom it impersonates with that (``as``, ``as-groups``)."""

    name: str
    certificate: CertificateSpec
    acting_as: Mapping[str, str | list[str]] | None = None


ADMIN = Identity("admin", CertificateSpec(common_name="kubernetes-admin", organizations=("system:masters",), usages=("client",)))
"""The controllers' own."""


def secret_key(cluster: ClusterKey, purpose: str) -> ObjectKey:
    """The key of the Secret that holds ``purpose`` (``kubeconfig``, ``ca``, ``etcd``, ``sa``, ``proxy``) of a cluster."""
    return ObjectKey("", "Secret", cluster.namespace, f"{cluster.name}-{purpose}")


def server_url(endpoint: APIEndpoint) -> str:
    """The URL of the API server; an IPv6 address gets its brackets."""
    host = endpoint.host or ""
    return f"https://[{host}]:{endpoint.port}" if ":" in host else f"https://{host}:{endpoint.port}"


def create_kubeconfig(cluster: ClusterKey, endpoint: APIEndpoint, owner: OwnerReference, algorithm: str = CLIENT_KEY_ALGORITHM) -> Create:
    """The step that makes the Secret; its client certificate is signed by ``<cluster>-ca``. Stored bytes of somebody else win."""
    return Create(
        body={
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": f"{cluster.name}-kubeconfig",
                "namespace": cluster.namespace,
                "labels": {labels.CLUSTER_NAME: cluster.name},
                "ownerReferences": [owner_wire(owner)],
            },
            "type": labels.SECRET_TYPE,
            "data": {"value": kubeconfig_value(cluster, endpoint, algorithm)},
        },
        reason="the cluster has an endpoint and a CA, but no kubeconfig",
    )


def kubeconfig_value(cluster: ClusterKey, endpoint: APIEndpoint, algorithm: str = CLIENT_KEY_ALGORITHM, identity: Identity = ADMIN) -> Computed:
    """The bytes of a fresh kubeconfig, made when the request is sent."""
    render = _renderer(cluster, server_url(endpoint), identity)
    return Computed(f"{identity.name} kubeconfig", render, secrets=(secret_key(cluster, "ca"),), private_keys=(algorithm,))


def _renderer(cluster: ClusterKey, server: str, identity: Identity) -> Callable[[SecretInputs], Any]:
    ca_key = secret_key(cluster, "ca")

    def render(inputs: SecretInputs) -> Any:
        data: Mapping[str, bytes] = inputs.secrets.get(ca_key, {})
        ca = KeyPair(data.get("tls.crt", b""), data.get("tls.key", b""))
        try:
            client = sign_certificate(ca, identity.certificate, inputs.private_keys[0], now=inputs.now)
        except (ValueError, TypeError) as error:
            raise InvalidError(f"Secret {ca_key.namespace}/{ca_key.name} holds no usable CA: {error}", operation="render kubeconfig") from error
        return render_kubeconfig(cluster.name, server, ca.cert_pem, client, name=identity.name, acting_as=identity.acting_as)

    return render
