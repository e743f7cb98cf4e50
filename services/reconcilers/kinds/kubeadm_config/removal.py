"""Bootstrap data that nobody needs any more is deleted, where that is asked for.

Source: roadmap row 29; docs/security/bootstrap-data.md.
"""

from __future__ import annotations

from datetime import timedelta

from fleetwake.conditions import TRUE, get
from fleetwake.plan import Delete, Plan
from schemas.api.core.v1beta2 import Machine
from services.reconcilers.bootstrap.request import settings
from services.reconcilers.kinds.kubeadm_config.observed import Observed


def unneeded(observed: Observed) -> Plan:
    """Delete the bootstrap Secret some time after the Machine's Node became Ready. A MachinePool may always grow, so its data stays."""
    wanted = settings(observed.spec).get("dataDeletion")
    found = observed.data_secret
    if wanted is None or found is None or found.metadata.deleting or not isinstance(observed.owner, Machine) or not observed.has_joined:
        return Plan()
    controller = found.metadata.controller
    if controller is not None and controller.uid != observed.config.metadata.uid:
        return Plan()
    ready = get(observed.owner.status.conditions, "NodeReady")
    if ready is None or ready.status != TRUE or ready.last_transition_time is None:
        return Plan()
    due = ready.last_transition_time + timedelta(seconds=wanted["afterNodeReadySeconds"])
    if observed.at < due:
        return Plan(requeue_after=due - observed.at)
    return Plan((Delete(found.key, "v1", found.metadata.uid, "the Node is Ready: its bootstrap data is needed no more", found.metadata.resource_version),))
