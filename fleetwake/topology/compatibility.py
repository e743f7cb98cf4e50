"""Whether one class can take the place of another: objects keep their group and kind, so templates of the same parts must be of the same.

Source: contracts.md §11 (ClusterClass update, change of a Cluster's class); Cluster API v1.14 (ClusterClasses are compatible).
"""

from __future__ import annotations

from collections.abc import Iterator

from schemas.api.core.v1beta2.cluster_class import ClusterClass
from schemas.api.core.v1beta2.shared import TemplateReference
from schemas.api.core.v1beta2.topology import Topology


def incompatible(before: ClusterClass, after: ClusterClass, used: Topology | None = None) -> Iterator[tuple[str, str]]:
    """Where and why the second cannot take the first's place; ``used``: only the workers that a Cluster's topology names count, and they must be there."""
    was, now = before.spec, after.spec
    yield from _differs("spec.infrastructure.templateRef", was.infrastructure.template_ref, now.infrastructure.template_ref)
    yield from _differs("spec.controlPlane.templateRef", was.control_plane.template_ref, now.control_plane.template_ref)
    machines, others = was.control_plane.machine_infrastructure, now.control_plane.machine_infrastructure
    if (machines is None) != (others is None):
        yield "spec.controlPlane.machineInfrastructure", "must be set if and only if it is now"
    elif machines is not None and others is not None:
        yield from _differs("spec.controlPlane.machineInfrastructure.templateRef", machines.template_ref, others.template_ref)
    names = {one.class_ for one in used.workers.machine_deployments} if used is not None else None
    deployments = {one.class_: one for one in now.workers.machine_deployments}
    for one in was.workers.machine_deployments:
        found = deployments.get(one.class_)
        if found is not None and (names is None or one.class_ in names):
            # the kind of bootstrap may change: a MachineSet's Machines keep what they were made with
            where = f"spec.workers.machineDeployments[{one.class_}].infrastructure.templateRef"
            yield from _differs(where, one.infrastructure.template_ref, found.infrastructure.template_ref)
    pool_names = {one.class_ for one in used.workers.machine_pools} if used is not None else None
    pools = {one.class_: one for one in now.workers.machine_pools}
    for pool in was.workers.machine_pools:
        other = pools.get(pool.class_)
        if other is not None and (pool_names is None or pool.class_ in pool_names):
            at = f"spec.workers.machinePools[{pool.class_}]"
            yield from _differs(f"{at}.infrastructure.templateRef", pool.infrastructure.template_ref, other.infrastructure.template_ref)
            yield from _differs(f"{at}.bootstrap.templateRef", pool.bootstrap.template_ref, other.bootstrap.template_ref)


def _differs(where: str, was: TemplateReference, now: TemplateReference) -> Iterator[tuple[str, str]]:
    if (was.group, was.kind) != (now.group, now.kind):
        yield where, f"is a {was.kind}.{was.group} and cannot become a {now.kind}.{now.group}"
