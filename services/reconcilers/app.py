"""Wiring of the reconcilers: their kinds, the workload connections their worker holds, and the service that hosts fetch bootstrap data from."""

from __future__ import annotations

from fleetwake.settings import Settings
from fleetwake.shell.service import Service, ServiceSpec, run_service
from services.reconcilers.bootstrap_data.server import BootstrapDataServer, fetch_point
from services.reconcilers.kinds.kubeadm_config.observed import FETCH_POINT
from services.reconcilers.registry import KINDS

NAME = "reconcilers"


def spec_of(settings: Settings) -> ServiceSpec:
    """The service that the settings describe."""
    point = fetch_point(settings)
    if point is None:
        return ServiceSpec(NAME, KINDS)
    servers: list[BootstrapDataServer] = []

    async def before(service: Service) -> None:
        server = BootstrapDataServer(service, point)
        servers.append(server)
        await server.start()

    async def after(service: Service) -> None:
        for server in servers:
            await server.stop()

    return ServiceSpec(NAME, KINDS, locals={FETCH_POINT: point}, before=before, after=after)


def main(settings: Settings) -> int:
    """Run one worker until SIGTERM; returns the exit code."""
    return run_service(spec_of(settings), settings)
