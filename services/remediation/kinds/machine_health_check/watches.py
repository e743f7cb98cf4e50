"""Which changes wake a MachineHealthCheck.

Source: kinds.md §5 (triggers), §16.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from pydantic import AwareDatetime, TypeAdapter, ValidationError

from fleetwake.cloning import TEMPLATE_SUFFIX
from fleetwake.kind import ANY_KIND, CONNECTION, NODE, Change, Lookup, Watch, members_of_cluster
from fleetwake.labels import CLONED_FROM_NAME
from schemas.api.core.v1beta2.cluster import Cluster
from schemas.api.core.v1beta2.machine import Machine
from schemas.api.core.v1beta2.machine_health_check import MachineHealthCheck
from schemas.keys import GroupKind, ObjectKey
from schemas.sights import PRESENCE
from services.remediation.kinds.machine_health_check.observed import CONTROL_PLANE_INITIALIZED, INFRASTRUCTURE_READY, selected

CHECK = GroupKind(MachineHealthCheck.GROUP, MachineHealthCheck.KIND)
MACHINE = GroupKind(Machine.GROUP, Machine.KIND)
GAP = timedelta(seconds=50)
"""Between two presences: what was told before the second was not to be believed any more, or soon would not have been."""

_TIME: TypeAdapter[datetime] = TypeAdapter(AwareDatetime)


def own_change(change: Change) -> bool:
    """Whether a change of the check itself is more than our own status write."""
    return _existence(change) or change.differs("spec") or _meta(change, "labels", "annotations", "ownerReferences")


def other_matters(change: Change) -> bool:
    """Whether a check came, went, or changed what it finds unhealthy: others that target the same Machines say what it says."""
    return _existence(change) or change.differs("spec") or change.differs("metadata", "annotations")


def _existence(change: Change) -> bool:
    return change.before is None or change.after is None or change.differs("metadata", "deletionTimestamp")


def _meta(change: Change, *names: str) -> bool:
    return any(change.differs("metadata", name) for name in names)


def machine_matters(change: Change) -> bool:
    """Whether a Machine changed in what is judged: its Node, labels, annotations or conditions."""
    return _existence(change) or _meta(change, "labels", "annotations") or change.differs("status", "nodeRef") or change.differs("status", "conditions")


def of_machine(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
    """The checks of the Cluster whose selector matches the Machine, before or after."""
    carried = [(state.get("metadata") or {}).get("labels") or {} for state in (change.before, change.after) if state is not None]
    for key in members_of_cluster(CHECK)(change, lookup):
        check = lookup.read(MachineHealthCheck, key)
        if check is not None and any(selected(check, labels) for labels in carried):
            yield key


def cluster_matters(change: Change) -> bool:
    """Whether a Cluster changed in its pause, its identity, or in what judgement waits for."""
    if _existence(change) or change.differs("spec", "paused") or change.differs("metadata", "uid"):
        return True
    return any(_since(change.before, type_) != _since(change.after, type_) for type_ in (CONTROL_PLANE_INITIALIZED, INFRASTRUCTURE_READY))


def _since(state: Mapping[str, Any] | None, type_: str) -> Any:
    found = ((state or {}).get("status") or {}).get("conditions") or ()
    return next(((one.get("status"), one.get("lastTransitionTime")) for one in found if one["type"] == type_), None)


def node_matters(change: Change) -> bool:
    """Whether a Node came, went, or changed its conditions."""
    return _existence(change) or change.differs("status", "conditions")


def presence_matters(change: Change) -> bool:
    """Whether those who see the workload clusters are back after a silence."""
    before, after = _at(change.before), _at(change.after)
    return after is not None and (before is None or after - before > GAP)


def _at(state: Mapping[str, Any] | None) -> datetime | None:
    try:
        return _TIME.validate_python(((state or {}).get("status") or {}).get("at"))
    except ValidationError:
        return None


def everywhere(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
    """Every check of this worker."""
    return lookup.namespace_keys(CHECK, "")


def of_provider_object(change: Change, lookup: Lookup) -> Iterable[ObjectKey]:
    """Whom a provider's object concerns: the checks whose template it is, or whose request it may be."""
    if not _existence(change):
        return
    kind = change.key.kind
    for key in lookup.namespace_keys(CHECK, change.key.namespace):
        check = lookup.read(MachineHealthCheck, key)
        ref = check.spec.remediation.template_ref if check is not None else None
        if ref is None:
            continue
        if kind in (ref.kind, ref.kind.removesuffix(TEMPLATE_SUFFIX)) or _of_kind_of_request(change.state, ref.name):
            yield key


def _of_kind_of_request(state: Mapping[str, Any], template: str) -> bool:
    """Whether the object was made from the template: one that names the kind of its objects itself."""
    return ((state.get("metadata") or {}).get("annotations") or {}).get(CLONED_FROM_NAME) == template


WATCHES = (
    Watch(CHECK, members_of_cluster(CHECK), other_matters),
    Watch(MACHINE, of_machine, machine_matters),
    Watch(GroupKind(Cluster.GROUP, Cluster.KIND), members_of_cluster(CHECK), cluster_matters),
    Watch(NODE, members_of_cluster(CHECK), node_matters),
    Watch(CONNECTION, members_of_cluster(CHECK)),
    Watch(PRESENCE, everywhere, presence_matters),
    Watch(ANY_KIND, of_provider_object),
)
