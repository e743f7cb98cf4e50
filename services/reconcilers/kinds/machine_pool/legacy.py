"""The conditions of the v1beta1 contract of a MachinePool, from those that the same run tells.

Source: Cluster API v1.14 machinepool controller (v1beta1 condition types, reasons, severities).
"""

from __future__ import annotations

from collections.abc import Sequence

from fleetwake.conditions import Judged, get
from fleetwake.legacy_conditions import INFO, Legacy, bad, good, summary
from services.reconcilers.kinds.machine_pool.observed import Observed
from services.reconcilers.kinds.reference_conditions import legacy_reference

BOOTSTRAP_READY, INFRASTRUCTURE_READY, REPLICAS_READY = "BootstrapReady", "InfrastructureReady", "ReplicasReady"


def legacy(observed: Observed, values: Sequence[Judged], wanted: int, ready: int) -> tuple[Legacy, ...]:
    """All of them, Ready the last. ``values``: the conditions that this run tells; ``ready``: how many of the ``wanted`` hosts have a Node that is."""
    deleting = observed.pool.metadata.deleting
    config, hosts = get(values, "BootstrapConfigReady"), get(values, "InfrastructureReady")
    found: list[Legacy] = []
    if config is not None:
        obj = observed.bootstrap.obj if observed.bootstrap else None
        found.append(legacy_reference(BOOTSTRAP_READY, config, obj, "WaitingForDataSecret", deleting=deleting))
    if hosts is not None:
        infra = observed.infra.obj if observed.infra else None
        found.append(legacy_reference(INFRASTRUCTURE_READY, hosts, infra, "WaitingForInfrastructure", deleting=deleting))
    text = f"{ready} of {wanted} hosts have a ready Node"
    found.append(good(REPLICAS_READY) if ready >= wanted else bad(REPLICAS_READY, INFO, "WaitingForReplicasReady", text))
    return (*found, *summary((BOOTSTRAP_READY, INFRASTRUCTURE_READY, REPLICAS_READY), found))
