"""The TLS identity of the service: a Secret with ``ca.crt``, ``tls.crt`` and ``tls.key``, somebody else's (cert-manager's) or our own.

Without the Secret a worker makes a certificate authority and a certificate, and keeps the authority's key beside them (``ca.key``) to sign again before the
certificate ends, or for another host when the URL has changed. A Secret without ``ca.key`` is somebody else's to renew: it is only read again.
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import orjson

from fleetwake.errors import AlreadyExistsError, ConflictError, InvalidError, NotFoundError
from fleetwake.kube.answers import body_of, error_of
from fleetwake.kube.pki import CertificateSpec, KeyPair, certificate_expiry, certificate_names, generate_key, load_key_pair, self_signed_ca, sign_certificate
from fleetwake.shell.bodies import decode_secret
from fleetwake.shell.ports import MERGE_PATCH, KubePort, Request
from schemas.keys import ObjectKey

SECRET_NAME = "fleetwake-bootstrap-data-tls"
VALIDITY = timedelta(days=90)
RENEW_WHEN_LEFT = VALIDITY / 3
TRIES_MAX = 5
"""Others may create or renew the Secret at the same moment."""


class Authority:
    """Keeps the Secret and the TLS context that is made of it."""

    def __init__(self, kube: KubePort, secret: ObjectKey, url: str, now: Callable[[], datetime]) -> None:
        self._kube, self._secret, self._now = kube, secret, now
        self._host = urlsplit(url).hostname or ""
        self._version = ""
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2

    async def refresh(self) -> None:
        """Read the Secret, make or renew it where that is ours to do, and serve with it.

        Raises:
            FleetwakeError: the API server does not give it, or it holds no certificate with its key.
        """
        for _ in range(TRIES_MAX):
            try:
                state = await self._current()
            except (AlreadyExistsError, ConflictError):
                continue
            except ValueError as error:
                raise InvalidError(str(error), operation=f"serve with {self._secret}") from None
            self._serve(state)
            return
        raise ConflictError("it changes again and again", operation=f"keep {self._secret}")

    async def _current(self) -> Mapping[str, Any]:
        try:
            state = await self._send(Request("GET", self._path()))
        except NotFoundError:
            key = generate_key("ECDSA-P256")
            authority = self_signed_ca("fleetwake-bootstrap-data", key, now=self._now())
            body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": self._secret.name, "namespace": self._secret.namespace}}
            data = self._signed(authority) | {"ca.key": authority.key_pem, "ca.crt": authority.cert_pem}
            return await self._send(Request("POST", self._path(collection=True), body=orjson.dumps({**body, "data": _encoded(data)})))
        data = decode_secret(state)
        if not data.get("ca.key") or not data.get("tls.crt") or self._is_good(data["tls.crt"]):
            return state
        renewed = self._signed(KeyPair(data["ca.crt"], data["ca.key"]))
        patch = {"metadata": {"resourceVersion": state["metadata"]["resourceVersion"]}, "data": _encoded(renewed)}
        return await self._send(Request("PATCH", self._path(), {}, orjson.dumps(patch), MERGE_PATCH))

    def _is_good(self, certificate: bytes) -> bool:
        return self._host in certificate_names(certificate) and certificate_expiry(certificate) - self._now() > RENEW_WHEN_LEFT

    def _signed(self, authority: KeyPair) -> dict[str, bytes]:
        spec = CertificateSpec(self._host, sans=(self._host,), usages=("server",), validity=VALIDITY)
        pair = sign_certificate(authority, spec, generate_key("ECDSA-P256"), now=self._now())
        return {"tls.crt": pair.cert_pem, "tls.key": pair.key_pem}

    def _serve(self, state: Mapping[str, Any]) -> None:
        version = str(state["metadata"]["resourceVersion"])
        if version == self._version:
            return
        data = decode_secret(state)
        if not data.get("ca.crt") or not data.get("tls.crt") or not data.get("tls.key"):
            raise InvalidError("it needs ca.crt, tls.crt and tls.key", operation=f"serve with {self._secret}")
        try:
            # connections to come use it; those that are open go on
            load_key_pair(self.context, data["tls.crt"], data["tls.key"])
        except ValueError as error:
            raise InvalidError(str(error), operation=f"serve with {self._secret}") from None
        self._version = version

    def _path(self, *, collection: bool = False) -> str:
        path = f"/api/v1/namespaces/{self._secret.namespace}/secrets"
        return path if collection else f"{path}/{self._secret.name}"

    async def _send(self, request: Request) -> dict[str, Any]:
        response = await self._kube.send(request)
        error = error_of(response, f"keep {self._secret}")
        if error is not None:
            raise error
        return body_of(response)


def _encoded(data: Mapping[str, bytes]) -> dict[str, str]:
    return {name: base64.b64encode(value).decode("ascii") for name, value in data.items()}
