"""The trail's tables on SQLite and on PostgreSQL: each record its effect once, nothing lost that cannot be read, and what verify finds in them."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, delete, func, insert, inspect, select, text, update
from sqlalchemy.exc import OperationalError

from fleetwake.errors import FencedError
from fleetwake.views.verification import Message as Verified
from services.audit_trail import database, schema
from services.audit_trail.compare import Lack, TrailReader
from services.audit_trail.database import DatabaseUrlError, engine_of, fault_of
from services.audit_trail.migrations import SchemaError, prepare
from services.audit_trail.rows import Message
from services.audit_trail.schema import chains, changes, gaps, offsets, records, runs, steps, versions
from services.audit_trail.writer import TrailWriter, Written
from tests.integration.trail_records import TOPIC, SealedRuns, batches, plain, to_come, usual
from tests.shell.sealed_records import KEYS
from tests.shell.view_records import DEPLOYMENT, MACHINE, at
from tests.shell.view_records import records as runs_of_views

DATABASES = [pytest.param("sqlite", id="sqlite"), pytest.param("postgresql", id="postgresql", marks=pytest.mark.postgresql)]


@pytest.fixture(params=DATABASES)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """A database without tables."""
    if request.param == "sqlite":
        found = engine_of(f"sqlite:///{tmp_path / 'trail.db'}")
    else:
        server = request.getfixturevalue("postgresql")
        found = engine_of(server.database(), str(server.password_file))
    yield found
    found.dispose()


@pytest.fixture
def writer(engine: Engine) -> TrailWriter:
    """The writer of a fresh trail of partitions 0 and 1."""
    prepare(engine)
    found = TrailWriter(engine, TOPIC)
    found.positions({0: 0, 1: 0})
    return found


def read(engine: Engine, table: Any) -> list[dict[str, Any]]:
    """Every row of a table."""
    with engine.connect() as connection:
        return plain(connection.execute(select(table).order_by(*table.primary_key)))


def count(engine: Engine, table: Any) -> int:
    """How many rows a table has."""
    with engine.connect() as connection:
        return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def faults(engine: Engine, messages: list[Message]) -> list[tuple[Lack, int]]:
    """What verify finds wrong between topic and database."""
    with TrailReader(engine) as reader:
        return [(found.kind, found.offset) for found in reader.compare(TOPIC, [Verified(*message[1:]) for message in messages])]


# ---- what is written ----------------------------------------------------------------------------------------------------------------------


def test_the_schema_makes_itself_and_is_made_once(engine: Engine) -> None:
    assert prepare(engine) == 0
    assert prepare(engine) == schema.VERSION
    assert [row["version"] for row in read(engine, versions)] == [1]
    assert set(inspect(engine).get_table_names()) == set(schema.TABLES.tables)
    assert inspect(engine).get_view_names() == ["trail"]


def test_two_that_start_at_once_make_it_once(engine: Engine) -> None:
    errors: list[BaseException] = []

    def start() -> None:
        try:
            prepare(engine)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert count(engine, versions) == 1


def test_a_later_schema_is_refused_in_words(engine: Engine) -> None:
    prepare(engine)
    with engine.begin() as connection:
        connection.execute(insert(versions).values(version=schema.VERSION + 1, at=at(0)))
    with pytest.raises(SchemaError, match="use the version that wrote it"):
        prepare(engine)


def test_somebody_elses_database_is_refused_in_words(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE records (name TEXT)"))
    with pytest.raises(SchemaError, match="not a trail's"):
        prepare(engine)


def test_planned_done_and_recovered_are_one_run(engine: Engine, writer: TrailWriter) -> None:
    messages = usual().messages
    written = [writer.write(batch) for batch in batches(messages, 4)]
    assert sum(one.records for one in written) == len(messages)
    found = {row["plan_id"]: row for row in read(engine, runs)}
    assert {plan: row["outcome"] for plan, row in found.items()} == {
        "p1": "done", "p2": "failed", "p3": "done", "p4": "done", "p5": "open", "p6": "recovered", "p7": "done",
    }  # fmt: skip
    assert (found["p1"]["planned_at"], found["p1"]["done_at"], found["p1"]["duration_ms"]) == (at(1), at(40), 40.0)
    assert (found["p6"]["found"], found["p6"]["found_version"], found["p6"]["done_at"]) == ("present", "150", None)
    assert found["p2"]["error"] == "spec.backend: Required value"
    outcomes = {(row["plan_id"], row["step"]): row["outcome"] for row in read(engine, steps)}
    assert (outcomes["p2", 0], outcomes["p2", 1], outcomes["p2", 2], outcomes["p5", 0]) == ("done", "failed", "skipped", "planned")
    assert [row["path"] for row in read(engine, changes) if row["plan_id"] == "p1"] == ["metadata.finalizers", "status"]


@pytest.mark.parametrize("size", [1, 3, 100])
def test_the_order_and_size_of_batches_change_nothing(engine: Engine, writer: TrailWriter, size: int) -> None:
    messages = usual().messages
    for batch in batches(messages, size):
        writer.write(batch)
    assert count(engine, runs) == 7
    assert faults(engine, messages) == []
    with TrailReader(engine) as reader:
        assert [*reader.heads(), *reader.seals(0, KEYS)] == []


def test_a_done_record_that_comes_first_is_not_undone_by_its_planned(engine: Engine, writer: TrailWriter) -> None:
    planned, done = (run for run in runs_of_views() if run.plan_id == "p1")
    messages = SealedRuns().put(done, planned).messages
    writer.write(messages[:1])
    writer.write(messages[1:])
    (row,) = read(engine, runs)
    assert (row["outcome"], row["planned_at"]) == ("done", at(1))
    assert {step["outcome"] for step in read(engine, steps)} == {"done"}


def test_the_view_tells_what_happened_to_a_cluster(engine: Engine, writer: TrailWriter) -> None:
    writer.write(usual().messages)
    with engine.connect() as connection:
        rows = plain(connection.execute(text("SELECT verb, target, reason, change FROM trail WHERE cluster = 'default/demo' ORDER BY at, plan_id, step")))
    assert ("delete", str(MACHINE), "1 Machine exists, 0 are wanted") in [(row["verb"], row["target"], row["reason"]) for row in rows]
    assert {row["change"] for row in rows if row["target"] == str(DEPLOYMENT)} == {""}


# ---- exactly once -------------------------------------------------------------------------------------------------------------------------


def test_offsets_move_with_the_rows_and_not_otherwise(engine: Engine, writer: TrailWriter) -> None:
    messages = usual().messages
    writer.write(messages[:5])
    assert writer.positions({0: 0, 1: 0}) == {0: 5, 1: 0}
    with pytest.raises(FencedError, match="another consumer"):
        writer.write(messages[:5])
    assert count(engine, records) == 5


def test_a_second_consumer_of_the_same_partition_is_found_out(engine: Engine, writer: TrailWriter) -> None:
    messages = usual().messages
    other = TrailWriter(engine, TOPIC)
    assert other.positions({0: 0}) == {0: 0}
    writer.write(messages[:3])
    with pytest.raises(FencedError, match="stop one"):
        other.write(messages[:4])
    assert count(engine, records) == 3
    writer.write(messages[3:])
    assert faults(engine, messages) == []


def test_a_record_that_was_produced_twice_has_its_effect_once(engine: Engine, writer: TrailWriter) -> None:
    planned, done = (run for run in runs_of_views() if run.plan_id == "p1")
    messages = SealedRuns().put(planned, done, planned, done).messages
    assert writer.write(messages) == Written(4, 2, 0)
    assert (count(engine, runs), count(engine, steps)) == (1, 2)
    assert [row["fault"] for row in read(engine, records)] == ["", "", "repeats offset 0", "repeats offset 1"]
    assert faults(engine, messages) == []


def test_another_story_under_the_same_id_is_kept_and_not_believed(engine: Engine, writer: TrailWriter) -> None:
    planned, done = (run for run in runs_of_views() if run.plan_id == "p1")
    other = done.model_copy(update={"outcome": "failed", "error": "no"})
    messages = SealedRuns().put(planned, done, other).messages
    assert writer.write(messages[:2]) + writer.write(messages[2:]) == Written(3, 0, 1)
    assert [row["outcome"] for row in read(engine, runs)] == ["done"]
    assert read(engine, records)[2]["fault"] == "differs from the record of the same id at offset 1"
    assert read(engine, records)[2]["value"] == messages[2].value


# ---- what cannot be read ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "headers"),
    [
        to_come(),
        (b"not JSON", [("ce_type", b"dev.fleetwake.run.done"), ("ce_id", b"x/done")]),
        (b'{"planId": 1}', [("ce_type", b"dev.fleetwake.run.done"), ("ce_id", b"x/done")]),
        (b"\x00\xff", [("whose", b"\xff\x00")]),
        (b"", []),
    ],
    ids=["a type to come", "no JSON", "no result", "bytes of anybody", "nothing"],
)
def test_what_cannot_be_read_is_kept_byte_for_byte(engine: Engine, writer: TrailWriter, value: bytes, headers: list[tuple[str, bytes]]) -> None:
    messages = usual().put_raw(value, headers).put(*[run.model_copy(update={"plan_id": "later"}) for run in runs_of_views()[:2]]).messages
    written = writer.write(messages)
    assert (written.records, written.unread) == (len(messages), 1)
    row = read(engine, records)[-3]
    assert (bytes(row["value"]), bool(row["fault"])) == (value, True)
    with TrailReader(engine) as reader:
        assert list(reader.seals(0, KEYS)) == [], "the seal still holds: no byte of record or headers was lost"
    assert faults(engine, messages) == []
    assert "later" in {row["plan_id"] for row in read(engine, runs)}


def test_a_tombstone_is_kept_too(engine: Engine, writer: TrailWriter) -> None:
    writer.write([Message(TOPIC, 0, 0, b"k", None, [])])
    assert read(engine, records)[0]["value"] is None


def test_what_a_database_refuses_delays_nothing_and_is_kept(engine: Engine, writer: TrailWriter) -> None:
    """Numbers and texts beyond what a column takes, in a record that the models let pass."""
    planned, done = (run for run in runs_of_views() if run.plan_id == "p1")
    nul = planned.model_copy(update={"plan_id": "nul", "key": "a\x00b", "kind": "K" * 500})
    wide = done.model_copy(update={"plan_id": "wide", "steps": tuple(step.model_copy(update={"index": 2**62}) for step in done.steps[:1])})  # type: ignore[attr-defined]
    messages = SealedRuns().put(planned, nul, wide, done).messages
    writer.write(messages)
    assert count(engine, records) == 4
    assert {row["plan_id"] for row in read(engine, runs)} >= {"p1", "nul"}
    told = [row["fault"] for row in read(engine, records)]
    # SQLite takes a number of any size that JSON has
    assert (told[0], told[1], "refused" in told[2], told[3]) == ("", "", engine.dialect.name == "postgresql", "")
    with TrailReader(engine) as reader:
        assert list(reader.seals(0, KEYS)) == []
    assert faults(engine, messages) == []


def test_what_kafka_had_deleted_is_said(engine: Engine, writer: TrailWriter) -> None:
    writer.skipped(0, 0, 7)
    assert [(row["partition"], row["first_offset"], row["last_offset"]) for row in read(engine, gaps)] == [(0, 0, 6)]
    assert writer.positions({0: 7})[0] == 7


# ---- what verify finds in a database ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "wanted"),
    [
        (records, Lack.ROW_MISSING),
        (runs, Lack.ROW_MISSING),
        (steps, Lack.ROW_MISSING),
        (changes, Lack.ROW_MISSING),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_row_that_is_gone_is_found(engine: Engine, writer: TrailWriter, table: Any, wanted: Lack) -> None:
    messages = usual().messages
    writer.write(messages)
    with engine.begin() as connection:
        connection.execute(delete(table).where(table.c.plan_id == "p4"))
    assert {kind for kind, _ in faults(engine, messages)} == {wanted}
    offset = next(message.offset for message in messages if b"p4/" in dict(message.headers)["ce_id"])
    assert offset <= faults(engine, messages)[0][1] <= offset + 1


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        (runs, "error", "nothing"),
        (runs, "change", "by somebody else"),
        (steps, "reason", "no reason"),
        (changes, "after", "0"),
        (records, "fault", "repeats offset 0"),
    ],
    ids=["an error", "a cause", "a reason", "a value", "a mark"],
)
def test_a_row_that_was_altered_is_found(engine: Engine, writer: TrailWriter, table: Any, column: str, value: str) -> None:
    messages = usual().messages
    writer.write(messages)
    with engine.begin() as connection:
        connection.execute(update(table).where(table.c.plan_id == "p1").values({column: value}))
    if table is records:
        with engine.begin() as connection:
            connection.execute(delete(runs).where(runs.c.plan_id == "p1"))
    assert {kind for kind, _ in faults(engine, messages)} <= {Lack.ROW_ALTERED, Lack.ROW_MISSING}
    assert faults(engine, messages)


def test_without_the_topic_a_row_that_is_gone_is_found_by_its_chain(engine: Engine, writer: TrailWriter) -> None:
    writer.write(usual().messages)
    with engine.begin() as connection:
        last = connection.execute(select(func.max(records.c.offset))).scalar_one()
        connection.execute(delete(records).where(records.c.offset == last))
    with TrailReader(engine) as reader:
        assert [found.kind for found in reader.heads()] == [Lack.HEAD]
    with engine.begin() as connection:
        connection.execute(update(records).where(records.c.offset == 3).values(value=b"{}"))
    with TrailReader(engine) as reader:
        assert [(found.kind.value, found.offset) for found in reader.seals(0, KEYS)] == [("altered", 3)]


def test_chains_tell_their_heads(engine: Engine, writer: TrailWriter) -> None:
    for batch in batches(usual(0).messages, 5):
        writer.write(batch)
    writer.write(usual(1).messages)
    heads = read(engine, chains)
    assert [(row["partition"], row["chain"], row["first_sequence"], row["last_sequence"], row["records"], bool(row["whole"])) for row in heads] == [
        (0, "life-0", 1, 13, 13, True),
        (1, "life-1", 1, 13, 13, True),
    ]


# ---- what goes wrong ----------------------------------------------------------------------------------------------------------------------


def test_a_locked_sqlite_is_waited_for_and_says_who_may_hold_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    path = tmp_path / "trail.db"
    engine = engine_of(f"sqlite:///{path}")
    prepare(engine)
    writer = TrailWriter(engine, TOPIC)
    writer.positions({0: 0})
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(OperationalError) as caught:
        writer.write(usual().messages)
    fault = fault_of(caught.value, engine)
    assert (fault.kind, fault.retried) == (database.LOCKED, True)
    assert "another process holds the database" in fault.text
    other.execute("COMMIT")
    assert writer.write(usual().messages).records == 13
    engine.dispose()


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    """A database that may not grow behaves as one on a disk without room."""
    path = tmp_path / "trail.db"
    engine = engine_of(f"sqlite:///{path}")
    prepare(engine)
    writer = TrailWriter(engine, TOPIC)
    writer.positions({0: 0})
    messages = usual().messages
    with engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
    # one connection: the limit is the connection's own
    with pytest.raises(OperationalError) as caught:
        writer.write(messages)
    fault = fault_of(caught.value, engine)
    assert (fault.kind, fault.retried) == (database.FULL, True)
    assert "no room is left" in fault.text
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count=1000000")
    writer.write(messages)
    assert faults(engine, messages) == []
    engine.dispose()


@pytest.mark.postgresql
def test_a_postgresql_lock_is_waited_for(postgresql: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 1.0)
    url = postgresql.database()
    engine = engine_of(url, str(postgresql.password_file))
    prepare(engine)
    writer = TrailWriter(engine, TOPIC)
    writer.positions({0: 0})
    other = postgresql.connect(url.rpartition("/")[2])
    other.execute("BEGIN")
    other.execute("LOCK TABLE records")
    with pytest.raises(OperationalError) as caught:
        writer.write(usual().messages)
    assert fault_of(caught.value, engine).kind == database.LOCKED
    other.execute("ROLLBACK")
    assert writer.write(usual().messages).records == 13
    # its connections are gone: the next attempt makes another
    other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'fleetwake-audit-trail'")
    other.close()
    assert writer.positions({0: 0}) == {0: 13}
    engine.dispose()


@pytest.mark.postgresql
def test_a_postgresql_that_is_not_there_is_away_and_a_wrong_password_too(postgresql: Any, tmp_path: Path) -> None:
    wrong = tmp_path / "password"
    wrong.write_text("wrong")
    for url, password in ((f"postgresql://fleetwake@127.0.0.1:{postgresql.port + 1}/postgres", ""), (postgresql.url(), str(wrong))):
        engine = engine_of(url, password)
        with pytest.raises(OperationalError) as caught:
            prepare(engine)
        fault = fault_of(caught.value, engine)
        assert (fault.kind, fault.retried) == (database.AWAY, True)
        assert "wrong" not in fault.text.replace("wrong password", "")
        engine.dispose()


@pytest.mark.parametrize("url", ["mysql://u@h/d", "trail.db", "sqlite://", "sqlite:///:memory:"])
def test_what_is_no_database_for_a_trail_is_refused(url: str) -> None:
    with pytest.raises(DatabaseUrlError, match="sqlite:///<file>"):
        engine_of(url)


def test_a_password_comes_from_a_file_and_is_not_shown(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("s3cret\n")
    with pytest.raises(DatabaseUrlError, match="FLEETWAKE_TRAIL_DATABASE_PASSWORD_FILE") as caught:
        engine_of("postgresql://trail:sesame@db/audit")
    assert "sesame" not in str(caught.value)
    engine = engine_of("postgresql://trail@db/audit", str(secret))
    assert engine.url.password == "s3cret"
    assert "s3cret" not in engine.url.render_as_string(hide_password=True)
    with pytest.raises(DatabaseUrlError, match="password file"):
        engine_of("postgresql://trail@db/audit", str(tmp_path / "none"))
    assert offsets.name == "offsets"
