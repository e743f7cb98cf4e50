"""What a MachinePool does with its bootstrap configuration and its infrastructure: it owns them and takes over what they have brought about.

Source: kinds.md §6 steps 1 to 3 and 6; contracts.md §4, §5.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from fleetwake import labels
from fleetwake.patches import MetadataChange, Target, metadata_patch, owner_reference, owners_with, target
from fleetwake.plan import Patch
from schemas.api.core.v1beta2.cluster import Cluster
from services.reconcilers.kinds import failures
from services.reconcilers.kinds.machine_pool.observed import Observed

MISSING_REFERENCE_WAIT = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Provisioned:
    """What is true of the MachinePool once this run is done. ``current``: how many hosts there are, None while that was never told."""

    bootstrap: bool
    infrastructure: bool
    data_secret_name: str
    provider_ids: tuple[str, ...]
    current: int | None
    wanted: int


def take_over(observed: Observed) -> Provisioned:
    """Read what the referenced objects report. Latches never fall back, and an object that is being deleted tells nothing new."""
    spec, status = observed.pool.spec, observed.pool.status
    bootstrap = bool(status.initialization.bootstrap_data_secret_created)
    secret = spec.template.spec.bootstrap.data_secret_name or ""
    config = observed.bootstrap
    if spec.template.spec.bootstrap.config_ref is None and secret:
        bootstrap = True
    elif config is not None and not config.obj.metadata.deleting and config.data_secret_created and config.data_secret_name:
        # a provider may give the data of hosts to come another Secret at any time
        bootstrap, secret = True, config.data_secret_name
    known = Provisioned(bootstrap, bool(status.initialization.infrastructure_provisioned), secret, spec.provider_id_list, status.replicas, observed.replicas)
    return _with_infrastructure(observed, known)


def _with_infrastructure(observed: Observed, known: Provisioned) -> Provisioned:
    infra = observed.infra
    if infra is None or infra.obj.metadata.deleting or not (infra.provisioned or known.infrastructure):
        return known
    found = infra.provider_ids
    # a pool that counts hosts and names none has not told which they are: those known before stay
    identities = known.provider_ids if not found and infra.replicas else found
    current = infra.replicas if infra.replicas is not None else known.current
    wanted = current if observed.externally_managed and current is not None else known.wanted
    return Provisioned(known.bootstrap, True, known.data_secret_name, identities, current, wanted)


def own_patch(observed: Observed, provisioned: Provisioned, cluster: Cluster) -> Patch | None:
    """One patch of the MachinePool itself: finalizer, owner, label, and the spec fields it takes over."""
    stored = observed.stored
    spec: dict[str, Any] = {}
    if provisioned.wanted != stored.spec.replicas:
        spec["replicas"] = provisioned.wanted
    if provisioned.provider_ids != stored.spec.provider_id_list:
        spec["providerIDList"] = list(provisioned.provider_ids) or None
    if provisioned.data_secret_name != (stored.spec.template.spec.bootstrap.data_secret_name or ""):
        spec["template"] = {"spec": {"bootstrap": {"dataSecretName": provisioned.data_secret_name}}}
    finalizers = stored.metadata.finalizers
    if labels.MACHINE_POOL_FINALIZER not in finalizers:
        finalizers = (*finalizers, labels.MACHINE_POOL_FINALIZER)
    owners = owners_with(stored.metadata.owner_references, owner_reference(cluster))
    change = MetadataChange(finalizers=finalizers, owners=owners, labels={labels.CLUSTER_NAME: cluster.name})
    return metadata_patch(target(stored), change, "the pool is ours to clean up; its bootstrap data and hosts are known", spec=spec)


def adopt_references(observed: Observed) -> Iterator[Patch]:
    """Take controller ownership of configuration and infrastructure and label them: one patch each, none when nothing differs."""
    for obj in (observed.bootstrap.obj if observed.bootstrap else None, observed.infra.obj if observed.infra else None):
        if obj is None or obj.metadata.deleting:
            continue
        owners = owners_with(obj.metadata.owner_references, owner_reference(observed.pool, controller=True))
        change = MetadataChange(owners=owners, labels={labels.CLUSTER_NAME: observed.pool.spec.cluster_name})
        patch = metadata_patch(Target(obj.key, obj.api_version, obj.metadata), change, f"the {obj.key.kind} belongs to the pool")
        if patch is not None:
            yield patch


def failure(observed: Observed) -> failures.Told:
    """What the objects behind the pool say of having given up, or that its hosts were lost. For readers of older contracts only."""
    pool, infra = observed.pool, observed.infra
    provisioned = bool(pool.status.initialization.infrastructure_provisioned)
    if infra is None and observed.infra_readable and provisioned and not pool.metadata.deleting:
        ref = pool.spec.template.spec.infrastructure_ref
        return failures.lost(ref.kind, pool.namespace, ref.name)
    return failures.told_by(infra.obj if infra else None, observed.bootstrap.obj if observed.bootstrap else None)


def missing_reference_wait(observed: Observed) -> timedelta | None:
    """When to look again for a referenced object that does not exist (yet)."""
    missing = observed.infra is None or (observed.pool.spec.template.spec.bootstrap.config_ref is not None and observed.bootstrap is None)
    return MISSING_REFERENCE_WAIT if missing else None
