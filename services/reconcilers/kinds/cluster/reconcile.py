"""One run of a Cluster: own its objects, take over what they report, tell its state; or take everything down in order.

Source: kinds.md §1, §17 steps 3, 5 and 9.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from fleetwake import labels, legacy_conditions
from fleetwake.conditions import merge
from fleetwake.patches import Informing, MetadataChange, following, metadata_patch, status_apply, target, wire
from fleetwake.pausing import OwnedStatus, paused_condition, paused_plan
from fleetwake.plan import Apply, Plan, Step, soonest
from services.reconcilers.kinds.cluster.conditions import OWNED_TYPES, cluster_conditions, probe_deadline, repeating_wait, up_to_date_deadline
from services.reconcilers.kinds.cluster.counters import control_plane_counters, phase, worker_counters
from services.reconcilers.kinds.cluster.deletion import Deletion, delete
from services.reconcilers.kinds.cluster.legacy import legacy
from services.reconcilers.kinds.cluster.observed import Observed
from services.reconcilers.kinds.cluster.provisioning import Provisioned, adopt_references, failure, kubeconfig, missing_reference_wait, take_over

MANAGER = "capi-cluster"
OWNED = OwnedStatus(
    MANAGER,
    ("initialization", "controlPlane", "workers", "failureDomains", "phase", "observedGeneration", "deprecated"),
    OWNED_TYPES,
)
INFORMING = Informing(
    fields=frozenset(("controlPlane", "workers", "phase", "observedGeneration", "deprecated")),
    conditions=frozenset(OWNED_TYPES) - {"Available", "ControlPlaneInitialized", "Paused", "Deleting"},
)
"""Sums over what other objects say of themselves. Machines, bootstrap and infrastructure wait for the latches, users for Available."""


def reconcile(observed: Observed) -> Plan:
    """Decide what a Cluster does next."""
    cluster = observed.cluster
    paused = paused_condition(cluster, cluster)
    if paused.status == "True":
        return paused_plan(cluster, cluster.status.conditions, paused, OWNED, observed.at)
    return _deleted(observed) if cluster.metadata.deleting else _normal(observed)


def _normal(observed: Observed) -> Plan:
    cluster = observed.cluster
    provisioned = take_over(observed)
    steps: list[Step] = []
    spec: dict[str, Any] = {}
    if provisioned.endpoint.valid and not cluster.spec.control_plane_endpoint.valid:
        spec["controlPlaneEndpoint"] = wire(provisioned.endpoint)
    finalizers = cluster.metadata.finalizers
    if labels.CLUSTER_FINALIZER not in finalizers:
        finalizers = (*finalizers, labels.CLUSTER_FINALIZER)
    own = metadata_patch(target(cluster), MetadataChange(finalizers=finalizers), "the cluster is ours to clean up; its endpoint is known", spec=spec)
    if own is not None:
        steps.append(own)
    steps.extend(adopt_references(observed))
    secret, ca_wait = kubeconfig(observed, provisioned.endpoint)
    steps.extend(secret)
    # the patch above raises the generation by one, and this status is computed from the spec it leaves
    told, wait = _status(observed, provisioned, None, cluster.metadata.generation + (1 if spec else 0))
    # a failure that stays is told all the same
    told = following(told, when=bool(spec) and observed.failure is None)
    if told is not None:
        steps.append(told)
    return Plan(tuple(steps), soonest(wait, missing_reference_wait(observed), ca_wait))


def _deleted(observed: Observed) -> Plan:
    deletion = delete(observed)
    if deletion.final:
        return Plan(deletion.steps, rests_on_absence=True)
    told, wait = _status(observed, take_over(observed), deletion, observed.cluster.metadata.generation)
    steps = (*deletion.steps, *((told,) if told is not None else ()))
    return Plan(steps, wait, rests_on_absence=deletion.rests_on_absence and bool(deletion.steps))


def _status(observed: Observed, provisioned: Provisioned, deletion: Deletion | None, generation: int) -> tuple[Apply | None, timedelta | None]:
    """The status apply (None when nothing differs) and when what it tells changes without anybody's event."""
    cluster = observed.cluster
    values, stored = cluster_conditions(observed, provisioned, deletion), cluster.status.deprecated.v1beta1.conditions
    status: dict[str, Any] = {
        "initialization": {
            "infrastructureProvisioned": provisioned.infrastructure or None,
            "controlPlaneInitialized": provisioned.control_plane or None,
        },
        "controlPlane": control_plane_counters(observed),
        "workers": worker_counters(observed),
        "failureDomains": [wire(one) for one in provisioned.failure_domains] or None,
        "phase": phase(observed, provisioned),
        "observedGeneration": generation or None,
        "conditions": merge(cluster.status.conditions, values, generation, observed.at),
        "deprecated": {"v1beta1": {**failure(observed).wire(), "conditions": legacy_conditions.wire(stored, legacy(observed, values), observed.at)}},
    }
    waits = (probe_deadline(observed), up_to_date_deadline(observed), repeating_wait(observed, values))
    return status_apply(cluster, MANAGER, status, informing=INFORMING), soonest(*waits)
