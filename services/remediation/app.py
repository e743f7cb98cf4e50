"""Wiring of the remediation service: its kinds, and what the reconcilers recorded of workload clusters.

It holds no connection to any workload cluster and reads no Secret: Nodes and the state of connections come as records on ``objects``
(``schemas.sights``), so that it can be scaled, stopped and upgraded apart from those who reconcile.
"""

from __future__ import annotations

from fleetwake.settings import Settings
from fleetwake.shell.service import ServiceSpec, run_service
from services.remediation.registry import KINDS

NAME = "remediation"


def spec_of() -> ServiceSpec:
    """The service."""
    return ServiceSpec(NAME, KINDS, owns_workloads=False, reads_workloads=True)


def main(settings: Settings) -> int:
    """Run one worker until SIGTERM; returns the exit code."""
    return run_service(spec_of(), settings)
