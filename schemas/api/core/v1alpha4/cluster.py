"""Cluster and ClusterClass (cluster.x-k8s.io/v1alpha4)."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from schemas.api.core.v1beta1 import cluster, cluster_class
from schemas.api.scalars import Text253
from schemas.markers import AGE, OPTIONAL, Column

VERSION = "v1alpha4"
_TIMEOUTS = frozenset({"node_drain_timeout", "node_volume_detach_timeout", "node_deletion_timeout"})


class APIEndpoint(cluster.APIEndpoint):
    """Where an API server is reached."""

    host: Annotated[str, Field(max_length=512)]
    """Host name or address."""
    port: int
    """Port."""


class ControlPlaneTopology(cluster.ControlPlaneTopology):
    """The control plane a topology asks for."""

    LACKS = _TIMEOUTS | {"rollout", "machine_health_check", "taints", "readiness_gates", "variables"}


class MachineDeploymentTopology(cluster.MachineDeploymentTopology):
    """A MachineDeployment a topology asks for."""

    LACKS = ControlPlaneTopology.LACKS | {"failure_domain", "min_ready_seconds", "strategy"}


class WorkersTopology(cluster.WorkersTopology):
    """The workers a topology asks for."""

    LACKS = frozenset({"machine_pools"})

    machine_deployments: tuple[MachineDeploymentTopology, ...] = ()
    """MachineDeployments of the Cluster."""


class Topology(cluster.Topology):
    """What a user asks of a ClusterClass."""

    LACKS = frozenset({"class_namespace", "variables"})

    class_: Annotated[Text253, Field(alias="class")]
    """Name of the ClusterClass the Cluster is made from."""
    control_plane: ControlPlaneTopology = ControlPlaneTopology()
    """The control plane."""
    workers: WorkersTopology | None = None
    """The workers."""


class ClusterSpec(cluster.ClusterSpec):
    """What the Cluster shall be."""

    LACKS = frozenset({"availability_gates"})

    control_plane_endpoint: APIEndpoint | None = None  # type: ignore[assignment]
    """Where the API server is reached; set by the user, the infrastructure or the control plane provider."""
    topology: Topology | None = None
    """What is asked of a ClusterClass; controllers then keep all objects of the Cluster in line with it."""


class ClusterStatus(cluster.ClusterStatus):
    """What is known about the Cluster."""

    LACKS = frozenset({"v1beta2"})


class Cluster(cluster.Cluster):
    """A workload cluster as a whole."""

    VERSION: ClassVar[str] = VERSION
    LOWER_BOUNDS: ClassVar[bool] = False
    PRINT_COLUMNS: ClassVar[tuple[Column, ...]] = (AGE, Column("Phase", ".status.phase"))

    spec: Annotated[ClusterSpec, OPTIONAL]
    """What the Cluster shall be."""
    status: ClusterStatus = ClusterStatus()
    """What is known about the Cluster."""


class ControlPlaneClass(cluster_class.ControlPlaneClass):
    """Control planes of Clusters of the class."""

    LACKS = _TIMEOUTS | {"machine_health_check", "naming_strategy", "taints", "readiness_gates"}


class MachineDeploymentClass(cluster_class.MachineDeploymentClass):
    """A sort of MachineDeployment."""

    LACKS = ControlPlaneClass.LACKS | {"failure_domain", "min_ready_seconds", "strategy"}


class WorkersClass(cluster_class.WorkersClass):
    """Workers of Clusters of the class."""

    LACKS = frozenset({"machine_pools"})

    machine_deployments: tuple[MachineDeploymentClass, ...] = ()
    """Sorts of MachineDeployments."""


class ClusterClassSpec(cluster_class.ClusterClassSpec):
    """What Clusters of the class have in common."""

    LACKS = frozenset({"availability_gates", "infrastructure_naming_strategy", "variables", "patches", "upgrade", "kubernetes_versions"})

    control_plane: Annotated[ControlPlaneClass, OPTIONAL]
    """Control planes of the Clusters."""
    workers: WorkersClass = WorkersClass()
    """Workers of the Clusters."""


class ClusterClass(cluster_class.ClusterClass):
    """What Clusters of one sort have in common."""

    VERSION: ClassVar[str] = VERSION
    LOWER_BOUNDS: ClassVar[bool] = False
    STATUS_SUBRESOURCE: ClassVar[bool] = False
    LACKS = frozenset({"status"})

    spec: Annotated[ClusterClassSpec, OPTIONAL]
    """What Clusters of the class have in common."""
