"""The trail's database: SQLite in a file, or PostgreSQL by URL; how to connect, and what an error of it means.

SQLite: write-ahead log, so that readers never wait for the writer, and every transaction takes the write lock when it begins, so that two writers
meet there and not in the middle. ``synchronous=NORMAL`` keeps the file whole through any crash; a power cut may take the last transactions, offsets
included, and they are read again.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from fleetwake.errors import TerminalError

BUSY_SECONDS = 5.0
"""How long a statement waits for another's lock before it fails with "database is locked"."""
CONNECT_SECONDS = 10
STATEMENT_SECONDS = 60
SQLITE, POSTGRESQL = "sqlite", "postgresql"
DRIVERS: Mapping[str, str] = {SQLITE: "sqlite+pysqlite", POSTGRESQL: "postgresql+psycopg"}

LOCKED, FULL, READ_ONLY, AWAY, REFUSED = "locked", "full", "read-only", "away", "refused"
RETRIED = frozenset({LOCKED, FULL, READ_ONLY, AWAY})
"""What may pass by itself, or by somebody's work on the database: it is waited for, with the same records."""


class DatabaseUrlError(TerminalError):
    """The database's URL or password file cannot be used."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What a database error means: one of the words above, and what to tell people."""

    kind: str
    text: str

    @property
    def retried(self) -> bool:
        """Whether to try the same again."""
        return self.kind in RETRIED


def engine_of(url: str, password_file: str = "") -> Engine:
    """Connect lazily to ``sqlite:///file``, ``postgresql://user@host/database``; the password comes from a file, never from the environment or a command line.

    Raises:
        DatabaseUrlError: the URL is none of these, or the file cannot be read.
    """
    found = _parsed(url)
    if password_file:
        try:
            found = found.set(password=Path(password_file).read_text().strip())
        except OSError as error:
            raise DatabaseUrlError(f"password file {password_file}: {error.strerror}", operation="open the trail's database") from error
    if found.get_backend_name() == SQLITE:
        engine = create_engine(found, connect_args={"timeout": BUSY_SECONDS})
        event.listen(engine, "connect", _sqlite_connected)
        event.listen(engine, "begin", _sqlite_begins)
        return engine
    options = f"-c statement_timeout={STATEMENT_SECONDS}s -c lock_timeout={int(BUSY_SECONDS)}s -c timezone=UTC"
    arguments = {"connect_timeout": CONNECT_SECONDS, "application_name": "fleetwake-audit-trail", "options": options}
    return create_engine(found, connect_args=arguments, pool_pre_ping=True, pool_size=1, max_overflow=1)


def _parsed(url: str) -> URL:
    try:
        found = make_url(url)
        driver = DRIVERS[found.get_backend_name()]
    except (ArgumentError, KeyError, NoSuchModuleError) as error:
        raise DatabaseUrlError(
            f"{url.partition('://')[0]!r} is no database for the trail: give sqlite:///<file> or postgresql://<user>@<host>/<database>",
            operation="open the trail's database",
        ) from error
    if found.password is not None:
        raise DatabaseUrlError(
            "the URL holds a password, which processes' environments, command lines and logs show; take it out, write it into a file and set "
            "FLEETWAKE_TRAIL_DATABASE_PASSWORD_FILE (or --password-file)",
            operation="open the trail's database",
        )
    if driver == DRIVERS[SQLITE] and found.database in (None, "", ":memory:"):
        raise DatabaseUrlError("a trail in memory is no trail: give sqlite:///<file>", operation="open the trail's database")
    return found.set(drivername=driver)


def _sqlite_connected(connection: Any, _: object) -> None:
    # the driver's own idea of when a transaction begins is turned off: ``_sqlite_begins`` says it
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _sqlite_begins(connection: Any) -> None:
    read_only = connection.get_execution_options().get("read_only", False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")


def fault_of(error: SQLAlchemyError | OSError, engine: Engine) -> Fault:
    """What an error means."""
    place = engine.url.render_as_string(hide_password=True)
    text = str(getattr(error, "orig", None) or error).strip().splitlines()[0] if str(error) else type(error).__name__
    if isinstance(error, OSError):
        kind = FULL if error.errno in (errno.ENOSPC, errno.EDQUOT) else AWAY
        return Fault(kind, f"{place}: {text}")
    if not isinstance(error, DBAPIError):
        return Fault(REFUSED, f"{place}: {text}")
    kind = _sqlite_kind(text) if engine.dialect.name == SQLITE else _postgresql_kind(error)
    return Fault(kind, f"{place}: {_REMEDIES.get(kind, '')}{text}")


_REMEDIES: Mapping[str, str] = {
    LOCKED: "another process holds the database (a second consumer, a backup, an open transaction): ",
    FULL: "no room is left on the database's disk; nothing is lost, reading goes on when there is: ",
    READ_ONLY: "the database takes no writes: ",
    AWAY: "the database does not answer: ",
}

_SQLITE_KINDS: tuple[tuple[str, str], ...] = (
    ("locked", LOCKED),
    ("busy", LOCKED),
    ("full", FULL),
    ("readonly", READ_ONLY),
    ("unable to open", AWAY),
    ("disk i/o error", AWAY),
)

_POSTGRESQL_KINDS: tuple[tuple[str, str], ...] = (
    ("55P03", LOCKED),  # lock_not_available
    ("57014", LOCKED),  # query_canceled: by statement_timeout, that is, behind somebody's lock
    ("40", LOCKED),  # transaction rollback: serialization failure, deadlock
    ("53100", FULL),  # disk_full
    ("53", AWAY),  # too many connections, out of memory
    ("25006", READ_ONLY),  # read_only_sql_transaction: a standby
    ("57", AWAY),  # shutdown, crash, starting up
    ("08", AWAY),  # connection exceptions
    ("58", AWAY),  # system errors
)


def _sqlite_kind(text: str) -> str:
    lower = text.lower()
    return next((kind for words, kind in _SQLITE_KINDS if words in lower), REFUSED)


def _postgresql_kind(error: DBAPIError) -> str:
    state = getattr(error.orig, "sqlstate", None)
    if state is None:
        # psycopg has no code for a connection that failed or broke; a password that is wrong comes so too, and may be put right
        return AWAY if error.connection_invalidated or type(error.orig).__name__ == "OperationalError" else REFUSED
    return next((kind for prefix, kind in _POSTGRESQL_KINDS if state.startswith(prefix)), REFUSED)
