"""The serving certificate, renewed under a running process: our own, signed by a CA in a Secret, or somebody else's in mounted files.

New handshakes use what was loaded last; connections that are open keep what they began with.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol

import orjson

from fleetwake.connections.files import TlsFiles, read_file
from fleetwake.errors import AlreadyExistsError, ConflictError, FleetwakeError, RetryableError, SettingsError
from fleetwake.kube.client import ApiClient, raise_for, resource_path
from fleetwake.kube.pki import KeyPair, certificate_expiry, is_pair, load_key_pair
from services.admission.authority import Authority, Lifetimes, due, first, leaf, read, signed_by, successor
from services.admission.configurations import Address
from services.admission.metrics import AdmissionMetrics

log = logging.getLogger("services.admission")
SETTLE = timedelta(minutes=5)
"""From telling the API server of a CA to showing a leaf of it: the API server notices in its own time."""

FILES_LOOK_AGAIN = timedelta(seconds=10)
RETRY = timedelta(seconds=5)
PAUSE = timedelta(seconds=1)

Clock = Callable[[], datetime]
Register = Callable[[bytes], Awaitable[None]]


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.fromtimestamp(time.time(), UTC)


def server_context() -> ssl.SSLContext:
    """TLS for the webhooks, without a certificate yet. Clients are not asked for one: nothing is told that the asker did not send."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


class Certificates(Protocol):
    """A source of certificates. ``renew`` loads what is due and says how long nothing will be."""

    async def renew(self) -> timedelta:
        """Look once.

        Raises:
            FleetwakeError: it could not be done now; what was loaded before stays in use.
        """


class Serving:
    """The TLS context and what is loaded into it."""

    def __init__(self, metrics: AdmissionMetrics) -> None:
        self.context = server_context()
        self.certificate = b""
        self._metrics = metrics

    def load(self, certificate: bytes, key: bytes) -> None:
        """Take a certificate into use.

        Raises:
            ValueError: it does not belong to the key.
        """
        # before the context is touched: one that fails half way would show a certificate without its key
        if not is_pair(KeyPair(certificate, key)):
            raise ValueError("the certificate does not belong to the key")
        load_key_pair(self.context, certificate, key)
        self.certificate = certificate
        expiry = certificate_expiry(certificate)
        self._metrics.expiry.set(expiry.timestamp())
        self._metrics.renewals.inc()
        log.info("serving certificate in use until %s", expiry.isoformat())


class OwnCertificates:
    """A leaf in memory, signed by the CA in the Secret; ``register`` tells the API server whom to believe, before the leaf is shown."""

    def __init__(
        self, client: ApiClient, address: Address, serving: Serving, register: Register, *, clock: Clock = utc_now, lifetimes: Lifetimes | None = None
    ) -> None:
        self._client, self._address, self._serving, self._register = client, address, serving, register
        self._clock, self._lifetimes = clock, lifetimes or Lifetimes()
        self._told = b""

    async def renew(self) -> timedelta:
        """See ``Certificates``."""
        authority = await self._authority()
        now, shown = self._clock(), self._serving.certificate
        # a new CA is told of one look before its leaf is shown: the API server notices in its own time, and another replica may have told of the old one last
        known = authority.bundle == self._told
        if not shown or now >= certificate_expiry(shown):
            self._show(authority, now)
        await self._register(authority.bundle)
        self._told = authority.bundle
        shown = self._serving.certificate
        if known and (now >= due(shown) or not signed_by(shown, authority)):
            self._show(authority, now)
        shown = self._serving.certificate
        waits = due(shown) - now, due(authority.pair.cert_pem) - now
        return min(waits) if signed_by(shown, authority) else min(SETTLE, *waits)

    def _show(self, authority: Authority, now: datetime) -> None:
        made = leaf(authority, self._address.host, now=now, lifetimes=self._lifetimes)
        self._serving.load(made.cert_pem, made.key_pem)

    async def _authority(self) -> Authority:
        namespace, name = self._address.namespace, self._address.service
        path = resource_path("v1", "secrets", namespace, name)
        answer = await self._client.request("GET", path)
        raise_for(answer, f"get Secret {namespace}/{name}")
        secret = answer.json()
        authority = read(secret)
        following = successor(authority, now=self._clock(), lifetimes=self._lifetimes)
        if following is None:
            return authority
        body = following.secret(namespace, name, secret["metadata"]["resourceVersion"])
        answer = await self._client.request("PUT", path, body=orjson.dumps(body))
        try:
            raise_for(answer, f"update Secret {namespace}/{name}")
        except ConflictError as error:
            raise RetryableError("another replica renewed the CA", operation="renew", after=timedelta(0)) from error
        log.info("the CA was due; its successor is in Secret %s/%s", namespace, name)
        return following


class MountedCertificates:
    """Files that somebody else renews (cert-manager, by a mounted Secret)."""

    def __init__(self, files: TlsFiles, serving: Serving) -> None:
        self._files, self._serving = files, serving

    async def renew(self) -> timedelta:
        """See ``Certificates``."""
        certificate = await asyncio.to_thread(read_file, self._files.variable("certificate"), self._files.certificate_file)
        key = await asyncio.to_thread(read_file, self._files.variable("key"), self._files.key_file)
        if certificate != self._serving.certificate:
            try:
                self._serving.load(certificate, key)
            except ValueError as error:
                # half of a rotation: the other file follows
                raise SettingsError(f"{self._files.variable('certificate')}: {error}", operation="renew") from error
        return FILES_LOOK_AGAIN


@dataclass(frozen=True)
class Signals:
    """``ready`` is set when there is a certificate and the API server knows it, ``changed`` by whoever sees that it is time to look again."""

    ready: asyncio.Event = field(default_factory=asyncio.Event)
    changed: asyncio.Event = field(default_factory=asyncio.Event)


async def keep(certificates: Certificates, signals: Signals) -> None:
    """Renew for ever: when something is due, and whenever something has changed."""
    while True:
        signals.changed.clear()
        try:
            wait = await certificates.renew()
            signals.ready.set()
        except FleetwakeError as error:
            log.warning("certificates: %s", error)
            wait = error.after if isinstance(error, RetryableError) and error.after is not None else RETRY
        with suppress(TimeoutError):
            async with asyncio.timeout(max(wait, PAUSE).total_seconds()):
                await signals.changed.wait()


async def ensure_authority(client: ApiClient, namespace: str, name: str, *, now: datetime) -> bool:
    """Make the Secret with the CA if there is none; whether it was made.

    Raises:
        FleetwakeError: the API server refused.
    """
    path = resource_path("v1", "secrets", namespace, name)
    answer = await client.request("GET", path)
    if answer.status != 404:
        raise_for(answer, f"get Secret {namespace}/{name}")
        return False
    body = first(now=now, lifetimes=Lifetimes()).secret(namespace, name)
    answer = await client.request("POST", resource_path("v1", "secrets", namespace), body=orjson.dumps(body))
    try:
        raise_for(answer, f"create Secret {namespace}/{name}")
    except AlreadyExistsError:  # another was first: its CA counts
        return False
    return True
