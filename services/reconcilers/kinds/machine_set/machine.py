"""The Machine a MachineSet wants, its infrastructure and bootstrap objects, and what of them follows the template in place.

A Machine is made first, then its two objects, owned by it from the start: nothing is handed over later, and a Machine whose objects are missing is
repaired from the same template.

Source: kinds.md §0.4 (names), §0.7 (owners), §3 (scale up, in-place propagation).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fleetwake import defaults, labels, names
from fleetwake.cloning import Clone, clone, inner_template, made_kind
from fleetwake.kind import External
from fleetwake.patches import api_version_of, key_of, owner_reference, owner_wire, pruned, wire
from fleetwake.plan import Apply, Create, Patch, Step, SyncMetadata, Together, UidOf
from schemas.api.core.v1beta2.machine import Machine, MachineSpec
from schemas.api.core.v1beta2.machine_set import MachineSet
from schemas.api.core.v1beta2.shared import ContractVersionedObjectReference
from schemas.keys import ObjectKey
from services.reconcilers.kinds.machine_set.observe import Observed, machine_references, reference_key

MANAGER = "capi-machineset"
NAME_TEMPLATE = "{{ .machineSet.name }}-{{ .random }}"
IN_PLACE = ("readiness_gates", "min_ready_seconds", "deletion", "taints")
"""The fields of a Machine's spec that follow the MachineSet's template without a rollout."""


def machine_labels(machine_set: MachineSet) -> dict[str, str]:
    """The labels a MachineSet's Machines carry: the template's, whose set they are of, and whose deployment."""
    wanted = {**machine_set.spec.template.metadata.labels, labels.SET_NAME: names.label_value(machine_set.name)}
    if labels.DEPLOYMENT_NAME in machine_set.metadata.labels:
        wanted[labels.DEPLOYMENT_NAME] = machine_set.metadata.labels[labels.DEPLOYMENT_NAME]
    return {**wanted, labels.CLUSTER_NAME: machine_set.spec.cluster_name}


def machine_annotations(machine_set: MachineSet) -> dict[str, str]:
    """The annotations a MachineSet's Machines carry."""
    return dict(machine_set.spec.template.metadata.annotations)


def machine_names(observed: Observed, number: int) -> tuple[str, ...]:
    """The names of the Machines to be made: derived from all children there are, so that a repeated create collides.

    Names that some Machine is seen to have are passed over (one lost to another owner): the children's uids are no protection from those.

    Raises:
        ValueError: the naming template is unusable.
    """
    machine_set = observed.machine_set
    values = {"machineSet.name": machine_set.name, "cluster.name": machine_set.spec.cluster_name}
    naming = machine_set.spec.machine_naming.template or NAME_TEMPLATE
    made: list[str] = []
    for index in range(number + len(observed.taken)):
        name = names.render_name(naming, random=names.derived_suffix(machine_set.metadata, observed.child_uids, index), values=values)
        if name not in observed.taken and name not in made:
            made.append(name)
        if len(made) == number:
            break
    return tuple(made)


def create(observed: Observed, name: str, reason: str) -> tuple[Step, ...]:
    """Make a Machine, then its infrastructure and bootstrap objects side by side. Both templates must have been observed."""
    machine_set = observed.machine_set
    spec = _new_spec(observed, name)
    meta = {
        "name": name,
        "namespace": machine_set.namespace,
        "labels": machine_labels(machine_set),
        "annotations": machine_annotations(machine_set),
        **_owned(machine_set),
    }
    body = {"apiVersion": api_version_of(machine_set), "kind": Machine.KIND, "metadata": meta, "spec": spec}
    key = ObjectKey(Machine.GROUP, Machine.KIND, machine_set.namespace, name)
    machine = Create(body=body, reason=reason, owner_uid=machine_set.metadata.uid, apply=True, manager=MANAGER)
    return (machine, Together(tuple((step,) for step in objects(observed, key, UidOf(key))), reason="the Machine's own objects"))


def objects(observed: Observed, machine: ObjectKey, uid: str | UidOf) -> tuple[Create, ...]:
    """The infrastructure and bootstrap objects of a Machine, owned by it; those of templates that do not exist are left out."""
    machine_set = observed.machine_set
    owner = {"apiVersion": api_version_of(machine_set), "kind": machine.kind, "name": machine.name, "uid": uid, "controller": True, "blockOwnerDeletion": True}
    wanted = Clone(machine.name, machine_set.spec.cluster_name, machine_labels(machine_set), machine_annotations(machine_set), (owner,))
    templates = (observed.bootstrap_template, observed.infrastructure_template)
    return tuple(
        Create(body=clone(template, wanted), reason=f"Machine {machine.name} needs its {made_kind(template).kind}", owner_uid=uid, apply=True, manager=MANAGER)
        for template in templates
        if template is not None
    )


def _owned(machine_set: MachineSet) -> dict[str, Any]:
    return {"finalizers": [labels.MACHINE_FINALIZER], "ownerReferences": [owner_wire(owner_reference(machine_set, controller=True))]}


def _new_spec(observed: Observed, name: str) -> dict[str, Any]:
    template = observed.machine_set.spec.template.spec
    spec = pruned(wire(defaults.node_deletion_timeout(template)))
    spec.pop("providerID", None)
    spec["clusterName"] = observed.machine_set.spec.cluster_name
    if observed.bootstrap_template is not None:
        spec["bootstrap"] = {"configRef": _made_reference(observed.bootstrap_template, name)}
    if observed.infrastructure_template is not None:
        spec["infrastructureRef"] = _made_reference(observed.infrastructure_template, name)
    return spec


def _made_reference(template: External, name: str) -> dict[str, str]:
    made = made_kind(template)
    return {"apiGroup": made.group, "kind": made.kind, "name": name}


# --- in place --------------------------------------------------------------------------------------------------------------------------------


def in_place(machine_set: MachineSet, machine: Machine) -> MachineSpec:
    """The Machine's spec with the in-place fields of the template; version, failure domain and references stay."""
    template = defaults.node_deletion_timeout(machine_set.spec.template.spec)
    return machine.spec.model_copy(update={name: getattr(template, name) for name in IN_PLACE})


def follow(observed: Observed, machine: Machine) -> Apply | Patch | None:
    """The step that brings a Machine to what the template says now; None when it is so already.

    A Machine being deleted gets only the spec fields, by merge patch: an apply of the full intent could bring a finalizer back.
    """
    machine_set, spec = observed.machine_set, in_place(observed.machine_set, machine)
    if machine.metadata.deleting:
        return _follow_deleting(machine, spec) if _changed(machine.spec, spec) else None
    wanted_labels, wanted_annotations = machine_labels(machine_set), machine_annotations(machine_set)
    lacks = _lacks(machine.metadata.labels, wanted_labels) or _lacks(machine.metadata.annotations, wanted_annotations)
    if not lacks and not _changed(machine.spec, spec) and not _suspect(observed, machine.metadata.labels, machine.metadata.annotations):
        return None
    return Apply(
        key=key_of(machine),
        api_version=api_version_of(machine),
        uid=machine.metadata.uid,
        body={"metadata": {"labels": wanted_labels, "annotations": wanted_annotations, **_owned(machine_set)}, "spec": _intent(spec, machine)},
        reason="the Machine follows its MachineSet's template in place",
        manager=MANAGER,
    )


def _intent(spec: MachineSpec, machine: Machine) -> dict[str, Any]:
    """The fields the MachineSet owns: not the providerID, and not the data secret that a bootstrap config brought."""
    intent = pruned(wire(spec))
    intent.pop("providerID", None)
    if machine.spec.bootstrap.config_ref is not None:
        intent["bootstrap"] = {"configRef": wire(machine.spec.bootstrap.config_ref)}
    return intent


def _follow_deleting(machine: Machine, spec: MachineSpec) -> Patch:
    have, want = pruned(wire(machine.spec)), pruned(wire(spec))
    fields = ("readinessGates", "minReadySeconds", "deletion", "taints")
    body: dict[str, Any] = {name: want.get(name) for name in fields if have.get(name) != want.get(name)}
    if isinstance(body.get("deletion"), Mapping):
        body["deletion"] = {**dict.fromkeys(have.get("deletion", {})), **body["deletion"]}
    reason = "the Machine being deleted follows its MachineSet's deletion settings"
    return Patch(key=key_of(machine), api_version=api_version_of(machine), uid=machine.metadata.uid, body={"spec": body}, reason=reason)


def _changed(have: MachineSpec, want: MachineSpec) -> bool:
    return any(getattr(have, name) != getattr(want, name) for name in IN_PLACE)


def _lacks(have: Mapping[str, str], want: Mapping[str, str]) -> bool:
    return any(have.get(key) != value for key, value in want.items())


NEVER_OF_A_TEMPLATE = frozenset({labels.CLONED_FROM_NAME, labels.CLONED_FROM_GROUP_KIND, labels.BOOTSTRAP_TOKEN_ID})
"""Keys that others of ours write on every object: no reason to ask the API server who owns them."""


def template_changed(observed: Observed) -> bool:
    """Whether the MachineSet's spec changed since its status was last computed: only then may the template have lost a label or annotation."""
    return (observed.stored.status.observed_generation or 0) != observed.stored.metadata.generation


def _suspect(observed: Observed, have_labels: Mapping[str, str], have_annotations: Mapping[str, str]) -> bool:
    """Whether the object has keys the template does not name, right after a change of the template: they may be ours to take away.

    Who owns a key is not in the cache. The server knows: an apply removes what is ours and leaves the rest.
    """
    if not template_changed(observed):
        return False
    extra = (set(have_labels) - set(machine_labels(observed.machine_set))) | (set(have_annotations) - set(machine_annotations(observed.machine_set)))
    return bool(extra - NEVER_OF_A_TEMPLATE)


def follow_metadata(observed: Observed, machine: Machine) -> tuple[SyncMetadata, ...]:
    """Bring labels and annotations of a Machine's objects to what the template says now; nothing for those that have them."""
    steps = []
    for ref in machine_references(machine):
        found = observed.objects.get(reference_key(ref, machine.namespace))
        if found is None or found.metadata.deleting:
            continue
        kept_labels, kept_annotations = _made_with(observed, found, ref)
        want_labels = {**kept_labels, **machine_labels(observed.machine_set)}
        want_annotations = {**kept_annotations, **machine_annotations(observed.machine_set)}
        have = found.metadata
        if _lacks(have.labels, want_labels) or _lacks(have.annotations, want_annotations) or _suspect(observed, have.labels, have.annotations):
            reason = f"labels and annotations follow MachineSet {observed.machine_set.name}"
            steps.append(SyncMetadata(found.key, found.api_version, have.uid, want_labels, want_annotations, reason, MANAGER))
    return tuple(steps)


def _made_with(observed: Observed, found: External, ref: ContractVersionedObjectReference) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """What the object got besides the Machine's metadata when it was made; without its template, all it has (nothing is then taken away)."""
    templates = [one for one in (observed.bootstrap_template, observed.infrastructure_template) if one is not None]
    template = next((one for one in templates if made_kind(one).kind == ref.kind), None)
    if template is None:
        return found.metadata.labels, found.metadata.annotations
    inner = inner_template(template).get("metadata")
    inner = inner if isinstance(inner, Mapping) else {}
    origin = {key: found.metadata.annotations[key] for key in (labels.CLONED_FROM_NAME, labels.CLONED_FROM_GROUP_KIND) if key in found.metadata.annotations}
    # a template edited later does not change what exists: its keys are kept only with the values the object has
    kept = [{key: part[key] for key in (inner.get(name) or {}) if key in part} for name, part in _parts(found)]
    return kept[0], {**kept[1], **origin}


def _parts(found: External) -> tuple[tuple[str, Mapping[str, str]], tuple[str, Mapping[str, str]]]:
    return ("labels", found.metadata.labels), ("annotations", found.metadata.annotations)
