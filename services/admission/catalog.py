"""Every kind that a webhook is asked about, one line each."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from services.admission.rules import cluster, cluster_class, kubeadm_control_plane, machine, selecting, templates, workers
from services.admission.rules.rule import Admission

ADMISSIONS: tuple[Admission[Any], ...] = (
    cluster.ADMISSION,
    cluster_class.ADMISSION,
    machine.ADMISSION,
    workers.MACHINE_SET,
    workers.MACHINE_DEPLOYMENT,
    workers.MACHINE_POOL,
    selecting.MACHINE_HEALTH_CHECK,
    selecting.MACHINE_DRAIN_RULE,
    kubeadm_control_plane.ADMISSION,
    templates.KUBEADM_CONTROL_PLANE_TEMPLATE,
    templates.KUBEADM_CONFIG_TEMPLATE,
    selecting.CLUSTER_RESOURCE_SET,
    selecting.EXTENSION_CONFIG,
    templates.DEV_CLUSTER_TEMPLATE,
    templates.DEV_MACHINE_TEMPLATE,
    templates.DEV_MACHINE_POOL_TEMPLATE,
)


def path(admission: Admission[Any], does: str) -> str:
    """Where the API server asks: ``/mutate-…`` or ``/validate-…``, with group, version and kind, as Cluster API's webhooks have it."""
    model = admission.model
    return f"/{does}-{model.GROUP.replace('.', '-')}-{model.VERSION}-{model.KIND.lower()}"


MUTATING: Mapping[str, Admission[Any]] = MappingProxyType({path(one, "mutate"): one for one in ADMISSIONS if one.default})
VALIDATING: Mapping[str, Admission[Any]] = MappingProxyType({path(one, "validate"): one for one in ADMISSIONS})
