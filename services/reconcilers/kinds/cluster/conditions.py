"""The conditions of a Cluster.

Source: kinds.md §1 (conditions); Cluster API v1.14 cluster controller status (reasons and messages).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from fleetwake import contracts
from fleetwake.conditions import (
    FALSE,
    NOT_YET_REPORTED,
    TRUE,
    UNKNOWN,
    Aggregate,
    ConditionValue,
    Judged,
    Priority,
    Reasons,
    Source,
    Summary,
    aggregate,
    get,
    overlay,
    polarity,
    source,
    summary,
    wire_time,
)
from fleetwake.failing import with_failure
from schemas.api.core.v1beta2.machine import Machine
from services.reconcilers.kinds.cluster.deletion import Deletion
from services.reconcilers.kinds.cluster.descendants import (
    control_plane_machines,
    listed,
    standalone_machine_sets,
    to_be_remediated,
    unhealthy,
    without_pools,
    worker_machines,
)
from services.reconcilers.kinds.cluster.observed import Observed
from services.reconcilers.kinds.cluster.provisioning import Provisioned
from services.reconcilers.kinds.reference_conditions import DELETED, DOES_NOT_EXIST, Reference, absent, reference_condition

OWNED_TYPES = (
    "Available",
    "RemoteConnectionProbe",
    "InfrastructureReady",
    "ControlPlaneInitialized",
    "ControlPlaneAvailable",
    "WorkersAvailable",
    "ControlPlaneMachinesReady",
    "WorkerMachinesReady",
    "ControlPlaneMachinesUpToDate",
    "WorkerMachinesUpToDate",
    "RollingOut",
    "Remediating",
    "ScalingDown",
    "ScalingUp",
    "Paused",
    "Deleting",
)
PROBE_GRACE = timedelta(seconds=50)
FAILURES_BEFORE_JUDGEMENT = 5
REPEATING = timedelta(seconds=10)
AGGREGATED = (
    "WorkersAvailable",
    "ControlPlaneMachinesReady",
    "WorkerMachinesReady",
    "ControlPlaneMachinesUpToDate",
    "WorkerMachinesUpToDate",
    "RollingOut",
    "ScalingUp",
    "ScalingDown",
    "Remediating",
)
UP_TO_DATE_GRACE = timedelta(seconds=10)
WAITING_FOR_TOPOLOGY = "Waiting for cluster topology to be reconciled"


def cluster_conditions(observed: Observed, provisioned: Provisioned, deletion: Deletion | None) -> tuple[ConditionValue, ...]:
    """All conditions this controller owns on a Cluster that is not paused, Available (the summary of the others) last."""
    values = (
        remote_connection_probe(observed),
        infrastructure_ready(observed, provisioned),
        control_plane_initialized(observed, provisioned),
        control_plane_available(observed, provisioned),
        workers_available(observed),
        *_machine_conditions(observed),
        *(_from_makers(observed, type_) for type_ in ("RollingOut", "ScalingUp", "ScalingDown")),
        remediating(observed),
        ConditionValue("Paused", FALSE, "NotPaused"),
        deleting(deletion),
    )
    return (*values, available(observed, values))


def remote_connection_probe(observed: Observed) -> ConditionValue:
    """Whether the workload cluster answers. What is told stays until enough attempts allow a judgement."""
    workload = observed.workload
    last = workload.last_probe_success
    if last is None and workload.consecutive_failures < FAILURES_BEFORE_JUDGEMENT:
        stored = get(observed.cluster.status.conditions, "RemoteConnectionProbe")
        if stored is not None and stored.reason != NOT_YET_REPORTED:
            return ConditionValue(stored.type, stored.status, stored.reason, stored.message)
        return ConditionValue("RemoteConnectionProbe", FALSE, "ProbeFailed", "Remote connection not established yet")
    if last is None:
        return ConditionValue("RemoteConnectionProbe", FALSE, "ProbeFailed", "Remote connection probe failed")
    well = workload.connected and not workload.consecutive_failures
    if not well and observed.at - last > PROBE_GRACE:
        message = f"Remote connection probe failed, probe last succeeded at {wire_time(last)}"
        return ConditionValue("RemoteConnectionProbe", FALSE, "ProbeFailed", message)
    return ConditionValue("RemoteConnectionProbe", TRUE, "ProbeSucceeded")


def probe_deadline(observed: Observed) -> timedelta | None:
    """When a connection that fails now has failed for too long; None while it is well or already judged."""
    workload = observed.workload
    if workload.last_probe_success is None or (workload.connected and not workload.consecutive_failures):
        return None
    left = workload.last_probe_success + PROBE_GRACE - observed.at
    return left + timedelta(seconds=1) if left >= timedelta(0) else None


def infrastructure_ready(observed: Observed, provisioned: Provisioned) -> ConditionValue:
    """Mirror of the infrastructure's Ready. A Cluster without infrastructure object has nothing to wait for."""
    cluster, type_ = observed.cluster, "InfrastructureReady"
    ref = cluster.spec.infrastructure_ref
    if ref is None:
        return _no_topology_yet(observed, type_) if cluster.spec.topology is not None else ConditionValue(type_, TRUE, "Ready")
    return reference_condition(
        type_,
        Reference(
            ref=ref,
            namespace=cluster.namespace,
            path="spec.infrastructureRef",
            obj=observed.infra.obj if observed.infra else None,
            readable=observed.infra_readable,
            latched=provisioned.infrastructure,
            owner_deleting=cluster.metadata.deleting,
            field="status.initialization.provisioned",
            source="Ready",
            missed="while the cluster still exists: restore it or delete the Cluster",
        ),
    )


def control_plane_available(observed: Observed, provisioned: Provisioned) -> ConditionValue:
    """Mirror of the control plane's Available. Without a provider the Machines' first Node stands for it."""
    cluster, type_ = observed.cluster, "ControlPlaneAvailable"
    ref = cluster.spec.control_plane_ref
    if ref is None and cluster.spec.topology is not None:
        return _no_topology_yet(observed, type_)
    if ref is None:
        if provisioned.control_plane:
            return ConditionValue(type_, TRUE, "Available")
        return ConditionValue(type_, FALSE, "NotAvailable", "Control plane not yet initialized")
    return reference_condition(
        type_,
        Reference(
            ref=ref,
            namespace=cluster.namespace,
            path="spec.controlPlaneRef",
            obj=observed.control_plane.obj if observed.control_plane else None,
            readable=observed.control_plane_readable,
            latched=provisioned.control_plane,
            owner_deleting=cluster.metadata.deleting,
            field="status.initialization.controlPlaneInitialized",
            source="Available",
            missed="while the cluster still exists: restore it or delete the Cluster",
        ),
    )


def _no_topology_yet(observed: Observed, type_: str) -> ConditionValue:
    return ConditionValue(type_, FALSE, DOES_NOT_EXIST, "" if observed.cluster.metadata.deleting else WAITING_FOR_TOPOLOGY)


def control_plane_initialized(observed: Observed, provisioned: Provisioned) -> ConditionValue:
    """Whether the control plane has once been able to take requests; never falls back."""
    cluster, type_ = observed.cluster, "ControlPlaneInitialized"
    stored = get(cluster.status.conditions, type_)
    if provisioned.control_plane or (stored is not None and stored.status == TRUE):
        return ConditionValue(type_, TRUE, "Initialized")
    ref = cluster.spec.control_plane_ref
    if ref is None and cluster.spec.topology is not None:
        return ConditionValue(type_, UNKNOWN, DOES_NOT_EXIST, "" if cluster.metadata.deleting else WAITING_FOR_TOPOLOGY)
    if ref is None:
        message = "Waiting for the first control plane machine to have status.nodeRef set"
        return ConditionValue(type_, FALSE, "NotInitialized", message)
    if observed.control_plane is None:
        gone = f"{ref.kind} does not exist" if cluster.metadata.deleting else absent(ref, cluster.namespace, "spec.controlPlaneRef")
        return ConditionValue(type_, UNKNOWN, DOES_NOT_EXIST, gone)
    return ConditionValue(type_, FALSE, "NotInitialized", "Control plane not yet initialized")


def workers_available(observed: Observed) -> ConditionValue:
    """Aggregate of Available over deployments, and over pools that report it."""
    sources = _makers(observed, "Available")
    if not sources:
        return ConditionValue("WorkersAvailable", TRUE, "NoWorkers")
    return aggregate(Aggregate("Available", "WorkersAvailable", reasons=Reasons("NotAvailable", "AvailableUnknown", "Available")), sources)


def _makers(observed: Observed, type_: str) -> list[Source]:
    """Pools and deployments as sources; a pool only if it reports the type, because MachinePools need not."""
    pools = (pool for pool in observed.machine_pools if get(pool.status.conditions, type_) is not None)
    return [
        *(source(pool, pool.status.conditions) for pool in pools),
        *(source(one, one.status.conditions) for one in observed.machine_deployments),
    ]


def _from_makers(observed: Observed, type_: str) -> ConditionValue:
    """Aggregate of RollingOut, ScalingUp or ScalingDown over control plane, pools, deployments and (scaling) sets of no deployment."""
    sources = _makers(observed, type_)
    provider = observed.control_plane
    if provider is not None and get(provider.conditions, type_) is not None:
        sources.insert(0, Source(provider.obj.key.kind, provider.obj.key.name, contracts.conditions(provider.obj)))
    if type_ != "RollingOut":
        sources.extend(source(one, one.status.conditions) for one in standalone_machine_sets(observed))
    if not sources:
        return ConditionValue(type_, FALSE, f"Not{type_}")
    return aggregate(Aggregate(type_, type_, negative=True, reasons=Reasons(type_, f"{type_}Unknown", f"Not{type_}")), sources)


def _machine_conditions(observed: Observed) -> tuple[ConditionValue, ...]:
    """MachinesReady and MachinesUpToDate for the control plane and for the workers."""
    parts = (("ControlPlane", control_plane_machines(observed)), ("Worker", without_pools(worker_machines(observed))))
    values = []
    for part, machines in parts:
        values.append(_over_machines(f"{part}MachinesReady", "Ready", machines))
        settled = [machine for machine in machines if not _too_young(observed, machine)]
        values.append(_over_machines(f"{part}MachinesUpToDate", "UpToDate", settled))
    return tuple(values)


def _over_machines(target: str, type_: str, machines: Sequence[Machine]) -> ConditionValue:
    if not machines:
        return ConditionValue(target, TRUE, "NoReplicas")
    rule = Aggregate(type_, target, reasons=Reasons(f"Not{type_}", f"{type_}Unknown", type_))
    return aggregate(rule, [source(machine, machine.status.conditions) for machine in machines])


def _age_left(observed: Observed, machine: Machine) -> timedelta:
    created = machine.metadata.creation_timestamp
    return created + UP_TO_DATE_GRACE - observed.at if created is not None else timedelta(0)


def _too_young(observed: Observed, machine: Machine) -> bool:
    """Whether a Machine may still lack UpToDate without that meaning anything: its owner has not had the time to tell."""
    return get(machine.status.conditions, "UpToDate") is None and _age_left(observed, machine) >= timedelta(0)


def up_to_date_deadline(observed: Observed) -> timedelta | None:
    """When the youngest Machines without UpToDate start to count."""
    waits = [_age_left(observed, machine) for machine in without_pools(observed.machines) if _too_young(observed, machine)]
    return min(waits) + timedelta(seconds=1) if waits else None


def remediating(observed: Observed) -> ConditionValue:
    """Whether Machines are being remediated, naming them; else which unhealthy Machines are not."""
    machines = without_pools(observed.machines)
    wanted = to_be_remediated(machines)
    if wanted:
        found = aggregate(Aggregate("OwnerRemediated", "Remediating"), [source(machine, machine.status.conditions) for machine in wanted])
        return ConditionValue("Remediating", TRUE, "Remediating", found.message)
    sick = unhealthy(machines)
    message = ""
    if sick:
        noun, verb = ("Machine", "is") if len(sick) == 1 else ("Machines", "are")
        message = f"{noun} {listed((machine.name for machine in sick), 3)} {verb} not healthy (not to be remediated)"
    return ConditionValue("Remediating", FALSE, "NotRemediating", message)


def repeating_wait(observed: Observed, values: Sequence[ConditionValue]) -> timedelta | None:
    """When to look again at what others say, while any condition repeats it: a mere change of words wakes no Cluster."""
    mirrored = {"InfrastructureReady": observed.infra, "ControlPlaneAvailable": observed.control_plane}
    repeats = any(value.message and (value.type in AGGREGATED or mirrored.get(value.type) is not None) for value in values)
    return REPEATING if repeats else None


def deleting(deletion: Deletion | None) -> ConditionValue:
    """How far the deletion is."""
    if deletion is None:
        return ConditionValue("Deleting", FALSE, "NotDeleting")
    return ConditionValue("Deleting", TRUE, deletion.reason, deletion.message)


def available(observed: Observed, values: Sequence[ConditionValue]) -> ConditionValue:
    """Summary of the Cluster's state and of its availability gates."""
    cluster = observed.cluster
    gates = cluster.spec.availability_gates or observed.class_gates
    negative = ("Deleting", *(gate.condition_type for gate in gates if gate.polarity == "Negative"))
    by_polarity = polarity(*negative)

    def priority(condition: Judged) -> Priority:
        gone = condition.reason in (DELETED, DOES_NOT_EXIST)
        if cluster.metadata.deleting and gone and condition.type in ("InfrastructureReady", "ControlPlaneAvailable"):
            return Priority.INFO
        # a topology that waits for its turn makes no cluster unavailable
        waiting = condition.reason not in ("ReconcileFailed", "ClusterClassNotReconciled")
        if condition.type == "TopologyReconciled" and condition.status == FALSE and waiting:
            return Priority.INFO
        return by_polarity(condition)

    types = ("Deleting", "RemoteConnectionProbe", "InfrastructureReady", "ControlPlaneAvailable", "WorkersAvailable", "TopologyReconciled")
    rule = Summary(
        target="Available",
        types=(*types, *(gate.condition_type for gate in gates)),
        ignore_missing=() if cluster.spec.topology is not None else ("TopologyReconciled",),
        reasons=Reasons("NotAvailable", "AvailableUnknown", "Available"),
        priority=priority,
    )
    return with_failure(summary(rule, overlay(cluster.status.conditions, values)), observed.failure)
