"""A MachinePool's status: latches, Nodes, counters, versions, phase and conditions, in one write.

Cluster API declares conditions for pools and computes none; these are those of a MachineDeployment, with its reasons and messages, and the two that mirror the
references, as a Machine has them. Where no Machine stands for a host, what only Machines can tell is not told.

Source: kinds.md §6 (phases, conditions); Cluster API v1.14 MachinePool types (which conditions), phases and replica counters.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from fleetwake.conditions import FALSE, TRUE, UNKNOWN, ConditionValue, is_true, merge
from fleetwake.failing import with_failure
from fleetwake.patches import Informing, status_apply, wire
from fleetwake.pausing import OwnedStatus, paused_condition
from fleetwake.plan import Apply, soonest
from fleetwake.versions import summed
from schemas.api.core.v1beta2.shared import MachineVersion
from services.reconcilers.kinds.machine_deployment.status import rolling_out
from services.reconcilers.kinds.machine_pool import legacy
from services.reconcilers.kinds.machine_pool.deletion import Deletion
from services.reconcilers.kinds.machine_pool.machines import MANAGER, up_to_date
from services.reconcilers.kinds.machine_pool.nodes import Nodes
from services.reconcilers.kinds.machine_pool.observed import Observed
from services.reconcilers.kinds.machine_pool.provisioning import Provisioned, failure
from services.reconcilers.kinds.machine_set import legacy as machines_legacy
from services.reconcilers.kinds.machine_set import members
from services.reconcilers.kinds.reference_conditions import Reference, reference_condition

OF_MACHINES = ("MachinesReady", "MachinesUpToDate", "RollingOut", "Remediating")
"""Told only where Machines stand for the hosts."""
OWNED = OwnedStatus(
    manager=MANAGER,
    fields=(
        *("initialization", "nodeRefs", "replicas", "readyReplicas", "availableReplicas", "upToDateReplicas"),
        *("versions", "phase", "observedGeneration", "deprecated"),
    ),
    condition_types=("Paused", "Available", "BootstrapConfigReady", "InfrastructureReady", *OF_MACHINES, "ScalingUp", "ScalingDown", "Deleting"),
    conditional=OF_MACHINES,
)
INFORMING = Informing(
    fields=frozenset(OWNED.fields) - {"initialization", "nodeRefs"}, conditions=frozenset(OWNED.condition_types) - {"Available", "Deleting", "Paused"}
)
"""The bootstrap provider waits for latches and Nodes, the Cluster and users for Available."""


def status(observed: Observed, provisioned: Provisioned, nodes: Nodes, deletion: Deletion | None, generation: int) -> tuple[Apply | None, timedelta | None]:
    """The status write if one is needed, and when to look again."""
    stored = observed.stored
    counters = _counters(observed, provisioned, nodes)
    wanted = _conditions(observed, provisioned, counters, deletion)
    conditions, held = members.settled(stored.status.conditions, wanted, observed.machines, observed.at)
    counted = {**_legacy_counters(provisioned, nodes), **failure(observed).wire()}
    fields = {
        "initialization": {
            "infrastructureProvisioned": provisioned.infrastructure or None,
            "bootstrapDataSecretCreated": provisioned.bootstrap or None,
        },
        "nodeRefs": [dict(ref) for ref in nodes.refs] or None,
        **counters,
        "phase": phase(observed, provisioned, nodes),
        "observedGeneration": generation or None,
        "conditions": merge(stored.status.conditions, conditions, generation, observed.at),
    }
    absent = () if observed.has_machines else OF_MACHINES
    grace = members.up_to_date_grace_left(observed.machines, observed.at)

    def apply(older: list[dict[str, Any]]) -> Apply | None:
        deprecated = {"v1beta1": {**counted, "conditions": older}}
        return status_apply(stored, MANAGER, {**fields, "deprecated": deprecated}, absent_conditions=absent, informing=INFORMING)

    older = legacy.legacy(observed, conditions, provisioned.wanted, nodes.ready)
    step, wait = machines_legacy.told(apply, stored.status.deprecated.v1beta1.conditions, older, observed.machines, observed.at)
    return step, soonest(held, nodes.wait, grace, wait)


def phase(observed: Observed, provisioned: Provisioned, nodes: Nodes) -> str:
    """The phase; programs read conditions instead."""
    if observed.pool.metadata.deleting:
        return "Deleting"
    if not provisioned.infrastructure:
        return "Provisioned" if nodes.refs else "Provisioning" if provisioned.bootstrap else "Pending"
    if provisioned.wanted == nodes.ready:
        return "Running"
    if observed.externally_managed:
        return "Scaling"
    return "ScalingUp" if provisioned.wanted > nodes.ready else "ScalingDown"


def _counters(observed: Observed, provisioned: Provisioned, nodes: Nodes) -> dict[str, Any]:
    """The counters; of pools without Machines those of Nodes, of which nobody can say more than how they are and what they run."""
    machines = observed.machines
    if observed.has_machines:
        ready, available = (sum(is_true(one.status.conditions, type_) for one in machines) for type_ in ("Ready", "Available"))
        # told in this run, so that no later one has to correct the sum
        current = sum(up_to_date(observed, one).status == TRUE for one in machines)
        running = tuple(one.status.node_info.kubelet_version if one.status.node_info else one.spec.version or "" for one in machines)
    else:
        wanted = observed.pool.spec.template.spec.version or ""
        ready, available, running = nodes.ready, nodes.available, nodes.versions
        current = sum(not wanted or version == wanted for version in running)
    versions = summed(MachineVersion(version=version, replicas=1) for version in running if version)
    told = provisioned.infrastructure
    return {
        "replicas": provisioned.current,
        "readyReplicas": ready if told or ready else None,
        "availableReplicas": available if told or available else None,
        "upToDateReplicas": current if told or current else None,
        "versions": [wire(one) for one in versions] or None,
    }


def _legacy_counters(provisioned: Provisioned, nodes: Nodes) -> dict[str, int | None]:
    """What the older contract counts: Nodes, once there is infrastructure."""
    found = {"readyReplicas": nodes.ready, "availableReplicas": nodes.available, "unavailableReplicas": max((provisioned.current or 0) - nodes.available, 0)}
    return {name: number if provisioned.infrastructure else None for name, number in found.items()}


def _conditions(observed: Observed, provisioned: Provisioned, counters: Mapping[str, Any], deletion: Deletion | None) -> tuple[ConditionValue, ...]:
    pool, machines, at = observed.pool, observed.machines, observed.at
    wanted, current = 0 if pool.metadata.deleting else provisioned.wanted, counters["replicas"] or 0
    infrastructure = _infrastructure_ready(observed, provisioned)
    of_machines = (
        members.machines_ready(machines),
        members.machines_up_to_date(machines, at),
        rolling_out(machines),
        members.remediating(machines, "MachinePool"),
    )
    return (
        paused_condition(pool, observed.cluster),
        with_failure(_available(observed, provisioned, counters["availableReplicas"]), observed.failure),
        _bootstrap_config_ready(observed, provisioned),
        infrastructure,
        *(of_machines if observed.has_machines else ()),
        _scaling_up(observed, wanted, current),
        members.scaling_down(current, wanted, machines, at),
        members.deleting(pool, machines, at, deletion.message if deletion is not None else ""),
    )


def _available(observed: Observed, provisioned: Provisioned, available: int | None) -> ConditionValue:
    """As many hosts are available as are asked for, and the infrastructure has once been complete."""
    if observed.pool.metadata.deleting:
        return ConditionValue("Available", FALSE, "NotAvailable", "Deletion in progress")
    if available is None:
        return ConditionValue("Available", UNKNOWN, "WaitingForAvailableReplicasSet", "Waiting for status.availableReplicas set")
    if provisioned.infrastructure and available >= provisioned.wanted:
        return ConditionValue("Available", TRUE, "Available")
    return ConditionValue("Available", FALSE, "NotAvailable", f"{available} available replicas, at least {provisioned.wanted} required")


def _bootstrap_config_ready(observed: Observed, provisioned: Provisioned) -> ConditionValue:
    pool, type_ = observed.pool, "BootstrapConfigReady"
    ref = pool.spec.template.spec.bootstrap.config_ref
    if ref is None:
        return ConditionValue(type_, TRUE, "DataSecretProvided")
    found = Reference(
        ref=ref,
        namespace=pool.namespace,
        path="spec.template.spec.bootstrap.configRef",
        obj=observed.bootstrap.obj if observed.bootstrap else None,
        readable=observed.bootstrap_readable,
        latched=provisioned.bootstrap,
        owner_deleting=pool.metadata.deleting,
        field="status.initialization.dataSecretCreated",
        source="Ready",
    )
    return reference_condition(type_, found)


def _infrastructure_ready(observed: Observed, provisioned: Provisioned) -> ConditionValue:
    pool = observed.pool
    found = Reference(
        ref=pool.spec.template.spec.infrastructure_ref,
        namespace=pool.namespace,
        path="spec.template.spec.infrastructureRef",
        obj=observed.infra.obj if observed.infra else None,
        readable=observed.infra_readable,
        latched=provisioned.infrastructure,
        owner_deleting=pool.metadata.deleting,
        field="status.ready",
        source="Ready",
        missed="while the MachinePool still exists: restore it or delete the MachinePool",
    )
    return reference_condition("InfrastructureReady", found)


def _scaling_up(observed: Observed, wanted: int, current: int) -> ConditionValue:
    pool = observed.pool
    spec = pool.spec.template.spec
    bootstrap_missing = spec.bootstrap.config_ref is not None and observed.bootstrap is None
    absent = members.missing_templates(spec, pool.namespace, bootstrap_missing, observed.infra is None)
    if current >= wanted:
        told = absent and not pool.metadata.deleting
        return ConditionValue("ScalingUp", FALSE, "NotScalingUp", f"Scaling up would be blocked because {absent}" if told else "")
    message = f"Scaling up from {current} to {wanted} replicas" + (f" is blocked because {absent}" if absent else "")
    return ConditionValue("ScalingUp", TRUE, "ScalingUp", message)
