"""The decision about a ClusterClass: its templates are adopted, its variables and conditions told.

Source: kinds.md §10.5, §0.1 (only the annotation pauses a class); Cluster API v1.14 (order, reasons).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from fleetwake.conditions import FALSE, TRUE, ConditionValue, merge
from fleetwake.kind import View
from fleetwake.patches import following, status_apply, wire
from fleetwake.pausing import PAUSED, OwnedStatus, paused_condition, paused_plan
from fleetwake.plan import Plan, Step
from fleetwake.topology.blueprint import VARIABLES_READY, Json, TemplateKey, references
from fleetwake.topology.class_variables import Discovered, conflicting, status_variables, variable_problems
from schemas.api.core.v1beta2.cluster_class import ClusterClass
from schemas.keys import GroupKind, ObjectKey
from services.reconcilers.kinds.cluster_class.references import (
    REF_VERSIONS_UP_TO_DATE,
    Templates,
    adoptions,
    missing,
    outdated,
    versions_condition,
)

MANAGER = "capi-clusterclass"
DISCOVERY_FAILED = "VariableDiscoveryFailed"
PROBLEMS_MAX = 5
OWNED = OwnedStatus(MANAGER, ("variables", "observedGeneration"), (VARIABLES_READY, REF_VERSIONS_UP_TO_DATE, PAUSED))


@dataclass(frozen=True, slots=True)
class Observed:
    """A class with its templates. ``discovered`` are the variables of extensions; ``undiscovered`` says by patch why an extension told none."""

    at: datetime
    cluster_class: ClusterClass
    templates: Templates
    discovered: Discovered = field(default_factory=dict)
    undiscovered: Mapping[str, str] = field(default_factory=dict)


def observe(view: View, key: ObjectKey) -> Observed | None:
    """Read a class, its templates, and which version of their kinds is the newest; None when it is gone."""
    one = view.get(ClusterClass, key.namespace, key.name)
    if one is None:
        return None
    named = {TemplateKey(ref.api_version, ref.kind, ref.name): GroupKind(ref.group, ref.kind) for ref in references(one)}
    found = {key: template for key, kind in named.items() if (template := view.external(kind, one.namespace, key.name)) is not None}
    newest = {kind: view.api_version(kind).rpartition("/")[2] for kind in named.values()}
    return Observed(view.at, one, Templates(found, newest))


def reconcile(observed: Observed) -> Plan:
    """Decide what one ClusterClass needs now."""
    one = observed.cluster_class
    paused = paused_condition(one, None)
    if paused.status == TRUE:
        return paused_plan(one, one.status.conditions, paused, OWNED, observed.at)
    if one.metadata.deleting:
        return Plan()
    steps: tuple[Step, ...] = tuple(adoptions(one, observed.templates))
    absent = missing(one, observed.templates)
    variables = status_variables(one, observed.discovered)
    ready = variables_condition(observed, variables)
    conditions = (ready, versions_condition(absent, outdated(one, observed.templates)), paused)
    generation = one.metadata.generation
    known = ready.status == TRUE or not observed.undiscovered
    status: Json = {
        # what an extension could not tell now is not taken away from what it told before
        "variables": variables if known else status_variables_kept(one),
        # Clusters only follow a class that was wholly understood
        "observedGeneration": (generation if ready.status == TRUE and not absent else one.status.observed_generation) or None,
        "conditions": merge(one.status.conditions, conditions, generation, observed.at),
    }
    told = following(status_apply(one, MANAGER, status), when=bool(steps))
    return Plan((*steps, *((told,) if told is not None else ())))


def status_variables_kept(cluster_class: ClusterClass) -> list[Json]:
    """The variables that the status has already."""
    return [wire(one) for one in cluster_class.status.variables]


def variables_condition(observed: Observed, variables: list[Json]) -> ConditionValue:
    """Whether Clusters can be judged by the class's variables."""
    wrong = [f"patch {name}: {why}" for name, why in observed.undiscovered.items()]
    wrong += [f"{problem.path}: {problem.message}" for problem in variable_problems(observed.cluster_class.spec.variables)]
    clash = conflicting(variables)
    if clash:
        wrong.append(f"the following variables have conflicting schemas: {','.join(clash)}")
    if not wrong:
        return ConditionValue(VARIABLES_READY, TRUE, VARIABLES_READY)
    shown = "; ".join(wrong[:PROBLEMS_MAX]) + (f"; and {len(wrong) - PROBLEMS_MAX} more" if len(wrong) > PROBLEMS_MAX else "")
    return ConditionValue(VARIABLES_READY, FALSE, DISCOVERY_FAILED, f"VariableDiscovery failed: {shown}")
