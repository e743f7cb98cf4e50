"""The gRPC listener: TLS with certificates on both sides, renewed under it.

With a certificate of its own the bridge keeps a CA in a Secret, which also signs what cluster-autoscalers show. With mounted files somebody else does both.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from dataclasses import dataclass
from datetime import timedelta

from grpclib.server import Server

from fleetwake.background import Background
from fleetwake.connections.files import TlsFiles, read_file
from fleetwake.errors import SettingsError
from fleetwake.kube.authority import HANDED_OUT
from fleetwake.kube.certificates import Certificates, MountedCertificates, OwnCertificates, Serving, Signals, keep, server_context
from fleetwake.kube.client import ApiClient
from fleetwake.settings import Settings
from services.autoscaler_bridge.metrics import BridgeMetrics
from services.autoscaler_bridge.provider import Provider

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """Where the CA is kept, and by which name the bridge is reached."""

    namespace: str
    service: str
    host: str


def place_of(settings: Settings) -> Place:
    """The place that the settings describe."""
    host = settings.autoscaler_host or f"{settings.autoscaler_service}.{settings.system_namespace}.svc"
    return Place(settings.system_namespace, settings.autoscaler_service, host)


def verifying_context() -> ssl.SSLContext:
    """TLS that lets nobody in without a certificate; whom to believe is loaded later."""
    context = server_context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.set_alpn_protocols(["h2"])
    return context


class MountedPair:
    """Certificate, key and the CA of clients from files."""

    def __init__(self, files: TlsFiles, serving: Serving) -> None:
        self._files, self._serving = files, serving
        self._pair = MountedCertificates(files, serving)
        self._believed = b""

    async def renew(self) -> timedelta:
        """See ``Certificates``."""
        found = await asyncio.to_thread(read_file, self._files.variable("ca"), self._files.ca_file)
        if found != self._believed:
            try:
                self._serving.context.load_verify_locations(cadata=found.decode("ascii", "ignore"))
            except ssl.SSLError as error:
                raise SettingsError(f"{self._files.variable('ca')}: {self._files.ca_file} holds no certificate", operation="renew") from error
            self._believed = found
        return await self._pair.renew()


class Listener:
    """See the module."""

    def __init__(self, settings: Settings, provider: Provider, metrics: BridgeMetrics) -> None:
        self._settings = settings
        self._serving = Serving(metrics, verifying_context())
        self._server = Server([provider])
        self._keeping = Background(lambda error: log.error("the certificate is not renewed any more: %r", error, exc_info=error))

    def _certificates(self, client: ApiClient) -> Certificates:
        files = self._settings.autoscaler_files
        if files.certificate_file:
            return MountedPair(files, self._serving)
        return OwnCertificates(client, place_of(self._settings), self._serving, self._believe, lifetimes=HANDED_OUT)

    async def _believe(self, bundle: bytes) -> None:
        """Let in whom these CAs signed."""
        self._serving.context.load_verify_locations(cadata=bundle.decode())

    async def start(self, client: ApiClient) -> None:
        """Listen, once there is a certificate.

        Raises:
            SettingsError: the files name a certificate but not whom to believe.
            OSError: the address is taken.
        """
        files, signals = self._settings.autoscaler_files, Signals()
        if files.certificate_file and not files.ca_file:
            raise SettingsError(f"{files.variable('ca')} is not set: without it any client would be believed, or none", operation="settings")
        self._keeping.spawn(keep(self._certificates(client), signals))
        await signals.ready.wait()
        address = (self._settings.autoscaler_bind, self._settings.autoscaler_port)
        await self._server.start(*address, ssl=self._serving.context)
        log.info("cluster-autoscalers are answered on %s:%d", *address)

    async def stop(self) -> None:
        """Answer nobody any more."""
        self._server.close()
        await self._server.wait_closed()
        await self._keeping.stop()
