"""The conditions of the v1beta1 contract of a MachineDeployment, from those that the same run tells.

Source: contracts.md §10; Cluster API v1.14 machinedeployment controller (v1beta1 condition types, reasons, severities).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from fleetwake.conditions import TRUE, UNKNOWN, Judged, get
from fleetwake.legacy_conditions import INFO, WARNING, Legacy, bad, good, summary, unknown
from schemas.api.core.v1beta2.machine import Machine
from schemas.api.core.v1beta2.machine_set import MachineSet
from services.reconcilers.kinds.machine_set.legacy import ready_by

AVAILABLE, MACHINE_SET_READY = "Available", "MachineSetReady"
WAITING_FOR_MACHINE_SET = "WaitingForMachineSet"


def legacy(values: Sequence[Judged], new: MachineSet | None, machines: Sequence[Machine]) -> tuple[Legacy, ...]:
    """All of them, Ready the last. ``values``: the conditions that this run tells; ``new``: the MachineSet of the newest revision, and its ``machines``."""
    told = get(values, AVAILABLE)
    found: list[Legacy] = []
    if told is not None and told.status == UNKNOWN:
        found.append(unknown(AVAILABLE, told.reason, told.message))
    elif told is not None:
        found.append(good(AVAILABLE) if told.status == TRUE else bad(AVAILABLE, WARNING, "WaitingForAvailableMachines", told.message))
    if new is None:
        found.append(bad(MACHINE_SET_READY, INFO, WAITING_FOR_MACHINE_SET, "There is no MachineSet of the newest revision"))
    else:
        found.extend(replace(one, type=MACHINE_SET_READY) for one in ready_by(new, machines))
    return (*found, *summary((AVAILABLE,), found))
