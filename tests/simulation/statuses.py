"""The statuses in a simulation: every one ever stored has all conditions of its kind and the phase that follows from the rest of it, as it has at the end."""

from __future__ import annotations

from fleetwake.sim.apiserver import Change
from tests.simulation.fleet import Fleet
from tests.status_rules import TYPES, StatusHistory, wrong_phase

IN_FLIGHT_SECONDS = 20.0
"""A process may be stopped for so long between what it observes and what it writes."""
LATE_SECONDS = 120.0
"""A status is old for as long as nobody lives who writes it."""


class Statuses:
    """Judges every status as it is stored."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet, self._history = fleet, StatusHistory(IN_FLIGHT_SECONDS, LATE_SECONDS)
        fleet.api.on_change(self._changed)

    def _changed(self, change: Change) -> None:
        obj = change.entry.obj
        if obj.get("kind") not in TYPES or change.type == "DELETED":
            return
        before = change.before.obj if change.before is not None else None
        for found in self._history.take(obj, before, self._fleet.loop.time()):
            self._fleet.violation(f"{obj['kind']} {obj['metadata']['name']}: {found}")

    def finish(self) -> None:
        """Judge the world at rest."""
        for entry in self._fleet.api.store:
            if found := wrong_phase(entry.obj):
                self._fleet.violation(found)
