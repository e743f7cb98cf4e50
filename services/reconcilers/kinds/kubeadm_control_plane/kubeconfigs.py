"""The kubeconfigs that a control plane declares: each a Secret of its own, made, renewed, and revoked at once.

A certificate cannot be called back. So the one in such a kubeconfig proves nothing but its own name and revision, and the workload cluster lets that name
impersonate the declared user and groups (a ClusterRole and its binding). Without the binding the certificate is worth nothing: that is what revoking takes
away, first, before the Secret goes. The Secret is the record of what was handed out.

No controller reads these Secrets: theirs is ``<cluster>-kubeconfig``, and no name made here can be that of any Cluster's.

Source: roadmap.md row 20; Kubernetes RBAC (verb impersonate).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from fleetwake.conditions import FALSE, TRUE, ConditionValue, get
from fleetwake.kind import External
from fleetwake.kube.pki import CertificateSpec
from fleetwake.patches import MetadataChange, Target, metadata_patch, owner_reference, owner_wire
from fleetwake.plan import Create, Delete, Look, Patch, Step, soonest
from schemas.keys import ObjectKey
from services.reconcilers.kinds.kubeadm_control_plane.declared_kubeconfigs import (
    ISSUED_FOR,
    KUBECONFIGS,
    DeclarationError,
    DeclaredKubeconfig,
    declared,
    secret_name,
)
from services.reconcilers.kinds.kubeadm_control_plane.looking import seen
from services.reconcilers.kinds.kubeadm_control_plane.observed import Observed
from services.reconcilers.kinds.kubeadm_control_plane.permissions import RBAC
from services.reconcilers.kinds.kubeconfig import CLIENT_KEY_ALGORITHM, Identity, kubeconfig_value, server_url
from services.reconcilers.kubeadm import secrets
from services.reconcilers.kubeadm.secrets import Purpose

KUBECONFIGS_AVAILABLE = "KubeconfigsAvailable"
AUDIENCE = "fleetwake.io/audience"
"""Annotation of the Secret: who it is meant for, in the words of the declaration."""
_API = f"{RBAC}/v1"
_BINDING, _ROLE = "ClusterRoleBinding", "ClusterRole"
_KIND_FIELDS = {_ROLE: "rules", _BINDING: "subjects"}


@dataclass(frozen=True, slots=True)
class Turn:
    """What is done about one kubeconfig: ``pending`` tells of what it still lacks, ``""`` when nothing."""

    steps: tuple[Step, ...] = ()
    wait: timedelta | None = None
    pending: str = ""


@dataclass(frozen=True, slots=True)
class Issue:
    """What is done about all of them, and what is told: None where a control plane never declared any."""

    steps: tuple[Step, ...] = ()
    wait: timedelta | None = None
    told: ConditionValue | None = None

    @property
    def guarded(self) -> bool:
        """Whether something is written to the workload cluster, or taken away: it must be what is wanted now."""
        return any(isinstance(step, Delete) or (isinstance(step, Create | Patch) and bool(step.key.cluster)) for step in self.steps)


def issue(observed: Observed) -> Issue:
    """Make, renew and revoke kubeconfigs. What cannot be read changes nothing: a typo must not lock anybody out."""
    try:
        wanted = declared(observed.kcp.metadata.annotations.get(KUBECONFIGS))
    except DeclarationError as error:
        return Issue(told=ConditionValue(KUBECONFIGS_AVAILABLE, FALSE, "Invalid", str(error)))
    names = {secret_name(observed.cluster.name, entry.name) for entry in wanted}
    revoked = [found for name, found in observed.kubeconfigs.items() if name not in names and _is_ours(observed, found)]
    if not wanted and not revoked:
        once = get(observed.kcp.status.conditions, KUBECONFIGS_AVAILABLE) is not None
        return Issue(told=ConditionValue(KUBECONFIGS_AVAILABLE, TRUE, "NoneDeclared") if once else None)
    if not observed.initialized or not observed.workload.connected:
        return Issue(told=ConditionValue(KUBECONFIGS_AVAILABLE, FALSE, "WaitingForControlPlane", "Waiting for the connection to the workload cluster"))
    turns = [*(_revoke(observed, found) for found in revoked), *(_follow(observed, entry) for entry in wanted)]
    pending = "\n".join(f"* {turn.pending}" for turn in turns if turn.pending)
    told = ConditionValue(KUBECONFIGS_AVAILABLE, FALSE if pending else TRUE, "NotAvailable" if pending else "Available", pending)
    return Issue(tuple(step for turn in turns for step in turn.steps), soonest(*(turn.wait for turn in turns)), told)


def subject(name: str, revision: int) -> str:
    """Whom the certificate names."""
    return f"{_access_name(name)}:{revision}"


def _access_name(name: str) -> str:
    return f"fleetwake:kubeconfig:{name}"


def _is_ours(observed: Observed, found: External) -> bool:
    controller = found.metadata.controller
    return controller is not None and controller.uid == observed.kcp.metadata.uid


# --- one that is declared ----------------------------------------------------------------------------------------------------------------------


def _follow(observed: Observed, entry: DeclaredKubeconfig) -> Turn:
    looks, writes, wait = _access(observed, entry)
    if looks or wait is not None:
        return Turn(looks, wait, f"{entry.name}: its permissions in the workload cluster are being looked at")
    made = _secret(observed, entry)
    steps = (*writes, *made.steps)
    return Turn(steps, made.wait, made.pending or (f"{entry.name}: being brought up to date" if steps else ""))


def access(entry: DeclaredKubeconfig) -> tuple[dict[str, Any], dict[str, Any]]:
    """The ClusterRole that allows to be the declared user with the declared groups, and its binding to the certificate's name."""
    name = _access_name(entry.name)
    rules = [{"apiGroups": [""], "resources": ["users"], "resourceNames": [entry.user], "verbs": ["impersonate"]}]
    if entry.groups:
        rules.append({"apiGroups": [""], "resources": ["groups"], "resourceNames": list(entry.groups), "verbs": ["impersonate"]})
    role = {"apiVersion": _API, "kind": _ROLE, "metadata": {"name": name}, "rules": rules}
    binding = {
        "apiVersion": _API,
        "kind": _BINDING,
        "metadata": {"name": name},
        "roleRef": {"apiGroup": RBAC, "kind": _ROLE, "name": name},
        "subjects": [{"apiGroup": RBAC, "kind": "User", "name": subject(entry.name, entry.revision)}],
    }
    return role, binding


def _access(observed: Observed, entry: DeclaredKubeconfig) -> tuple[tuple[Step, ...], tuple[Step, ...], timedelta | None]:
    """The looks that are missing; the writes; how long to wait with a look that failed."""
    looks: list[Step] = []
    writes: list[Step] = []
    wait: timedelta | None = None
    for document in access(entry):
        kind, field = document["kind"], _KIND_FIELDS[document["kind"]]
        query, reason = _query(kind, entry.name), f"kubeconfig {entry.name} of {entry.user}"
        found = seen(observed, query, reason)
        differs = found.known and found.value is not None and found.value.get(field) != document[field]
        if differs:
            found = seen(observed, query, reason, fresh=True)
        if not found.known:
            looks += [found.look] if found.look is not None else []
            wait = soonest(wait, found.wait)
        elif found.value is None:
            writes += [Create(document, reason, cluster=str(observed.cluster_key)), Look(observed.cluster_key, query, "it was made")]
        elif differs:
            meta = found.value["metadata"]
            changed = Patch(_key(observed, kind, entry.name), _API, meta["uid"], {field: document[field]}, reason, meta["resourceVersion"])
            writes += [changed, Look(observed.cluster_key, query, "it was changed")]
    return tuple(looks), tuple(writes), wait


def _secret(observed: Observed, entry: DeclaredKubeconfig) -> Turn:
    """Make or renew the Secret; its ``wait`` is the time until the next renewal."""
    name = secret_name(observed.cluster.name, entry.name)
    found, owner = observed.kubeconfigs.get(name), owner_reference(observed.kcp, controller=True)
    if Purpose.CA not in observed.secrets:
        return Turn(pending=f"{entry.name}: there is no CA")
    digest, annotations = _digest(observed, entry), _annotations(observed, entry)
    data = {"value": _value(observed, entry)}
    if found is None:
        key = ObjectKey("", "Secret", observed.cluster.namespace, name)
        body = secrets.secret_body(key, observed.cluster.name, owner_wire(owner), data, annotations)
        return Turn((Create(body, f"kubeconfig {entry.name} is declared", owner_uid=observed.kcp.metadata.uid),))
    if not _is_ours(observed, found):
        return _taken_back(observed, entry, found)
    due = _issued_at(found, observed.at) + entry.lifetime / 2
    if found.metadata.annotations.get(ISSUED_FOR) == digest and observed.at < due:
        return Turn(wait=due - observed.at)
    reason = "less than half of its certificate's life is left" if observed.at >= due else "what it is made for has changed"
    body = {"metadata": {"annotations": {AUDIENCE: None, **annotations}}, "data": data}
    return Turn((Patch(found.key, "v1", found.metadata.uid, body, f"kubeconfig {entry.name}: {reason}", found.metadata.resource_version),))


def _taken_back(observed: Observed, entry: DeclaredKubeconfig, found: External) -> Turn:
    """Own a Secret of ours again that lost its owner; leave anybody else's alone."""
    if found.metadata.controller is not None or ISSUED_FOR not in found.metadata.annotations:
        return Turn(pending=f"{entry.name}: Secret {found.key.name} belongs to somebody else")
    owners = (*found.metadata.owner_references, owner_reference(observed.kcp, controller=True))
    step = metadata_patch(Target(found.key, "v1", found.metadata), MetadataChange(owners=owners), "the control plane owns its Secrets")
    return Turn((step,) if step is not None else ())


def _annotations(observed: Observed, entry: DeclaredKubeconfig) -> dict[str, Any]:
    audience = {AUDIENCE: entry.audience} if entry.audience else {}
    return {ISSUED_FOR: _digest(observed, entry), secrets.ISSUED_AT: secrets.time_of_sending("time of issue"), **audience}


def _value(observed: Observed, entry: DeclaredKubeconfig) -> Any:
    certificate = CertificateSpec(subject(entry.name, entry.revision), validity=entry.lifetime)
    acting_as: dict[str, str | list[str]] = {"as": entry.user}
    if entry.groups:
        acting_as["as-groups"] = list(entry.groups)
    identity = Identity(entry.name, certificate, acting_as)
    return kubeconfig_value(observed.cluster_key, observed.cluster.spec.control_plane_endpoint, _algorithm(observed), identity)


def _digest(observed: Observed, entry: DeclaredKubeconfig) -> str:
    made_for = [entry.model_dump(mode="json"), server_url(observed.cluster.spec.control_plane_endpoint), _algorithm(observed)]
    return hashlib.sha256(json.dumps(made_for, sort_keys=True).encode()).hexdigest()[:16]


def _algorithm(observed: Observed) -> str:
    return str(observed.configuration.get("encryptionAlgorithm") or CLIENT_KEY_ALGORITHM)


def _issued_at(found: External, otherwise: datetime) -> datetime:
    try:
        return datetime.fromisoformat(found.metadata.annotations.get(secrets.ISSUED_AT, ""))
    except ValueError:
        return found.metadata.creation_timestamp or otherwise


# --- one that is declared no more --------------------------------------------------------------------------------------------------------------


def _revoke(observed: Observed, found: External) -> Turn:
    """Take the permissions away, then the Secret."""
    name = found.key.name.removeprefix(secret_name(observed.cluster.name, ""))
    reason = f"kubeconfig {name} is declared no more"
    kinds = (_BINDING, _ROLE)
    known = [seen(observed, _query(kind, name), reason, fresh=True) for kind in kinds]
    pending = f"{name}: being revoked"
    if not all(one.known for one in known):
        return Turn(tuple(one.look for one in known if one.look is not None), soonest(*(one.wait for one in known)), pending)
    away = tuple(
        Delete(_key(observed, kind, name), _API, one.value["metadata"]["uid"], reason) for kind, one in zip(kinds, known, strict=True) if one.value is not None
    )
    again = tuple(Look(observed.cluster_key, _query(step.key.kind, name), "it was deleted") for step in away)
    last = Delete(found.key, "v1", found.metadata.uid, reason, found.metadata.resource_version)
    return Turn((*away, *again, last), pending=pending)


def _query(kind: str, name: str) -> str:
    return f"get/{_API}/{kind}//{_access_name(name)}"


def _key(observed: Observed, kind: str, name: str) -> ObjectKey:
    return ObjectKey(RBAC, kind, "", _access_name(name), str(observed.cluster_key))
