"""The queue of one kind: one entry per key, merged wake-ups, two priorities with ageing, one run per key at a time.

New changes overtake the initial replay; ageing keeps the replay from starving: after ``AGEING_SHARE`` urgent keys one patient key is taken.
A key that waits for its retry is not on the queue; a wake-up by a change puts it there at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from fleetwake.shell.ports import Cause
from schemas.keys import ObjectKey

AGEING_SHARE = 8
CAUSES_MAX = 33
"""Causes kept per entry: one parent and 32 links; more are only counted."""


class Token:
    """Holds the offset of one record until every wake-up it caused has been run."""

    __slots__ = ("_done", "count")

    def __init__(self, done: Callable[[], None]) -> None:
        self.count = 1
        self._done = done

    def take(self) -> None:
        """One more wake-up rests on the record."""
        self.count += 1

    def release(self) -> None:
        """One wake-up less; at none the record is done."""
        self.count -= 1
        if self.count == 0:
            self._done()


class Wakeup:
    """What is known of a queued key: why it was woken, since when, and the records that wait for it."""

    __slots__ = ("added", "cause_count", "causes", "patient", "received", "taken", "tokens")

    def __init__(self, added: float, received: float, patient: bool) -> None:
        self.added, self.received, self.patient = added, received, patient
        self.taken = added
        """When the record was taken that made it urgent."""
        self.causes: list[Cause] = []
        self.cause_count = 0
        self.tokens: list[Token] = []


class KeyedQueue:
    """See the module. ``signal`` is called whenever a key may be ready to run."""

    def __init__(self, name: str, clock: Callable[[], float], signal: Callable[[], None]) -> None:
        self.name = name
        self._clock, self._signal = clock, signal
        self._entries: dict[ObjectKey, Wakeup] = {}
        self._urgent: deque[ObjectKey] = deque()
        self._patient: deque[ObjectKey] = deque()
        self._since_patient = 0
        self.running: dict[ObjectKey, float] = {}
        """The keys that run, and since when."""
        self.adds = 0

    def __len__(self) -> int:
        return len(self._entries)

    def depths(self) -> tuple[int, int]:
        """Keys waiting: urgent ones, patient ones."""
        patient = sum(entry.patient for entry in self._entries.values())
        return len(self._entries) - patient, patient

    def add(self, key: ObjectKey, cause: Cause | None = None, token: Token | None = None, received: float = 0.0, patient: bool = False) -> None:
        """Put a key on the queue or merge with the entry that is there."""
        self.adds += 1
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = Wakeup(self._clock(), received, patient)
            if key not in self.running:
                (self._patient if patient else self._urgent).append(key)
        elif entry.patient and not patient:
            entry.patient, entry.received, entry.taken = False, received, self._clock()
            if key not in self.running:
                self._urgent.append(key)
        if cause is not None:
            entry.cause_count += 1
            if len(entry.causes) < CAUSES_MAX:
                entry.causes.append(cause)
        if token is not None:
            token.take()
            entry.tokens.append(token)
        self._signal()

    def next(self) -> tuple[ObjectKey, Wakeup] | None:
        """Take the next key that may run, and mark it running."""
        while self._urgent or self._patient:
            turn = self._patient and (not self._urgent or self._since_patient >= AGEING_SHARE)
            source = self._patient if turn else self._urgent
            self._since_patient = 0 if turn else self._since_patient + 1
            key = source.popleft()
            entry = self._entries.get(key)
            if entry is None or key in self.running:
                continue
            del self._entries[key]
            self.running[key] = self._clock()
            return key, entry
        return None

    def finished(self, key: ObjectKey) -> None:
        """The run of a key ended; if it was woken meanwhile it queues again."""
        self.running.pop(key, None)
        entry = self._entries.get(key)
        if entry is not None:
            (self._patient if entry.patient else self._urgent).append(key)
            self._signal()

    def forget(self, keys: Iterable[ObjectKey]) -> None:
        """Drop queued keys of a partition that left; their records are the next owner's."""
        for key in keys:
            self._entries.pop(key, None)

    def oldest_wait(self) -> float:
        """Seconds the longest-waiting key has waited."""
        return self._clock() - min((entry.added for entry in self._entries.values()), default=self._clock())
