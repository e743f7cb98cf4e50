"""The steps that bring what exists to what a topology asks for, in an order in which each may be the last one done.

Source: kinds.md §10.1 (6 to 8); Cluster API v1.14 (order of a topology's objects, template rotation).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fleetwake import labels
from fleetwake.kind import External
from fleetwake.patches import MetadataChange, metadata_patch, target, wire
from fleetwake.plan import Apply, Create, Delete, Patch, Step, Together
from fleetwake.topology.blueprint import Json, TopologyError
from schemas.api.core.v1beta2.cluster import Cluster
from schemas.api.core.v1beta2.topology import Topology
from schemas.api.meta import KubeObject
from services.reconcilers.kinds.cluster_topology import rotation
from services.reconcilers.kinds.cluster_topology.control_plane import machine_reference, paths
from services.reconcilers.kinds.cluster_topology.current import Current, CurrentDeployment, CurrentPool
from services.reconcilers.kinds.cluster_topology.desired import Desired
from services.reconcilers.kinds.cluster_topology.objects import reference
from services.reconcilers.kinds.cluster_topology.versions import Versions, WorkerState, WorkerVersion
from services.reconcilers.kinds.cluster_topology.workers import Workers

MANAGER = "capi-topology"
_HELD = (WorkerState.PENDING, WorkerState.DEFERRED)


def steps(current: Current, desired: Desired, versions: Versions, completed: Topology) -> tuple[Step, ...]:
    """All that is to be written, empty when everything is as asked. ``completed`` is the topology with the defaults of its variables.

    Raises:
        TopologyError: something cannot become what is asked.
    """
    new = current.cluster.spec.control_plane_ref is None
    own = cluster_patch(current.cluster, desired, versions, completed)
    noted = () if own is None else (own,)
    # an upgrade is noted on the Cluster before it begins: the control plane waits for that; a new Cluster refers to what exists
    before, after = ((), noted) if new else (noted, ())
    found: list[Step] = [*before, *_whole(current, current.infrastructure_cluster, desired.infrastructure_cluster, "the infrastructure cluster")]
    found += _control_plane(current, desired, versions)
    found += after
    found += _side_by_side([*_deployments(current, desired, versions)], "MachineDeployments do not depend on each other")
    found += _side_by_side([*_pools(current, desired, versions)], "MachinePools do not depend on each other")
    return tuple(found)


def _side_by_side(branches: list[tuple[Step, ...]], reason: str) -> tuple[Step, ...]:
    given = tuple(branch for branch in branches if branch)
    return given[0] if len(given) == 1 else (Together(given, reason),) if given else ()


def cluster_patch(cluster: Cluster, desired: Desired, versions: Versions, completed: Topology) -> Patch | None:
    """The Cluster's labels and references, the defaults of its variables, and how far an upgrade is; None when all is there.

    One patch for all of it: it is fenced by the version of the Cluster that was read, so a second one would be a conflict.
    """
    spec: Json = {}
    if completed != cluster.spec.topology:
        spec["topology"] = wire(completed)
    if cluster.spec.infrastructure_ref is None:
        spec["infrastructureRef"] = reference(desired.infrastructure_cluster)
    if cluster.spec.control_plane_ref is None:
        spec["controlPlaneRef"] = reference(desired.control_plane)
    change = MetadataChange(
        labels={labels.CLUSTER_NAME: cluster.name, labels.TOPOLOGY_OWNED: ""},
        annotations={
            labels.UPGRADE_STEP: versions.control_plane.version if versions.upgrading else None,
            labels.PENDING_HOOKS: ",".join(sorted(versions.hooks.pending)) or None,
        },
    )
    return metadata_patch(
        target(cluster), change, "the Cluster refers to its objects, has the defaults of its variables and tells its upgrade step", spec=spec or None
    )


def made(current: Current, body: Json, reason: str) -> tuple[Step, ...]:
    """Make an object by apply, with the marks of the fields it sets; one that a run before has made is brought to what is wanted.

    Raises:
        TopologyError: the name is held by an object that is going, or that is none of a topology.
    """
    step = Create(rotation.marked(body), reason, apply=True, manager=MANAGER)
    found = current.made.get(step.key)
    if found is None:
        return (step,)
    if found.metadata.deleting:
        raise TopologyError(f"the {found.key.kind} {found.key.name} is being deleted; another one of its name can only be made then")
    if labels.TOPOLOGY_OWNED not in found.metadata.labels:
        raise TopologyError(
            f"the name of the {found.key.kind} {found.key.name} is taken by an object of somebody else; delete that, or change the naming template"
        )
    return _whole(current, found, body, f"the {found.key.kind}")


def apply(stored: External | KubeObject, body: Json, reason: str) -> Apply:
    """Bring an object to what is wanted, all of our fields at once."""
    found, wanted = rotation.live(stored), rotation.marked(body)
    metadata = {name: value for name, value in wanted["metadata"].items() if name not in ("name", "namespace")}
    sent = {"metadata": metadata, **({"spec": wanted["spec"]} if "spec" in wanted else {})}
    return Apply(found.key, found.api_version, found.metadata.uid, sent, reason, manager=MANAGER)


def delete(stored: External | KubeObject, reason: str) -> Delete:
    """Take an object away."""
    found = rotation.live(stored)
    return Delete(found.key, found.api_version, found.metadata.uid, reason)


def _whole(current: Current, stored: External | KubeObject | None, wanted: Json, named: str) -> tuple[Step, ...]:
    """An object that is made, or changed in place."""
    if stored is None:
        return made(current, wanted, f"{named} does not exist")
    rotation.compatible(stored, wanted, f"{named} {wanted['metadata']['name']}")
    found = rotation.difference(rotation.live(stored), rotation.marked(wanted))
    return (apply(stored, wanted, f"{named} differs from its topology: {rotation.shown(found.where)}"),) if found else ()


def _health_check(current: Current, name: str, wanted: Json | None, named: str) -> tuple[Step, ...]:
    stored = current.health_checks.get(name)
    if wanted is not None:
        return _whole(current, stored, wanted, f"the health check of {named}")
    return (delete(stored, f"nothing asks for a health check of {named} any more"),) if stored is not None else ()


@dataclass(frozen=True, slots=True)
class _Rotated:
    """What becomes of a template: its body, with its new name if it takes the place of another, and the steps for it."""

    body: Json
    steps: tuple[Step, ...] = ()
    replaces: External | None = None


def _template(current: Current, stored: External | None, wanted: Json, part: str, *, same_kind: bool) -> _Rotated:
    """A template is made, labelled in place, or replaced by a new one when what it says of Machines differs."""
    kind = wanted["kind"]
    if stored is None:
        return _Rotated(wanted, made(current, wanted, f"the {kind} does not exist"))
    if same_kind:
        rotation.compatible(stored, wanted, f"the template {stored.key.name}")
    found = rotation.difference(rotation.live(stored), rotation.marked(wanted))
    if stored.key.kind != kind or found.spec:
        name = rotation.rotated_name(current.cluster, part, stored.key.name, wanted)
        body = {**wanted, "metadata": {**wanted["metadata"], "name": name}}
        return _Rotated(body, made(current, body, f"takes the place of {stored.key.name}: {rotation.shown(found.where)}"), stored)
    if found.metadata:
        return _Rotated(wanted, (apply(stored, wanted, f"labels and annotations differ: {rotation.shown(found.where)}"),))
    return _Rotated(wanted)


def _control_plane(current: Current, desired: Desired, versions: Versions) -> Iterator[Step]:
    stored, wanted = current.control_plane, desired.control_plane
    yield from _health_check(current, wanted["metadata"]["name"], desired.control_plane_health_check, "the control plane")
    if stored is not None and versions.control_plane.pending:
        # it is about to get another version: changing it now as well would replace its Machines twice
        return
    replaced = None
    if desired.control_plane_machines is not None:
        rotated = _template(current, current.control_plane_machine_template, desired.control_plane_machines, "", same_kind=True)
        yield from rotated.steps
        desired.control_plane_machines, replaced = rotated.body, rotated.replaces
        contract = _contract(wanted)
        _refer(wanted, paths(contract)["infrastructureRef"], machine_reference(rotated.body, contract))
    yield from _whole(current, stored, wanted, "the control plane")
    if replaced is not None:
        yield delete(replaced, "the control plane makes its Machines from another template")


def _contract(control_plane: Json) -> str:
    """The contract by where the reference to the Machines' template stands."""
    machines = control_plane["spec"]["machineTemplate"]
    return "v1beta1" if "infrastructureRef" in machines else "v1beta2"


def _refer(body: Json, path: tuple[str, ...], value: Mapping[str, Any]) -> None:
    inner: Any = body
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = dict(value)


def _deployments(current: Current, desired: Desired, versions: Versions) -> Iterator[tuple[Step, ...]]:
    decided = {one.topology_name: one for one in versions.deployments}
    for one in desired.deployments:
        yield tuple(_deployment(current, one, current.deployment(one.topology_name), decided[one.topology_name]))
    wanted = {one.topology_name for one in desired.deployments}
    for each in current.deployments:
        if each.topology_name not in wanted:
            name = each.deployment.name
            yield (
                *_health_check(current, name, None, f"MachineDeployment {name}"),
                delete(each.deployment, "the topology has no such MachineDeployment any more"),
            )


def _deployment(current: Current, one: Workers, stored: CurrentDeployment | None, decided: WorkerVersion) -> Iterator[Step]:
    named = f"MachineDeployment {one.body['metadata']['name']}"
    if stored is None:
        if decided.state is not WorkerState.PENDING_CREATE:
            why = "the topology has a new MachineDeployment"
            for body in (one.bootstrap, one.infrastructure, one.body):
                yield from made(current, body, why)
            yield from _health_check(current, one.body["metadata"]["name"], one.health_check, named)
        return
    yield from _health_check(current, one.body["metadata"]["name"], one.health_check, named)
    if decided.state in _HELD:
        # as the control plane: no other change before the version it waits for
        return
    bootstrap = _template(current, stored.bootstrap, one.bootstrap, one.topology_name, same_kind=False)
    infrastructure = _template(current, stored.infrastructure, one.infrastructure, one.topology_name, same_kind=True)
    one.bootstrap, one.infrastructure = bootstrap.body, infrastructure.body
    one.refer()
    yield from (*bootstrap.steps, *infrastructure.steps)
    # the templates that were replaced go once no MachineSet uses them: that is the part of the agents of MachineDeployments and MachineSets
    yield from _whole(current, stored.deployment, one.body, named)


def _pools(current: Current, desired: Desired, versions: Versions) -> Iterator[tuple[Step, ...]]:
    decided = {one.topology_name: one for one in versions.pools}
    for one in desired.pools:
        yield tuple(_pool(current, one, current.pool(one.topology_name), decided[one.topology_name]))
    wanted = {one.topology_name for one in desired.pools}
    for each in current.pools:
        if each.topology_name not in wanted:
            yield (delete(each.pool, "the topology has no such MachinePool any more"),)


def _pool(current: Current, one: Workers, stored: CurrentPool | None, decided: WorkerVersion) -> Iterator[Step]:
    name = one.body["metadata"]["name"]
    if stored is None:
        if decided.state is not WorkerState.PENDING_CREATE:
            for body in (one.bootstrap, one.infrastructure, one.body):
                yield from made(current, body, "the topology has a new MachinePool")
        return
    if decided.state in _HELD:
        return
    yield from _whole(current, stored.bootstrap, one.bootstrap, f"the bootstrap configuration of MachinePool {name}")
    yield from _whole(current, stored.infrastructure, one.infrastructure, f"the infrastructure of MachinePool {name}")
    yield from _whole(current, stored.pool, one.body, f"MachinePool {name}")
