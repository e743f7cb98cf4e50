"""What the probes of one workload cluster came to: for its conditions, and counted for those who watch the fleet."""

from __future__ import annotations

from datetime import datetime


class Probes:
    """``first`` and ``last_success`` are None before the first success, ``healthy`` before the first probe; ``failures`` are those in a row."""

    __slots__ = ("failed", "failures", "first", "healthy", "last_success", "succeeded")

    def __init__(self) -> None:
        self.first: datetime | None = None
        self.last_success: datetime | None = None
        self.healthy: bool | None = None
        self.failures = self.succeeded = self.failed = 0

    def success(self, at: datetime) -> bool:
        """The cluster answered; returns whether it had not before."""
        recovered = self.failures > 0
        self.first, self.last_success = self.first or at, at
        self.healthy, self.failures = True, 0
        self.succeeded += 1
        return recovered

    def failure(self) -> None:
        """The cluster did not answer, or refused us."""
        self.healthy = False
        self.failures += 1
        self.failed += 1
