"""How a joining node finds its cluster and trusts it: by a token with pins of the CA, or by a kubeconfig file.

Source: kinds.md §9 (join: what the user left out is filled in).
"""

from __future__ import annotations

import base64
from typing import Any

from fleetwake.errors import InvalidError
from fleetwake.plan import SecretInputs
from schemas.keys import ObjectKey
from services.reconcilers.bootstrap.host import Json
from services.reconcilers.bootstrap.request import Request
from services.reconcilers.kubeadm import secrets


def completed(request: Request, spec: Json, inputs: SecretInputs) -> dict[str, Any]:
    """``joinConfiguration.discovery`` with what the user left out: pins, endpoint and token, or the server and CA of a discovery file.

    Raises: as ``secrets.key_pair``.
    """
    discovery = dict((spec.get("joinConfiguration") or {}).get("discovery") or {})
    if discovery.get("file"):
        file = dict(discovery["file"])
        if file.get("kubeConfig"):
            cluster = dict(file["kubeConfig"].get("cluster") or {})
            cluster.setdefault("server", f"https://{request.facts.endpoint}")
            if not cluster.get("certificateAuthorityData"):
                cluster["certificateAuthorityData"] = ca_data(inputs, request.ca)
            file["kubeConfig"] = {**file["kubeConfig"], "cluster": cluster}
        return {**discovery, "file": file}
    token = dict(discovery.get("bootstrapToken") or {})
    if not token.get("caCertHashes"):
        token["caCertHashes"] = secrets.ca_hashes(inputs, request.ca)
    if not token.get("apiServerEndpoint"):
        token["apiServerEndpoint"] = request.facts.endpoint
    if request.own_token or not token.get("token"):
        token["token"] = secrets.token(inputs, request.ca, request.config_uid, request.token_counter)
    return {**discovery, "bootstrapToken": token}


def ca_data(inputs: SecretInputs, ca: ObjectKey) -> str:
    """The cluster CA's certificates in base64, as a kubeconfig embeds them. Raises: as ``secrets.secret_data``; InvalidError without any."""
    found = secrets.secret_data(inputs, ca).get("tls.crt")
    if not found:
        raise InvalidError(f"Secret {ca.namespace}/{ca.name} has no certificate in tls.crt")
    return base64.b64encode(found).decode("ascii")
