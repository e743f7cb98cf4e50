"""ClusterClass: the variables Clusters may set, and the templates that belong to the class.

``references`` decides about the templates (owner, version), ``fleetwake.topology.class_variables`` about definitions, ``decide`` puts both into a plan;
``watches`` says what wakes it.

Source: kinds.md §10.5.
"""

from __future__ import annotations

from fleetwake.failing import telling
from fleetwake.kind import Kind
from fleetwake.topology.blueprint import VARIABLES_READY
from schemas.api.core.v1beta2.cluster_class import ClusterClass
from services.reconcilers.kinds.cluster_class.decide import MANAGER, OWNED, Observed, observe, reconcile
from services.reconcilers.kinds.cluster_class.watches import WATCHES, own_change

KIND: Kind[Observed] = Kind(
    model=ClusterClass,
    observe=observe,
    reconcile=reconcile,
    manager=MANAGER,
    watches=WATCHES,
    own=own_change,
    unreadable=telling(OWNED, f"{ClusterClass.GROUP}/{ClusterClass.VERSION}", VARIABLES_READY),
    shared=True,
)
