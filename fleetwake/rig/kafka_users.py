"""Users and ACLs of a secure rig's Kafka, from ``schemas.access``."""

from __future__ import annotations

from collections.abc import Iterator

from kafka.admin import (
    ACL,
    ACLFilter,
    ACLOperation,
    ACLPermissionType,
    ACLResourcePatternType,
    KafkaAdminClient,
    ResourcePattern,
    ResourcePatternFilter,
    ResourceType,
    UserScramCredentialUpsertion,
)
from kafka.errors import KafkaError

from fleetwake.connections.kafka import Kafka
from fleetwake.rig.errors import RigError
from fleetwake.rig.probes import wait_until
from fleetwake.rig.security import IDENTITIES, Security
from schemas.access import ACCESS

MECHANISM = "SCRAM-SHA-512"
SEEN_LIMIT_S = 20.0
OPERATIONS = {
    "Read": ACLOperation.READ,
    "Write": ACLOperation.WRITE,
    "Create": ACLOperation.CREATE,
    "Describe": ACLOperation.DESCRIBE,
    "DescribeConfigs": ACLOperation.DESCRIBE_CONFIGS,
    "IdempotentWrite": ACLOperation.IDEMPOTENT_WRITE,
}
RESOURCES = {"topic": ResourceType.TOPIC, "group": ResourceType.GROUP, "cluster": ResourceType.CLUSTER}

EVERY_ACL = ACLFilter(None, None, ACLOperation.ANY, ACLPermissionType.ANY, ResourcePatternFilter(ResourceType.ANY, None, ACLResourcePatternType.ANY))


def grant(admin: Kafka, security: Security, prefix: str) -> None:
    """Give every identity its password and what it may do under a topic prefix; returns when the broker acts on it.

    Raises:
        RigError: the broker refused.
    """
    wanted = list(acls(prefix))
    try:
        client = KafkaAdminClient(**admin.client(), client_id="fleetwake-rig")
        try:
            refused = client.alter_user_scram_credentials([_password(security, access.service, access.user) for access in IDENTITIES])
            failed = client.create_acls(wanted)["failed"]
            if failed or any(refused.values()):
                raise RigError(f"Kafka took not all users and ACLs: {[error for error in refused.values() if error]} {failed}")
            # the controller has them; the broker acts on them once it has read them
            wait_until(lambda: len(client.describe_acls(EVERY_ACL)[0]) >= len(wanted), SEEN_LIMIT_S, "Kafka's ACLs")
        finally:
            client.close()
    except KafkaError as error:
        raise RigError(f"Kafka did not take users and ACLs: {error}") from error


def acls(prefix: str) -> Iterator[ACL]:
    """Every ACL of every identity under a topic prefix."""
    for access in ACCESS:
        for rule in access.rules(prefix):
            pattern = ACLResourcePatternType.PREFIXED if rule.prefixed else ACLResourcePatternType.LITERAL
            for operation in rule.operations:
                yield ACL(
                    f"User:{access.user}", "*", OPERATIONS[operation], ACLPermissionType.ALLOW, ResourcePattern(RESOURCES[rule.resource], rule.name, pattern)
                )


def password_of(user: str, password: str) -> UserScramCredentialUpsertion:
    """The alteration that gives a user a password."""
    return UserScramCredentialUpsertion(user, MECHANISM, password)


def _password(security: Security, service: str, user: str) -> UserScramCredentialUpsertion:
    return password_of(user, security.password(service).read_text())
