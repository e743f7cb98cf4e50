"""Cluster: a workload cluster as a whole, from its infrastructure to its last Machine.

``observed`` says what is read, ``reconcile`` what is decided, ``watches`` what wakes it; the other modules hold one part of the decision each.

Source: kinds.md §1.
"""

from __future__ import annotations

from fleetwake.failing import telling
from fleetwake.kind import Kind
from schemas.api.core.v1beta2.cluster import Cluster
from services.reconcilers.kinds.cluster.observed import Observed, observe
from services.reconcilers.kinds.cluster.reconcile import MANAGER, OWNED, reconcile
from services.reconcilers.kinds.cluster.watches import WATCHES, own_change

KIND: Kind[Observed] = Kind(
    model=Cluster,
    observe=observe,
    reconcile=reconcile,
    manager=MANAGER,
    watches=WATCHES,
    own=own_change,
    unreadable=telling(OWNED, f"{Cluster.GROUP}/{Cluster.VERSION}", "Available"),
)
