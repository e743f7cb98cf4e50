"""The conditions of a Machine but those of its Node.

Source: kinds.md §2 (conditions); Cluster API v1.14 machine controller status (reasons and messages; other controllers read them).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from fleetwake import labels
from fleetwake.conditions import FALSE, TRUE, ConditionValue, Judged, Priority, Reasons, Summary, get, overlay, polarity, summary
from fleetwake.failing import with_failure
from schemas.api.core.v1beta2.machine import Machine
from services.reconcilers.kinds.machine.deletion import DRAIN, Deletion
from services.reconcilers.kinds.machine.node_conditions import node_conditions
from services.reconcilers.kinds.machine.observed import Observed
from services.reconcilers.kinds.machine.provisioning import MISSING_REFERENCE_WAIT, Provisioned
from services.reconcilers.kinds.machine_deployment.template import rollout_equal
from services.reconcilers.kinds.reference_conditions import DELETED, DOES_NOT_EXIST, Reference, reference_condition

OWNED_TYPES = (
    "Available",
    "Ready",
    "BootstrapConfigReady",
    "InfrastructureReady",
    "NodeHealthy",
    "NodeReady",
    "Updating",
    "Paused",
    "Deleting",
)
UP_TO_DATE = "UpToDate"
LONG_DELETION = timedelta(minutes=15)
LONG_DRAIN = timedelta(minutes=5)
DELAYS = (
    ("cannot evict pod as it would violate the pod's disruption budget.", "PodDisruptionBudgets"),
    ("deletionTimestamp set, but still not removed from the Node", "Pods not terminating"),
    ("failed to evict Pod", "Pod eviction errors"),
    ("waiting for completion", "Pods not completed yet"),
)
CONTROL_PLANE_COMPONENTS = ("* APIServer", "* ControllerManager", "* Scheduler")
GONE_WHILE_DELETING = {
    "BootstrapConfigReady": (DELETED, DOES_NOT_EXIST),
    "InfrastructureReady": (DELETED, DOES_NOT_EXIST),
    "NodeHealthy": ("NodeDeleted", "NodeDoesNotExist"),
}


@dataclass(frozen=True, slots=True)
class Told:
    """The conditions of a Machine after this run, and when Available or the text of Ready changes by time alone."""

    values: tuple[ConditionValue, ...]
    wait: timedelta | None = None


def machine_conditions(observed: Observed, provisioned: Provisioned, deletion: Deletion | None, kubelet_version: str) -> Told:
    """All conditions this controller owns on a Machine that is not paused. ``kubelet_version``: as recorded when this run is done."""
    machine = observed.machine
    values: tuple[ConditionValue, ...] = (
        bootstrap_config_ready(observed, provisioned),
        infrastructure_ready(observed, provisioned),
        *node_conditions(observed, provisioned.provider_id),
        updating(machine),
        ConditionValue("Paused", FALSE, "NotPaused"),
        deleting(deletion),
    )
    current = up_to_date(observed, values, kubelet_version)
    values = (*values, *((current,) if current is not None else ()))
    ready_now = ready(observed, values, deletion)
    available_now, wait = available(observed, ready_now)
    return Told((*values, ready_now, available_now), wait)


def bootstrap_config_ready(observed: Observed, provisioned: Provisioned) -> ConditionValue:
    """Mirror of the configuration's Ready; True where the user provides the data."""
    machine, type_ = observed.machine, "BootstrapConfigReady"
    ref = machine.spec.bootstrap.config_ref
    if ref is None:
        return ConditionValue(type_, TRUE, "DataSecretProvided")
    return reference_condition(
        type_,
        Reference(
            ref=ref,
            namespace=machine.namespace,
            path="spec.bootstrap.configRef",
            obj=observed.bootstrap.obj if observed.bootstrap else None,
            readable=observed.bootstrap_readable,
            latched=provisioned.bootstrap,
            owner_deleting=machine.metadata.deleting,
            field="status.initialization.dataSecretCreated",
            source="Ready",
            awaited=_being_made(observed),
        ),
    )


def infrastructure_ready(observed: Observed, provisioned: Provisioned) -> ConditionValue:
    """Mirror of the infrastructure's Ready."""
    machine = observed.machine
    return reference_condition(
        "InfrastructureReady",
        Reference(
            ref=machine.spec.infrastructure_ref,
            namespace=machine.namespace,
            path="spec.infrastructureRef",
            obj=observed.infra.obj if observed.infra else None,
            readable=observed.infra_readable,
            latched=provisioned.infrastructure,
            owner_deleting=machine.metadata.deleting,
            field="status.initialization.provisioned",
            source="Ready",
            missed="while the Machine still exists: delete the Machine to have it replaced",
            awaited=_being_made(observed),
        ),
    )


def _being_made(observed: Observed) -> bool:
    """Whether the owner that made the Machine may still be making its objects; it makes all Machines say the same, so that they aggregate."""
    metadata = observed.machine.metadata
    created = metadata.creation_timestamp
    return metadata.controller is not None and created is not None and observed.at - created < MISSING_REFERENCE_WAIT


def updating(machine: Machine) -> ConditionValue:
    """Whether the Machine is being updated in place."""
    if labels.UPDATE_IN_PROGRESS in machine.metadata.annotations:
        return ConditionValue("Updating", TRUE, "InPlaceUpdating", "In-place update in progress")
    return ConditionValue("Updating", FALSE, "NotUpdating")


def deleting(deletion: Deletion | None) -> ConditionValue:
    """How far the deletion is."""
    if deletion is None:
        return ConditionValue("Deleting", FALSE, "NotDeleting")
    return ConditionValue("Deleting", TRUE, deletion.reason, deletion.message)


def rollout_due(observed: Observed) -> timedelta | None:
    """How long until the deployment's ``rollout.after`` makes this Machine outdated; negative when it has, None when it never will."""
    machine_set, deployment = observed.machine_set, observed.machine_deployment
    after = deployment.spec.rollout.after if deployment is not None else None
    created = machine_set.metadata.creation_timestamp if machine_set is not None else None
    if after is None or created is None or created >= after:
        return None
    return after - observed.at


def up_to_date(observed: Observed, values: Sequence[Judged], kubelet_version: str) -> ConditionValue | None:
    """Whether a Machine of a deployment is what the deployment wants now; None for other Machines, whose owners tell.

    The set's template is compared, not the Machine: that is what the rollout decides by.
    """
    machine, machine_set, deployment = observed.machine, observed.machine_set, observed.machine_deployment
    if machine_set is None or deployment is None or labels.CONTROL_PLANE in machine.metadata.labels:
        return None
    reasons = list(rollout_equal(machine_set.spec.template.spec, deployment.spec.template.spec))
    due = rollout_due(observed)
    if due is not None and due < timedelta(0):
        reasons.append("MachineDeployment spec.rolloutAfter expired")
    if reasons:
        return ConditionValue(UP_TO_DATE, FALSE, "NotUpToDate", "\n".join(f"* {reason}" for reason in reasons))
    running = get(values, "Updating")
    if running is not None and running.status == TRUE:
        return ConditionValue(UP_TO_DATE, FALSE, "Updating", f"* {running.message or 'In-place update in progress'}")
    wanted = machine.spec.version or ""
    if wanted and kubelet_version and kubelet_version != wanted:
        return ConditionValue(UP_TO_DATE, FALSE, "Updating", f"* Node.status.nodeInfo.kubeletVersion {kubelet_version}, {wanted} required")
    return ConditionValue(UP_TO_DATE, TRUE, UP_TO_DATE)


def ready(observed: Observed, values: Sequence[Judged], deletion: Deletion | None) -> ConditionValue:
    """Summary of the Machine's state and of its readiness gates."""
    machine = observed.machine
    gates = machine.spec.readiness_gates
    by_polarity = polarity("Deleting", "Updating", *(gate.condition_type for gate in gates if gate.polarity == "Negative"))

    def priority(condition: Judged) -> Priority:
        if machine.metadata.deleting and condition.reason in GONE_WHILE_DELETING.get(condition.type, ()):
            return Priority.INFO
        return by_polarity(condition)

    rule = Summary(
        target="Ready",
        types=(
            "Deleting",
            "Updating",
            "BootstrapConfigReady",
            "InfrastructureReady",
            "NodeHealthy",
            "HealthCheckSucceeded",
            *(gate.condition_type for gate in gates),
        ),
        ignore_missing=("HealthCheckSucceeded",),
        reasons=Reasons("NotReady", "ReadyUnknown", "Ready"),
        priority=priority,
        transform=group_components,
    )
    overrides = (_short_deleting(observed, deletion),) if deletion is not None else ()
    return with_failure(summary(rule, overlay(machine.status.conditions, values), overrides), observed.failure)


def group_components(bullets: list[str]) -> list[str]:
    """One bullet for the components of a control plane that all say the same."""
    parts = [bullet.partition(":") for bullet in bullets]
    component = [name.startswith(CONTROL_PLANE_COMPONENTS) or name == "* EtcdPodHealthy" for name, _, _ in parts]
    texts = {text for (_, _, text), is_component in zip(parts, component, strict=True) if is_component}
    if sum(component) < 2 or len(texts) != 1:
        return bullets
    first = component.index(True)
    grouped = [f"* Control plane components:{text}" for text in texts]
    return [*bullets[:first], *grouped, *(bullet for bullet, is_component in zip(bullets[first:], component[first:], strict=True) if not is_component)]


def _short_deleting(observed: Observed, deletion: Deletion) -> ConditionValue:
    """The Deleting bullet of Ready: the stage alone, so that many Machines say the same and aggregate well."""
    since = observed.machine.metadata.deletion_timestamp or observed.at
    if observed.at - since <= LONG_DELETION:
        return ConditionValue("Deleting", TRUE, "Deleting", f"Machine deletion in progress, stage: {deletion.reason}")
    text = f"Machine deletion in progress since more than 15m, stage: {deletion.reason}"
    began = deletion.times.get(DRAIN)
    if deletion.reason == "DrainingNode" and began is not None and observed.at - began > LONG_DRAIN:
        causes = [cause for mark, cause in DELAYS if mark in deletion.message]
        if causes:
            text += f", delay likely due to {', '.join(causes)}"
    return ConditionValue("Deleting", TRUE, "Deleting", text)


def long_deletion_wait(observed: Observed) -> timedelta | None:
    """When the deletion has taken so long that Ready says so."""
    since = observed.machine.metadata.deletion_timestamp
    left = since + LONG_DELETION - observed.at if since is not None else None
    return left + timedelta(seconds=1) if left is not None and left >= timedelta(0) else None


def available(observed: Observed, ready_now: ConditionValue) -> tuple[ConditionValue, timedelta | None]:
    """Whether the Machine has been Ready for minReadySeconds, and how long until it will have been."""
    if ready_now.status != TRUE:
        return ConditionValue("Available", FALSE, "NotReady"), None
    stored = get(observed.machine.status.conditions, "Ready")
    since: datetime = observed.at
    if stored is not None and stored.status == TRUE and stored.last_transition_time is not None:
        since = stored.last_transition_time
    # what is stored has whole seconds, so this run counts from the second it will store
    left = since.replace(microsecond=0) + timedelta(seconds=observed.machine.spec.min_ready_seconds or 0) - observed.at
    if left <= timedelta(0):
        return ConditionValue("Available", TRUE, "Available"), None
    return ConditionValue("Available", FALSE, "WaitingForMinReadySeconds"), left


def phase(observed: Observed, provisioned: Provisioned, *, has_node: bool) -> str:
    """The phase, by what has been reached."""
    machine = observed.machine
    if machine.metadata.deleting:
        return "Deleting"
    if labels.UPDATE_IN_PROGRESS in machine.metadata.annotations:
        return "Updating"
    if has_node and provisioned.infrastructure:
        return "Running"
    if provisioned.provider_id:
        return "Provisioned"
    return "Provisioning" if provisioned.bootstrap and not provisioned.infrastructure else "Pending"


def kubelet_version(node_info: Mapping[str, Any] | None) -> str:
    """The kubelet's version in a Node's report about itself."""
    return str((node_info or {}).get("kubeletVersion", ""))
