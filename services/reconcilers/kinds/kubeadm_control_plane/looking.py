"""Single objects of the workload cluster that no watch tells of: what is known of them, and the look that is missing.

Source: architecture.md §4 (an effect outside the management API follows a live re-read).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from fleetwake.plan import Look
from services.reconcilers.kinds.kubeadm_control_plane.observed import Observed

FAILED_RETRY = timedelta(seconds=20)
"""When to look again after a look that failed."""
ACT_ON = timedelta(seconds=5)
"""How old an answer may be for a write that rests on it."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a look told: ``value`` (None: the object does not exist) once ``known``; else the look to make, or how long to wait with it."""

    known: bool
    value: Any = None
    look: Look | None = None
    wait: timedelta | None = None


def seen(observed: Observed, query: str, reason: str, *, fresh: bool = False) -> Seen:
    """The answer to a query; ``fresh``: no older than ``ACT_ON``. An answer stays until the connection is made anew, or another look replaces it."""
    looked, look = observed.workload.looks.get(query), Look(observed.cluster_key, query, reason)
    if looked is None:
        return Seen(False, look=look)
    age = observed.at - looked.at
    if looked.error:
        return Seen(False, look=look) if age >= FAILED_RETRY else Seen(False, wait=FAILED_RETRY - age)
    if fresh and age > ACT_ON:
        return Seen(False, look=look)
    return Seen(True, looked.value)
