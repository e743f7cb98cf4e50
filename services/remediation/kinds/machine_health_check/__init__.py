"""MachineHealthCheck: which Machines are unhealthy, and whether they may be remediated.

``observed`` reads; ``targets`` judges one Machine; ``budget`` says whether remediation may go on; ``marks`` is what is written on Machines; ``reconcile``
puts them together; ``watches`` wake it.

Source: kinds.md §5, §16, §18.
"""

from __future__ import annotations

from fleetwake.failing import telling
from fleetwake.kind import Kind
from schemas.api.core.v1beta2.machine_health_check import MachineHealthCheck
from services.remediation.kinds.machine_health_check.budget import REMEDIATION_ALLOWED
from services.remediation.kinds.machine_health_check.marks import MANAGER
from services.remediation.kinds.machine_health_check.observed import Observed, observe
from services.remediation.kinds.machine_health_check.reconcile import OWNED, reconcile
from services.remediation.kinds.machine_health_check.watches import WATCHES, own_change

KIND: Kind[Observed] = Kind(
    model=MachineHealthCheck,
    observe=observe,
    reconcile=reconcile,
    manager=MANAGER,
    watches=WATCHES,
    own=own_change,
    unreadable=telling(OWNED, f"{MachineHealthCheck.GROUP}/{MachineHealthCheck.VERSION}", REMEDIATION_ALLOWED),
)
