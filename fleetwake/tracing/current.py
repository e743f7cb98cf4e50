"""The run that the present task carries out: log lines and exemplars take from here whose they are, nobody passes it along.

It lies in a context variable, so whatever a run awaits, in tasks of its own too, belongs to it. What outlives the run sets its own (``Lasting``).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextvars import ContextVar

from schemas.keys import ClusterKey, ObjectKey


class CurrentRun:
    """An object being worked on. ``trace_id`` is found when it is first asked for: most runs write no line and make no span."""

    __slots__ = ("_continues", "_trace_id", "cluster", "ended", "key", "spanned")

    def __init__(self, key: ObjectKey, cluster: ClusterKey | None, continues: Callable[[], str]) -> None:
        self.key, self.cluster, self._continues = key, cluster, continues
        self._trace_id = ""
        self.spanned = False
        """Whether the run made a span, so that its trace can be found in a trace store."""
        self.ended = False
        """Whether the run is over: what it began and left behind (a listener, a task) is still about its object, but of no trace."""

    @property
    def trace_id(self) -> str:
        """The trace that the run continues, 32 hex digits; one of its own when it continues none."""
        if not self._trace_id:
            self._trace_id = self._continues() or os.urandom(16).hex()
        return self._trace_id

    def take_trace(self, trace_id: str) -> None:
        """The run's span is of this trace."""
        self._trace_id, self.spanned = trace_id, True

    @property
    def exemplar(self) -> str:
        """The trace to show beside a measurement of the run; ``""`` when it has no span."""
        return self._trace_id if self.spanned else ""


class Lasting:
    """What a task that outlives runs works on: a cluster's connection has no trace of its own."""

    __slots__ = ("cluster", "key")

    def __init__(self, cluster: ClusterKey) -> None:
        self.cluster = cluster
        self.key = ObjectKey("cluster.x-k8s.io", "Cluster", cluster.namespace, cluster.name)

    trace_id = exemplar = ""
    ended = False


CURRENT: ContextVar[CurrentRun | Lasting | None] = ContextVar("fleetwake_current", default=None)


def current_exemplar() -> str:
    """The trace of the present run's span; ``""`` outside of runs."""
    found = CURRENT.get()
    return found.exemplar if found is not None else ""
