"""One run of a MachineHealthCheck: judge every target, decide whether remediation may go on, hand over what is unhealthy.

It never deletes a Machine: owners do, by what is said here. While the workload cluster cannot be seen nothing is judged and nothing handed over: a
cluster that does not answer looks like one whose Machines are all broken.

Source: kinds.md §5; workload.md §6 (no remediation storms).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from fleetwake import labels, legacy_conditions
from fleetwake.conditions import FALSE, TRUE, UNKNOWN, ConditionValue, get, merge, wire_time
from fleetwake.legacy_conditions import WARNING, bad, good, unknown
from fleetwake.patches import (
    Informing,
    MetadataChange,
    api_version_of,
    key_of,
    metadata_patch,
    owner_reference,
    owners_with,
    status_apply,
    status_kept,
    target,
)
from fleetwake.pausing import OwnedStatus, paused_condition, paused_plan
from fleetwake.plan import Event, Plan, Step, soonest
from schemas.api.core.v1beta2.cluster import Cluster
from services.remediation.kinds.machine_health_check.budget import REMEDIATION_ALLOWED, Budget, budget
from services.remediation.kinds.machine_health_check.marks import MANAGER, marks
from services.remediation.kinds.machine_health_check.observed import CONTROL_PLANE_INITIALIZED, Observed
from services.remediation.kinds.machine_health_check.targets import NODE_DELETED, NODE_STARTUP_TIMEOUT, Verdict, judge

CONNECTION_GRACE = timedelta(minutes=5)
CONNECTION_DOWN = "ConnectionDown"
REMEDIATION_RESTRICTED = "RemediationRestricted"
ABSENCES = (NODE_DELETED, NODE_STARTUP_TIMEOUT)
"""Reasons that rest on something not being there."""

OWNED = OwnedStatus(
    manager=MANAGER,
    fields=("expectedMachines", "currentHealthy", "remediationsAllowed", "targets", "observedGeneration", "deprecated"),
    condition_types=(REMEDIATION_ALLOWED, "Paused"),
)
INFORMING = Informing(frozenset(OWNED.fields), frozenset((REMEDIATION_ALLOWED,)))


def reconcile(observed: Observed) -> Plan:
    """Decide what a MachineHealthCheck does next. Without its Cluster nothing: the Cluster's return wakes it."""
    check, cluster = observed.check, observed.cluster
    if check.metadata.deleting or cluster is None:
        return Plan()
    paused = paused_condition(check, cluster)
    if paused.status == TRUE:
        return paused_plan(check, check.status.conditions, paused, OWNED, observed.at)
    own = _own_patch(observed, cluster)
    if observed.initialized and not observed.workload.connected:
        return _blind(observed, own)
    verdicts = tuple(judge(observed, machine) for machine in observed.machines)
    unhealthy = sum(one.unhealthy for one in verdicts)
    found = budget(check.spec.remediation.trigger_if, len(verdicts), sum(one.healthy for one in verdicts), unhealthy)
    told = marks(observed, verdicts, allowed=found.allowed)
    steps = (*own, *told, *_status(observed, found, verdicts))
    wait = soonest(*(one.wait for one in verdicts))
    return Plan(steps, wait, rests_on_absence=bool(told) and any(one.value is not None and one.value.reason in ABSENCES for one in verdicts))


def _own_patch(observed: Observed, cluster: Cluster) -> tuple[Step, ...]:
    """The label of the Cluster, and the Cluster as owner."""
    check = observed.check
    owners = owners_with(check.metadata.owner_references, owner_reference(cluster))
    change = MetadataChange(owners=owners, labels={labels.CLUSTER_NAME: cluster.name})
    step = metadata_patch(target(check), change, "the MachineHealthCheck needs its owner and label")
    return (step,) if step is not None else ()


def _blind(observed: Observed, own: tuple[Step, ...]) -> Plan:
    """The workload cluster is not seen: what was told stays; once that has lasted, or when nothing was told, the check says why nothing happens."""
    check, last = observed.check, observed.workload.last_probe_success
    since = max(time for time in (last, observed.since(CONTROL_PLANE_INITIALIZED)) if time is not None)
    left = since + CONNECTION_GRACE - observed.at
    kept = get(check.status.conditions, REMEDIATION_ALLOWED)
    values = [ConditionValue("Paused", FALSE, "NotPaused")]
    if left <= timedelta(0) or kept is None:
        text = f"Last successful probe at {wire_time(last)}" if last is not None else "Remote connection not established yet"
        values.append(ConditionValue(REMEDIATION_ALLOWED, UNKNOWN, CONNECTION_DOWN, text))
    else:
        values.append(ConditionValue(kept.type, kept.status, kept.reason, kept.message))
    status: dict[str, Any] = {**status_kept(check, OWNED.fields, ()), "observedGeneration": check.metadata.generation or None}
    status["conditions"] = merge(check.status.conditions, values, check.metadata.generation, observed.at)
    status["deprecated"] = _legacy(observed, values[-1])
    step = status_apply(check, MANAGER, status, informing=INFORMING)
    return Plan((*own, *((step,) if step is not None else ())), left if left > timedelta(0) else None)


def _status(observed: Observed, found: Budget, verdicts: tuple[Verdict, ...]) -> tuple[Step, ...]:
    check = observed.check
    values = (found.value, ConditionValue("Paused", FALSE, "NotPaused"))
    status: Mapping[str, Any] = {
        "expectedMachines": len(verdicts),
        "currentHealthy": sum(one.healthy for one in verdicts),
        "remediationsAllowed": found.left,
        "targets": [one.machine.name for one in verdicts] or None,
        "observedGeneration": check.metadata.generation or None,
        "conditions": merge(check.status.conditions, values, check.metadata.generation, observed.at),
        "deprecated": _legacy(observed, found.value),
    }
    step = status_apply(check, MANAGER, status, informing=INFORMING)
    return (*((step,) if step is not None else ()), *_restricted(observed, found, verdicts))


def _legacy(observed: Observed, told: ConditionValue) -> Mapping[str, Any]:
    """RemediationAllowed for readers of the v1beta1 contract."""
    value = good(told.type) if told.status == TRUE else bad(told.type, WARNING, told.reason, told.message)
    if told.status == UNKNOWN:
        value = unknown(told.type, told.reason, told.message)
    return {"v1beta1": {"conditions": legacy_conditions.wire(observed.check.status.deprecated.v1beta1.conditions, (value,), observed.at)}}


def _restricted(observed: Observed, found: Budget, verdicts: tuple[Verdict, ...]) -> tuple[Step, ...]:
    """An Event when remediation stops being allowed while something is unhealthy, or is so for other numbers."""
    check, stored = observed.check, get(observed.check.status.conditions, REMEDIATION_ALLOWED)
    if found.allowed or not any(one.unhealthy for one in verdicts) or (stored is not None and stored.message == found.value.message):
        return ()
    return (Event(key_of(check), api_version_of(check), check.metadata.uid, REMEDIATION_RESTRICTED, found.value.message, "Warning"),)
