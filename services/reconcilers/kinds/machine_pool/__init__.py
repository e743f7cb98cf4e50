"""MachinePool: hosts that their infrastructure makes and counts as one group; each of them may stand as a Machine.

``observed`` says what is read, ``reconcile`` what is decided, ``watches`` what wakes it; the other modules hold one part of the decision each.

Source: kinds.md §6, §16; contracts.md §4.
"""

from __future__ import annotations

from fleetwake.failing import telling
from fleetwake.kind import Kind
from schemas.api.core.v1beta2.machine_pool import MachinePool
from services.reconcilers.kinds.machine_pool.machines import MANAGER
from services.reconcilers.kinds.machine_pool.observed import Observed, observe
from services.reconcilers.kinds.machine_pool.reconcile import reconcile
from services.reconcilers.kinds.machine_pool.status import OWNED
from services.reconcilers.kinds.machine_pool.watches import WATCHES, own_change

KIND: Kind[Observed] = Kind(
    model=MachinePool,
    observe=observe,
    reconcile=reconcile,
    manager=MANAGER,
    watches=WATCHES,
    own=own_change,
    unreadable=telling(OWNED, f"{MachinePool.GROUP}/{MachinePool.VERSION}", "Available"),
)
