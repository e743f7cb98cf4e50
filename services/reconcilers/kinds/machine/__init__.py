"""Machine: one host that becomes a Node, from its bootstrap data to the end of its Node.

``observed`` says what is read, ``reconcile`` what is decided, ``watches`` what wakes it; the other modules hold one part of the decision each.

Source: kinds.md §2.
"""

from __future__ import annotations

from fleetwake.kind import Kind
from schemas.api.core.v1beta2.machine import Machine
from services.reconcilers.kinds.machine.observed import Observed, observe
from services.reconcilers.kinds.machine.reconcile import MANAGER, reconcile, unreadable
from services.reconcilers.kinds.machine.watches import WATCHES, own_change

KIND: Kind[Observed] = Kind(
    model=Machine,
    observe=observe,
    reconcile=reconcile,
    manager=MANAGER,
    watches=WATCHES,
    own=own_change,
    unreadable=unreadable,
)
