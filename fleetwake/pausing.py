"""Pausing: while an object is paused nothing of it is touched, and the object says so once.

Shared by the kinds of all services; pure.

Source: kinds.md §0.1 step 4; Cluster API v1.14 util/paused (message format).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from fleetwake import labels
from fleetwake.conditions import FALSE, TRUE, ConditionValue, get, merge, not_yet_reported, order
from fleetwake.patches import api_version_of, key_of, status_kept
from fleetwake.plan import Apply, Plan
from schemas.api.core.v1beta2.cluster import Cluster
from schemas.api.meta import Conditions, KubeObject

PAUSED = "Paused"


@dataclass(frozen=True, slots=True)
class OwnedStatus:
    """What a kind's controller owns in status: names of fields (wire spelling) and condition types, Paused among them.

    ``conditional``: those of the types that not every object has. All others are told together, from the first time on.
    """

    manager: str
    fields: tuple[str, ...]
    condition_types: tuple[str, ...]
    conditional: tuple[str, ...] = ()

    def untold(self, told: Collection[str]) -> tuple[ConditionValue, ...]:
        """What stands for the types that every object has and of which nothing was told: an object that nobody could look at yet has them all the same."""
        return tuple(not_yet_reported(one) for one in self.condition_types if one not in told and one not in self.conditional)


def paused_condition(obj: KubeObject, cluster: Cluster | None) -> ConditionValue:
    """The Paused condition of an object of the cluster (the Cluster itself included; None: the object belongs to no Cluster)."""
    messages = []
    if cluster is not None and cluster.spec.paused:
        messages.append("Cluster spec.paused is set to true")
    if obj.annotated(labels.PAUSED):
        messages.append(f"{obj.KIND} has the {labels.PAUSED} annotation")
    if messages:
        return ConditionValue(PAUSED, TRUE, "Paused", ", ".join(messages))
    return ConditionValue(PAUSED, FALSE, "NotPaused")


def paused_plan(obj: KubeObject, stored: Conditions, condition: ConditionValue, owned: OwnedStatus, at: datetime) -> Plan:
    """The plan of a paused object: the flip of its Paused condition, and nothing once that is told."""
    have = get(stored, PAUSED)
    if have is not None and (have.status, have.reason, have.message) == (condition.status, condition.reason, condition.message):
        return Plan()
    status = status_kept(obj, owned.fields, _without_paused(owned.condition_types))
    told = {one["type"] for one in status["conditions"]} | {PAUSED}
    flipped = merge(stored, (condition, *owned.untold(told)), obj.metadata.generation, at)
    status["conditions"] = sorted((*status["conditions"], *flipped), key=lambda one: order(one["type"]))
    step = Apply(
        key=key_of(obj),
        api_version=api_version_of(obj),
        uid=obj.metadata.uid,
        body={"status": status},
        reason="paused: " + condition.message,
        manager=owned.manager,
        subresource="status",
    )
    return Plan((step,))


def _without_paused(types: Iterable[str]) -> tuple[str, ...]:
    return tuple(one for one in types if one != PAUSED)
