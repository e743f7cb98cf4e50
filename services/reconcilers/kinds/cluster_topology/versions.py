"""Which Kubernetes version each part of a topology has now: the control plane first, then workers in their order, as many at a time as are allowed.

Pure of objects: it reads names and versions, and what others say about them (``current`` gathers that).

Source: kinds.md §10.4; Cluster API v1.14 (upgrade of managed topologies; lifecycle hooks).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum

from fleetwake import labels
from fleetwake.topology.upgrade_plan import UpgradePlans, upgrade_plans

AFTER_CLUSTER_UPGRADE = "AfterClusterUpgrade"
AFTER_CONTROL_PLANE_UPGRADE = "AfterControlPlaneUpgrade"
AFTER_WORKERS_UPGRADE = "AfterWorkersUpgrade"
BEFORE_CLUSTER_CREATE = "BeforeClusterCreate"
BEFORE_CLUSTER_UPGRADE = "BeforeClusterUpgrade"
BEFORE_CONTROL_PLANE_UPGRADE = "BeforeControlPlaneUpgrade"
BEFORE_WORKERS_UPGRADE = "BeforeWorkersUpgrade"

CONCURRENCY_DEFAULT = 1
"""Workers of a kind that upgrade at once, unless the Cluster is annotated."""


class WorkerState(Enum):
    """Where workers stand in an upgrade."""

    CURRENT = "current"
    UPGRADING = "upgrading"
    PENDING = "pending"
    DEFERRED = "deferred"
    PENDING_CREATE = "pending create"


@dataclass(frozen=True, slots=True)
class WorkerWanted:
    """Workers as the topology lists them, with what exists of them.

    ``version`` is empty while they do not exist. ``annotations`` are those of the topology; ``upgrading``: some of their Machines have another version.
    """

    topology_name: str
    version: str = ""
    name: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)
    upgrading: bool = False


@dataclass(frozen=True, slots=True)
class WorkerVersion:
    """What version workers get now, and why not another. ``name`` is their object's, empty while there is none."""

    topology_name: str
    name: str
    version: str
    state: WorkerState


@dataclass(frozen=True, slots=True)
class ControlPlaneNow:
    """What is known of the control plane that exists."""

    version: str
    provisioning: bool = False
    upgrading: bool = False


@dataclass(frozen=True, slots=True)
class ControlPlaneVersion:
    """What version the control plane gets now, and what it waits for. ``pending``: it is not yet to be at the topology's version."""

    version: str
    pending: bool = False
    provisioning: bool = False
    upgrading: bool = False
    starting: bool = False
    waits_for_workers: bool = False

    @property
    def stable(self) -> bool:
        """Whether nothing of it changes, nor is about to."""
        return not (self.provisioning or self.upgrading or self.starting or self.pending)

    @property
    def workers_may_upgrade(self) -> bool:
        """Whether it is stable, or only waits for its workers."""
        return not (self.provisioning or self.upgrading or self.starting) and (not self.pending or self.waits_for_workers)


@dataclass(frozen=True, slots=True)
class Hooks:
    """Hooks of extensions and annotations: ``pending`` are those noted on the Cluster, ``blocking`` those that hold, each with what it says."""

    pending: frozenset[str] = frozenset()
    blocking: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """All that versions are decided from."""

    version: str
    control_plane: ControlPlaneNow | None = None
    deployments: Sequence[WorkerWanted] = ()
    pools: Sequence[WorkerWanted] = ()
    leaving: Sequence[str] = ()
    """Versions of workers that exist and are no longer asked for."""
    class_versions: Sequence[str] = ()
    concurrency: int = CONCURRENCY_DEFAULT
    hooks: Hooks = Hooks()


@dataclass(frozen=True, slots=True)
class Versions:
    """The decision: a version for each part, the plans, and which hooks are due once this step is done. ``step``: an upgrade is under way."""

    control_plane: ControlPlaneVersion
    deployments: tuple[WorkerVersion, ...] = ()
    pools: tuple[WorkerVersion, ...] = ()
    plans: UpgradePlans = field(default_factory=UpgradePlans)
    hooks: Hooks = Hooks()

    @property
    def upgrading(self) -> bool:
        """Whether an upgrade has begun and is not over."""
        return AFTER_CLUSTER_UPGRADE in self.hooks.pending

    def in_state(self, workers: Sequence[WorkerVersion], state: WorkerState) -> tuple[str, ...]:
        """Names of the workers in a state: of their objects, of those to be made by the topology."""
        return tuple(sorted(one.name or one.topology_name for one in workers if one.state is state))


def decide_versions(asked: Asked) -> Versions:
    """The version of each part. Raises: UpgradePlanError."""
    if asked.control_plane is None:
        control_plane, plans = ControlPlaneVersion(asked.version), UpgradePlans()
    else:
        existing = [one.version for one in (*asked.deployments, *asked.pools) if one.version]
        plans = upgrade_plans(asked.version, asked.control_plane.version, [*existing, *asked.leaving], asked.class_versions)
        control_plane = _control_plane(asked, asked.control_plane, plans)
    deployments = _workers(asked, asked.deployments, control_plane, plans)
    pools = _workers(asked, asked.pools, control_plane, plans)
    decided = Versions(control_plane, deployments, pools, plans)
    return replace(decided, hooks=_hooks(asked, decided))


def _control_plane(asked: Asked, now: ControlPlaneNow, plans: UpgradePlans) -> ControlPlaneVersion:
    kept = ControlPlaneVersion(now.version, pending=now.version != asked.version)
    blocking = asked.hooks.blocking
    if now.provisioning:
        return replace(kept, provisioning=True)
    if now.upgrading:
        return replace(kept, upgrading=True)
    if AFTER_CONTROL_PLANE_UPGRADE in blocking or BEFORE_WORKERS_UPGRADE in blocking:
        return kept
    if any(one.version for one in (*asked.deployments, *asked.pools)) and plans.workers[:1] == (now.version,):
        return replace(kept, waits_for_workers=True)
    if any(one.upgrading for one in (*asked.deployments, *asked.pools)) or AFTER_WORKERS_UPGRADE in blocking or not kept.pending:
        return kept
    begun = AFTER_CLUSTER_UPGRADE in asked.hooks.pending
    if (BEFORE_CLUSTER_UPGRADE in blocking and not begun) or BEFORE_CONTROL_PLANE_UPGRADE in blocking:
        return kept
    return ControlPlaneVersion(plans.control_plane[0], starting=True)


def _workers(asked: Asked, workers: Sequence[WorkerWanted], control_plane: ControlPlaneVersion, plans: UpgradePlans) -> tuple[WorkerVersion, ...]:
    """The workers of one kind, in their order."""
    upgrading = {one.topology_name for one in workers if one.upgrading}
    held = False
    found: list[WorkerVersion] = []
    for one in workers:
        held = held or labels.HOLD_UPGRADE_SEQUENCE in one.annotations
        deferred = held or labels.DEFER_UPGRADE in one.annotations
        decided = _worker(asked, one, _Around(control_plane, plans, deferred, len(upgrading)))
        if decided.state is WorkerState.UPGRADING:
            upgrading.add(one.topology_name)
        found.append(decided)
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Around:
    """What else a worker's version depends on."""

    control_plane: ControlPlaneVersion
    plans: UpgradePlans
    deferred: bool
    upgrading: int


def _worker(asked: Asked, one: WorkerWanted, around: _Around) -> WorkerVersion:
    blocked = any(hook in asked.hooks.blocking for hook in (AFTER_CONTROL_PLANE_UPGRADE, BEFORE_WORKERS_UPGRADE))
    if not one.version:
        waits = not around.control_plane.stable or blocked
        return WorkerVersion(one.topology_name, "", asked.version, WorkerState.PENDING_CREATE if waits else WorkerState.CURRENT)
    stays = WorkerVersion(one.topology_name, one.name, one.version, WorkerState.UPGRADING if one.upgrading else WorkerState.CURRENT)
    if one.version == asked.version:
        return stays
    steps = around.plans.workers
    if around.deferred:
        state = WorkerState.DEFERRED
    elif (
        blocked
        or around.upgrading >= max(asked.concurrency, CONCURRENCY_DEFAULT)
        or not around.control_plane.workers_may_upgrade
        or not steps
        or steps[0] == one.version
    ):
        state = WorkerState.PENDING
    else:
        return replace(stays, version=steps[0], state=WorkerState.UPGRADING)
    # what is still busy with an earlier step says so first
    return stays if one.upgrading else replace(stays, state=state)


def _hooks(asked: Asked, decided: Versions) -> Hooks:
    """What is noted on the Cluster after this decision: an upgrade that starts notes what must be called for it, one that is over notes nothing."""
    pending = set(asked.hooks.pending)
    if decided.control_plane.starting or (decided.control_plane.upgrading and decided.control_plane.pending):
        # the second: the note of a start was lost, or its control plane was given the version by hand
        pending.add(AFTER_CLUSTER_UPGRADE)
    settled = all(one.state is WorkerState.CURRENT for one in (*decided.deployments, *decided.pools))
    over = decided.control_plane.stable and settled and AFTER_CLUSTER_UPGRADE not in asked.hooks.blocking
    if over and not {AFTER_CONTROL_PLANE_UPGRADE, AFTER_WORKERS_UPGRADE} & pending:
        pending.discard(AFTER_CLUSTER_UPGRADE)
    return replace(asked.hooks, pending=frozenset(pending))


def pending_hooks(annotation: str) -> frozenset[str]:
    """The hooks noted on a Cluster."""
    return frozenset(filter(None, annotation.split(",")))


def concurrency(annotations: Mapping[str, str]) -> int:
    """How many workers of a kind may upgrade at once; what cannot be read counts as the default."""
    text = annotations.get(labels.UPGRADE_CONCURRENCY, "")
    return max(int(text), CONCURRENCY_DEFAULT) if text.isdecimal() else CONCURRENCY_DEFAULT
