"""The conditions and counters of the v1beta1 contract of a KubeadmControlPlane, from what the same run tells.

Source: contracts.md §6, §10; Cluster API v1.14 kubeadmcontrolplane controller (v1beta1 condition types, reasons, severities).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fleetwake.conditions import FALSE, TRUE, Judged, get, is_true
from fleetwake.legacy_conditions import ERROR, INFO, WARNING, Legacy, bad, good, summary, unknown
from schemas.api.core.v1beta2 import Machine
from services.reconcilers.kinds.kubeadm_control_plane.health import COMPONENTS_HEALTHY, ETCD_CLUSTER_HEALTHY
from services.reconcilers.kinds.kubeadm_control_plane.observed import Observed
from services.reconcilers.kinds.machine_set.legacy import MACHINES_CREATED, MACHINES_READY, RESIZED, machines_ready, resized

AVAILABLE, CERTIFICATES_AVAILABLE, SPEC_UP_TO_DATE = "Available", "CertificatesAvailable", "MachinesSpecUpToDate"
SUMMED = (MACHINES_CREATED, SPEC_UP_TO_DATE, RESIZED, MACHINES_READY, AVAILABLE, CERTIFICATES_AVAILABLE)
HEALTH = ((ETCD_CLUSTER_HEALTHY, "EtcdCluster"), (COMPONENTS_HEALTHY, "ControlPlaneComponents"))


def counters(found: Sequence[Machine]) -> dict[str, int]:
    """Counters that count Nodes, and Machines of the newest spec."""
    ready = sum(is_true(one.status.conditions, "NodeReady") for one in found)
    current = sum(is_true(one.status.conditions, "UpToDate") for one in found)
    return {"updatedReplicas": current, "readyReplicas": ready, "unavailableReplicas": len(found) - ready}


def legacy(observed: Observed, values: Sequence[Judged], found: Sequence[Machine]) -> tuple[Legacy, ...]:
    """All of them, Ready the last. ``values``: the conditions that this run tells; ``found``: the Machines as this run judged them."""
    told = [
        *_created(observed, len(found)),
        _up_to_date(found),
        _resized(observed, found),
        *(machines_ready(found) if found else ()),
        good(AVAILABLE) if observed.initialized else bad(AVAILABLE, INFO, "WaitingForKubeadmInit"),
        *_certificates(values),
        *_health(values),
    ]
    return (*told, *summary(SUMMED, told))


def _created(observed: Observed, have: int) -> Iterator[Legacy]:
    if have >= observed.replicas or observed.kcp.metadata.deleting:
        yield good(MACHINES_CREATED)
    elif observed.template is None:
        ref = observed.kcp.spec.machine_template.spec.infrastructure_ref
        yield bad(MACHINES_CREATED, ERROR, "InfrastructureTemplateCloningFailed", f"{ref.kind} {observed.kcp.namespace}/{ref.name} does not exist")
    elif observed.failure is not None:
        yield bad(MACHINES_CREATED, ERROR, "MachineGenerationFailed", f"{observed.failure.operation}: {observed.failure.message}")


def _up_to_date(found: Sequence[Machine]) -> Legacy:
    told = [get(one.status.conditions, "UpToDate") for one in found]
    old = sum(one is not None and one.status == FALSE for one in told)
    if not old:
        return good(SPEC_UP_TO_DATE)
    return bad(SPEC_UP_TO_DATE, WARNING, "RollingUpdateInProgress", f"{old} replicas are outdated, {len(found) - old} are up to date")


def _resized(observed: Observed, found: Sequence[Machine]) -> Legacy:
    if observed.kcp.metadata.deleting:
        return bad(RESIZED, INFO, "Deleting")
    ready = sum(is_true(one.status.conditions, "Ready") for one in found)
    return resized(observed.kcp.status.deprecated.v1beta1.conditions, observed.replicas, len(found), ready)


def _certificates(values: Sequence[Judged]) -> Iterator[Legacy]:
    told = get(values, CERTIFICATES_AVAILABLE)
    if told is None:
        return
    if told.status == TRUE:
        yield good(CERTIFICATES_AVAILABLE)
    elif told.status == FALSE:
        yield bad(CERTIFICATES_AVAILABLE, WARNING, "CertificatesGenerationFailed", told.message)
    else:
        yield unknown(CERTIFICATES_AVAILABLE, told.reason, told.message)


def _health(values: Sequence[Judged]) -> Iterator[Legacy]:
    for type_, prefix in HEALTH:
        told = get(values, type_)
        if told is None:
            continue
        if told.status == TRUE:
            yield good(type_)
        elif told.status == FALSE:
            yield bad(type_, ERROR, f"{prefix}Unhealthy", told.message)
        else:
            yield unknown(type_, f"{prefix}{'InspectionFailed' if told.reason in ('InspectionFailed', 'ConnectionDown') else 'Unknown'}", told.message)
