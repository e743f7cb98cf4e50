"""The tables of the trail: every record as it came, the runs put together from them, and how far each partition has been read.

``records`` is the evidence: what Kafka held, byte for byte, so that seals can be verified here when the topic no longer has them. ``runs``, ``steps``
and ``changes`` are read from it and could be made again. Names and types are a contract (docs/audit.md): a change of them is a migration.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, DateTime, Float, Index, Integer, LargeBinary, MetaData, String, Table, Text, TypeDecorator
from sqlalchemy.engine import Dialect

VERSION = 1
"""Of this schema; ``migrations`` knows the way here from every earlier one."""

TABLES = MetaData()


class Instant(TypeDecorator[datetime]):
    """A time with its zone, UTC on the way back: SQLite keeps none of its own."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To the database."""
        return value.astimezone(UTC) if value is not None else None

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """From the database."""
        if value is None:
            return None
        found: datetime = value
        return found.astimezone(UTC) if found.tzinfo is not None else found.replace(tzinfo=UTC)


def _place() -> tuple[Column[Any], Column[Any]]:
    return Column("partition", Integer, primary_key=True, autoincrement=False), Column("offset", BigInteger, primary_key=True, autoincrement=False)


versions = Table(
    "trail_version",
    TABLES,
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("at", Instant, nullable=False),
    comment="one row per schema version this database has had",
)

offsets = Table(
    "offsets",
    TABLES,
    Column("topic", String(255), primary_key=True),
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("next_offset", BigInteger, nullable=False),
    Column("at", Instant, nullable=False),
    comment="the next offset to read of each partition, changed in the transaction that writes what was read before it",
)

gaps = Table(
    "gaps",
    TABLES,
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("first_offset", BigInteger, primary_key=True, autoincrement=False),
    Column("last_offset", BigInteger, nullable=False),
    Column("at", Instant, nullable=False),
    comment="offsets that Kafka had deleted before they were read: the trail was away for longer than the topic keeps",
)

records = Table(
    "records",
    TABLES,
    *_place(),
    Column("id", String(255), nullable=False, comment="ce_id, or topic@offset of a record without one"),
    Column("type", String(255), nullable=False),
    Column("cluster", String(511), nullable=False),
    Column("plan_id", String(64), nullable=False),
    Column("source", String(511), nullable=False),
    Column("at", Instant),
    Column("chain", String(255), nullable=False),
    Column("sequence", BigInteger),
    Column("mac", String(64), nullable=False),
    Column("key", LargeBinary),
    Column("headers", Text, nullable=False, comment="JSON: [[name, value], ...] in their order; a value that is no UTF-8 is {base64: ...}"),
    Column("value", LargeBinary),
    Column("fault", Text, nullable=False, comment="why it is in no run: a type or version that is not known, or content that differs from an earlier one's"),
    Index("records_id", "partition", "id"),
    Index("records_chain", "partition", "chain", "sequence"),
    Index("records_cluster", "cluster", "at"),
    Index("records_plan", "plan_id"),
    comment="every record of results as Kafka held it, one row an offset",
)

runs = Table(
    "runs",
    TABLES,
    Column("plan_id", String(64), primary_key=True),
    Column("cluster", String(511), nullable=False),
    Column("service", String(255), nullable=False),
    Column("instance", String(255), nullable=False),
    Column("kind", String(255), nullable=False),
    Column("key", String(1023), nullable=False),
    Column("trace", String(64), nullable=False),
    Column("intent", String(64), nullable=False),
    Column("outcome", String(16), nullable=False, comment="open, done, failed, or recovered (closed by the next owner)"),
    Column("planned_at", Instant),
    Column("done_at", Instant),
    Column("recovered_at", Instant),
    Column("change", Text, comment="the change at its root, in words"),
    Column("also", Text, comment="JSON: other changes that woke it"),
    Column("cause", String(64), comment="traceparent of the cause"),
    Column("observed", Text, comment="JSON: the version of each object that was read"),
    Column("duration_ms", Float),
    Column("requeue_after_seconds", Float),
    Column("error", Text),
    Column("found", String(16), comment="what the next owner found: present, absent, unknown"),
    Column("found_version", String(64)),
    Index("runs_cluster", "cluster", "planned_at"),
    Index("runs_key", "key", "planned_at"),
    Index("runs_intent", "intent"),
    comment="one row per run: planned, done and recovered together",
)

steps = Table(
    "steps",
    TABLES,
    Column("plan_id", String(64), primary_key=True),
    Column("step", Integer, primary_key=True, autoincrement=False),
    Column("verb", String(64), nullable=False),
    Column("target", String(1023), nullable=False),
    Column("reason", Text, nullable=False),
    Column("audit_id", String(64), nullable=False, comment="auditID in the API server's own log"),
    Column("outcome", String(16), nullable=False, comment="planned, done, failed or skipped"),
    Column("status", Integer, nullable=False, comment="HTTP status; 0 when nothing was sent"),
    Column("error", Text, nullable=False),
    Column("resource_version", String(64), nullable=False),
    Index("steps_target", "target"),
    Index("steps_audit_id", "audit_id"),
    comment="one row per step of a run",
)

changes = Table(
    "changes",
    TABLES,
    Column("plan_id", String(64), primary_key=True),
    Column("step", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("path", Text, nullable=False, comment="field, empty for the whole object"),
    Column("before", Text, nullable=False, comment="JSON"),
    Column("after", Text, nullable=False, comment="JSON"),
    comment="one row per field that a step changed",
)

chains = Table(
    "chains",
    TABLES,
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("chain", String(255), primary_key=True),
    Column("source", String(511), nullable=False),
    Column("first_sequence", BigInteger, nullable=False),
    Column("last_sequence", BigInteger, nullable=False),
    Column("last_offset", BigInteger, nullable=False),
    Column("last_mac", String(64), nullable=False),
    Column("records", BigInteger, nullable=False),
    Column("whole", Boolean, nullable=False, comment="whether every number from the first to the last came once, in order"),
    comment="the head of every chain as far as it was read: what verify holds against topic and records",
)

TRAIL_VIEW = """
CREATE VIEW trail AS
SELECT runs.cluster AS cluster, COALESCE(runs.done_at, runs.planned_at, runs.recovered_at) AS at, runs.kind AS kind, runs.key AS object,
       steps.verb AS verb, steps.target AS target, steps.reason AS reason, steps.outcome AS outcome, steps.status AS status, steps.error AS error,
       runs.change AS change, runs.service AS service, runs.instance AS instance, steps.audit_id AS audit_id, runs.intent AS intent,
       runs.plan_id AS plan_id, steps.step AS step
FROM runs JOIN steps ON steps.plan_id = runs.plan_id
"""
"""What happened to a cluster, one row per step: SELECT * FROM trail WHERE cluster = 'default/demo' ORDER BY at, plan_id, step."""
