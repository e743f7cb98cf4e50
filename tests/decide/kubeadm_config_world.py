"""A cluster, one Machine and its KubeadmConfig, run until nothing is left to write."""

from __future__ import annotations

from typing import Any

from fleetwake.plan import Apply, Create, Delete, Patch, flatten
from services.reconcilers.kinds.kubeadm_config import KIND
from tests.decide.kubeadm_world import KubeadmWorld, certificates, cluster, condition, kubeadm_config, machine

INITIALIZED = {"conditions": [condition("ControlPlaneInitialized")]}


def world_of(*, initialized: bool, control_plane: bool, spec: dict[str, Any] | None = None, version: str = "v1.34.2") -> KubeadmWorld:
    world = KubeadmWorld(
        [
            cluster(**(INITIALIZED if initialized else {})),
            machine("m1", control_plane=control_plane, version=version),
            kubeadm_config("m1", "m1", spec),
            *certificates(),
        ]
    )
    world.connected = initialized
    return world


def settle(world: KubeadmWorld, name: str = "m1") -> list[str]:
    """Run to silence; the writes made, by kind."""
    writes: list[str] = []
    for _ in range(10):
        plan = world.run(KIND, "default", name)
        if not plan.steps:
            return writes
        writes += [f"{type(step).__name__} {step.key.kind}" for step in flatten(plan.steps) if isinstance(step, Create | Patch | Apply | Delete)]
    raise AssertionError(f"{name} does not settle: {plan.steps}")
