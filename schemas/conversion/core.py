"""cluster.x-k8s.io: how v1beta1 differs from the hub.

Source: contracts.md §10; cluster-api api/core/v1beta1/conversion.go and core/webhooks/conversion (main, heading for v1.15).
"""

from __future__ import annotations

from typing import Final

from schemas.conversion.codecs import (
    DURATION,
    FAILURE_DOMAINS,
    MACHINE_PHASE,
    NODE,
    REFERENCE,
    ROLLOUT_STRATEGY,
    TEMPLATE_REFERENCE,
    UNSAID_ZERO,
)
from schemas.conversion.rules import Moved, Rule, moved, said, table, within

_TIMEOUTS: Final = ("nodeDrainTimeout", "nodeVolumeDetachTimeout", "nodeDeletionTimeout")

CONDITIONS: Final = (
    moved("status.conditions", "status.deprecated.v1beta1.conditions"),
    moved("status.v1beta2.conditions", "status.conditions"),
)
"""Conditions with a severity, and those that followed them."""

FAILURE: Final = (
    moved("status.failureReason", "status.deprecated.v1beta1.failureReason"),
    moved("status.failureMessage", "status.deprecated.v1beta1.failureMessage"),
)


def node_timeouts(hub: str = "deletion") -> tuple[Moved, ...]:
    """How long a deletion waits for the Node."""
    return tuple(moved(name, f"{hub}.{name}Seconds", DURATION) for name in _TIMEOUTS)


def counters(*deprecated: str) -> tuple[Rule, ...]:
    """Counts of Machines: those by Nodes, and those by conditions that took over their names."""
    old = tuple(moved(f"status.{name}", f"status.deprecated.v1beta1.{name}") for name in deprecated)
    new = tuple(moved(f"status.v1beta2.{name}", f"status.{name}") for name in ("readyReplicas", "availableReplicas", "upToDateReplicas"))
    return (*old, *new)


def health_check(old: str, hub: str) -> tuple[Rule, ...]:
    """What makes a Machine unhealthy, and when it is remediated."""
    timeout = moved("timeout", "timeoutSeconds", DURATION)
    return (
        within(f"{old}.unhealthyConditions", timeout),
        within(f"{old}.unhealthyMachineConditions", timeout),
        moved(f"{old}.unhealthyConditions", f"{hub}.checks.unhealthyNodeConditions"),
        moved(f"{old}.unhealthyMachineConditions", f"{hub}.checks.unhealthyMachineConditions"),
        moved(f"{old}.nodeStartupTimeout", f"{hub}.checks.nodeStartupTimeoutSeconds", DURATION),
        moved(f"{old}.maxUnhealthy", f"{hub}.remediation.triggerIf.unhealthyLessThanOrEqualTo"),
        moved(f"{old}.unhealthyRange", f"{hub}.remediation.triggerIf.unhealthyInRange"),
        moved(f"{old}.remediationTemplate", f"{hub}.remediation.templateRef", TEMPLATE_REFERENCE),
    )


MACHINE_SPEC: Final = (
    *node_timeouts(),
    said("infrastructureRef", REFERENCE),
    said("bootstrap.configRef", REFERENCE),
)

PROVISIONING: Final = (
    moved("status.bootstrapReady", "status.initialization.bootstrapDataSecretCreated", UNSAID_ZERO),
    moved("status.infrastructureReady", "status.initialization.infrastructureProvisioned", UNSAID_ZERO),
)

MACHINE: Final = table(
    within("spec", *MACHINE_SPEC),
    CONDITIONS,
    FAILURE,
    PROVISIONING,
    said("status.nodeRef", NODE),
    said("status.phase", MACHINE_PHASE),
)

_TEMPLATE: Final = within("spec.template.spec", *MACHINE_SPEC)
_MIN_READY: Final = "spec.minReadySeconds", "spec.template.spec.minReadySeconds"

MACHINE_SET: Final = table(
    _TEMPLATE,
    moved(*_MIN_READY, UNSAID_ZERO),
    moved("spec.deletePolicy", "spec.deletion.order"),
    moved("spec.machineNamingStrategy", "spec.machineNaming"),
    CONDITIONS,
    FAILURE,
    counters("readyReplicas", "availableReplicas", "fullyLabeledReplicas"),
)

MACHINE_DEPLOYMENT: Final = table(
    _TEMPLATE,
    moved(*_MIN_READY),
    moved("spec.strategy.rollingUpdate.deletePolicy", "spec.deletion.order"),
    moved("spec.strategy.remediation.maxInFlight", "spec.remediation.maxInFlight"),
    moved("spec.strategy", "spec.rollout.strategy", ROLLOUT_STRATEGY),
    moved("spec.rolloutAfter", "spec.rollout.after"),
    moved("spec.machineNamingStrategy", "spec.machineNaming"),
    said("spec.paused", UNSAID_ZERO),
    CONDITIONS,
    counters("readyReplicas", "availableReplicas", "unavailableReplicas", "updatedReplicas"),
)

MACHINE_POOL: Final = table(
    _TEMPLATE,
    moved(*_MIN_READY),
    CONDITIONS,
    FAILURE,
    PROVISIONING,
    counters("readyReplicas", "availableReplicas", "unavailableReplicas"),
)

MACHINE_HEALTH_CHECK: Final = table(
    health_check("spec", "spec"),
    CONDITIONS,
    (said(f"status.{name}", UNSAID_ZERO) for name in ("expectedMachines", "currentHealthy", "remediationsAllowed")),
)

_DEPLOYMENT: Final = (
    *node_timeouts(),
    *health_check("machineHealthCheck", "healthCheck"),
    moved("strategy.rollingUpdate.deletePolicy", "deletion.order"),
    moved("strategy.remediation.maxInFlight", "healthCheck.remediation.maxInFlight"),
    moved("strategy", "rollout.strategy", ROLLOUT_STRATEGY),
)
"""A MachineDeployment of a topology or a class."""

_TOPOLOGY: Final = (
    moved("class", "classRef.name"),
    moved("classNamespace", "classRef.namespace"),
    within("controlPlane", *node_timeouts(), *health_check("machineHealthCheck", "healthCheck"), moved("machineHealthCheck.enable", "healthCheck.enabled")),
    within("workers.machineDeployments", *_DEPLOYMENT, moved("machineHealthCheck.enable", "healthCheck.enabled")),
    within("workers.machinePools", *node_timeouts()),
)

CLUSTER: Final = table(
    said("spec.paused", UNSAID_ZERO),
    said("spec.infrastructureRef", REFERENCE),
    said("spec.controlPlaneRef", REFERENCE),
    within("spec.topology", *_TOPOLOGY),
    CONDITIONS,
    FAILURE,
    moved("status.infrastructureReady", "status.initialization.infrastructureProvisioned", UNSAID_ZERO),
    moved("status.controlPlaneReady", "status.initialization.controlPlaneInitialized", UNSAID_ZERO),
    moved("status.v1beta2.controlPlane", "status.controlPlane"),
    moved("status.v1beta2.workers", "status.workers"),
    said("status.failureDomains", FAILURE_DOMAINS),
)

MACHINE_DRAIN_RULE: Final = table()

_TEMPLATE_REF: Final = moved("ref", "templateRef", TEMPLATE_REFERENCE)
_CLASS: Final = (
    moved("template.metadata", "metadata"),
    within("template.bootstrap", _TEMPLATE_REF),
    within("template.infrastructure", _TEMPLATE_REF),
    moved("template.bootstrap", "bootstrap"),
    moved("template.infrastructure", "infrastructure"),
    moved("namingStrategy", "naming"),
)
"""A class of workers."""

_VARIABLE_SCHEMA: Final = within(
    "schema.openAPIV3Schema",
    *(
        said(name, UNSAID_ZERO)
        for name in ("uniqueItems", "exclusiveMaximum", "exclusiveMinimum", "x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields")
    ),
)
_VARIABLE: Final = (moved("metadata", "deprecatedV1Beta1Metadata"), _VARIABLE_SCHEMA)

CLUSTER_CLASS: Final = table(
    within("spec.infrastructure", _TEMPLATE_REF),
    moved("spec.infrastructureNamingStrategy", "spec.infrastructure.naming"),
    within(
        "spec.controlPlane",
        _TEMPLATE_REF,
        within("machineInfrastructure", _TEMPLATE_REF),
        moved("namingStrategy", "naming"),
        *node_timeouts(),
        *health_check("machineHealthCheck", "healthCheck"),
    ),
    within("spec.workers.machineDeployments", *_CLASS, *_DEPLOYMENT),
    within("spec.workers.machinePools", *_CLASS, *node_timeouts()),
    within(
        "spec.patches",
        moved("external.generateExtension", "external.generatePatchesExtension"),
        moved("external.validateExtension", "external.validateTopologyExtension"),
        within("definitions", *(said(f"selector.matchResources.{name}", UNSAID_ZERO) for name in ("controlPlane", "infrastructureCluster"))),
    ),
    within("spec.variables", *_VARIABLE),
    within("status.variables", said("definitionsConflict", UNSAID_ZERO), within("definitions", *_VARIABLE)),
    CONDITIONS,
)
