"""Who may do what on Kafka and Redis: one entry for each service and command, and no more than it does.

The rig's ACLs, the table in docs/security/transport.md and deployments are made from ``ACCESS``. Topics stand here by role, groups by service; ``rules`` gives
the names under a prefix. In Kafka Read and Write include Describe, so that stands only where it is all there is.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from schemas.topics import Topics

Operation = Literal["Read", "Write", "Create", "Describe", "DescribeConfigs", "IdempotentWrite"]
Resource = Literal["topic", "group", "cluster"]
RedisUse = Literal["none", "read", "write"]

CLUSTER_NAME = "kafka-cluster"
"""How Kafka names the resource that cluster-wide operations are on."""

IDEMPOTENT: tuple[Operation, ...] = ("IdempotentWrite",)
"""For producers that number their records. Brokers before 2.8 ask for it; since then Write on a topic includes it, and it allows nothing more."""

REDIS_KEYS = "fleetwake:*"
"""All keys of ours in Redis."""


class TopicRole(StrEnum):
    """What a topic is for; the value is the name of its property in ``schemas.topics.Topics``."""

    OBJECTS = "objects"
    SHARED = "shared"
    RESULTS = "results"
    DEADLETTER = "deadletter"


@dataclass(frozen=True, slots=True)
class TopicAccess:
    """What may be done on one topic."""

    role: TopicRole
    operations: tuple[Operation, ...]


@dataclass(frozen=True, slots=True)
class GroupAccess:
    """What may be done with consumer groups. ``suffix`` is what follows the prefix in their names; ``prefixed``: they only begin so."""

    suffix: str
    operations: tuple[Operation, ...] = ("Read",)
    prefixed: bool = False

    def name(self, prefix: str) -> str:
        """The group, or the beginning of the groups, under a topic prefix."""
        return f"{prefix}-{self.suffix}"


@dataclass(frozen=True, slots=True)
class Rule:
    """One resource with its real name and what may be done on it, as an ACL says it."""

    resource: Resource
    name: str
    prefixed: bool
    operations: tuple[Operation, ...]


@dataclass(frozen=True, slots=True)
class Access:
    """Everything that one identity may do. ``service`` is the folder under ``services/``, or what the command line does under that identity."""

    service: str
    purpose: str
    topics: tuple[TopicAccess, ...] = ()
    groups: tuple[GroupAccess, ...] = ()
    cluster: tuple[Operation, ...] = ()
    redis: RedisUse = "none"

    @property
    def user(self) -> str:
        """The user name: SCRAM's, the common name of the client certificate, Redis'."""
        return f"fleetwake-{dashed(self.service)}"

    def rules(self, prefix: str) -> tuple[Rule, ...]:
        """The ACLs under a topic prefix, all of them to be allowed; nothing else is."""
        topics = Topics(prefix)
        return (
            *(Rule("topic", getattr(topics, access.role), False, access.operations) for access in self.topics),
            *(Rule("group", group.name(prefix), group.prefixed, group.operations) for group in self.groups),
            *((Rule("cluster", CLUSTER_NAME, False, self.cluster),) if self.cluster else ()),
        )

    def redis_rules(self) -> tuple[str, ...]:
        """The rules of the user in Redis' ACL, password aside; empty: it needs no Redis."""
        if self.redis == "none":
            return ()
        commands = ("+@read", "+@write", "+eval", "+evalsha") if self.redis == "write" else ("+@read",)
        return ("resetchannels", f"~{REDIS_KEYS}", "-@all", *commands, "+@connection", "-@dangerous")


def dashed(service: str) -> str:
    """A service's name as Kafka, Kubernetes and DNS take it."""
    return service.replace("_", "-")


def group_of(service: str, prefix: str, shard: int | None = None) -> str:
    """The consumer group of a service; of a provider that shares by shard, each shard's own."""
    return f"{prefix}-{dashed(service)}" + ("" if shard is None else f"-{shard}")


def _worker(service: str, purpose: str, *, sharded: bool = False, sees_workloads: bool = False, redis: RedisUse = "read") -> Access:
    """What every service does that takes objects in and writes to the API server: records of its runs, dead letters; and of what it sees, if it does."""
    return Access(
        service,
        purpose,
        topics=(
            TopicAccess(TopicRole.OBJECTS, ("Read", "Write") if sees_workloads else ("Read",)),
            TopicAccess(TopicRole.SHARED, ("Read",)),
            TopicAccess(TopicRole.RESULTS, ("Read", "Write")),
            TopicAccess(TopicRole.DEADLETTER, ("Write",)),
        ),
        groups=(GroupAccess(f"{dashed(service)}-" if sharded else dashed(service), prefixed=sharded),),
        cluster=IDEMPOTENT,
        redis=redis,
    )


ALL_TOPICS = tuple(TopicRole)

ACCESS: tuple[Access, ...] = (
    Access(
        "watcher",
        "Carries the API server's objects into Kafka, and reads back what is there. Alone in writing those of no one cluster.",
        topics=(TopicAccess(TopicRole.OBJECTS, ("Read", "Write")), TopicAccess(TopicRole.SHARED, ("Read", "Write"))),
        cluster=IDEMPOTENT,
    ),
    _worker(
        "reconcilers",
        "Reconciles Cluster API's kinds, and tells the others what it sees in workload clusters; keeps the fleet at a glance and open intents in Redis.",
        sees_workloads=True,
        redis="write",
    ),
    _worker("remediation", "Reconciles MachineHealthChecks."),
    _worker("autoscaler_bridge", "Scales to and from zero for cluster-autoscaler."),
    _worker("dev_infrastructure", "Reconciles the development provider's kinds; one consumer group a shard.", sharded=True),
    Access("admission", "Answers the API server's webhooks. Asks Kafka nothing."),
    Access(
        "audit_trail",
        "Builds the SQL database of the audit trail; keeps its offsets there.",
        topics=(TopicAccess(TopicRole.RESULTS, ("Read",)),),
    ),
    Access(
        "audit",
        "`fleetwake audit follow|export|verify|why`, and consumers of the audit trail of anybody's own.",
        topics=(TopicAccess(TopicRole.RESULTS, ("Read",)),),
        groups=(GroupAccess("audit-", prefixed=True),),
    ),
    Access(
        "views",
        "The commands that only look: trace, audit KIND/NAME, describe --fleet.",
        topics=tuple(TopicAccess(role, ("Read", "DescribeConfigs")) for role in ALL_TOPICS),
        redis="read",
    ),
    Access(
        "readmodel",
        "`fleetwake readmodel rebuild`: reads objects, writes the fleet at a glance into Redis.",
        topics=(TopicAccess(TopicRole.OBJECTS, ("Read", "DescribeConfigs")),),
        redis="write",
    ),
    Access(
        "topics",
        "`fleetwake topics create|verify|describe`: the step before everything else.",
        topics=tuple(TopicAccess(role, ("Create", "Describe", "DescribeConfigs")) for role in ALL_TOPICS),
    ),
    Access(
        "lag",
        "Whatever measures the lag of the services' groups, KEDA first of all.",
        topics=(TopicAccess(TopicRole.OBJECTS, ("Describe",)),),
        groups=(GroupAccess("", ("Describe",), prefixed=True),),
    ),
)
"""All identities, services first."""


def access_of(service: str) -> Access:
    """The entry of a service or command.

    Raises:
        KeyError: there is none.
    """
    for access in ACCESS:
        if access.service == service:
            return access
    raise KeyError(service)
