"""Whether a Cluster's topology fits its ClusterClass: its variables, the workers it names, its version, and another class.

While the class is not there, or not understood yet, nothing can be said: the Cluster is let through with a warning, and its condition TopologyReconciled tells.
Source: contracts.md §11; kinds.md §10; Cluster API v1.14, Cluster webhook.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from fleetwake import labels
from fleetwake.patches import wire
from fleetwake.topology.blueprint import class_problem
from fleetwake.topology.compatibility import incompatible
from fleetwake.topology.upgrade_plan import UpgradePlanError, upgrade_plans
from fleetwake.topology.variables import Definitions, defaulted_topology, definitions_of, topology_problems
from schemas.api.core.v1beta2.cluster import Cluster
from schemas.api.core.v1beta2.cluster_class import ClusterClass
from schemas.api.core.v1beta2.topology import Topology
from services.admission.rules import fields
from services.admission.rules.rule import Asked, Known, Violation, forbidden

TOPOLOGY = "spec.topology"
AFTER_CLUSTER_UPGRADE = "AfterClusterUpgrade"
"""Pending on a Cluster from the first step of an upgrade to the last."""


def gate(asked: Asked[Cluster]) -> Iterator[Violation]:
    """A topology where nobody would look at it."""
    if asked.new.spec.topology is not None and (asked.old is None or asked.old.spec.topology is None) and not asked.known.topologies:
        yield forbidden(TOPOLOGY, "can be set only where the setting cluster_topology is on (Cluster API's feature gate ClusterTopology)")


def warnings(asked: Asked[Cluster]) -> Iterator[str]:
    """What a user is told when the class says nothing yet."""
    topology, known = asked.new.spec.topology, asked.known
    if topology is None or not known.read:
        return
    named = f"Cluster refers to ClusterClass {topology.class_ref.namespace or asked.new.namespace}/{topology.class_ref.name}"
    if known.cluster_class is None:
        yield f"{named}, which does not exist: whether its topology can be had is only seen then"
    elif class_problem(known.cluster_class):
        yield f"{named}, which is not ready: whether its topology can be had is only seen then"


def completed(new: Cluster, known: Known) -> Cluster:
    """The Cluster with the defaults of its class's variables."""
    usable = _usable(new.spec.topology, known.cluster_class)
    if usable is None:
        return new
    topology, _, definitions = usable
    found = defaulted_topology(topology, definitions)
    return new if found == topology else new.model_copy(update={"spec": new.spec.model_copy(update={"topology": found})})


def _usable(topology: Topology | None, found: ClusterClass | None) -> tuple[Topology, ClusterClass, Definitions] | None:
    if topology is None or found is None or class_problem(found):
        return None
    return topology, found, definitions_of(found.status.variables)


def variables(asked: Asked[Cluster]) -> Iterator[Violation]:
    """Values are those that the class's schemas and rules allow."""
    usable = _usable(asked.new.spec.topology, asked.known.cluster_class)
    if usable is None:
        return
    topology, _, definitions = usable
    old = asked.old.spec.topology if asked.old is not None else None
    for problem in topology_problems(defaulted_topology(topology, definitions), old, definitions):
        yield Violation(problem.field, problem.message)


def workers(asked: Asked[Cluster]) -> Iterator[Violation]:
    """Workers are of classes that there are; a health check that is turned on is said somewhere. Their names are the definition's own rule."""
    topology, found = asked.new.spec.topology, asked.known.cluster_class
    if topology is None or found is None:
        return
    plane, of_plane = topology.control_plane.health_check, found.spec.control_plane.health_check
    checked = [(f"{TOPOLOGY}.controlPlane", plane.enabled, (plane.checks, of_plane.checks))]
    known = {one.class_: one for one in found.spec.workers.machine_deployments}
    for place, deployment in enumerate(topology.workers.machine_deployments):
        path, of_class = f"{TOPOLOGY}.workers.machineDeployments[{place}]", known.get(deployment.class_)
        if of_class is None:
            yield Violation(f"{path}.class", _no_class(deployment.class_, found, known))
        else:
            checked.append((path, deployment.health_check.enabled, (deployment.health_check.checks, of_class.health_check.checks)))
    pools = [one.class_ for one in found.spec.workers.machine_pools]
    for place, pool in enumerate(topology.workers.machine_pools):
        if pool.class_ not in pools:
            yield Violation(f"{TOPOLOGY}.workers.machinePools[{place}].class", _no_class(pool.class_, found, pools))
    for path, enabled, said in checked:
        if enabled and not any(wire(one) for one in said):
            yield forbidden(f"{path}.healthCheck.enabled", "cannot be true: neither topology nor class says what makes a Machine unhealthy")


def _no_class(name: str, found: ClusterClass, known: Collection[str]) -> str:
    return f'ClusterClass {found.namespace}/{found.name} has no class "{name}"; it has {", ".join(known) or "none"}'


def version(asked: Asked[Cluster]) -> Iterator[Violation]:
    """A version goes up, one minor at a time or as the class lists versions; not while the last upgrade is under way."""
    old, new = asked.old, asked.new
    if new.spec.topology is None:
        return
    after, path = new.spec.topology.version, f"{TOPOLOGY}.version"
    before = old.spec.topology.version if old is not None and old.spec.topology is not None else ""
    listed = asked.known.cluster_class.spec.kubernetes_versions if asked.known.cluster_class is not None else ()
    if after != before and listed and after not in listed:
        yield Violation(path, f"must be one of the class's kubernetesVersions: {', '.join(listed)}")
        return
    if old is None or not before or before == after or new.annotated(labels.UNSAFE_UPDATE_VERSION):
        return
    if listed:
        try:
            upgrade_plans(after, before, (), listed)
        except UpgradePlanError as error:
            yield forbidden(path, str(error))
    else:
        yield from fields.version_step(path, after, before, before)
    if AFTER_CLUSTER_UPGRADE in old.metadata.annotations.get(labels.PENDING_HOOKS, "").split(","):
        yield forbidden(path, f"cannot be changed while the upgrade to {before} is under way; TopologyReconciled tells what it waits for")


def rebase(asked: Asked[Cluster]) -> Iterator[Violation]:
    """Another class has templates of the same kinds wherever the Cluster has objects."""
    old, new, known = asked.old, asked.new, asked.known
    if old is None or old.spec.topology is None or new.spec.topology is None or known.cluster_class is None:
        return
    if known.former_class is None or new.spec.topology.class_ref == old.spec.topology.class_ref:
        return
    for where, why in incompatible(known.former_class, known.cluster_class, new.spec.topology):
        yield forbidden(f"{TOPOLOGY}.classRef", f"ClusterClass {known.cluster_class.name} does not go with what there is: {where} {why}")
