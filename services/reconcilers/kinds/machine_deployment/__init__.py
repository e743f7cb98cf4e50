"""MachineDeployment: Machines whose changes roll out through MachineSets.

``observe`` reads, ``reconcile`` orders the phases: ``revision`` (which MachineSet is new, what each shall look like), ``template`` (what makes a
revision), ``strategy`` (where an external strategy wants a rollout to go), ``planner`` (how many Machines each has), ``status``.

Source: kinds.md §4, §16, §18.
"""

from __future__ import annotations

from collections.abc import Iterable

from fleetwake import labels
from fleetwake.kind import ANY_KIND, Change, Kind, Lookup, Watch, controller_owner, members_of_cluster
from schemas.api.core.v1beta2.cluster import Cluster
from schemas.api.core.v1beta2.machine import Machine
from schemas.api.core.v1beta2.machine_deployment import MachineDeployment
from schemas.api.core.v1beta2.machine_set import MachineSet
from schemas.api.runtime.v1beta2.extension_config import ExtensionConfig
from schemas.keys import GroupKind, ObjectKey
from services.reconcilers.kinds.machine_deployment.extension import STRATEGY, config_of
from services.reconcilers.kinds.machine_deployment.observe import Observed, observe
from services.reconcilers.kinds.machine_deployment.reconcile import reconcile
from services.reconcilers.kinds.machine_deployment.revision import MANAGER
from services.reconcilers.kinds.machine_set.members import is_template

MACHINE_DEPLOYMENT = GroupKind(MachineDeployment.GROUP, MachineDeployment.KIND)
MACHINE_SET = GroupKind(MachineSet.GROUP, MachineSet.KIND)
MACHINE = GroupKind(Machine.GROUP, Machine.KIND)
CLUSTER = GroupKind(Cluster.GROUP, Cluster.KIND)
EXTENSION_CONFIG = GroupKind(ExtensionConfig.GROUP, ExtensionConfig.KIND)


def of_machine_set(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
    """The MachineDeployment that controls the MachineSet, or those whose selector an orphan matches."""
    found = tuple(controller_owner(MACHINE_DEPLOYMENT)(change, lookup))
    owners = change.state.get("metadata", {}).get("ownerReferences") or ()
    if any(ref.get("controller") for ref in owners) or change.cluster is None:
        return found
    carried = change.state.get("metadata", {}).get("labels") or {}
    candidates = {key: lookup.read(MachineDeployment, key) for key in lookup.cluster_keys(MACHINE_DEPLOYMENT, change.cluster)}
    fitting = (key for key, one in candidates.items() if one is not None and not one.spec.selector.empty and one.spec.selector.matches(carried))
    return (*found, *fitting)


def of_machine(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
    """The MachineDeployment a Machine's label names: its conditions tell of the Machine."""
    name = (change.state.get("metadata", {}).get("labels") or {}).get(labels.DEPLOYMENT_NAME)
    return (ObjectKey(*MACHINE_DEPLOYMENT, change.key.namespace, str(name)),) if name else ()


def machine_matters(change: Change) -> bool:
    """Whether the change of a Machine shows in its deployment's status."""
    paths = (("status", "conditions"), ("metadata", "deletionTimestamp"), ("metadata", "labels"))
    return change.before is None or change.after is None or any(change.differs(*path) for path in paths)


def cluster_matters(change: Change) -> bool:
    """Whether the change may alter pause or ownership."""
    return change.differs("spec", "paused") or change.differs("metadata", "uid")


def of_template(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
    """The MachineDeployments that name a template which came, went or lost its owner."""
    there = change.before is not None and change.after is not None
    if not is_template(change.key.kind) or (there and not change.differs("metadata", "ownerReferences")):
        return
    for key in lookup.namespace_keys(MACHINE_DEPLOYMENT, change.key.namespace):
        found = lookup.read(MachineDeployment, key)
        if found is None:
            continue
        spec, named = found.spec.template.spec, (change.key.group, change.key.kind, change.key.name)
        if any(ref is not None and (ref.api_group, ref.kind, ref.name) == named for ref in (spec.infrastructure_ref, spec.bootstrap.config_ref)):
            yield key


def of_extension_config(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
    """The MachineDeployments whose strategy the ExtensionConfig describes."""
    for key in lookup.namespace_keys(MACHINE_DEPLOYMENT, ""):
        found = lookup.read(MachineDeployment, key)
        if found is not None and config_of(found.metadata.annotations.get(STRATEGY, "")) == change.key.name:
            yield key


def extension_config_matters(change: Change) -> bool:
    """Whether the server is another, or handles its calls otherwise."""
    return change.differs("spec") or change.differs("status", "handlers") or change.differs("metadata", "deletionTimestamp")


KIND: Kind[Observed] = Kind(
    model=MachineDeployment,
    observe=observe,
    reconcile=reconcile,
    manager=MANAGER,
    watches=(
        Watch(MACHINE_SET, of_machine_set),
        Watch(MACHINE, of_machine, machine_matters),
        Watch(CLUSTER, members_of_cluster(MACHINE_DEPLOYMENT), cluster_matters),
        Watch(EXTENSION_CONFIG, of_extension_config, extension_config_matters),
        Watch(ANY_KIND, of_template),
    ),
)
