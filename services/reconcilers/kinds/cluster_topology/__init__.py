"""Cluster topology: what a Cluster's topology and its ClusterClass ask for, as objects.

What class, variables and upgrade plans mean is in ``fleetwake.topology``. ``current`` holds what exists; ``versions`` decides which version each part has
now; ``control_plane`` and ``workers`` make the objects (by ``objects`` and ``health_checks``), ``patches`` (by ``builtins``, ``values``) changes them;
``desired`` puts these together;
``rotation`` tells what of it must be written; ``condition`` tells people; ``decide`` orders all of it.

``observe`` says what is read, ``watches`` what wakes it.

Source: kinds.md §10.
"""

from __future__ import annotations

from fleetwake.kind import Kind
from schemas.api.core.v1beta2.cluster import Cluster
from services.reconcilers.kinds.cluster_topology.decide import observe, reconcile, unreadable
from services.reconcilers.kinds.cluster_topology.observe import Observed
from services.reconcilers.kinds.cluster_topology.watches import WATCHES, own_change
from services.reconcilers.kinds.cluster_topology.writes import MANAGER

KIND: Kind[Observed] = Kind(
    model=Cluster,
    observe=observe,
    reconcile=reconcile,
    manager=MANAGER,
    watches=WATCHES,
    own=own_change,
    unreadable=unreadable,
    controller="topology/cluster",
)
