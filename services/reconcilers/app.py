"""Wiring of the reconcilers: their kinds, the workload connections their worker holds, the strategies they ask, and the service that hosts fetch
bootstrap data from."""

from __future__ import annotations

import re
from datetime import timedelta

from fleetwake.settings import ENV_PREFIX, Settings, SettingsError
from fleetwake.shell.service import Service, ServiceSpec, run_service
from services.reconcilers.bootstrap_data.server import BootstrapDataServer, fetch_point
from services.reconcilers.kinds.kubeadm_config.observed import FETCH_POINT, TOKEN_LIFE
from services.reconcilers.kinds.machine.observed import NODE_SYNC, NodeSync
from services.reconcilers.kinds.machine_deployment.extension import ANSWERS
from services.reconcilers.kinds.machine_deployment.strategy import ASK
from services.reconcilers.registry import KINDS, TOPOLOGY_KINDS
from services.reconcilers.strategy_calls import StrategyCalls

NAME = "reconcilers"


def spec_of(settings: Settings) -> ServiceSpec:
    """The service that the settings describe."""
    point, calls = fetch_point(settings), StrategyCalls()
    servers: list[BootstrapDataServer] = []

    async def before(service: Service) -> None:
        calls.open(service.clock.now, service.worker.wake)
        if point is not None:
            server = BootstrapDataServer(service, point)
            servers.append(server)
            await server.start()

    async def after(service: Service) -> None:
        for server in servers:
            await server.stop()
        await calls.close()

    token_life = timedelta(seconds=settings.bootstrap_token_ttl_seconds)
    found = {ANSWERS: calls.told, NODE_SYNC: node_sync(settings), TOKEN_LIFE: token_life} | ({FETCH_POINT: point} if point is not None else {})
    kinds = (*KINDS, *TOPOLOGY_KINDS) if settings.cluster_topology else KINDS
    return ServiceSpec(NAME, kinds, actions={ASK: calls.ask}, locals=found, before=before, after=after)


def node_sync(settings: Settings) -> NodeSync:
    """The further keys that Nodes get from their Machines.

    Raises:
        SettingsError: a pattern is none.
    """
    return NodeSync(*(_patterns(settings, field) for field in ("sync_machine_labels", "sync_machine_annotations")))


def _patterns(settings: Settings, field: str) -> tuple[re.Pattern[str], ...]:
    try:
        return tuple(re.compile(part.strip()) for part in str(getattr(settings, field)).split(",") if part.strip())
    except re.error as error:
        raise SettingsError(f"{ENV_PREFIX}{field.upper()}: {error}", operation="settings") from error


def main(settings: Settings) -> int:
    """Run one worker until SIGTERM; returns the exit code."""
    return run_service(spec_of(settings), settings)
