"""MachineSet: a number of equal Machines.

``observe`` reads, ``reconcile`` orders the phases: ``preflight``, ``remediate``, ``machine`` (what a Machine looks like and follows in place), ``scale``,
``status``. ``members`` holds what MachineDeployment reports alike.

Source: kinds.md §3, §16, §18.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fleetwake import labels
from fleetwake.kind import ANY_KIND, Change, Kind, Lookup, Watch, members_of_cluster
from schemas.api.core.v1beta2.cluster import Cluster
from schemas.api.core.v1beta2.machine import Machine
from schemas.api.core.v1beta2.machine_deployment import MachineDeployment
from schemas.api.core.v1beta2.machine_set import MachineSet
from schemas.api.meta import LabelSelector
from schemas.keys import GroupKind, ObjectKey
from services.reconcilers.kinds.machine_set.machine import MANAGER
from services.reconcilers.kinds.machine_set.members import is_template
from services.reconcilers.kinds.machine_set.observe import Observed, observe
from services.reconcilers.kinds.machine_set.preflight import UPGRADE_STEP
from services.reconcilers.kinds.machine_set.reconcile import reconcile

MACHINE_SET = GroupKind(MachineSet.GROUP, MachineSet.KIND)
MACHINE = GroupKind(Machine.GROUP, Machine.KIND)
MACHINE_DEPLOYMENT = GroupKind(MachineDeployment.GROUP, MachineDeployment.KIND)
CLUSTER = GroupKind(Cluster.GROUP, Cluster.KIND)


def of_machine(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
    """The MachineSet that controls the Machine (before or after), or those whose selector an orphan matches."""
    found = [
        ObjectKey(*MACHINE_SET, change.key.namespace, ref["name"])
        for state in (change.before, change.after)
        for ref in _owners(state)
        if ref.get("controller") and ref["kind"] == MACHINE_SET.kind and ref["apiVersion"].rpartition("/")[0] == MACHINE_SET.group
    ]
    if not any(ref.get("controller") for ref in _owners(change.state)) and change.cluster is not None:
        carried = change.state.get("metadata", {}).get("labels") or {}
        for key in lookup.cluster_keys(MACHINE_SET, change.cluster):
            candidate = lookup.read(MachineSet, key)
            if candidate is not None and _matches(candidate.spec.selector, carried):
                found.append(key)
    others = {name for name in change.annotations_alone if labels.DOMAIN not in name}
    if others and others == change.annotations_alone:
        found = [key for key in found if others & _followed(lookup.read(MachineSet, key))]
    return dict.fromkeys(found)


def _followed(machine_set: MachineSet | None) -> set[str]:
    """The annotations outside Cluster API's own that a MachineSet puts on its Machines, and puts back: of all others it reads none."""
    return set(machine_set.spec.template.metadata.annotations) if machine_set is not None else set()


def _matches(selector: LabelSelector, carried: Mapping[str, str]) -> bool:
    return not selector.empty and selector.matches(carried)


def _owners(state: Mapping[str, Any] | None) -> Iterable[Mapping[str, Any]]:
    owners: Iterable[Mapping[str, Any]] = (state or {}).get("metadata", {}).get("ownerReferences") or ()
    return owners


def of_deployment(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
    """The MachineSets of the MachineDeployment."""
    return lookup.owned_keys(MACHINE_SET, str(change.state.get("metadata", {}).get("uid", "")))


def deployment_matters(change: Change) -> bool:
    """Whether the change may alter what its MachineSets remediate."""
    return change.differs("metadata", "annotations", labels.REVISION) or change.differs("spec", "remediation") or change.differs("spec", "replicas")


def cluster_matters(change: Change) -> bool:
    """Whether the change may alter pause, ownership or preflight checks."""
    paths = (("spec", "paused"), ("spec", "topology", "version"), ("spec", "controlPlaneRef"), ("metadata", "annotations", UPGRADE_STEP), ("metadata", "uid"))
    return any(change.differs(*path) for path in paths)


def of_provider_object(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
    """Whom a provider's object concerns: the MachineSets made from a template, of a Machine's object, or of a control plane's cluster."""
    if is_template(change.key.kind):
        return _of_template(change, lookup)
    return (*_of_machine_object(change, lookup), *_of_control_plane(change, lookup))


def _of_template(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
    there = change.before is not None and change.after is not None
    if there and not change.differs("metadata", "ownerReferences") and not change.differs("metadata", "annotations", labels.SKIP_PREFLIGHT_CHECKS):
        return
    name, kind, group = change.key.name, change.key.kind, change.key.group
    for key in lookup.namespace_keys(MACHINE_SET, change.key.namespace):
        found = lookup.read(MachineSet, key)
        if found is None:
            continue
        spec = found.spec.template.spec
        for ref in (spec.infrastructure_ref, spec.bootstrap.config_ref):
            # by name first: every MachineSet of the namespace is asked, and nearly all answer no
            if ref is not None and ref.name == name and (ref.api_group, ref.kind) == (group, kind):
                yield key
                break


def _named(key: ObjectKey) -> tuple[str, str, str]:
    return key.group, key.kind, key.name


def _of_machine_object(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
    if change.before is None or (change.after is not None and not change.differs("metadata", "labels") and not change.differs("metadata", "annotations")):
        return
    for ref in _owners(change.state):
        group = ref["apiVersion"].rpartition("/")[0]
        if (group, ref["kind"]) == MACHINE:
            machine = lookup.read(Machine, ObjectKey(*MACHINE, change.key.namespace, ref["name"]))
            controller = machine.metadata.controller if machine is not None else None
            if controller is not None and controller.kind == MACHINE_SET.kind:
                yield ObjectKey(*MACHINE_SET, change.key.namespace, controller.name)
        elif (group, ref["kind"]) == MACHINE_SET:
            yield ObjectKey(*MACHINE_SET, change.key.namespace, ref["name"])


def _of_control_plane(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
    versions = (("spec", "version"), ("status", "version"), ("status", "versions"))
    if change.cluster is None or not any(change.differs(*path) for path in versions):
        return ()
    cluster = lookup.read(Cluster, ObjectKey(*CLUSTER, change.cluster.namespace, change.cluster.name))
    ref = cluster.spec.control_plane_ref if cluster is not None else None
    if ref is None or (ref.api_group, ref.kind, ref.name) != _named(change.key):
        return ()
    return lookup.cluster_keys(MACHINE_SET, change.cluster)


KIND: Kind[Observed] = Kind(
    model=MachineSet,
    observe=observe,
    reconcile=reconcile,
    manager=MANAGER,
    watches=(
        Watch(MACHINE, of_machine),
        Watch(MACHINE_DEPLOYMENT, of_deployment, deployment_matters),
        Watch(CLUSTER, members_of_cluster(MACHINE_SET), cluster_matters),
        Watch(ANY_KIND, of_provider_object),
    ),
)
