"""Wiring of the development provider: its kinds, the emulation they ask for, and the Secrets the emulation reads.

A listener stays where it is: each shard is a consumer group of its own that is assigned all partitions and works on its share of them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from fleetwake.errors import FleetwakeError
from fleetwake.kube.answers import body_of, error_of
from fleetwake.kube.client import resource_path
from fleetwake.settings import Settings, SettingsError
from fleetwake.shell.bodies import decode_secret
from fleetwake.shell.ports import METADATA_LIST_ONLY, Request
from fleetwake.shell.service import Service, ServiceSpec, run_service
from schemas.access import group_of
from schemas.api.infrastructure.v1beta2 import DevCluster, DevMachine
from schemas.keys import ObjectKey
from services.dev_infrastructure.emulation.emulator import Emulator, Outside
from services.dev_infrastructure.emulation.ports import PortPool
from services.dev_infrastructure.kinds.state import LOCAL
from services.dev_infrastructure.metrics import emulation_metrics
from services.dev_infrastructure.registry import KINDS

log = logging.getLogger(__name__)
NAME = "dev_infrastructure"
LIST_SECONDS = 60.0


class Surroundings:
    """The service, as the emulation sees it. It is known only once the service runs."""

    def __init__(self) -> None:
        self.service: Service | None = None

    def _running(self) -> Service:
        if self.service is None:
            raise RuntimeError("the service has not been started")
        return self.service

    async def secret(self, namespace: str, name: str) -> Mapping[str, bytes]:
        """The bytes of a Secret of the management API, read live. Raises: FleetwakeError."""
        response = await self._running().kube.send(Request("GET", f"/api/v1/namespaces/{namespace}/secrets/{name}"))
        error = error_of(response, f"get Secret {namespace}/{name}")
        if error is not None:
            raise error
        return decode_secret(body_of(response))

    async def uids(self) -> frozenset[str]:
        """The uids of all DevClusters and DevMachines there are, where this service may look. Raises: FleetwakeError."""
        found: set[str] = set()
        service = self._running()
        for plural in (DevCluster.PLURAL, DevMachine.PLURAL):
            path = resource_path(f"{DevCluster.GROUP}/{DevCluster.VERSION}", plural, service.settings.namespace)
            response = await service.kube.send(Request("GET", path, accept=METADATA_LIST_ONLY, timeout_seconds=LIST_SECONDS))
            error = error_of(response, f"list {plural}")
            if error is not None:
                raise error
            found.update(item["metadata"]["uid"] for item in body_of(response).get("items") or ())
        return frozenset(found)

    def now(self) -> datetime:
        """The wall clock."""
        return self._running().clock.now()

    def wake(self, key: ObjectKey) -> None:
        """Let a key run."""
        self._running().worker.wake(key)


def spec_of(settings: Settings) -> ServiceSpec:
    """The service that the settings describe."""
    around = Surroundings()
    folder = Path(settings.data_dir) / "clusters" if settings.data_dir else None
    pool = PortPool(settings.dev_host, settings.dev_port_first, settings.dev_port_last)
    emulator = Emulator(Outside(pool, around.secret, around.now, around.wake, folder))

    async def before(service: Service) -> None:
        around.service = service
        service.worker.listeners.append(emulator.changed)
        emulation_metrics(service.worker.metrics.families, emulator)
        await emulator.open()
        try:
            await emulator.keep_only(await around.uids())
        except FleetwakeError as error:
            log.warning("what was deleted meanwhile stays until the next start: %s", error)

    async def after(service: Service) -> None:
        await emulator.close()

    return ServiceSpec(
        NAME,
        KINDS,
        group=group_of(NAME, settings.topic_prefix, settings.dev_shard),
        owns_workloads=False,
        shard=lambda partition: partition % settings.dev_shards == settings.dev_shard,
        actions=emulator.actions,
        locals={LOCAL: emulator.states},
        before=before,
        after=after,
    )


def main(settings: Settings) -> int:
    """Run the provider until SIGTERM; returns the exit code."""
    if settings.dev_shard >= settings.dev_shards:
        raise SettingsError(f"FLEETWAKE_DEV_SHARD {settings.dev_shard} is not below FLEETWAKE_DEV_SHARDS {settings.dev_shards}", operation="settings")
    return run_service(spec_of(settings), settings)
