"""A topology's MachineSet as holder of its templates.

Source: kinds.md §10.1 (8); Cluster API v1.14 topology/machineset.
"""

from __future__ import annotations

from fleetwake import labels
from fleetwake.kind import View
from fleetwake.plan import Plan
from schemas.api.core.v1beta2.machine_set import MachineSet
from schemas.keys import ObjectKey
from services.reconcilers.kinds.topology_templates.references import Held, held, plan

MANAGER = "capi-topology-machineset"
Observed = Held


def observe(view: View, key: ObjectKey) -> Observed | None:
    """Read a MachineSet; None when it is gone or no topology's."""
    found = view.get(MachineSet, key.namespace, key.name)
    return held(view, found) if found is not None else None


def reconcile(observed: Observed) -> Plan:
    """Decide what one MachineSet's templates need now."""
    return plan(observed, labels.TOPOLOGY_MACHINE_SET_FINALIZER)
