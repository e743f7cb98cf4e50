"""The readable list of what this service reconciles."""

from __future__ import annotations

from typing import Any

from fleetwake.kind import Kind
from services.reconcilers.kinds import (
    cluster,
    cluster_class,
    cluster_topology,
    kubeadm_config,
    kubeadm_control_plane,
    machine,
    machine_deployment,
    machine_pool,
    machine_set,
    topology_templates,
)

KINDS: tuple[Kind[Any], ...] = (
    cluster.KIND,
    machine.KIND,
    machine_set.KIND,
    machine_deployment.KIND,
    machine_pool.KIND,
    kubeadm_config.KIND,
    kubeadm_control_plane.KIND,
)
TOPOLOGY_KINDS: tuple[Kind[Any], ...] = (
    cluster_class.KIND,
    cluster_topology.KIND,
    topology_templates.MACHINE_DEPLOYMENT_KIND,
    topology_templates.MACHINE_SET_KIND,
)
"""Those that the setting cluster_topology adds: reconcilers of their own beside those of the same objects."""
