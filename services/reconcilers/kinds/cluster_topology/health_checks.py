"""MachineHealthChecks of a topology: one of the control plane and one of each MachineDeployment, where class or topology asks for it.

Source: kinds.md §10.2 (healthCheck), §0.4 (named as its target); Cluster API v1.14.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from fleetwake import defaults, labels
from fleetwake.patches import owner_reference, owner_wire, pruned, wire
from fleetwake.topology.blueprint import Json
from schemas.api.core.v1beta2.cluster import Cluster
from schemas.api.core.v1beta2.machine_health_check import MachineHealthCheck
from schemas.api.core.v1beta2.shared import HealthCheckRemediation, MachineHealthChecks


class Checks(Protocol):
    """A health check of the class."""

    @property
    def checks(self) -> MachineHealthChecks:
        """What makes a Machine unhealthy."""
        ...

    @property
    def remediation(self) -> HealthCheckRemediation:
        """When and how unhealthy Machines are remediated."""
        ...


class TopologyChecks(Checks, Protocol):
    """A health check of the topology, which may be turned on and off."""

    @property
    def enabled(self) -> bool | None:
        """Whether Machines are checked; None: if anybody says how."""
        ...


def chosen(topology: TopologyChecks, of_class: Checks) -> Checks | None:
    """The check that holds: the topology's whole one if it says anything, else the class's; None when neither does, or it is turned off."""
    given = _says(topology)
    if not (given or _says(of_class)) or topology.enabled is False:
        return None
    return topology if given else of_class


def _says(check: Checks) -> bool:
    return bool(pruned(wire(check.checks))) or bool(pruned(wire(check.remediation)))


def health_check(cluster: Cluster, target: str, selector: Mapping[str, str], checks: Checks) -> Json:
    """The MachineHealthCheck of an object, with the defaults that admission would fill in."""
    remediation = {name: value for name, value in wire(checks.remediation).items() if name != "maxInFlight"}
    spec: dict[str, Any] = {
        "clusterName": cluster.name,
        "selector": {"matchLabels": dict(selector)},
        "checks": wire(checks.checks),
        "remediation": remediation,
    }
    made = MachineHealthCheck.model_validate({"spec": pruned(spec) | {"selector": spec["selector"]}})
    return {
        "apiVersion": f"{MachineHealthCheck.GROUP}/{MachineHealthCheck.VERSION}",
        "kind": MachineHealthCheck.KIND,
        "metadata": {
            "name": target,
            "namespace": cluster.namespace,
            "labels": {labels.CLUSTER_NAME: cluster.name, labels.TOPOLOGY_OWNED: ""},
            "ownerReferences": [owner_wire(owner_reference(cluster))],
        },
        "spec": wire(defaults.machine_health_check(made).spec),
    }


def control_plane_selector() -> dict[str, str]:
    """What selects the Machines of the control plane."""
    return {labels.TOPOLOGY_OWNED: "", labels.CONTROL_PLANE: ""}


def deployment_selector(topology_name: str) -> dict[str, str]:
    """What selects the Machines of a MachineDeployment."""
    return {labels.TOPOLOGY_OWNED: "", labels.TOPOLOGY_DEPLOYMENT_NAME: topology_name}
