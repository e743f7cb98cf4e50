"""The Machines a control plane wants: how one is made with its two objects, what of it follows the spec in place, adoption and repair.

A Machine is made first, then its KubeadmConfig and infrastructure object, owned by it from the start.

Source: kinds.md §0.4, §0.7, §8.1 steps 7 and 8, §8.2 (create order); Cluster API v1.14 desired state of Machines.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fleetwake import defaults, labels, names
from fleetwake.kind import External
from fleetwake.patches import MetadataChange, api_version_of, key_of, metadata_patch, owner_reference, owner_wire, owners_with, pruned, target, wire
from fleetwake.plan import Apply, Create, Patch, Step, SyncMetadata, Together, UidOf
from schemas.api.bootstrap.v1beta2 import KubeadmConfig
from schemas.api.core.v1beta2 import Machine
from schemas.api.core.v1beta2.shared import ReadinessGate
from schemas.api.meta import ObjectMeta
from schemas.keys import ObjectKey
from services.reconcilers.kinds.cloning import Clone, clone, inner_template, made_kind
from services.reconcilers.kinds.kubeadm_control_plane import etcd
from services.reconcilers.kinds.kubeadm_control_plane.observed import Member, Observed
from services.reconcilers.kubeadm.versions import known_release, needs_kubelet_local_mode_gate

MANAGER = "capi-kubeadmcontrolplane"
NAME_TEMPLATE = "{{ .kubeadmControlPlane.name }}-{{ .random }}"
KUBELET_LOCAL_MODE = "ControlPlaneKubeletLocalMode"
GATES = ("NodeKubeadmLabelsAndTaintsSet", "APIServerPodHealthy", "ControllerManagerPodHealthy", "SchedulerPodHealthy")
ETCD_GATES = ("EtcdPodHealthy", "EtcdMemberHealthy")
CORE = f"{Machine.GROUP}/{Machine.VERSION}"
CONFIG = f"{KubeadmConfig.GROUP}/{KubeadmConfig.VERSION}"
_CLONED_FROM = (labels.CLONED_FROM_NAME, labels.CLONED_FROM_GROUP_KIND)


def machine_labels(observed: Observed) -> dict[str, str]:
    """The labels of the control plane's Machines and of their objects."""
    return {
        **observed.kcp.spec.machine_template.metadata.labels,
        labels.CLUSTER_NAME: observed.cluster.name,
        labels.CONTROL_PLANE: "",
        labels.CONTROL_PLANE_NAME: names.label_value(observed.kcp.name),
    }


def template_annotations(observed: Observed) -> dict[str, str]:
    """The annotations of the Machines' objects."""
    return dict(observed.kcp.spec.machine_template.metadata.annotations)


def machine_annotations(observed: Observed, existing: Machine | None) -> dict[str, str]:
    """The annotations of a Machine: the template's, the hook that lets us clean up before it ends, and which Machine it replaces."""
    replaces = existing.metadata.annotations.get(labels.REMEDIATION_FOR) if existing else observed.kcp.metadata.annotations.get(labels.REMEDIATION_IN_PROGRESS)
    return {**template_annotations(observed), **({labels.REMEDIATION_FOR: replaces} if replaces else {}), labels.KCP_CLEANUP_HOOK: ""}


def readiness_gates(observed: Observed) -> tuple[ReadinessGate, ...]:
    """The gates of a Machine: those for the control plane's components, then the user's, each type once."""
    wanted = [ReadinessGate(condition_type=gate) for gate in (*GATES, *(ETCD_GATES if observed.etcd_managed else ()))]
    wanted += observed.kcp.spec.machine_template.spec.readiness_gates
    return tuple({gate.condition_type: gate for gate in reversed(wanted)}[name] for name in dict.fromkeys(gate.condition_type for gate in wanted))


def in_place_spec(observed: Observed) -> dict[str, Any]:
    """The fields of a Machine's spec that follow the control plane's without a rollout, as JSON."""
    template = observed.kcp.spec.machine_template.spec
    deletion = {"nodeDeletionTimeoutSeconds": defaults.NODE_DELETION_TIMEOUT_SECONDS, **wire(template.deletion)}
    spec: dict[str, Any] = {"readinessGates": [wire(gate) for gate in readiness_gates(observed)], "deletion": deletion}
    if template.taints:
        spec["taints"] = [wire(taint) for taint in template.taints]
    return spec


def config_spec(observed: Observed, *, join: bool) -> dict[str, Any]:
    """The spec of a KubeadmConfig for a node that initializes or joins, as JSON."""
    spec = wire(observed.kcp.spec.kubeadm_config_spec)
    if join:
        spec.pop("initConfiguration", None)
        spec["joinConfiguration"] = {**spec.get("joinConfiguration", {})}
        # its presence tells the bootstrap provider that a control plane node joins
        spec["joinConfiguration"].setdefault("controlPlane", {})
    else:
        spec.pop("joinConfiguration", None)
    if needs_kubelet_local_mode_gate(observed.version):
        configuration = spec.get("clusterConfiguration", {})
        spec["clusterConfiguration"] = {**configuration, "featureGates": {KUBELET_LOCAL_MODE: True, **configuration.get("featureGates", {})}}
    return spec


# --- making ------------------------------------------------------------------------------------------------------------------------------------


def create(observed: Observed, failure_domain: str, *, join: bool, reason: str) -> tuple[Step, ...]:
    """Make one Machine, then its two objects side by side. The infrastructure template must have been observed.

    Raises: ValueError when the naming template is unusable.
    """
    kcp = observed.kcp
    name = _name(observed)
    key = ObjectKey(Machine.GROUP, Machine.KIND, kcp.namespace, name)
    assert observed.template is not None
    infra = made_kind(observed.template)
    spec: dict[str, Any] = {
        "clusterName": observed.cluster.name,
        "version": observed.version,
        "bootstrap": {"configRef": {"apiGroup": KubeadmConfig.GROUP, "kind": KubeadmConfig.KIND, "name": name}},
        "infrastructureRef": {"apiGroup": infra.group, "kind": infra.kind, "name": name},
        **in_place_spec(observed),
    }
    if failure_domain:
        spec["failureDomain"] = failure_domain
    metadata = {"name": name, "namespace": kcp.namespace, **_metadata(observed, None)}
    body = {"apiVersion": CORE, "kind": Machine.KIND, "metadata": metadata, "spec": spec}
    machine = Create(body=body, reason=reason, owner_uid=kcp.metadata.uid, apply=True, manager=MANAGER)
    branches = tuple((step,) for step in (_config(observed, key, UidOf(key), join=join), _infra(observed, key, UidOf(key))))
    return (machine, Together(branches, reason="the Machine's own objects"))


def _name(observed: Observed) -> str:
    """The name of the next Machine: none that a Node or an etcd member has still, nor that of the Machine it replaces.

    Raises: ValueError when the naming template is unusable.
    """
    kcp, found = observed.kcp, etcd.answer(observed)
    replaces = kcp.metadata.annotations.get(labels.REMEDIATION_IN_PROGRESS, "")
    siblings = [*(member.machine.metadata.uid for member in observed.members), *([replaces] if replaces else [])]
    values = {"kubeadmControlPlane.name": kcp.name, "cluster.name": observed.cluster.name}
    taken = {str(node["metadata"]["name"]) for node in observed.workload.nodes} | {member.name for member in (found.members if found else ())}
    for index in range(len(taken) + 1):
        suffix = names.derived_suffix(kcp.metadata, siblings, index)
        name = names.render_name(kcp.spec.machine_naming.template or NAME_TEMPLATE, random=suffix, values=values)
        if name not in taken:
            break
    return name


def _metadata(observed: Observed, existing: Machine | None) -> dict[str, Any]:
    return {
        "labels": machine_labels(observed),
        "annotations": machine_annotations(observed, existing),
        "finalizers": [labels.MACHINE_FINALIZER],
        "ownerReferences": [owner_wire(owner_reference(observed.kcp, controller=True))],
    }


def _owned_by(machine: ObjectKey, uid: str | UidOf) -> dict[str, Any]:
    return {"apiVersion": CORE, "kind": machine.kind, "name": machine.name, "uid": uid, "controller": True, "blockOwnerDeletion": True}


def _config(observed: Observed, machine: ObjectKey, uid: str | UidOf, *, join: bool) -> Create:
    metadata = {
        "name": machine.name,
        "namespace": machine.namespace,
        "labels": machine_labels(observed),
        "annotations": template_annotations(observed),
        "ownerReferences": [_owned_by(machine, uid)],
    }
    body = {"apiVersion": CONFIG, "kind": KubeadmConfig.KIND, "metadata": metadata, "spec": config_spec(observed, join=join)}
    return Create(body=body, reason=f"Machine {machine.name} needs its KubeadmConfig", owner_uid=uid, apply=True, manager=MANAGER)


def _infra(observed: Observed, machine: ObjectKey, uid: str | UidOf) -> Create:
    assert observed.template is not None
    wanted = Clone(machine.name, observed.cluster.name, machine_labels(observed), template_annotations(observed), (_owned_by(machine, uid),))
    body = clone(observed.template, wanted)
    return Create(body=body, reason=f"Machine {machine.name} needs its {body['kind']}", owner_uid=uid, apply=True, manager=MANAGER)


def repair(observed: Observed) -> tuple[Step, ...]:
    """Make the objects that Machines of ours lack although they were never used: a run ended between the Machine and its objects."""
    steps: list[Step] = []
    for member in observed.living:
        machine, done = member.machine, member.machine.status.initialization
        key, uid = key_of(machine), machine.metadata.uid
        ref = machine.spec.bootstrap.config_ref
        if member.config is None and ref is not None and ref.kind == KubeadmConfig.KIND and not done.bootstrap_data_secret_created:
            steps.append(_config(observed, key, uid, join=observed.initialized))
        if member.infra is None and observed.template is not None and not done.infrastructure_provisioned:
            steps.append(_infra(observed, key, uid))
    return tuple(steps)


# --- in place ----------------------------------------------------------------------------------------------------------------------------------


def follow(observed: Observed) -> tuple[Step, ...]:
    """Bring all Machines and their objects to what of the spec applies in place; nothing for those that have it."""
    steps: list[Step] = []
    for member in observed.members:
        step = _follow_leaving(observed, member.machine) if member.deleting else _follow(observed, member.machine)
        if step is not None:
            steps.append(step)
        if not member.deleting:
            steps.extend(_follow_objects(observed, member))
    return tuple(steps)


def _follow(observed: Observed, machine: Machine) -> Apply | None:
    metadata, want = _metadata(observed, machine), in_place_spec(observed)
    have = {name: item for name, item in pruned(wire(machine.spec)).items() if name in ("readinessGates", "deletion", "taints")}
    outdated = have != pruned(want) or _lacks(machine.metadata.labels, metadata["labels"]) or _lacks(machine.metadata.annotations, metadata["annotations"])
    if not outdated and not _suspect(observed, machine.metadata, metadata["labels"], metadata["annotations"]):
        return None
    spec: dict[str, Any] = {
        "clusterName": machine.spec.cluster_name,
        **({"version": machine.spec.version} if machine.spec.version else {}),
        "bootstrap": {"configRef": wire(machine.spec.bootstrap.config_ref)} if machine.spec.bootstrap.config_ref else wire(machine.spec.bootstrap),
        "infrastructureRef": wire(machine.spec.infrastructure_ref),
        **want,
    }
    if machine.spec.failure_domain:
        spec["failureDomain"] = machine.spec.failure_domain
    body = {"metadata": metadata, "spec": spec}
    return Apply(key_of(machine), api_version_of(machine), machine.metadata.uid, body, "the Machine follows its control plane in place", MANAGER)


def _follow_leaving(observed: Observed, machine: Machine) -> Patch | None:
    """A Machine being deleted follows only in what bears on its end; an apply could bring its finalizer or our hook back."""
    want, have = in_place_spec(observed), wire(machine.spec)
    body: dict[str, Any] = {}
    if want["deletion"] != have.get("deletion", {}):
        body["deletion"] = {**dict.fromkeys(have.get("deletion", {})), **want["deletion"]}
    if want.get("taints") != have.get("taints"):
        body["taints"] = want.get("taints")
    if not body:
        return None
    reason = "the Machine being deleted follows its control plane's deletion settings"
    return Patch(key_of(machine), api_version_of(machine), machine.metadata.uid, {"spec": body}, reason)


def _follow_objects(observed: Observed, member: Member) -> tuple[Step, ...]:
    steps: list[Step] = []
    config, infra = member.config, member.infra
    if config is not None and not config.metadata.deleting:
        step = _follow_metadata(observed, key_of(config), CONFIG, config.metadata, ({}, {}))
        steps.extend(step)
    if infra is not None and not infra.metadata.deleting:
        steps.extend(_follow_metadata(observed, infra.key, infra.api_version, infra.metadata, _made_with(observed, infra)))
    return tuple(steps)


def _follow_metadata(
    observed: Observed, key: ObjectKey, api_version: str, have: ObjectMeta, kept: tuple[Mapping[str, str], Mapping[str, str]]
) -> tuple[Step, ...]:
    want_labels = {**kept[0], **machine_labels(observed)}
    want_annotations = {**kept[1], **template_annotations(observed)}
    if not _lacks(have.labels, want_labels) and not _lacks(have.annotations, want_annotations) and not _suspect(observed, have, want_labels, want_annotations):
        return ()
    reason = f"labels and annotations follow KubeadmControlPlane {observed.kcp.name}"
    return (SyncMetadata(key, api_version, have.uid, want_labels, want_annotations, reason, MANAGER),)


def _made_with(observed: Observed, infra: External) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """What an infrastructure object got from its template when it was made; without the template all it has (nothing is then taken away)."""
    have = infra.metadata
    if observed.template is None:
        return have.labels, have.annotations
    inner = inner_template(observed.template).get("metadata")
    inner = inner if isinstance(inner, Mapping) else {}
    kept = [{key: held[key] for key in (inner.get(name) or {}) if key in held} for name, held in (("labels", have.labels), ("annotations", have.annotations))]
    return kept[0], {**kept[1], **{key: have.annotations[key] for key in _CLONED_FROM if key in have.annotations}}


def _lacks(have: Mapping[str, str], want: Mapping[str, str]) -> bool:
    return any(have.get(key) != value for key, value in want.items())


def _suspect(observed: Observed, have: ObjectMeta, want_labels: Mapping[str, str], want_annotations: Mapping[str, str]) -> bool:
    """Whether the object has keys the spec does not name, right after the spec changed: they may be ours to take away (the server knows whose they are)."""
    told = observed.kcp.status.observed_generation
    if told is None or told == observed.kcp.metadata.generation:
        return False
    return bool((set(have.labels) - set(want_labels)) | (set(have.annotations) - set(want_annotations)))


# --- adoption ----------------------------------------------------------------------------------------------------------------------------------


def adopt(observed: Observed) -> tuple[Step, ...]:
    """Take control of control plane Machines that nobody controls, where they are near enough in version and bootstrapped by kubeadm."""
    steps = []
    for machine in observed.adoptable:
        if refusal(observed, machine):
            continue
        owners = owners_with(machine.metadata.owner_references, owner_reference(observed.kcp, controller=True))
        step = metadata_patch(target(machine), MetadataChange(owners=owners), "a control plane Machine that nobody controls is adopted")
        if step is not None:
            steps.append(step)
    return tuple(steps)


def refusal(observed: Observed, machine: Machine) -> str:
    """Why a stand-alone Machine cannot be adopted, ``""`` if it can."""
    ref = machine.spec.bootstrap.config_ref
    if ref is None or ref.kind != KubeadmConfig.KIND:
        return f"Machine {machine.name} is not bootstrapped by a KubeadmConfig"
    if machine.metadata.deleting:
        return f"Machine {machine.name} is being deleted"
    if not machine.spec.version:
        # whoever made it knows what runs there; it is replaced, as nobody else does
        return ""
    one, other = known_release(machine.spec.version), known_release(observed.version)
    if one[0] != other[0] or abs(one[1] - other[1]) > 1:
        return f"Machine {machine.name} has version {machine.spec.version}, more than one minor away from {observed.version}"
    return ""
