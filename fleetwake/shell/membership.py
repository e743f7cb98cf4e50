"""Whether the group still knows this worker: a client that has lost its coordinator and does not come back by itself must be ended.

Its coordination runs beside its fetching, in tasks that nobody looks at: one that ends by an error that its library did not expect leaves a worker that
fetches, is fenced for ever and is not restarted, because it lives (``fleetwake/connections/kafka_connection.py`` has the one that was seen).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

CHECK_SECONDS = 5.0
CHECKS_MAX = 12
"""So many checks in a row, a minute: longer than any rebalance takes, with a member in it that does not answer until its session ends."""


class MembershipWatch:
    """Counts the checks in a row at which ``fenced`` said that the group is silent while ``answers`` said that the broker is not."""

    def __init__(self, fenced: Callable[[], bool], answers: Callable[[], Awaitable[bool]]) -> None:
        self._fenced, self._answers = fenced, answers
        self._silent = 0

    async def forgotten(self) -> bool:
        """Check once; True when it has lasted too long."""
        # a broker that is away confirms nobody, and a process that was frozen made no checks meanwhile
        self._silent = self._silent + 1 if self._fenced() and await self._answers() else 0
        return self._silent >= CHECKS_MAX
