"""Which Machines go first when a MachineSet shrinks.

Source: kinds.md §3 "Scale down priority" (Cluster API v1.14 MachineSet deletion order); tests.md invariant 10.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime

from fleetwake import labels
from fleetwake.conditions import is_false
from schemas.api.core.v1beta2.machine import Machine
from schemas.api.core.v1beta2.machine_set import MachineDeletionOrder

DELETING, ASKED_FOR, UPDATING, UNHEALTHY, ANY = 100.0, 80.0, 75.0, 50.0, 20.0
SECONDS_PER_TEN_DAYS = 864_000.0


def priority(machine: Machine, order: MachineDeletionOrder | None, at: datetime) -> float:
    """How urgently the Machine goes, 0 to 100: what is broken or asked for first, then by the order (Random is none at all)."""
    if machine.metadata.deleting:
        return DELETING
    if machine.annotated(labels.DELETE_MACHINE):
        return ASKED_FOR
    if machine.annotated(labels.UPDATE_IN_PROGRESS):
        return UPDATING
    if not healthy(machine):
        return UNHEALTHY
    if order == "Oldest":
        return _by_age(machine, at)
    if order == "Newest":
        return UNHEALTHY - _by_age(machine, at)
    return ANY


def _by_age(machine: Machine, at: datetime) -> float:
    created = machine.metadata.creation_timestamp
    seconds = (at - created).total_seconds() if created is not None else 0.0
    return UNHEALTHY * (1.0 - math.exp(-seconds / SECONDS_PER_TEN_DAYS)) if seconds > 0 else 0.0


def healthy(machine: Machine) -> bool:
    """Whether the Machine has a Node, and neither the Node nor a health check says otherwise (unknown is no verdict)."""
    conditions = machine.status.conditions
    return machine.status.node_ref is not None and not is_false(conditions, "NodeHealthy") and not is_false(conditions, "HealthCheckSucceeded")


def in_order(machines: Iterable[Machine], order: MachineDeletionOrder | None, at: datetime) -> tuple[Machine, ...]:
    """The Machines, first to go first; equals by name."""
    return tuple(sorted(machines, key=lambda machine: (-priority(machine, order, at), machine.name)))
