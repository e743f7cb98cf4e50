"""Whether the group still knows this worker, and whether what it was given is there: a client that does not come back by itself must be ended.

Coordination runs beside fetching, in tasks that nobody looks at: one that ends by an error that its library did not expect leaves a worker that fetches,
is fenced for ever and is not restarted, because it lives (``fleetwake/connections/kafka_connection.py`` has the one that was seen).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fleetwake.errors import TerminalError

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


REJOIN_SECONDS = 1.0
REJOINS_MAX = 20
"""More than a session: by then a leader that is away and would only come back to the same assignment has been expired."""


class FormerAssignment:
    """An assignment of a topic as it was before it was deleted and made anew with fewer partitions.

    A static member that is back within its session gets the assignment it had, without the group looking at its topics again, and the leader of a group
    that came back so does not watch them either (KIP-345, KIP-814). Asking the group again as a known member makes the broker assign anew.
    """

    def __init__(self, partitions: int, rejoin_in: Callable[[float], object], crash: Callable[[BaseException], None]) -> None:
        self._partitions, self._rejoin_in, self._crash = partitions, rejoin_in, crash
        self._rejoins = 0

    @property
    def asking(self) -> bool:
        """Whether the last assignment was not all there, and another is awaited."""
        return self._rejoins > 0

    def take(self, numbers: set[int]) -> set[int]:
        """What of an assignment is there; when that is not all, the group is asked again, and at last the process ended."""
        there = {number for number in numbers if number < self._partitions}
        if there == numbers:
            self._rejoins = 0
        elif self._rejoins < REJOINS_MAX:
            self._rejoins += 1
            self._rejoin_in(REJOIN_SECONDS)
        else:
            told = f"the group assigns partitions up to {max(numbers)} of objects, which has {self._partitions} here"
            self._crash(TerminalError(f"{told}; set FLEETWAKE_PARTITIONS={max(numbers) + 1} if the topic has that many", operation="take part in the group"))
        return there
