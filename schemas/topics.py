"""The topics: names, cleanup policies and limits. Nothing else in the project spells a topic's name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

MESSAGE_BYTES_MAX = 4 * 1024 * 1024
"""Greatest record, end to end (topics, producers, consumers): Kubernetes objects reach 1.5 MB."""

PARTITIONS_DEFAULT = 24
"""Partitions of every clustered topic: the most workers of one service that can share the work."""

COMPACTION_LAG_MS = 10 * 60 * 1000
RESULTS_RETENTION_MS = 30 * 24 * 3600 * 1000
RESULTS_PLANNED, RESULTS_DONE, RESULTS_RECOVERED = "planned", "done", "recovered"


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """One topic as the admin step creates and verifies it."""

    name: str
    partitions: int
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Access:
    """Which services write to a topic and which read it. The command line reads what ``FLEETWAKE_*`` lets it reach; ``COMMANDS`` stands for it."""

    writes: tuple[str, ...]
    reads: tuple[str, ...]


COMMANDS = "command line"
WORKERS = ("reconcilers", "remediation", "autoscaler_bridge", "dev_infrastructure")
"""The services that take objects in and write to the API server."""

ACCESS: Mapping[str, Access] = {
    "objects": Access(writes=("watcher", "reconcilers"), reads=("watcher", *WORKERS, COMMANDS)),
    "shared": Access(writes=("watcher",), reads=("watcher", *WORKERS)),
    "results": Access(writes=WORKERS, reads=(*WORKERS, "audit_trail", COMMANDS)),
    "deadletter": Access(writes=WORKERS, reads=()),
}
"""By the name of the topic's property of ``Topics``: what access control has to allow, and nothing more."""


@dataclass(frozen=True, slots=True)
class Topics:
    """The names under a prefix (default ``capi``)."""

    prefix: str = "capi"

    @property
    def objects(self) -> str:
        """Objects of clusters: compacted, partition = cluster."""
        return f"{self.prefix}.objects"

    @property
    def shared(self) -> str:
        """Objects of no one cluster: compacted, one partition."""
        return f"{self.prefix}.objects.shared"

    @property
    def results(self) -> str:
        """The audit trail: planned, done and recovered runs as CloudEvents."""
        return f"{self.prefix}.results"

    @property
    def deadletter(self) -> str:
        """Records that cannot be decoded."""
        return f"{self.prefix}.deadletter"

    def specs(self, partitions: int = PARTITIONS_DEFAULT) -> tuple[TopicSpec, ...]:
        """What the admin step must find or create."""
        size = {"max.message.bytes": str(MESSAGE_BYTES_MAX)}
        compacted = {**size, "cleanup.policy": "compact", "min.compaction.lag.ms": str(COMPACTION_LAG_MS)}
        retained = {**size, "cleanup.policy": "delete", "retention.ms": str(RESULTS_RETENTION_MS)}
        return (
            TopicSpec(self.objects, partitions, compacted),
            TopicSpec(self.shared, 1, compacted),
            TopicSpec(self.results, partitions, retained),
            TopicSpec(self.deadletter, partitions, retained),
        )
