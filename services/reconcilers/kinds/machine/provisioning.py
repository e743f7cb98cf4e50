"""What a Machine does with its bootstrap configuration and its infrastructure: it owns them and takes over what they have brought about.

Source: kinds.md §2 steps 1 to 5; contracts.md §3, §5.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic import AwareDatetime, TypeAdapter, ValidationError

from fleetwake import labels
from fleetwake.kind import External
from fleetwake.patches import MetadataChange, Target, metadata_patch, owner_reference, owners_with, target
from fleetwake.plan import Patch
from schemas.api.core.v1beta2.machine import Machine
from schemas.api.core.v1beta2.machine_set import MachineSet
from schemas.api.core.v1beta2.shared import MachineAddress
from schemas.api.meta import OwnerReference
from schemas.keys import GroupKind
from services.reconcilers.kinds import failures
from services.reconcilers.kinds.machine.observed import Observed

MISSING_REFERENCE_WAIT = timedelta(seconds=30)

_TIME: TypeAdapter[datetime] = TypeAdapter(AwareDatetime)


@dataclass(frozen=True, slots=True)
class Provisioned:
    """What is true of the Machine once this run is done."""

    bootstrap: bool
    infrastructure: bool
    data_secret_name: str
    provider_id: str
    spec_failure_domain: str
    failure_domain: str
    addresses: tuple[MachineAddress, ...]


def take_over(observed: Observed) -> Provisioned:
    """Read what the referenced objects report. Latches never fall back, and an object that is being deleted tells nothing new."""
    machine = observed.machine
    spec, status = machine.spec, machine.status
    bootstrap = bool(status.initialization.bootstrap_data_secret_created)
    secret = spec.bootstrap.data_secret_name or ""
    config = observed.bootstrap
    if (config is not None and secret) or (spec.bootstrap.config_ref is None and spec.bootstrap.data_secret_name is not None):
        # data without a configuration is the user's; an empty name is that of a pool's Machine, whose host has its data from the pool
        bootstrap = True
    elif config is not None and not config.obj.metadata.deleting and config.data_secret_created and config.data_secret_name:
        bootstrap, secret = True, config.data_secret_name
    found = Provisioned(
        bootstrap=bootstrap,
        infrastructure=bool(status.initialization.infrastructure_provisioned),
        data_secret_name=secret,
        provider_id=spec.provider_id or "",
        spec_failure_domain=spec.failure_domain or "",
        failure_domain=status.failure_domain or "",
        addresses=status.addresses,
    )
    return _with_infrastructure(observed, found)


def _with_infrastructure(observed: Observed, known: Provisioned) -> Provisioned:
    infra = observed.infra
    if infra is None or infra.obj.metadata.deleting or not infra.provider_id or not (infra.provisioned or known.infrastructure):
        return known
    return Provisioned(
        bootstrap=known.bootstrap,
        infrastructure=True,
        data_secret_name=known.data_secret_name,
        provider_id=infra.provider_id,
        spec_failure_domain=infra.spec_failure_domain or known.spec_failure_domain,
        failure_domain=infra.failure_domain or known.failure_domain,
        addresses=infra.addresses or known.addresses,
    )


def own_patch(observed: Observed, provisioned: Provisioned) -> Patch | None:
    """One patch of the Machine itself: finalizer, owner, label, and the spec fields it takes over."""
    machine = observed.machine
    spec: dict[str, Any] = {}
    if provisioned.data_secret_name != (machine.spec.bootstrap.data_secret_name or ""):
        spec["bootstrap"] = {"dataSecretName": provisioned.data_secret_name}
    if provisioned.provider_id != (machine.spec.provider_id or ""):
        spec["providerID"] = provisioned.provider_id
    if provisioned.spec_failure_domain != (machine.spec.failure_domain or ""):
        spec["failureDomain"] = provisioned.spec_failure_domain
    finalizers = machine.metadata.finalizers
    if labels.MACHINE_FINALIZER not in finalizers and not machine.metadata.deleting:
        finalizers = (*finalizers, labels.MACHINE_FINALIZER)
    change = MetadataChange(finalizers=finalizers, owners=_owners(observed), labels={labels.CLUSTER_NAME: machine.spec.cluster_name})
    return metadata_patch(target(machine), change, "the machine is ours to clean up; its bootstrap data and host are known", spec=spec)


def _owners(observed: Observed) -> tuple[OwnerReference, ...] | None:
    """The owners with the Cluster among them, for a Machine that nobody else made; None to leave them alone.

    A Machine that says it comes from a set, pool or control plane waits for that owner to take it back, never for the Cluster.
    """
    machine, cluster = observed.machine, observed.cluster
    made = any(label in machine.metadata.labels for label in (labels.SET_NAME, labels.POOL_NAME, labels.CONTROL_PLANE_NAME))
    if cluster is None or made or machine.metadata.controller is not None:
        return None
    return owners_with(machine.metadata.owner_references, owner_reference(cluster))


def adopt_references(observed: Observed) -> Iterator[Patch]:
    """Take controller ownership of configuration and infrastructure and label them: one patch each, none when nothing differs.

    References to the set or control plane that made them go away with it.
    """
    drop = [GroupKind(MachineSet.GROUP, MachineSet.KIND)]
    control_plane_ref = observed.cluster.spec.control_plane_ref if observed.cluster is not None else None
    if control_plane_ref is not None:
        drop.append(GroupKind(control_plane_ref.api_group, control_plane_ref.kind))
    for obj in (observed.bootstrap.obj if observed.bootstrap else None, observed.infra.obj if observed.infra else None):
        if obj is None or obj.metadata.deleting:
            continue
        owners = owners_with(obj.metadata.owner_references, owner_reference(observed.machine, controller=True), drop=drop)
        change = MetadataChange(owners=owners, labels={labels.CLUSTER_NAME: observed.machine.spec.cluster_name})
        patch = metadata_patch(Target(obj.key, obj.api_version, obj.metadata), change, f"the {obj.key.kind} belongs to the machine")
        if patch is not None:
            yield patch


def missing_reference_wait(observed: Observed) -> timedelta | None:
    """When to look again for a referenced object that does not exist (yet)."""
    machine = observed.machine
    missing = observed.infra is None or (machine.spec.bootstrap.config_ref is not None and observed.bootstrap is None)
    return MISSING_REFERENCE_WAIT if missing and not machine.metadata.deleting else None


def failure(observed: Observed) -> failures.Told:
    """What the objects behind the Machine say of having given up, or that its host was lost. For readers of older contracts only."""
    machine, infra = observed.machine, observed.infra
    provisioned = bool(machine.status.initialization.infrastructure_provisioned)
    if infra is None and observed.infra_readable and provisioned and not machine.metadata.deleting:
        ref = machine.spec.infrastructure_ref
        return failures.lost(ref.kind, machine.namespace, ref.name)
    return failures.told_by(infra.obj if infra else None, observed.bootstrap.obj if observed.bootstrap else None)


def certificates_expiry(observed: Observed) -> datetime | None:
    """When the certificates of a control plane Machine expire, by annotation of the Machine, else of its configuration."""
    machine = observed.machine
    if not is_control_plane(machine):
        return None
    config: External | None = observed.bootstrap.obj if observed.bootstrap is not None else None
    for notes in (machine.metadata.annotations, config.metadata.annotations if config is not None else {}):
        if labels.CERTIFICATES_EXPIRY in notes:
            try:
                return _TIME.validate_python(notes[labels.CERTIFICATES_EXPIRY])
            except ValidationError:
                return None
    return None


def is_control_plane(machine: Machine) -> bool:
    """Whether the Machine is part of a control plane."""
    return labels.CONTROL_PLANE in machine.metadata.labels
