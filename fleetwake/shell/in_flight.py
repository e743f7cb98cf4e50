"""Writes that were sent and not answered yet: a worker that gives partitions away waits for them.

The next owner verifies against the API server before it harms; a create that lands after its look would be a child too many, because the names that the
two derived rest on different children.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

ANSWERED_SECONDS_MAX = 2.0
"""How long a rebalance is held up at most: the whole group waits meanwhile. A write unanswered for longer is a matter of the guards of each write."""


class InFlight:
    """Counts writes under way."""

    def __init__(self) -> None:
        self._count = 0
        self._none = asyncio.Event()
        self._none.set()

    @contextmanager
    def one(self) -> Iterator[None]:
        """A write, from its sending to its answer or failure."""
        self._count += 1
        self._none.clear()
        try:
            yield
        finally:
            self._count -= 1
            if self._count == 0:
                self._none.set()

    async def answered(self) -> None:
        """Wait until none is under way, at most ``ANSWERED_SECONDS_MAX``."""
        with suppress(TimeoutError):
            async with asyncio.timeout(ANSWERED_SECONDS_MAX):
                await self._none.wait()
