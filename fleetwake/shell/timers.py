"""Deadlines of keys: one heap in memory, recomputed by the replay. A key has at most one; a new one replaces it."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from datetime import timedelta

from schemas.keys import ObjectKey


class Timers:
    """Calls ``due(kind, key)`` at each deadline, from the event loop that runs when the first one is set."""

    def __init__(self, due: Callable[[str, ObjectKey], None]) -> None:
        self._due = due
        self._deadlines: dict[tuple[str, ObjectKey], float] = {}
        self._heap: list[tuple[float, str, ObjectKey]] = []
        self._handle: asyncio.TimerHandle | None = None
        # uvloop gives a handle without when() for a time that has come, so the time is kept beside it
        self._armed_for = 0.0

    def __len__(self) -> int:
        return len(self._deadlines)

    def set(self, kind: str, key: ObjectKey, after: timedelta | None) -> None:
        """Set, replace or (with None) clear the deadline of a key."""
        if after is None:
            self._deadlines.pop((kind, key), None)
            return
        at = asyncio.get_running_loop().time() + max(after.total_seconds(), 0.0)
        self._deadlines[(kind, key)] = at
        heapq.heappush(self._heap, (at, kind, key))
        self._arm()

    def clear(self) -> None:
        """Forget every deadline."""
        self._deadlines.clear()
        self._heap.clear()
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _arm(self) -> None:
        while self._heap and self._deadlines.get((self._heap[0][1], self._heap[0][2])) != self._heap[0][0]:
            heapq.heappop(self._heap)
        if not self._heap:
            return
        at = self._heap[0][0]
        if self._handle is not None:
            if self._armed_for <= at:
                return
            self._handle.cancel()
        self._armed_for = at
        self._handle = asyncio.get_running_loop().call_at(at, self._fire)

    def _fire(self) -> None:
        self._handle = None
        now = asyncio.get_running_loop().time()
        while self._heap and self._heap[0][0] <= now + 0.001:
            at, kind, key = heapq.heappop(self._heap)
            if self._deadlines.get((kind, key)) == at:
                del self._deadlines[(kind, key)]
                self._due(kind, key)
        self._arm()
