"""The Secrets of a control plane: certificates made once, the kubeconfig made and renewed, all owned by the KubeadmControlPlane.

Source: kinds.md §8.1 steps 4 and 6, §18 (renewal under 6 months); Cluster API v1.14 (ownership, reasons).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from fleetwake import labels
from fleetwake.conditions import FALSE, TRUE, UNKNOWN, ConditionValue
from fleetwake.kind import External
from fleetwake.patches import MetadataChange, Target, metadata_patch, owner_reference, owner_wire
from fleetwake.plan import Create, Patch, Step, Together
from schemas.api.meta import OwnerReference
from services.reconcilers.kinds.kubeadm_control_plane.observed import Observed
from services.reconcilers.kinds.kubeconfig import CLIENT_KEY_ALGORITHM, create_kubeconfig, kubeconfig_value
from services.reconcilers.kubeadm import secrets
from services.reconcilers.kubeadm.secrets import Purpose

CERTIFICATES_AVAILABLE = "CertificatesAvailable"


def missing(observed: Observed) -> tuple[secrets.CertificateFile, ...]:
    """The certificates that have no Secret."""
    return tuple(file for file in secrets.certificate_files(observed.configuration) if file.purpose not in observed.secrets)


def certificate_steps(observed: Observed) -> tuple[Step, ...]:
    """Make the certificates that are ours to make, and make those that are ours owned by us.

    Once a control plane was initialized none is made again: a new CA would cut every node off.
    """
    adoptions = tuple(step for step in (_adopt(observed, purpose) for purpose in Purpose) if step is not None)
    if observed.initialized:
        return adoptions
    owner = owner_wire(_owner(observed))
    branches: list[tuple[Step, ...]] = []
    for file in missing(observed):
        if file.generated:
            key = secrets.secret_key(observed.cluster_key, file.purpose)
            body = secrets.secret_body(key, observed.cluster.name, owner, secrets.certificate_data(file.purpose, observed.configuration))
            branches.append((Create(body, reason=f"the control plane needs its {file.purpose.value} certificate"),))
    return (*adoptions, *((Together(tuple(branches), reason="cluster certificates"),) if branches else ()))


def _owner(observed: Observed) -> OwnerReference:
    return owner_reference(observed.kcp, controller=True)


def _adopt(observed: Observed, purpose: Purpose) -> Patch | None:
    """Own a Secret of Cluster API's type that nobody, or a KubeadmConfig, or we of former times control; a user's own type is left alone."""
    found = observed.secrets.get(purpose)
    if found is None or found.fields.get("type") != labels.SECRET_TYPE:
        return None
    wanted, controller = _owner(observed), found.metadata.controller
    if controller is not None and controller.uid == wanted.uid and controller.api_version == wanted.api_version:
        return None
    if purpose is Purpose.KUBECONFIG and controller is not None and controller.kind not in ("Cluster", wanted.kind):
        return None
    kept = tuple(ref for ref in found.metadata.owner_references if not ref.controller and (ref.kind, ref.name) != (wanted.kind, wanted.name))
    if purpose is Purpose.KUBECONFIG:
        kept = tuple(ref for ref in kept if ref.kind != "Cluster")
    return metadata_patch(Target(found.key, "v1", found.metadata), MetadataChange(owners=(*kept, wanted)), "the control plane owns its Secrets")


def certificates_available(observed: Observed) -> ConditionValue:
    """CertificatesAvailable, by what is observed."""
    lacking = [file.purpose.value for file in missing(observed)]
    if not lacking:
        return ConditionValue(CERTIFICATES_AVAILABLE, TRUE, "Available")
    if len(lacking) == 1:
        text = f"Cluster certificate for {lacking[0]} is not available, please check cluster certificate secrets"
    else:
        text = f"Cluster certificates for {', '.join(lacking)} are not available, please check cluster certificate secrets"
    if observed.failure is not None and not observed.initialized:
        return ConditionValue(CERTIFICATES_AVAILABLE, UNKNOWN, "InternalError", f"Failed to create certificates: {observed.failure.message}")
    return ConditionValue(CERTIFICATES_AVAILABLE, FALSE, "NotAvailable", text)


def kubeconfig_steps(observed: Observed, *, ca_coming: bool) -> tuple[tuple[Step, ...], timedelta | None]:
    """Make the kubeconfig Secret, or renew its certificate when half its life is over; and how long until then.

    ``ca_coming``: the CA's Secret is made earlier in the same plan.
    """
    endpoint, found = observed.cluster.spec.control_plane_endpoint, observed.secrets.get(Purpose.KUBECONFIG)
    algorithm = str(observed.configuration.get("encryptionAlgorithm") or CLIENT_KEY_ALGORITHM)
    if found is None:
        if not ca_coming and Purpose.CA not in observed.secrets:
            return (), None
        step = create_kubeconfig(observed.cluster_key, endpoint, _owner(observed), algorithm)
        return (replace(step, body=_issued(step.body), reason="the control plane has an endpoint and a CA, but no kubeconfig"),), None
    controller = found.metadata.controller
    if found.fields.get("type") != labels.SECRET_TYPE or controller is None or controller.uid != observed.kcp.metadata.uid:
        return (), None
    due = _issued_at(found, observed.at) + secrets.KUBECONFIG_RENEW_AFTER
    if observed.at < due or Purpose.CA not in observed.secrets:
        return (), max(due - observed.at, timedelta(0)) if observed.at < due else None
    value = kubeconfig_value(observed.cluster_key, endpoint, algorithm)
    body = _issued({"metadata": {}, "data": {"value": value}})
    renewal = Patch(found.key, "v1", found.metadata.uid, body, "the kubeconfig's certificate has less than half its life left", found.metadata.resource_version)
    return (renewal,), None


def _issued(body: Any) -> dict[str, Any]:
    """The body with the annotation that tells when its certificate was made."""
    metadata = body["metadata"]
    annotations = {**metadata.get("annotations", {}), secrets.ISSUED_AT: secrets.time_of_sending("time of issue")}
    return {**body, "metadata": {**metadata, "annotations": annotations}}


def _issued_at(found: External, otherwise: datetime) -> datetime:
    """When the kubeconfig's certificate was made: as annotated (a move keeps annotations), else when the Secret was."""
    try:
        return datetime.fromisoformat(found.metadata.annotations.get(secrets.ISSUED_AT, ""))
    except ValueError:
        return found.metadata.creation_timestamp or otherwise
