"""What a host is started with. A host of a pool keeps what the pool asked for when it was made, in annotations of its DevMachine: its Machine names neither
version nor data, and the pool goes on to others.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from fleetwake.patches import wire
from schemas.api.core.v1beta2.machine_pool import MachinePool
from schemas.api.infrastructure.v1beta2 import DevMachine
from schemas.api.infrastructure.v1beta2.dev_machine_pool import InMemoryMachinePoolBackend

PREFIX = "dev.fleetwake.io/"
VERSION, SECRET, ZONE, REVISION = PREFIX + "version", PREFIX + "bootstrap-data", PREFIX + "failure-domain", PREFIX + "revision"
REVISION_LENGTH = 10


@dataclass(frozen=True, slots=True)
class Birth:
    """Kubernetes version, name of the Secret with the bootstrap data, failure domain; ``""`` for none."""

    version: str
    secret: str
    zone: str

    @property
    def annotations(self) -> dict[str, str]:
        """As a DevMachine keeps it."""
        return {key: value for key, value in ((VERSION, self.version), (SECRET, self.secret), (ZONE, self.zone)) if value}


def birth_of(found: DevMachine) -> Birth:
    """As a DevMachine has kept it."""
    kept = found.metadata.annotations
    return Birth(kept.get(VERSION, ""), kept.get(SECRET, ""), kept.get(ZONE, ""))


def made_by_pool(found: DevMachine) -> bool:
    """Whether a pool made the DevMachine."""
    return REVISION in found.metadata.annotations


def revision(pool: MachinePool, backend: InMemoryMachinePoolBackend) -> str:
    """A short hash of all that makes a host another: version, data, and what the hosts are. What is in the Secret does not count: tokens rotate there."""
    spec = pool.spec.template.spec
    facts: dict[str, Any] = {"version": spec.version or "", "data": spec.bootstrap.data_secret_name or "", "backend": wire(backend)}
    return hashlib.sha256(json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:REVISION_LENGTH]
