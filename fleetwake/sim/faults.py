"""What goes wrong in a simulation, and when: every choice comes from one seeded generator.

``Faults`` is asked by the ports for each request, record and delivery. It decides nothing once ``quiet`` is set: a simulation must come to rest.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum


class Fate(Enum):
    """What becomes of one request or record."""

    FINE = "fine"
    LOST = "lost before it had an effect"
    UNANSWERED = "had its effect, the answer was lost"
    CONFLICT = "refused: 409"
    THROTTLED = "refused: 429"
    UNAVAILABLE = "refused: 503"


@dataclass(frozen=True, slots=True)
class Rates:
    """Probabilities per request (``kube_*``, ``bus_*``), and mean seconds between faults that strike a process (0: never)."""

    lost: float = 0.0
    unanswered: float = 0.0
    conflict: float = 0.0
    throttled: float = 0.0
    unavailable: float = 0.0
    bus_lost: float = 0.0
    bus_unanswered: float = 0.0
    redelivered: float = 0.0
    skipped: float = 0.0
    slow: float = 0.02
    crash_seconds: float = 0.0
    freeze_seconds: float = 0.0
    move_seconds: float = 0.0
    watcher_seconds: float = 0.0
    watcher_freeze_seconds: float = 0.0
    disconnect_seconds: float = 0.0
    jump_seconds: float = 0.0
    compact_seconds: float = 0.0
    mirror_seconds: float = 0.0


CLASSES: dict[str, Rates] = {
    "none": Rates(),
    "answers": Rates(lost=0.03, unanswered=0.06, conflict=0.02, throttled=0.02, unavailable=0.02),
    "bus": Rates(bus_lost=0.03, bus_unanswered=0.03, redelivered=0.05, skipped=0.03, slow=0.2, compact_seconds=15.0),
    "crashes": Rates(crash_seconds=6.0, unanswered=0.02),
    "freezes": Rates(freeze_seconds=12.0, move_seconds=25.0),
    "moves": Rates(move_seconds=5.0, redelivered=0.02),
    "watcher": Rates(watcher_seconds=6.0, watcher_freeze_seconds=15.0, mirror_seconds=5.0, slow=0.1),
    "workload": Rates(disconnect_seconds=5.0, unanswered=0.02, jump_seconds=20.0),
}
CLASSES["all"] = Rates(
    lost=0.01,
    unanswered=0.02,
    conflict=0.01,
    throttled=0.01,
    unavailable=0.01,
    bus_lost=0.01,
    bus_unanswered=0.01,
    redelivered=0.02,
    skipped=0.02,
    slow=0.05,
    crash_seconds=15.0,
    freeze_seconds=30.0,
    move_seconds=20.0,
    watcher_seconds=20.0,
    watcher_freeze_seconds=40.0,
    disconnect_seconds=20.0,
    jump_seconds=40.0,
    compact_seconds=20.0,
)


@dataclass
class Faults:
    """See the module. ``on_write`` may overrule the fate of a write, by its number from 1: systematic tests use it."""

    random: random.Random
    rates: Rates = field(default_factory=Rates)
    quiet: bool = False
    writes: int = 0
    on_write: Callable[[int], Fate | None] = lambda number: None
    injected: dict[str, int] = field(default_factory=dict)

    def stop(self) -> None:
        """Let nothing go wrong from now on."""
        self.quiet = True
        self.rates = replace(Rates(), slow=self.rates.slow)

    def count(self, what: str) -> None:
        """Count an injected fault."""
        self.injected[what] = self.injected.get(what, 0) + 1

    def request(self, write: bool) -> Fate:
        """The fate of a request to an API server."""
        if write:
            self.writes += 1
            told = self.on_write(self.writes)
            if told is not None:
                return self._counted(told)
        if self.quiet:
            return Fate.FINE
        rates = self.rates
        weights = (rates.lost, rates.unanswered if write else 0.0, rates.conflict if write else 0.0, rates.throttled, rates.unavailable)
        return self._pick((Fate.LOST, Fate.UNANSWERED, Fate.CONFLICT, Fate.THROTTLED, Fate.UNAVAILABLE), weights)

    def record(self) -> Fate:
        """The fate of a record that is produced."""
        if self.quiet:
            return Fate.FINE
        return self._pick((Fate.LOST, Fate.UNANSWERED), (self.rates.bus_lost, self.rates.bus_unanswered))

    def chance(self, probability: float, what: str) -> bool:
        """Whether something of that probability happens now."""
        if self.quiet or not probability or self.random.random() >= probability:
            return False
        self.count(what)
        return True

    def latency(self, usual: float) -> float:
        """Seconds something takes: around ``usual``, sometimes a hundred times as long."""
        if self.random.random() < self.rates.slow:
            return usual * self.random.uniform(10, 100)
        return usual * self.random.uniform(0.3, 2.0)

    def pause(self, mean_seconds: float) -> float:
        """Seconds until the next fault of a kind that strikes every ``mean_seconds`` on average."""
        return self.random.expovariate(1 / mean_seconds)

    def _pick(self, fates: tuple[Fate, ...], weights: tuple[float, ...]) -> Fate:
        drawn = self.random.random()
        for fate, weight in zip(fates, weights, strict=True):
            if drawn < weight:
                return self._counted(fate)
            drawn -= weight
        return Fate.FINE

    def _counted(self, fate: Fate) -> Fate:
        if fate is not Fate.FINE:
            self.count(fate.value)
        return fate
