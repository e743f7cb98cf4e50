"""The decision about a Cluster with a topology: what is to be written, and what is told of it.

Reads a class with its templates and what exists; knows no clock but the time of the observation and no client.

Source: kinds.md §10.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from fleetwake import defaults
from fleetwake.conditions import TRUE, ConditionValue, merge
from fleetwake.failing import LOOK_AGAIN, explained
from fleetwake.kind import Unread, View
from fleetwake.patches import following, status_apply
from fleetwake.pausing import paused_condition
from fleetwake.plan import Apply, Create, Plan, Step, flatten
from fleetwake.topology.blueprint import Blueprint, Json, TopologyError, class_problem
from fleetwake.topology.upgrade_plan import UpgradePlanError
from fleetwake.topology.variables import Problem, defaulted_topology, definitions_of, topology_problems
from schemas.api.core.v1beta2.cluster import Cluster
from schemas.api.core.v1beta2.topology import Topology
from schemas.api.meta import Condition
from schemas.keys import ObjectKey
from services.reconcilers.kinds.cluster_topology import condition
from services.reconcilers.kinds.cluster_topology.current import Current, asked_versions
from services.reconcilers.kinds.cluster_topology.desired import Desired, desired_state
from services.reconcilers.kinds.cluster_topology.observe import Observed, read
from services.reconcilers.kinds.cluster_topology.versions import BEFORE_CLUSTER_CREATE, Versions, decide_versions
from services.reconcilers.kinds.cluster_topology.writes import MANAGER, steps

PROBLEMS_MAX = 5
"""Problems of variables that a condition shows."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What a topology asks for now: the steps, the condition, and what they rest on (None where it came not so far)."""

    condition: ConditionValue
    steps: tuple[Step, ...] = ()
    versions: Versions | None = None
    desired: Desired | None = None


def decide(blueprint: Blueprint | None, current: Current) -> Decision:
    """What a Cluster with a topology needs. ``blueprint`` is None when its class does not exist."""
    cluster, topology = current.cluster, current.cluster.spec.topology
    if topology is None:
        return Decision(condition.succeeded())
    if paused_condition(cluster, cluster).status == TRUE:
        return Decision(condition.paused(cluster))
    if cluster.metadata.deleting:
        return Decision(condition.deleting())
    if blueprint is None:
        ref = topology.class_ref
        named = f"{ref.namespace or cluster.namespace}/{ref.name}"
        return Decision(condition.class_not_reconciled(f"ClusterClass {named} does not exist; create it or correct spec.topology.classRef"))
    unready = class_problem(blueprint.cluster_class)
    if unready:
        return Decision(condition.class_not_reconciled(unready))
    definitions = definitions_of(blueprint.cluster_class.status.variables)
    completed = defaulted_topology(defaults.cluster(cluster).spec.topology or topology, definitions)
    problems = topology_problems(completed, None, definitions)
    if problems:
        return Decision(condition.failed(_listed(problems)))
    if cluster.spec.control_plane_ref is None and BEFORE_CLUSTER_CREATE in current.blocking:
        return Decision(condition.creating(current.blocking))
    return _decided(blueprint, current, completed)


def _decided(blueprint: Blueprint, current: Current, topology: Topology) -> Decision:
    versions = None
    try:
        missing_references(current)
        versions = decide_versions(asked_versions(current, topology, blueprint.cluster_class.spec.kubernetes_versions))
        desired = desired_state(blueprint, current, topology, versions)
        found = steps(current, desired, versions, topology)
    except (TopologyError, UpgradePlanError) as error:
        return Decision(condition.failed(str(error)), versions=versions)
    told = condition.Told(versions, desired.control_plane["kind"], current.blocking)
    return Decision(condition.reconciled(current.cluster, told), found, versions, desired)


def missing_references(current: Current) -> None:
    """Raises: TopologyError when the Cluster refers to an object that is gone: making it anew would make a Cluster that knows nothing of the old one."""
    spec = current.cluster.spec
    for ref, found in ((spec.infrastructure_ref, current.infrastructure_cluster), (spec.control_plane_ref, current.control_plane)):
        if ref is not None and found is None:
            raise TopologyError(f"the {ref.kind} {ref.name} that the Cluster refers to does not exist; restore it, or delete the Cluster")


def _listed(problems: Sequence[Problem]) -> str:
    shown = [str(one) for one in problems[:PROBLEMS_MAX]]
    if len(problems) > PROBLEMS_MAX:
        shown.append(f"and {len(problems) - PROBLEMS_MAX} more")
    return "; ".join(shown)


def observe(view: View, key: ObjectKey) -> Observed | None:
    """Read a Cluster with a topology and all that its decision rests on; None when it is gone or has no topology.

    What would be made is looked for under its name: nothing may refer to it yet, and an apply that makes an object would change one that is there.
    """
    found = read(view, key)
    if found is None:
        return None
    wanted = [step.key for step in flatten(decide(found.blueprint, found.current).steps) if isinstance(step, Create)]
    there = {one: obj for one in wanted if (obj := view.external(one.group_kind, one.namespace, one.name)) is not None}
    return replace(found, current=replace(found.current, made=there)) if there else found


def reconcile(observed: Observed) -> Plan:
    """Decide what one Cluster with a topology needs now."""
    found = decide(observed.blueprint, observed.current)
    if observed.failure is not None:
        # refused for good: nothing else would tell the Cluster's owner which object the API server, or a webhook, does not want
        found = replace(found, condition=condition.failed(explained(observed.failure)))
    return plan(found, observed.current.cluster, observed.at)


def unreadable(unread: Unread) -> Plan:
    """The plan of a Cluster of whose topology something cannot be read: it tells so, and repeats what was told of upgrades."""
    state, stored = unread.state, unread.state.get("status") or {}
    if (state.get("spec") or {}).get("topology") is None:
        return Plan()
    conditions = stored.get("conditions") or ()
    had = [Condition.model_validate(one) for one in conditions if one.get("type") == condition.TOPOLOGY_RECONCILED]
    failed = condition.failed(f"{unread.failure.operation}: {unread.failure.message}")
    (told,) = merge(had, (failed,), state["metadata"].get("generation", 0), unread.at)
    if told in conditions:
        return Plan(requeue_after=LOOK_AGAIN)
    status: Json = {"conditions": [told]}
    for name in ("controlPlane", "workers"):
        if (stored.get(name) or {}).get("upgradePlan"):
            status[name] = {"upgradePlan": stored[name]["upgradePlan"]}
    step = Apply(
        key=unread.key,
        api_version=f"{Cluster.GROUP}/{Cluster.VERSION}",
        uid=str(state["metadata"]["uid"]),
        body={"status": status},
        reason=f"cannot be read: {unread.failure.operation}",
        manager=MANAGER,
        subresource="status",
    )
    return Plan((step,), LOOK_AGAIN)


def plan(decision: Decision, cluster: Cluster, at: datetime) -> Plan:
    """The decision as a plan: its steps, then what the Cluster's status tells."""
    status: Json = {"conditions": merge(cluster.status.conditions, (decision.condition,), cluster.metadata.generation, at)}
    plans = decision.versions.plans if decision.versions is not None else None
    for name, stored in (("controlPlane", cluster.status.control_plane), ("workers", cluster.status.workers)):
        # a run that came not so far repeats what was told: what an apply leaves out is taken away
        kept = tuple(one.version for one in stored.upgrade_plan)
        versions = kept if plans is None else plans.control_plane if name == "controlPlane" else plans.workers
        status[name] = {"upgradePlan": [{"version": version} for version in versions] or None}
    # what the steps bring about is only told when they succeed
    step = following(status_apply(cluster, MANAGER, status), when=bool(decision.steps))
    return Plan((*decision.steps, *((step,) if step is not None else ())))
