"""Cluster topology: what a Cluster's topology and its ClusterClass ask for, as objects.

``variables`` (by ``schema``, ``formats``, ``rules``) completes and judges the values; ``blueprint`` holds the class with its templates, ``current`` what
exists; ``upgrade_plan`` and ``versions`` decide which version each part has now; ``control_plane`` and ``workers`` make the objects (by ``objects``
and ``health_checks``), ``patches`` (by ``builtins``, ``selectors``, ``values``, ``json_patch``) changes them; ``desired`` puts these together;
``rotation`` tells what of it must be written; ``condition`` tells people; ``decide`` orders all of it.

``observe`` says what is read, ``watches`` what wakes it.

Source: kinds.md §10.
"""

from __future__ import annotations

from fleetwake.kind import Kind
from schemas.api.core.v1beta2.cluster import Cluster
from services.reconcilers.kinds.cluster_topology.decide import reconcile, unreadable
from services.reconcilers.kinds.cluster_topology.observe import Observed, observe
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
