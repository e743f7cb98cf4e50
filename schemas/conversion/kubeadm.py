"""bootstrap.cluster.x-k8s.io and controlplane.cluster.x-k8s.io: how v1beta1 differs from the hub.

Source: contracts.md §10; cluster-api api/bootstrap/kubeadm/v1beta1/conversion.go, api/controlplane/kubeadm/v1beta1/conversion.go and their webhooks/conversion
(main, heading for v1.15).
"""

from __future__ import annotations

from typing import Any, Final

from schemas.conversion.codecs import ARGUMENTS, DURATION, DURATION_OR_ZERO, REFERENCE, ROLLOUT_STRATEGY, UNSAID_ZERO
from schemas.conversion.core import CONDITIONS, FAILURE, counters, node_timeouts
from schemas.conversion.rules import Adjusted, Derived, Rule, moved, said, table, within
from schemas.conversion.values import MISSING, path


def _one_layout(partition: dict[str, Any]) -> None:
    """v1beta1 asks for a flag beside the list of partitions that makes it moot; the hub asks for one of the two."""
    if partition.get("diskLayout") and not partition.get("layout"):
        partition.pop("layout", None)


PARTITION: Final = Adjusted(_one_layout)


def _component(where: str) -> tuple[Rule, ...]:
    return (said(f"{where}.extraArgs", ARGUMENTS), within(f"{where}.extraVolumes", said("readOnly", UNSAID_ZERO)))


KUBEADM_CONFIG_SPEC: Final[tuple[Rule, ...]] = (
    # kubeadm waits as long on every control plane host, whether it initializes or joins
    moved(
        "clusterConfiguration.apiServer.timeoutForControlPlane",
        "initConfiguration.timeouts.controlPlaneComponentHealthCheckSeconds",
        DURATION,
        "joinConfiguration.timeouts.controlPlaneComponentHealthCheckSeconds",
    ),
    moved("joinConfiguration.discovery.timeout", "joinConfiguration.timeouts.tlsBootstrapSeconds", DURATION),
    *_component("clusterConfiguration.apiServer"),
    *_component("clusterConfiguration.controllerManager"),
    *_component("clusterConfiguration.scheduler"),
    said("clusterConfiguration.etcd.local.extraArgs", ARGUMENTS),
    said("initConfiguration.nodeRegistration.kubeletExtraArgs", ARGUMENTS),
    said("joinConfiguration.nodeRegistration.kubeletExtraArgs", ARGUMENTS),
    within("initConfiguration.bootstrapTokens", moved("ttl", "ttlSeconds", DURATION)),
    said("joinConfiguration.discovery.bootstrapToken.unsafeSkipCAVerification", UNSAID_ZERO),
    said("joinConfiguration.discovery.file.kubeConfig.cluster.insecureSkipTLSVerify", UNSAID_ZERO),
    said("joinConfiguration.discovery.file.kubeConfig.user.exec.provideClusterInfo", UNSAID_ZERO),
    within("files", said("append", UNSAID_ZERO)),
    within("diskSetup.partitions", PARTITION),
    said("ignition.containerLinuxConfig.strict", UNSAID_ZERO),
)

KUBEADM_CONFIG: Final = table(
    within("spec", *KUBEADM_CONFIG_SPEC),
    CONDITIONS,
    FAILURE,
    moved("status.ready", "status.initialization.dataSecretCreated", UNSAID_ZERO),
)

KUBEADM_CONFIG_TEMPLATE: Final = table(within("spec.template.spec", *KUBEADM_CONFIG_SPEC))

_CONTROL_PLANE_SPEC: Final[tuple[Rule, ...]] = (
    within("kubeadmConfigSpec", *KUBEADM_CONFIG_SPEC),
    *(moved(f"machineTemplate.{rule.old[0]}", f"machineTemplate.spec.{'.'.join(rule.hub)}", rule.codec) for rule in node_timeouts()),
    moved("machineTemplate.taints", "machineTemplate.spec.taints"),
    moved("rolloutBefore", "rollout.before"),
    moved("rolloutAfter", "rollout.after"),
    moved("rolloutStrategy", "rollout.strategy", ROLLOUT_STRATEGY),
    moved("remediationStrategy.maxRetry", "remediation.maxRetry"),
    moved("remediationStrategy.retryPeriod", "remediation.retryPeriodSeconds", DURATION_OR_ZERO),
    moved("remediationStrategy.minHealthyPeriod", "remediation.minHealthyPeriodSeconds", DURATION),
    moved("machineNamingStrategy", "machineNaming"),
)


def _ready(obj: dict[str, Any]) -> Any:
    """v1beta1's word for an API server that answers: some Machine's Node is ready."""
    status = obj.get("status")
    return bool(status.get("readyReplicas")) if isinstance(status, dict) else MISSING


KUBEADM_CONTROL_PLANE: Final = table(
    within("spec", *_CONTROL_PLANE_SPEC),
    moved("spec.machineTemplate.infrastructureRef", "spec.machineTemplate.spec.infrastructureRef", REFERENCE),
    moved("spec.machineTemplate.readinessGates", "spec.machineTemplate.spec.readinessGates"),
    CONDITIONS,
    FAILURE,
    counters("readyReplicas", "unavailableReplicas", "updatedReplicas"),
    moved("status.initialized", "status.initialization.controlPlaneInitialized", UNSAID_ZERO),
    moved("status.lastRemediation.timestamp", "status.lastRemediation.time"),
    Derived(path("status.ready"), _ready),
)

KUBEADM_CONTROL_PLANE_TEMPLATE: Final = table(within("spec.template.spec", *_CONTROL_PLANE_SPEC))
