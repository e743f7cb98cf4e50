"""The readable list of what this service reconciles."""

from __future__ import annotations

from typing import Any

from fleetwake.kind import Kind
from services.reconcilers.kinds import cluster, kubeadm_config, kubeadm_control_plane, machine, machine_deployment, machine_pool, machine_set

KINDS: tuple[Kind[Any], ...] = (
    cluster.KIND,
    machine.KIND,
    machine_set.KIND,
    machine_deployment.KIND,
    machine_pool.KIND,
    kubeadm_config.KIND,
    kubeadm_control_plane.KIND,
)
