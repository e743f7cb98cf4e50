"""The Secret of a development cluster's own Redis: certificates and a password, made once where they are absent; the stored bytes win."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from hashlib import sha256

import orjson

from fleetwake.errors import AlreadyExistsError
from fleetwake.kube.client import ApiClient, raise_for, resource_path
from fleetwake.kube.pki import CA_VALIDITY_DAYS, CertificateSpec, KeyAlgorithm, generate_key, self_signed_ca, sign_certificate

PASSWORD_BYTES = 32
KEY_ALGORITHM: KeyAlgorithm = "ECDSA-P256"


async def create_if_absent(client: ApiClient, namespace: str, name: str, data: Mapping[str, bytes]) -> bool:
    """Create a Secret; returns whether there was none.

    Raises:
        FleetwakeError: the API server refused it.
    """
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "data": {field: base64.b64encode(value).decode() for field, value in data.items()},
    }
    answer = await client.request("POST", resource_path("v1", "secrets", namespace), body=orjson.dumps(body))
    try:
        raise_for(answer, f"create Secret {namespace}/{name}")
    except AlreadyExistsError:
        return False
    return True


def redis_credentials(host: str, namespace: str, *, now: datetime) -> dict[str, bytes]:
    """What the server and its clients need: the CA, the server's certificate and key, its users, the clients' password (the server knows its hash alone)."""
    authority = self_signed_ca(f"{host}-ca", generate_key(KEY_ALGORITHM), now=now)
    names = (host, f"{host}.{namespace}", f"{host}.{namespace}.svc")
    spec = CertificateSpec(host, sans=names, usages=("server",), validity=timedelta(days=CA_VALIDITY_DAYS))
    server = sign_certificate(authority, spec, generate_key(KEY_ALGORITHM), now=now)
    password = secrets.token_urlsafe(PASSWORD_BYTES)
    return {
        "ca.crt": authority.cert_pem,
        "tls.crt": server.cert_pem,
        "tls.key": server.key_pem,
        "users.acl": f"user default on #{sha256(password.encode()).hexdigest()} ~* &* +@all\n".encode(),
        "password": password.encode(),
    }
