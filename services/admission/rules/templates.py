"""Templates: what is made from them refers to them by name, so most never change.

KubeadmConfigTemplates may be edited: only what is made afterwards follows. A dry run of the topology may compare a changed template; its annotation says so.
Source: contracts.md §11; kinds.md §10.1; Cluster API v1.14, webhooks of KubeadmControlPlaneTemplate, KubeadmConfigTemplate and of the development provider.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from fleetwake import labels
from schemas.api.bootstrap.v1beta2.kubeadm_config import KubeadmConfigTemplate
from schemas.api.controlplane.v1beta2.kubeadm_control_plane_template import KubeadmControlPlaneTemplate
from schemas.api.infrastructure.v1beta2.dev_cluster import DevClusterTemplate
from schemas.api.infrastructure.v1beta2.dev_machine import DevMachineTemplate
from schemas.api.infrastructure.v1beta2.dev_machine_pool import DevMachinePoolTemplate
from schemas.api.meta import KubeObject
from services.admission.rules import fields
from services.admission.rules.rule import Admission, Asked, Rule, Violation

SOURCE = "contracts.md §11; Cluster API v1.14, template webhooks"
SPEC = "spec.template.spec"
FIXED = f"never changes; a dry run marked {labels.TOPOLOGY_DRY_RUN} may ask"
K = TypeVar("K", bound=KubeObject)


def _fixed(asked: Asked[K]) -> Iterator[Violation]:
    if asked.old is not None and not asked.new.annotated(labels.TOPOLOGY_DRY_RUN):
        yield from fields.template_immutable(("spec", "template", "spec"), asked.old_raw, asked.new_raw)


def _handed_on(asked: Asked[KubeadmControlPlaneTemplate] | Asked[KubeadmConfigTemplate]) -> Iterator[Violation]:
    yield from fields.metadata("spec.template.metadata", asked.new.spec.template.metadata)


def _of_machines(asked: Asked[KubeadmControlPlaneTemplate]) -> Iterator[Violation]:
    spec = asked.new.spec.template.spec
    yield from fields.metadata(f"{SPEC}.machineTemplate.metadata", spec.machine_template.metadata)
    yield from fields.naming(f"{SPEC}.machineNaming", spec.machine_naming, "kubeadmControlPlane")


KUBEADM_CONTROL_PLANE_TEMPLATE = Admission(
    KubeadmControlPlaneTemplate,
    rules=(
        Rule(SPEC, FIXED, SOURCE, _fixed),
        Rule("spec.template.metadata", "has valid labels and annotations", SOURCE, _handed_on),
        Rule(f"{SPEC}.{{machineTemplate.metadata,machineNaming}}", "have valid labels, annotations and names", SOURCE, _of_machines),
    ),
    policy="Fail",
    why="a change would reach no control plane and yet look as if it had",
)

KUBEADM_CONFIG_TEMPLATE = Admission(
    KubeadmConfigTemplate,
    rules=(Rule("spec.template.metadata", "has valid labels and annotations", SOURCE, _handed_on),),
    policy="Fail",
    why="people make it",
)


def _infrastructure(model: type[K]) -> Admission[K]:
    return Admission(
        model,
        rules=(Rule(SPEC, FIXED, SOURCE, _fixed),),
        policy="Fail",
        why="a change would reach no Machine and yet look as if it had",
    )


DEV_CLUSTER_TEMPLATE = _infrastructure(DevClusterTemplate)
DEV_MACHINE_TEMPLATE = _infrastructure(DevMachineTemplate)
DEV_MACHINE_POOL_TEMPLATE = _infrastructure(DevMachinePoolTemplate)
