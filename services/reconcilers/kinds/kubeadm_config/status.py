"""The status of a KubeadmConfig: one apply of everything its controller owns there.

Source: kinds.md §9; contracts.md §5; Cluster API v1.14 (reasons of the conditions).
"""

from __future__ import annotations

from fleetwake import legacy_conditions
from fleetwake.conditions import FALSE, TRUE, ConditionValue, Reasons, Summary, merge, summary
from fleetwake.patches import Informing, status_apply
from fleetwake.plan import Apply
from services.reconcilers.kinds.kubeadm_config.legacy import legacy
from services.reconcilers.kinds.kubeadm_config.observed import Observed
from services.reconcilers.kinds.pausing import OwnedStatus, paused_condition

MANAGER = "kubeadmconfig-controller"
DATA_SECRET_AVAILABLE, CERTIFICATES_AVAILABLE, READY = "DataSecretAvailable", "CertificatesAvailable", "Ready"
AVAILABLE, NOT_AVAILABLE = "Available", "NotAvailable"
OWNED = OwnedStatus(
    manager=MANAGER,
    fields=("dataSecretName", "initialization", "observedGeneration", "deprecated"),
    condition_types=("Paused", DATA_SECRET_AVAILABLE, CERTIFICATES_AVAILABLE, READY),
)
INFORMING = Informing(fields=frozenset(("observedGeneration", "deprecated")), conditions=frozenset((CERTIFICATES_AVAILABLE,)))
_READY = Summary(READY, (DATA_SECRET_AVAILABLE, CERTIFICATES_AVAILABLE), reasons=Reasons("NotReady", "ReadyUnknown", "Ready"))


def created(observed: Observed, name: str) -> Apply | None:
    """The bootstrap data is in the Secret ``name`` (certificates must then have been there too); None when the status says so already."""
    values = (ConditionValue(DATA_SECRET_AVAILABLE, TRUE, AVAILABLE), ConditionValue(CERTIFICATES_AVAILABLE, TRUE, AVAILABLE))
    return _apply(observed, values, name)


def waiting(observed: Observed, message: str, *, control_plane: bool, failed: bool = False) -> Apply | None:
    """There is no bootstrap data, and ``message`` says what for, or why it ``failed``; None when the status says so already."""
    missing = observed.missing(control_plane=control_plane)
    certificates = ConditionValue(CERTIFICATES_AVAILABLE, TRUE, AVAILABLE)
    if missing:
        text = f"Secrets of the certificates {', '.join(purpose.value for purpose in missing)} do not exist"
        certificates = ConditionValue(CERTIFICATES_AVAILABLE, FALSE, NOT_AVAILABLE, text)
    return _apply(observed, (ConditionValue(DATA_SECRET_AVAILABLE, FALSE, NOT_AVAILABLE, message), certificates), "", failed=failed)


def _apply(observed: Observed, values: tuple[ConditionValue, ...], name: str, *, failed: bool = False) -> Apply | None:
    config = observed.config
    older = legacy_conditions.wire(config.status.deprecated.v1beta1.conditions, legacy(observed, values, failed=failed), observed.at)
    conditions = (*values, summary(_READY, values), paused_condition(config, observed.cluster))
    status = {
        "conditions": merge(config.status.conditions, conditions, config.metadata.generation, observed.at),
        "dataSecretName": name or None,
        "initialization": {"dataSecretCreated": True if name else None},
        "observedGeneration": config.metadata.generation,
        "deprecated": {"v1beta1": {"conditions": older}},
    }
    return status_apply(config, MANAGER, status, informing=INFORMING)
