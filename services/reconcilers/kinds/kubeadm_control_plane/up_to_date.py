"""Whether a control plane Machine is what the spec asks for, and if not, why.

Lack of knowledge never makes a Machine outdated. KubeadmConfigs are compared as JSON, after everything that means the same looks the same.

Source: kinds.md §8.2 (a) to (e); Cluster API v1.14 (messages, ignored fields).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from fleetwake import labels
from fleetwake.conditions import FALSE, TRUE, ConditionValue
from fleetwake.patches import wire
from services.reconcilers.kinds.kubeadm_control_plane.machines import config_spec
from services.reconcilers.kinds.kubeadm_control_plane.observed import Member, Observed

UP_TO_DATE = "UpToDate"
_FORMER_DEFAULTS = {("format",): "cloud-config"} | {
    (part, "nodeRegistration", "imagePullPolicy"): "IfNotPresent" for part in ("initConfiguration", "joinConfiguration")
}


def outdated(observed: Observed, member: Member) -> tuple[str, ...]:
    """Why the Machine has to be replaced, in the words of its UpToDate condition; empty when it has not."""
    machine, kcp, reasons = member.machine, observed.kcp, []
    days = kcp.spec.rollout.before.certificates_expiry_days
    expiry = machine.status.certificates_expiry_date
    if days is not None and expiry is not None and observed.at + timedelta(days=days) > expiry:
        reasons.append("Certificates will expire soon")
    after, created = kcp.spec.rollout.after, machine.metadata.creation_timestamp
    if after is not None and created is not None and created < after <= observed.at:
        reasons.append("KubeadmControlPlane spec.rolloutAfter expired")
    if machine.spec.version != observed.version:
        reasons.append(f"Version {machine.spec.version or 'not set'}, {observed.version} required")
    if not _config_matches(observed, member):
        reasons.append("KubeadmConfig is not up-to-date")
    if not _infra_matches(observed, member):
        reasons.append(f"{machine.spec.infrastructure_ref.kind} is not up-to-date")
    return tuple(reasons)


def up_to_date(observed: Observed, member: Member) -> ConditionValue:
    """The Machine's UpToDate condition."""
    machine = member.machine
    reasons = outdated(observed, member)
    if reasons:
        return ConditionValue(UP_TO_DATE, FALSE, "NotUpToDate", "\n".join(f"* {reason}" for reason in reasons))
    if member.updating:
        return ConditionValue(UP_TO_DATE, FALSE, "Updating", "* In-place update in progress")
    kubelet = machine.status.node_info.kubelet_version if machine.status.node_info is not None else ""
    if kubelet and machine.spec.version and kubelet != machine.spec.version:
        return ConditionValue(UP_TO_DATE, FALSE, "Updating", f"* Node.status.nodeInfo.kubeletVersion {kubelet}, {machine.spec.version} required")
    return ConditionValue(UP_TO_DATE, TRUE, "UpToDate")


def _infra_matches(observed: Observed, member: Member) -> bool:
    """Whether the infrastructure object was made from the template that the spec names."""
    if member.infra is None:
        return True
    annotations = member.infra.metadata.annotations
    name, group_kind = annotations.get(labels.CLONED_FROM_NAME), annotations.get(labels.CLONED_FROM_GROUP_KIND)
    if name is None or group_kind is None:
        return True
    ref = observed.kcp.spec.machine_template.spec.infrastructure_ref
    return (name, group_kind) == (ref.name, f"{ref.kind}.{ref.api_group}")


def _config_matches(observed: Observed, member: Member) -> bool:
    """Whether the KubeadmConfig says what one made now would: as a join, and one that initialized also as an init."""
    if member.config is None:
        return True
    current = wire(member.config.spec)
    desired = comparable(config_spec(observed, join=True))
    if not is_init(current):
        return comparable(current) == desired
    if comparable(_as_join(current, config_spec(observed, join=True))) == desired:
        return True
    return comparable(current) == comparable(config_spec(observed, join=False))


def is_init(spec: Mapping[str, Any]) -> bool:
    """Whether a control plane's KubeadmConfig initialized: those that join always name the control plane."""
    return (spec.get("joinConfiguration") or {}).get("controlPlane") is None


def _as_join(current: Mapping[str, Any], desired: Mapping[str, Any]) -> dict[str, Any]:
    """A config that initialized, in the shape it would have as one that joined."""
    init = current.get("initConfiguration") or {}
    join: dict[str, Any] = {name: init[name] for name in ("timeouts", "patches", "skipPhases", "nodeRegistration") if name in init}
    join["controlPlane"] = {"localAPIEndpoint": init.get("localAPIEndpoint") or {}}
    # only a join can have it, so it never tells against a node that initialized
    join["caCertPath"] = (desired.get("joinConfiguration") or {}).get("caCertPath")
    return {**{name: part for name, part in current.items() if name != "initConfiguration"}, "joinConfiguration": join}


def comparable(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The spec without what makes no difference to a node: the endpoint, DNS, discovery, one timeout, former defaults, and empty things."""
    cleaned = _without(spec, ())
    return cleaned if isinstance(cleaned, dict) else {}


_IGNORED = {
    ("clusterConfiguration", "controlPlaneEndpoint"),
    ("clusterConfiguration", "dns"),
    ("joinConfiguration", "discovery"),
    ("initConfiguration", "timeouts", "controlPlaneComponentHealthCheckSeconds"),
    ("joinConfiguration", "timeouts", "controlPlaneComponentHealthCheckSeconds"),
}


def _without(value: Any, path: tuple[str, ...]) -> Any:
    if isinstance(value, Mapping):
        out = {}
        for name, item in value.items():
            at = (*path, name)
            if at in _IGNORED or (at in _FORMER_DEFAULTS and item == _FORMER_DEFAULTS[at]):
                continue
            kept = _without(item, at)
            # no taints at all is a wish, unlike no list of them
            if kept not in (None, {}, [], "") or (name == "taints" and item is not None):
                out[name] = kept
        return out
    if isinstance(value, list | tuple):
        return [_without(item, (*path, "[]")) for item in value]
    return value
