"""The conditions of the v1beta1 contract of a KubeadmConfig, from those that the same run tells.

Source: contracts.md §10; Cluster API v1.14 kubeadmconfig controller (v1beta1 condition types, reasons, severities).
"""

from __future__ import annotations

from collections.abc import Sequence

from fleetwake.conditions import TRUE, Judged
from fleetwake.legacy_conditions import ERROR, INFO, WARNING, Legacy, bad, good, summary
from services.reconcilers.kinds.kubeadm_config.observed import Observed

DATA_SECRET_AVAILABLE, CERTIFICATES_AVAILABLE = "DataSecretAvailable", "CertificatesAvailable"


def legacy(observed: Observed, values: Sequence[Judged], *, failed: bool) -> tuple[Legacy, ...]:
    """All of them, Ready the last. ``failed``: the data cannot be made, whoever waits. Certificates that nobody could have made yet are not told of."""
    found: list[Legacy] = []
    for told in values:
        if told.type == DATA_SECRET_AVAILABLE:
            found.append(good(told.type) if told.status == TRUE else _waiting(observed, told, failed=failed))
        elif told.type == CERTIFICATES_AVAILABLE and told.status == TRUE:
            found.append(good(told.type))
        elif told.type == CERTIFICATES_AVAILABLE and observed.initialized:
            found.append(bad(told.type, ERROR, "CertificatesCorrupted", told.message))
    return (*found, *summary((DATA_SECRET_AVAILABLE, CERTIFICATES_AVAILABLE), found))


def _waiting(observed: Observed, told: Judged, *, failed: bool) -> Legacy:
    if not observed.cluster.status.initialization.infrastructure_provisioned:
        return bad(told.type, INFO, "WaitingForClusterInfrastructure", told.message)
    if failed:
        return bad(told.type, WARNING, "DataSecretGenerationFailed", told.message)
    return bad(told.type, INFO, "WaitingForControlPlaneAvailable", told.message)
