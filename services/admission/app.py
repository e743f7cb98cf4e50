"""Admission as a process: webhooks over HTTPS, health and metrics beside them, the certificate kept alive."""

from __future__ import annotations

import asyncio
import logging
import os

from fleetwake.exposition import RequestCounter
from fleetwake.kube.certificates import Certificates, MountedCertificates, OwnCertificates, Register, Serving, Signals, keep
from fleetwake.kube.client import ApiClient
from fleetwake.kube.config import load
from fleetwake.process import run_process
from fleetwake.settings import Settings
from fleetwake.stream.web import HealthServer
from services.admission.configurations import Address
from services.admission.lookups import NoTopologies, Reads
from services.admission.metrics import AdmissionMetrics
from services.admission.references import References
from services.admission.registration import ConversionRegistration, Registration
from services.admission.server import Sources, serve
from services.admission.sightings import following

SERVICE = "admission"
log = logging.getLogger("services.admission")


async def run(settings: Settings) -> None:
    """Answer until cancelled. The configurations stay when this ends: what must not be stored is refused meanwhile, not stored.

    Raises:
        FleetwakeError: the API server's configuration, or a certificate's file, cannot be used.
        OSError: an address is taken.
    """
    metrics = AdmissionMetrics()
    serving = Serving(metrics)
    signals = Signals()
    web = HealthServer((settings.web_bind, settings.web_port), metrics.registry, lambda: "" if signals.ready.is_set() else "no certificate yet", lambda: "")
    await web.start()
    try:
        mounted = MountedCertificates(settings.webhook_files, serving) if settings.webhook_certificate_file else None
        if mounted is not None and not (settings.cluster_topology or settings.served_versions):
            # nothing is asked of the API server, so no account is needed
            await _answer(settings, mounted, serving, metrics, signals, Sources())
            return
        config = await asyncio.to_thread(load, settings.kubeconfig)
        async with ApiClient(config, service=SERVICE, answered=RequestCounter(metrics.requests, config.server)) as client:
            # older references name versions that only other providers' definitions tell
            sources = Sources(References(client), Reads(client, settings.namespace) if settings.cluster_topology else NoTopologies())
            if mounted is not None:
                await _answer(settings, mounted, serving, metrics, signals, sources)
                return
            address = Address(settings.webhook_service, settings.system_namespace, settings.webhook_url, only=settings.namespace)
            own = OwnCertificates(client, address, serving, _registering(client, address, settings))
            async with following(client, address, signals.changed, definitions=bool(settings.served_versions)):
                await _answer(settings, own, serving, metrics, signals, sources)
    finally:
        await web.stop()


def _registering(client: ApiClient, address: Address, settings: Settings) -> Register:
    """Tells the API server of the CA everywhere: in the webhook configurations, and with older versions in the definitions first, so that they can be read."""
    admitting, converting = Registration(client, address), ConversionRegistration(client, address)
    if not settings.served_versions:
        return admitting

    async def register(ca_bundle: bytes) -> None:
        await converting(ca_bundle)
        await admitting(ca_bundle)

    return register


async def _answer(settings: Settings, certificates: Certificates, serving: Serving, metrics: AdmissionMetrics, signals: Signals, sources: Sources) -> None:
    # listening before the API server is told, so that it never asks in vain
    async with serve((settings.webhook_bind, settings.webhook_port), serving.context, metrics, sources) as (host, port):
        log.info("%s started: instance %s, pid %d, webhooks on %s:%d", SERVICE, settings.instance, os.getpid(), host, port)
        await keep(certificates, signals)


def main(settings: Settings) -> int:
    """Run admission as this process; returns the exit code."""
    return run_process(SERVICE, run(settings), titled=settings.process_title)
