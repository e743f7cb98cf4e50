"""Wiring of the reconcilers: their kinds, the workload connections their worker holds, the strategies they ask, and the service that hosts fetch
bootstrap data from."""

from __future__ import annotations

from fleetwake.settings import Settings
from fleetwake.shell.service import Service, ServiceSpec, run_service
from services.reconcilers.bootstrap_data.server import BootstrapDataServer, fetch_point
from services.reconcilers.kinds.kubeadm_config.observed import FETCH_POINT
from services.reconcilers.kinds.machine_deployment.extension import ANSWERS
from services.reconcilers.kinds.machine_deployment.strategy import ASK
from services.reconcilers.registry import KINDS
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

    found = {ANSWERS: calls.told} | ({FETCH_POINT: point} if point is not None else {})
    return ServiceSpec(NAME, KINDS, actions={ASK: calls.ask}, locals=found, before=before, after=after)


def main(settings: Settings) -> int:
    """Run one worker until SIGTERM; returns the exit code."""
    return run_service(spec_of(settings), settings)
