"""The way from any schema an earlier version left to the present one, by the database itself, once, whoever starts first."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from sqlalchemy import Connection, Engine, func, insert, inspect, select, text

from fleetwake.errors import TerminalError
from services.audit_trail import schema

LOCK = 0x666C6565747761
"""PostgreSQL's advisory lock while tables are made: two consumers may start at once."""


class SchemaError(TerminalError):
    """The database has a schema that this version cannot use; the message says what to do."""


def _first(connection: Connection) -> None:
    schema.TABLES.create_all(connection, checkfirst=True)
    if "trail" not in inspect(connection).get_view_names():
        connection.execute(text(schema.TRAIL_VIEW))


MIGRATIONS: Mapping[int, Callable[[Connection], None]] = {1: _first}
"""What each version adds to the one before it."""


def prepare(engine: Engine) -> int:
    """Make or migrate the tables; returns the version they had before.

    Raises:
        SchemaError: a later version of this program has been here.
    """
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        found = _version(connection)
        if found > schema.VERSION:
            raise SchemaError(
                f"the trail's database has schema {found}, this version knows up to {schema.VERSION}: use the version that wrote it, or a later one"
            )
        for number in range(found + 1, schema.VERSION + 1):
            MIGRATIONS[number](connection)
            connection.execute(insert(schema.versions).values(version=number, at=datetime.fromtimestamp(time.time(), UTC)))
        return found


def _version(connection: Connection) -> int:
    tables = inspect(connection).get_table_names()
    if schema.versions.name not in tables:
        if schema.records.name in tables:
            raise SchemaError(f"the database has a table {schema.records.name} and no {schema.versions.name}: it is not a trail's; give another database")
        return 0
    return int(connection.execute(select(func.max(schema.versions.c.version))).scalar() or 0)
