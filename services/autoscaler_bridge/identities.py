"""Who asks: a client certificate names the one workload cluster whose groups its holder may see and scale.

The name is a URI among the certificate's alternative names, ``fleetwake://autoscaler/<namespace>/<cluster>``, which cert-manager can issue too (``spec.uris``).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from fleetwake.kube.authority import Authority
from fleetwake.kube.pki import CertificateSpec, KeyPair, generate_key, sign_certificate
from schemas.keys import ClusterKey

SCHEME, HOST = "fleetwake", "autoscaler"
VALIDITY = timedelta(days=90)


def uri_of(cluster: ClusterKey) -> str:
    """The name of a cluster's autoscaler."""
    return f"{SCHEME}://{HOST}/{cluster.namespace}/{cluster.name}"


def cluster_of(certificate: Mapping[str, Any] | None) -> ClusterKey | None:
    """The cluster that a verified certificate (``SSLSocket.getpeercert``) names; None unless it names exactly one."""
    found = [parsed for kind, value in (certificate or {}).get("subjectAltName", ()) if kind == "URI" and (parsed := _parsed(str(value))) is not None]
    return found[0] if len(found) == 1 else None


def _parsed(uri: str) -> ClusterKey | None:
    parts = urlsplit(uri)
    if (parts.scheme, parts.netloc) != (SCHEME, HOST) or parts.query or parts.fragment:
        return None
    names = parts.path.removeprefix("/").split("/")
    return ClusterKey(*names) if len(names) == 2 and all(names) else None


def issue(authority: Authority, cluster: ClusterKey, *, now: datetime, validity: timedelta = VALIDITY) -> KeyPair:
    """A client certificate for the autoscaler of a cluster."""
    spec = CertificateSpec(common_name="fleetwake-autoscaler", sans=(uri_of(cluster),), usages=("client",), validity=validity)
    return sign_certificate(authority.pair, spec, generate_key("ECDSA-P256"), now=now)
