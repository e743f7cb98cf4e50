"""One run of a Machine: own its objects, take over what they and the Node report, tell its state; or take it down stage by stage.

Source: kinds.md §2, §17 steps 8 to 10.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from pydantic.alias_generators import to_camel

from fleetwake import labels, legacy_conditions
from fleetwake.conditions import merge, wire_time
from fleetwake.failing import telling
from fleetwake.kind import Unread
from fleetwake.patches import Informing, following, status_apply, wire
from fleetwake.pausing import OwnedStatus, paused_condition, paused_plan
from fleetwake.plan import Apply, Plan, Step, soonest
from schemas.api.core.v1beta2.machine import Machine, NodeSystemInfo
from services.reconcilers.kinds.machine.conditions import (
    OWNED_TYPES,
    UP_TO_DATE,
    Told,
    kubelet_version,
    long_deletion_wait,
    machine_conditions,
    phase,
    rollout_due,
)
from services.reconcilers.kinds.machine.deletion import Deletion, delete, times_wire
from services.reconcilers.kinds.machine.legacy import legacy
from services.reconcilers.kinds.machine.node_conditions import connection_deadline
from services.reconcilers.kinds.machine.node_metadata import sync_node
from services.reconcilers.kinds.machine.observed import Observed
from services.reconcilers.kinds.machine.provisioning import (
    Provisioned,
    adopt_references,
    certificates_expiry,
    failure,
    missing_reference_wait,
    own_patch,
    take_over,
)

MANAGER = "capi-machine"
FIELDS = (
    "initialization",
    "nodeRef",
    "nodeInfo",
    "lastUpdated",
    "addresses",
    "failureDomain",
    "phase",
    "certificatesExpiryDate",
    "observedGeneration",
    "deletion",
    "deprecated",
)
INFORMING = Informing(
    fields=frozenset(("phase", "lastUpdated", "observedGeneration", "certificatesExpiryDate", "deprecated")),
    conditions=frozenset(("BootstrapConfigReady", "InfrastructureReady", "NodeHealthy", "NodeReady", "Updating", UP_TO_DATE)),
)
"""Latches, the Node, Ready and Available are waited for: by health checks, by the Machine's owner, by users."""


def reconcile(observed: Observed) -> Plan:
    """Decide what a Machine does next. Without its Cluster nothing: the Cluster's return wakes it."""
    machine, cluster = observed.machine, observed.cluster
    if cluster is None:
        return Plan()
    paused = paused_condition(machine, cluster)
    if paused.status == "True":
        owned = _owned(of_deployment=observed.machine_set is not None and observed.machine_deployment is not None)
        return paused_plan(machine, machine.status.conditions, paused, owned, observed.at)
    provisioned = take_over(observed)
    steps: list[Step] = []
    own = own_patch(observed, provisioned)
    if own is not None:
        steps.append(own)
    steps.extend(adopt_references(observed))
    node = observed.node
    if node is not None and observed.workload.connected:
        synced = sync_node(observed, node)
        if synced is not None:
            steps.append(synced)
    deletion = delete(observed) if machine.metadata.deleting else None
    if deletion is not None and deletion.final:
        # the Machine will be gone: neither its metadata nor its status is worth a write
        return Plan(deletion.steps, deletion.wait, rests_on_absence=True, guarded=deletion.guarded)
    raised = 1 if own is not None and "spec" in own.body else 0
    told, wait = _status(observed, provisioned, deletion, machine.metadata.generation + raised)
    # a failure that stays is told all the same
    told = following(told, when=bool(raised) and observed.failure is None)
    steps.extend(deletion.steps if deletion is not None else ())
    if told is not None:
        steps.append(told)
    return Plan(
        tuple(steps),
        wait,
        rests_on_absence=deletion is not None and deletion.rests_on_absence,
        guarded=deletion is not None and deletion.guarded,
    )


def unreadable(unread: Unread) -> Plan:
    """Tell that a Machine, or what is read for it, is not what its model says."""
    found = (unread.state["metadata"].get("labels") or {}).keys()
    owned = _owned(of_deployment=labels.DEPLOYMENT_NAME in found and labels.CONTROL_PLANE not in found)
    return telling(owned, f"{Machine.GROUP}/{Machine.VERSION}", "Ready", "Available")(unread)


def _owned(*, of_deployment: bool) -> OwnedStatus:
    """What this controller owns in status: UpToDate only on Machines of a deployment."""
    return OwnedStatus(MANAGER, FIELDS, (*OWNED_TYPES, UP_TO_DATE) if of_deployment else OWNED_TYPES)


def _status(observed: Observed, provisioned: Provisioned, deletion: Deletion | None, generation: int) -> tuple[Apply | None, timedelta | None]:
    """The status apply (None when nothing differs) and when to look again."""
    machine = observed.machine
    info = _node_info(observed)
    told = machine_conditions(observed, provisioned, deletion, kubelet_version(info))
    name = observed.node_name if observed.node is not None or machine.status.node_ref is not None else ""
    now = phase(observed, provisioned, has_node=bool(name))
    stored_updated = machine.status.last_updated
    changed = now != machine.status.phase or stored_updated is None
    expiry, older = certificates_expiry(observed), legacy(observed, told.values, deletion, provisioned.provider_id)
    status: dict[str, Any] = {
        "initialization": {
            "infrastructureProvisioned": provisioned.infrastructure or None,
            "bootstrapDataSecretCreated": provisioned.bootstrap or None,
        },
        "nodeRef": {"name": name} if name else None,
        "nodeInfo": info,
        "addresses": [wire(one) for one in provisioned.addresses] or None,
        "failureDomain": provisioned.failure_domain or None,
        "certificatesExpiryDate": wire_time(expiry) if expiry is not None else None,
        "deletion": times_wire(deletion.times) if deletion is not None else None,
        "phase": now,
        "lastUpdated": wire_time(observed.at if changed or stored_updated is None else stored_updated),
        "observedGeneration": generation or None,
        "conditions": merge(machine.status.conditions, told.values, generation, observed.at),
        "deprecated": {
            "v1beta1": {
                **failure(observed).wire(),
                "conditions": legacy_conditions.wire(machine.status.deprecated.v1beta1.conditions, older, observed.at),
            }
        },
    }
    return status_apply(machine, MANAGER, status, informing=INFORMING), _waits(observed, told, deletion)


def _waits(observed: Observed, told: Told, deletion: Deletion | None) -> timedelta | None:
    """The next time at which something changes by time alone."""
    due = rollout_due(observed)
    if deletion is not None:
        return soonest(deletion.wait, told.wait, connection_deadline(observed), long_deletion_wait(observed))
    return soonest(told.wait, missing_reference_wait(observed), connection_deadline(observed), due if due is not None and due.total_seconds() >= 0 else None)


def _node_info(observed: Observed) -> Mapping[str, Any] | None:
    """What the Node reports about itself, in the fields the Machine's schema has; the stored report while the Node is not seen."""
    node = observed.node
    reported = node.get("status", {}).get("nodeInfo") if node is not None else None
    if not reported:
        stored = observed.machine.status.node_info
        return wire(stored) if stored is not None else None
    names = [info.alias or to_camel(name) for name, info in NodeSystemInfo.model_fields.items()]
    required = {name: "" for name in names if name != "swap"}
    return required | {name: reported[name] for name in names if reported.get(name) is not None}
