"""What a Cluster does with the objects it refers to: it owns and labels them, and takes over what they have brought about.

Source: kinds.md §1 (reconcile a, b, d); contracts.md §2, §6.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from fleetwake import labels
from fleetwake.kind import External
from fleetwake.patches import MetadataChange, Target, metadata_patch, owner_reference, owners_with
from fleetwake.plan import Patch, Step
from schemas.api.controlplane.v1beta2 import KubeadmControlPlane
from schemas.api.core.v1beta2.shared import APIEndpoint, FailureDomain
from services.reconcilers.kinds import failures
from services.reconcilers.kinds.cluster.descendants import control_plane_machines
from services.reconcilers.kinds.cluster.observed import Observed
from services.reconcilers.kinds.kubeconfig import create_kubeconfig

MISSING_REFERENCE_WAIT = timedelta(seconds=30)
MISSING_CA_WAIT = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Provisioned:
    """What is true of the Cluster once this run is done: latches, endpoint, failure domains (None: as stored)."""

    infrastructure: bool
    control_plane: bool
    endpoint: APIEndpoint
    failure_domains: tuple[FailureDomain, ...]


def take_over(observed: Observed) -> Provisioned:
    """Read what the referenced objects report. Latches never fall back; an endpoint once known stays."""
    cluster = observed.cluster
    stored = cluster.status.initialization
    infrastructure, control_plane = bool(stored.infrastructure_provisioned), bool(stored.control_plane_initialized)
    endpoint, failure_domains = cluster.spec.control_plane_endpoint, cluster.status.failure_domains
    infra = observed.infra
    if cluster.spec.infrastructure_ref is None and cluster.spec.topology is None and not cluster.metadata.deleting:
        infrastructure = True
    elif infra is not None and not infra.obj.metadata.deleting and (infra.provisioned or infrastructure):
        infrastructure, failure_domains = True, infra.failure_domains
        endpoint = endpoint if endpoint.valid else infra.endpoint
    provider = observed.control_plane
    if provider is not None and not provider.obj.metadata.deleting and (provider.initialized or control_plane):
        control_plane = True
        endpoint = endpoint if endpoint.valid else provider.endpoint
    if cluster.spec.control_plane_ref is None and cluster.spec.topology is None:
        control_plane = control_plane or any(machine.status.node_ref for machine in control_plane_machines(observed))
    return Provisioned(infrastructure, control_plane, endpoint, failure_domains)


def adopt_references(observed: Observed) -> Iterator[Patch]:
    """Own and label the infrastructure and control plane objects: one patch each, none when nothing differs.

    The reference is a controller's only with a topology: otherwise tools of the user may control the objects. A KubeadmControlPlane begins its work
    once it has its owner, and gets its finalizer with it.
    """
    cluster = observed.cluster
    owner = owner_reference(cluster, controller=cluster.spec.topology is not None)
    for obj in (observed.infra.obj if observed.infra else None, observed.control_plane.obj if observed.control_plane else None):
        if obj is None or obj.metadata.deleting:
            continue
        owners = owners_with(obj.metadata.owner_references, owner)
        finalizers = _first_finalizers(obj) if owners != obj.metadata.owner_references else None
        change = MetadataChange(finalizers=finalizers, owners=owners, labels={labels.CLUSTER_NAME: cluster.name})
        patch = metadata_patch(_target(obj), change, f"the {obj.key.kind} belongs to the cluster")
        if patch is not None:
            yield patch


def _first_finalizers(obj: External) -> tuple[str, ...] | None:
    """The finalizers of a KubeadmControlPlane with its controller's among them, which saves that a patch; None to leave them alone."""
    held = obj.metadata.finalizers
    if obj.key.group_kind != (KubeadmControlPlane.GROUP, KubeadmControlPlane.KIND) or labels.KUBEADM_CONTROL_PLANE_FINALIZER in held:
        return None
    return (*held, labels.KUBEADM_CONTROL_PLANE_FINALIZER)


def _target(obj: External) -> Target:
    return Target(obj.key, obj.api_version, obj.metadata)


def kubeconfig(observed: Observed, endpoint: APIEndpoint) -> tuple[tuple[Step, ...], timedelta | None]:
    """Make the kubeconfig where no control plane provider does; wait for the CA."""
    cluster = observed.cluster
    if cluster.spec.control_plane_ref is not None or cluster.spec.topology is not None or not endpoint.valid or observed.kubeconfig_exists:
        return (), None
    if not observed.ca_exists:
        return (), MISSING_CA_WAIT
    return (create_kubeconfig(observed.key, endpoint, owner_reference(cluster)),), None


def failure(observed: Observed) -> failures.Told:
    """What infrastructure and control plane say of having given up. For readers of older contracts only."""
    return failures.told_by(observed.infra.obj if observed.infra else None, observed.control_plane.obj if observed.control_plane else None)


def missing_reference_wait(observed: Observed) -> timedelta | None:
    """When to look again for a referenced object that does not exist (yet)."""
    spec = observed.cluster.spec
    missing = (spec.infrastructure_ref and not observed.infra) or (spec.control_plane_ref and not observed.control_plane)
    return MISSING_REFERENCE_WAIT if missing and not observed.cluster.metadata.deleting else None
