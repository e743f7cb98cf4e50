"""The conditions of the v1beta1 contract of a Cluster, from those that the same run tells.

Source: contracts.md §10; Cluster API v1.14 cluster and topology controllers (v1beta1 condition types, reasons, severities).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fleetwake.conditions import TRUE, UNKNOWN, Judged, get
from fleetwake.legacy_conditions import ERROR, INFO, Legacy, bad, good, summary, unknown
from services.reconcilers.kinds.cluster.observed import Observed
from services.reconcilers.kinds.reference_conditions import legacy_reference

INFRASTRUCTURE_READY, CONTROL_PLANE_READY = "InfrastructureReady", "ControlPlaneReady"
CONTROL_PLANE_INITIALIZED, TOPOLOGY_RECONCILED = "ControlPlaneInitialized", "TopologyReconciled"


def legacy(observed: Observed, values: Sequence[Judged]) -> tuple[Legacy, ...]:
    """All of them, Ready the last. ``values``: the conditions that this run tells."""
    found = [*_references(observed, values), *_initialized(observed, values), *_topology(observed)]
    return (*found, *summary((CONTROL_PLANE_READY, INFRASTRUCTURE_READY), found))


def _references(observed: Observed, values: Sequence[Judged]) -> Iterator[Legacy]:
    deleting = observed.cluster.metadata.deleting
    infrastructure, plane = get(values, "InfrastructureReady"), get(values, "ControlPlaneAvailable")
    if infrastructure is not None:
        obj = observed.infra.obj if observed.infra else None
        yield legacy_reference(INFRASTRUCTURE_READY, infrastructure, obj, "WaitingForInfrastructure", deleting=deleting)
    if plane is not None and observed.cluster.spec.control_plane_ref is not None:
        provider = observed.control_plane.obj if observed.control_plane else None
        yield legacy_reference(CONTROL_PLANE_READY, plane, provider, "WaitingForControlPlane", deleting=deleting)


def _initialized(observed: Observed, values: Sequence[Judged]) -> Iterator[Legacy]:
    told = get(values, CONTROL_PLANE_INITIALIZED)
    if told is None:
        return
    if told.status == TRUE:
        yield good(CONTROL_PLANE_INITIALIZED)
        return
    provided = observed.cluster.spec.control_plane_ref is not None
    yield bad(CONTROL_PLANE_INITIALIZED, INFO, "WaitingForControlPlaneProviderInitialized" if provided else "MissingNodeRef", told.message)


def _topology(observed: Observed) -> Iterator[Legacy]:
    """What the topology's controller has told; the Cluster's takes it over for it, because the list has one writer."""
    told = get(observed.cluster.status.conditions, TOPOLOGY_RECONCILED)
    if told is None or observed.cluster.spec.topology is None:
        return
    if told.status == TRUE:
        yield good(TOPOLOGY_RECONCILED)
    elif told.status == UNKNOWN:
        yield unknown(TOPOLOGY_RECONCILED, told.reason, told.message)
    elif told.reason == "ReconcileFailed":
        yield bad(TOPOLOGY_RECONCILED, ERROR, "TopologyReconcileFailed", told.message)
    else:
        yield bad(TOPOLOGY_RECONCILED, INFO, told.reason, told.message)
