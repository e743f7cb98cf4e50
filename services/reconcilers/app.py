"""Wiring of the reconcilers: their kinds, and the workload connections their worker holds."""

from __future__ import annotations

from fleetwake.settings import Settings
from fleetwake.shell.service import ServiceSpec, run_service
from services.reconcilers.registry import KINDS


def main(settings: Settings) -> int:
    """Run one worker until SIGTERM; returns the exit code."""
    return run_service(ServiceSpec("reconcilers", KINDS), settings)
