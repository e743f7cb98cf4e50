"""The conditions of the v1beta1 contract of a Machine, from those that the same run tells.

Source: contracts.md §10; Cluster API v1.14 machine controller and MachineHealthCheck (v1beta1 condition types, reasons, severities).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fleetwake.conditions import FALSE, TRUE, UNKNOWN, Judged, get
from fleetwake.legacy_conditions import ERROR, INFO, WARNING, Legacy, bad, good, summary, unknown
from services.reconcilers.kinds.machine.deletion import DRAIN, PRE_DRAIN, PRE_TERMINATE, VOLUMES, Deletion
from services.reconcilers.kinds.machine.observed import Observed
from services.reconcilers.kinds.reference_conditions import legacy_reference

BOOTSTRAP_READY, INFRASTRUCTURE_READY, NODE_HEALTHY, DRAINING_SUCCEEDED = "BootstrapReady", "InfrastructureReady", "NodeHealthy", "DrainingSucceeded"
HEALTH_CHECK_SUCCEEDED, OWNER_REMEDIATED = "HealthCheckSucceeded", "OwnerRemediated"
SUMMED = (INFRASTRUCTURE_READY, BOOTSTRAP_READY, HEALTH_CHECK_SUCCEEDED, OWNER_REMEDIATED, DRAINING_SUCCEEDED)
STEPS = (BOOTSTRAP_READY, INFRASTRUCTURE_READY)
"""What a Machine goes through before it has a host."""
STAGES = (
    (PRE_DRAIN, "PreDrainDeleteHookSucceeded", "WaitingForPreDrainHook", "WaitingExternalHook"),
    (DRAIN, DRAINING_SUCCEEDED, "DrainingNode", "Draining"),
    (VOLUMES, "VolumeDetachSucceeded", "WaitingForVolumeDetach", "WaitingForVolumeDetach"),
    (PRE_TERMINATE, "PreTerminateDeleteHookSucceeded", "WaitingForPreTerminateHook", "WaitingExternalHook"),
)
"""Stages of a deletion: when it began, its condition, the reason of Deleting during it, and the older reason."""
AFTER_TERMINATE_HOOKS = ("WaitingForInfrastructureDeletion", "WaitingForBootstrapDeletion", "DeletingNode", "DeletionCompleted")
HEALTH_REASONS = {"NodeDeleted": "NodeNotFound", "HasRemediateAnnotation": "HasRemediateMachineAnnotation"}
REMEDIATION_REASONS = {"MachineDeleting": "RemediationInProgress"}


def legacy(observed: Observed, values: Sequence[Judged], deletion: Deletion | None, provider_id: str) -> tuple[Legacy, ...]:
    """All of them, Ready the last. ``values``: the conditions that this run tells; ``provider_id``: as recorded when the run is done."""
    machine = observed.machine
    deleting = machine.metadata.deleting
    found = [*_references(observed, values, deleting=deleting), *_node(values, provider_id, deleting=deleting), *_health(observed), *_stages(deletion)]
    return (*found, *summary(SUMMED, found, STEPS if not deleting and not provider_id else ()))


def _references(observed: Observed, values: Sequence[Judged], *, deleting: bool) -> Iterator[Legacy]:
    config, host = get(values, "BootstrapConfigReady"), get(values, "InfrastructureReady")
    if config is not None:
        obj = observed.bootstrap.obj if observed.bootstrap else None
        yield legacy_reference(BOOTSTRAP_READY, config, obj, "WaitingForDataSecret", deleting=deleting)
    if host is not None:
        yield legacy_reference(INFRASTRUCTURE_READY, host, observed.infra.obj if observed.infra else None, "WaitingForInfrastructure", deleting=deleting)


def _node(values: Sequence[Judged], provider_id: str, *, deleting: bool) -> Iterator[Legacy]:
    told = get(values, NODE_HEALTHY)
    if told is None:
        return
    match told.status, told.reason:
        case "True", _:
            yield good(NODE_HEALTHY)
        case "False", "NodeNotHealthy":
            yield bad(NODE_HEALTHY, WARNING, "NodeConditionsFailed", told.message)
        case "Unknown", "NodeHealthyUnknown":
            yield unknown(NODE_HEALTHY, "NodeConditionsFailed", told.message)
        case _, "NodeDeleted" | "NodeDoesNotExist":
            yield bad(NODE_HEALTHY, INFO, "Deleting", told.message) if deleting else bad(NODE_HEALTHY, ERROR, "NodeNotFound", told.message)
        case _, "InspectionFailed" if provider_id:
            yield bad(NODE_HEALTHY, WARNING, "NodeProvisioning", told.message)
        case _, "InspectionFailed":
            yield bad(NODE_HEALTHY, INFO, "WaitingForNodeRef", told.message)
        case _:
            yield unknown(NODE_HEALTHY, "NodeInspectionFailed", told.message)


def _health(observed: Observed) -> Iterator[Legacy]:
    """What health checks and owners have told of the Machine; its controller takes it over for them, because the list has one writer."""
    for type_, reasons, otherwise in ((HEALTH_CHECK_SUCCEEDED, HEALTH_REASONS, ""), (OWNER_REMEDIATED, REMEDIATION_REASONS, "WaitingForRemediation")):
        told = get(observed.machine.status.conditions, type_)
        if told is None:
            continue
        reason = reasons.get(told.reason, otherwise or told.reason)
        if told.status == TRUE:
            yield good(type_)
        elif told.status == FALSE:
            yield bad(type_, WARNING, reason, told.message)
        elif told.status == UNKNOWN:
            yield unknown(type_, told.reason, told.message)


def _stages(deletion: Deletion | None) -> Iterator[Legacy]:
    if deletion is None:
        return
    for began, type_, during, reason in STAGES:
        if deletion.reason == during:
            yield bad(type_, INFO, reason, deletion.message)
        elif began in deletion.times or _passed(began, deletion):
            yield good(type_)


def _passed(began: str, deletion: Deletion) -> bool:
    """Whether a stage of which no time is kept is behind: there were no hooks to wait for."""
    if began == PRE_DRAIN:
        return DRAIN in deletion.times
    return began == PRE_TERMINATE and deletion.reason in AFTER_TERMINATE_HOOKS
