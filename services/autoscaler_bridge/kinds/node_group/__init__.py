"""Node groups: MachineDeployments, MachineSets of none, and MachinePools, as cluster-autoscaler scales them.

``observed`` reads; ``bounds`` and ``standing`` say whether the object is a node group and may be served; ``capacity`` tells what a host would be;
``instances`` lists the hosts; ``wanted`` is what is asked, ``decide`` what becomes of it; ``reconcile`` puts them together; ``watches`` wake it.

Source: kinds.md §15.
"""

from __future__ import annotations

from fleetwake.failing import telling
from fleetwake.kind import Kind
from fleetwake.pausing import OwnedStatus
from services.autoscaler_bridge.kinds.node_group.observed import MODELS, Observed, Scalable, observe
from services.autoscaler_bridge.kinds.node_group.reconcile import reconcile
from services.autoscaler_bridge.kinds.node_group.standing import NODE_GROUP_READY, manager_of
from services.autoscaler_bridge.kinds.node_group.watches import own_change, watches


def node_group(model: type[Scalable]) -> Kind[Observed]:
    """The kind of node groups of one model."""
    return Kind(
        model=model,
        observe=lambda view, key: observe(view, model, key),
        reconcile=reconcile,
        manager=manager_of(model),
        watches=watches(model),
        own=own_change,
        unreadable=telling(OwnedStatus(manager_of(model), (), (NODE_GROUP_READY,)), f"{model.GROUP}/{model.VERSION}", NODE_GROUP_READY),
    )


KINDS = tuple(node_group(model) for model in MODELS)
