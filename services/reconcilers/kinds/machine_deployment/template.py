"""Which revision a MachineSet is: the fields of a Machine template that roll, compared and hashed.

Everything not named here is changed in place. Editing a template *object* never rolls: only its name is compared.

Source: kinds.md §4 "Identify new MS"; Cluster API v1.14 condition messages (Machine UpToDate, MachineDeployment RollingOut).
"""

from __future__ import annotations

import hashlib
import json

from fleetwake.cloning import TEMPLATE_SUFFIX
from schemas.api.core.v1beta2.machine import Bootstrap, MachineSpec
from schemas.api.core.v1beta2.shared import ContractVersionedObjectReference

HASH_LENGTH = 10


def rollout_equal(a: MachineSpec, b: MachineSpec) -> tuple[str, ...]:
    """Why a Machine of template ``a`` is not up to date with template ``b``: distinct reasons, Version first, then sorted; empty when equal."""
    reasons = set()
    if (a.version or "") != (b.version or ""):
        reasons.add(f"Version {a.version or ''}, {b.version or ''} required")
    if _bootstrap(a.bootstrap) != _bootstrap(b.bootstrap):
        if a.bootstrap.config_ref is not None:
            reasons.add(f"{a.bootstrap.config_ref.kind.removesuffix(TEMPLATE_SUFFIX)} is not up-to-date")
        else:
            reasons.add(f"spec.bootstrap.dataSecretName {a.bootstrap.data_secret_name or 'nil'}, {b.bootstrap.data_secret_name or 'nil'} required")
    if _reference(a.infrastructure_ref) != _reference(b.infrastructure_ref):
        reasons.add(f"{a.infrastructure_ref.kind.removesuffix(TEMPLATE_SUFFIX)} is not up-to-date")
    if (a.failure_domain or "") != (b.failure_domain or ""):
        reasons.add(f"Failure domain {a.failure_domain or ''}, {b.failure_domain or ''} required")
    return version_first(reasons)


def version_first(reasons: set[str]) -> tuple[str, ...]:
    """The reasons sorted, those about the version before all others; bullets (``* Version ...``) count alike."""
    return tuple(sorted(reasons, key=lambda reason: (not reason.removeprefix("* ").startswith("Version"), reason)))


def template_hash(spec: MachineSpec) -> str:
    """A short hash of the fields that roll, the same in every process.

    It only makes a label unique and readable; whether two templates are the same revision is decided by ``rollout_equal``.
    """
    fields = {
        "version": spec.version or "",
        "failureDomain": spec.failure_domain or "",
        "bootstrap": _bootstrap(spec.bootstrap),
        "infrastructureRef": _reference(spec.infrastructure_ref),
    }
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_LENGTH]


def _bootstrap(bootstrap: Bootstrap) -> tuple[tuple[str, str, str] | None, str | None]:
    return _reference(bootstrap.config_ref), bootstrap.data_secret_name


def _reference(ref: ContractVersionedObjectReference | None) -> tuple[str, str, str] | None:
    return None if ref is None else (ref.api_group, ref.kind, ref.name)
