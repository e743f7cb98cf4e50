"""Which MachineSet is the new revision, and what every MachineSet of the deployment shall look like.

A MachineSet is wanted whole: its revision's own fields (version, references, failure domain) stay as they are, everything else follows
the MachineDeployment in place, old revisions included.

Source: kinds.md §4 "Identify new MS", §0.4 (names); Cluster API v1.14 annotations of MachineSets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from fleetwake import labels, names
from fleetwake.conditions import is_true
from fleetwake.patches import api_version_of, key_of, owner_reference, owner_wire, pruned, wire
from fleetwake.plan import Apply, Create
from schemas.api.core.v1beta2.machine import Machine, MachineTemplateSpec
from schemas.api.core.v1beta2.machine_deployment import MachineDeployment
from schemas.api.core.v1beta2.machine_set import MachineSet, MachineSetDeletion, MachineSetSpec
from schemas.api.meta import LabelSelector
from services.reconcilers.kinds.machine_deployment.extension import STRATEGY
from services.reconcilers.kinds.machine_deployment.planner import Bounds, Counts
from services.reconcilers.kinds.machine_deployment.template import rollout_equal, template_hash, version_first

MANAGER = "capi-machinedeployment"
REVISION_HISTORY = "machinedeployment.clusters.x-k8s.io/revision-history"
IN_PLACE = ("min_ready_seconds", "readiness_gates", "deletion", "taints")
NOT_COPIED = frozenset(
    {labels.LAST_APPLIED, labels.REVISION, REVISION_HISTORY, labels.DESIRED_REPLICAS, labels.MAX_REPLICAS, labels.CONVERSION_DATA, labels.TOPOLOGY_FIELDS}
    | {STRATEGY}
)
"""Annotations of a MachineDeployment that its MachineSets do not get."""

_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Revisions:
    """The MachineSets told apart: the new one (None: to be made, ``reason`` says why) and the old ones, oldest first."""

    new: MachineSet | None
    old: tuple[MachineSet, ...]
    reason: str = ""


def created(machine_set: MachineSet) -> tuple[datetime, str]:
    """The sort key of age: when it was created, then its name."""
    return machine_set.metadata.creation_timestamp or _NEVER, machine_set.name


def identify(deployment: MachineDeployment, machine_sets: Sequence[MachineSet], at: datetime) -> Revisions:
    """Find the MachineSet of the current template: of several the one with most replicas; after ``rollout.after`` only one made since then."""
    template, after = deployment.spec.template.spec, deployment.spec.rollout.after
    ordered = sorted(machine_sets, key=lambda one: (-(one.spec.replicas or 0), created(one)))
    fitting = [one for one in ordered if not rollout_equal(one.spec.template.spec, template)]
    due = after is not None and at >= after
    if after is not None and due:
        fitting = [one for one in fitting if created(one)[0] >= after]
    new = fitting[0] if fitting else None
    old = tuple(sorted((one for one in machine_sets if one is not new), key=created))
    if new is not None:
        return Revisions(new, old)
    if not old:
        return Revisions(None, old, "no MachineSet exists yet")
    differences = {reason for one in old for reason in rollout_equal(one.spec.template.spec, template)}
    asked = f"a rollout was asked for after {after:%Y-%m-%dT%H:%M:%SZ}" if after is not None and due else ""
    return Revisions(None, old, "; ".join([*version_first(differences), *([asked] if asked and not differences else [])]) or asked)


def counts(machine_set: MachineSet, machines: Sequence[Machine]) -> Counts:
    """The numbers of a MachineSet, for the planner.

    A status lags behind the Machines: of both the one is taken with which less is allowed, the greater number of Machines and the smaller of
    available ones, as long as it is not for a Machine to be unavailable that one of them calls available.
    """
    status, annotated = machine_set.status, machine_set.metadata.annotations.get(labels.MAX_REPLICAS, "")
    mine = [one for one in machines if one.metadata.controller is not None and one.metadata.controller.uid == machine_set.metadata.uid]
    available = sum(is_true(one.status.conditions, "Available") and not one.metadata.deleting for one in mine)
    return Counts(
        machine_set.name,
        machine_set.spec.replicas or 0,
        max(status.replicas or 0, len(mine)),
        min(status.available_replicas or 0, available),
        int(annotated) if annotated.isdecimal() else None,
        max(status.available_replicas or 0, available),
    )


def acted(machine_set: MachineSet) -> bool:
    """Whether the MachineSet's controller has seen the spec: until then it may still be making Machines it is no longer to have."""
    return (machine_set.status.observed_generation or 0) >= machine_set.metadata.generation


@dataclass(frozen=True, slots=True)
class Children:
    """What a new name depends on: the uids of all children, and the names that are taken."""

    uids: tuple[str, ...] = ()
    taken: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Desired:
    """A MachineSet as it shall be. ``live`` is None for one to be made."""

    name: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    spec: MachineSetSpec
    live: MachineSet | None = None

    def with_replicas(self, replicas: int) -> Desired:
        """The same with another number of Machines."""
        return replace(self, spec=self.spec.model_copy(update={"replicas": replicas}))


def number(machine_set: MachineSet) -> int:
    """The revision number of a MachineSet, 0 when it has none."""
    text = machine_set.metadata.annotations.get(labels.REVISION, "")
    return int(text) if text.isdecimal() else 0


def desired_new(deployment: MachineDeployment, revisions: Revisions, children: Children, bounds: Bounds) -> Desired:
    """The new revision's MachineSet: the one there is with its fields brought up to date, or one to be made with no replicas yet."""
    live = revisions.new
    latest = max((number(one) for one in revisions.old), default=0) + 1
    annotations = {**_annotations(deployment, bounds), labels.DISABLE_MACHINE_CREATE: "false"}
    if live is None:
        suffix = _suffix(deployment, children)
        identifier = f"{template_hash(deployment.spec.template.spec)}-{suffix}"
        annotations[labels.REVISION] = str(latest)
        spec = MachineSetSpec(cluster_name=deployment.spec.cluster_name, replicas=0, selector=deployment.spec.selector, template=deployment.spec.template)
        return _desired(deployment, names.with_suffix(f"{deployment.name}-", suffix), identifier, annotations, spec, None)
    kept = _history(live)
    annotations |= kept | {labels.REVISION: str(max(latest, number(live)))}
    if labels.REVISION in live.metadata.annotations and latest > number(live):
        annotations[REVISION_HISTORY] = ",".join([*([kept[REVISION_HISTORY]] if kept else []), str(number(live))])
    return _desired(deployment, live.name, live.metadata.labels.get(labels.MACHINE_TEMPLATE_HASH, ""), annotations, live.spec, live)


def _suffix(deployment: MachineDeployment, children: Children) -> str:
    """The suffix of the new name: derived from the children there are, passing over names that some MachineSet is seen to have."""
    suffixes = (names.derived_suffix(deployment.metadata, children.uids, index) for index in range(len(children.taken) + 1))
    return next(suffix for suffix in suffixes if names.with_suffix(f"{deployment.name}-", suffix) not in children.taken)


def desired_old(deployment: MachineDeployment, live: MachineSet, bounds: Bounds) -> Desired:
    """An old revision's MachineSet: it keeps its number; with OnDelete it makes no Machines any more."""
    on_delete = strategy_type(deployment) == "OnDelete"
    annotations = {**_annotations(deployment, bounds), **_history(live), labels.DISABLE_MACHINE_CREATE: "true" if on_delete else "false"}
    if labels.REVISION in live.metadata.annotations:
        annotations[labels.REVISION] = live.metadata.annotations[labels.REVISION]
    return _desired(deployment, live.name, live.metadata.labels.get(labels.MACHINE_TEMPLATE_HASH, ""), annotations, live.spec, live)


def strategy_type(deployment: MachineDeployment) -> str:
    """RollingUpdate or OnDelete."""
    strategy = deployment.spec.rollout.strategy
    return strategy.type if strategy is not None else "RollingUpdate"


def _annotations(deployment: MachineDeployment, bounds: Bounds) -> dict[str, str]:
    copied = {key: value for key, value in deployment.metadata.annotations.items() if key not in NOT_COPIED}
    return {**copied, labels.DESIRED_REPLICAS: str(bounds.replicas), labels.MAX_REPLICAS: str(bounds.total_max)}


def _history(live: MachineSet) -> dict[str, str]:
    held = live.metadata.annotations.get(REVISION_HISTORY, "")
    return {REVISION_HISTORY: held} if held else {}


def _desired(
    deployment: MachineDeployment, name: str, identifier: str, annotations: Mapping[str, str], spec: MachineSetSpec, live: MachineSet | None
) -> Desired:
    """Put the in-place fields of the deployment on a spec. Without an identifier (a set that was adopted) the selector stays broad."""
    wanted, unique = deployment.spec, {labels.MACHINE_TEMPLATE_HASH: identifier} if identifier else {}
    template_labels = {**wanted.template.metadata.labels, **unique}
    source = wanted.template.spec
    machine_spec = spec.template.spec.model_copy(update={field: getattr(source, field) for field in IN_PLACE})
    metadata = wanted.template.metadata.model_copy(update={"labels": template_labels})
    selector = LabelSelector(match_labels={**wanted.selector.match_labels, **unique}, match_expressions=wanted.selector.match_expressions)
    followed = spec.model_copy(
        update={
            "cluster_name": wanted.cluster_name,
            "selector": selector,
            "template": MachineTemplateSpec(metadata=metadata, spec=machine_spec),
            "machine_naming": wanted.machine_naming,
            "deletion": MachineSetDeletion(order=wanted.deletion.order),
        }
    )
    return Desired(name, {**template_labels, labels.DEPLOYMENT_NAME: deployment.name}, annotations, followed, live)


def create(deployment: MachineDeployment, desired: Desired, reason: str) -> Create:
    """Make the MachineSet with its planned replicas at once."""
    body = {"apiVersion": api_version_of(deployment), "kind": MachineSet.KIND, **_intent(deployment, desired)}
    body["metadata"] = {**body["metadata"], "name": desired.name, "namespace": deployment.namespace}
    return Create(body=body, reason=reason, owner_uid=deployment.metadata.uid, apply=True, manager=MANAGER)


def follow(deployment: MachineDeployment, desired: Desired, reason: str) -> Apply | None:
    """The apply of the full intent, None when the MachineSet already has it (or is being deleted)."""
    live = desired.live
    if live is None or live.metadata.deleting:
        return None
    controller = live.metadata.controller
    owned = controller is not None and controller.uid == deployment.metadata.uid
    have = live.metadata
    same = all(have.labels.get(key) == value for key, value in desired.labels.items())
    same = same and all(have.annotations.get(key) == value for key, value in desired.annotations.items())
    if owned and same and pruned(wire(desired.spec)) == pruned(wire(live.spec)):
        return None
    return Apply(key_of(live), api_version_of(live), have.uid, _intent(deployment, desired), reason, MANAGER)


def _intent(deployment: MachineDeployment, desired: Desired) -> dict[str, Any]:
    metadata = {
        "labels": dict(desired.labels),
        "annotations": dict(desired.annotations),
        "finalizers": [labels.MACHINE_SET_FINALIZER],
        "ownerReferences": [owner_wire(owner_reference(deployment, controller=True))],
    }
    return {"metadata": metadata, "spec": {**pruned(wire(desired.spec)), "replicas": desired.spec.replicas}}
