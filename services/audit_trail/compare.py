"""Whether the trail's database says what the topic says, and whether its own records still carry their seals.

Three looks: every record of the topic, up to where the trail has read, must be in ``records`` with the same bytes and in its run's rows; every chain's
head and count must fit its records; and the records themselves, also those that the topic no longer has, must verify.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any

from sqlalchemy import Connection, Engine, Select, func, select
from sqlalchemy.exc import SQLAlchemyError

from fleetwake.errors import UnavailableError
from fleetwake.views.results import decode
from fleetwake.views.verification import Finding, LogFacts, Message, Verification
from schemas.results import Run
from services.audit_trail import rows
from services.audit_trail.database import POSTGRESQL, engine_of, fault_of
from services.audit_trail.schema import chains, changes, gaps, offsets, records, runs, steps
from services.audit_trail.writer import REFUSED_ROWS

ROWS_PER_LOOK = 500
AS_BYTES = ("key", "headers", "value")
AS_READ = ("id", "type", "source", "chain", "sequence", "mac", *AS_BYTES)


class Lack(Enum):
    """What is wrong with the database."""

    ROW_MISSING = "row missing in the database"
    ROW_ALTERED = "row altered in the database"
    HEAD = "chain's head does not fit"


@dataclass(frozen=True, slots=True)
class Difference:
    """A place where database and topic, or the database and itself, do not agree."""

    kind: Lack
    partition: int
    offset: int
    text: str
    fault = True

    def __str__(self) -> str:
        return f"partition {self.partition} offset {self.offset}: {self.kind.value}: {self.text}"


@contextmanager
def opened(url: str, password_file: str = "") -> Generator[TrailReader, None, None]:
    """A trail, for reading.

    Raises:
        DatabaseUrlError: the URL or the password file cannot be used.
        UnavailableError: the database cannot be read, or holds no trail.
    """
    engine = engine_of(url, password_file)
    try:
        with TrailReader(engine) as reader:
            yield reader
    except SQLAlchemyError as error:
        raise UnavailableError(fault_of(error, engine).text, operation="read the trail") from error
    finally:
        engine.dispose()


class TrailReader:
    """Read-only looks into a trail."""

    def __init__(self, engine: Engine) -> None:
        # one moment for all looks: the consumer may go on beside them
        isolation = {"isolation_level": "REPEATABLE READ"} if engine.dialect.name == POSTGRESQL else {}
        self._connection: Connection = engine.connect().execution_options(read_only=True, **isolation)
        self.verified = 0

    def __enter__(self) -> TrailReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def positions(self, topic: str) -> dict[int, int]:
        """How far each partition has been read."""
        found = self._connection.execute(select(offsets.c.partition, offsets.c.next_offset).where(offsets.c.topic == topic))
        return {int(number): int(offset) for number, offset in found}

    def partitions(self) -> list[int]:
        """The partitions of which there are records."""
        return [int(number) for number in self._connection.execute(select(records.c.partition).distinct().order_by(records.c.partition)).scalars()]

    def skipped(self) -> dict[int, list[tuple[int, int]]]:
        """The ranges of offsets that were deleted before they were read, by partition."""
        found: dict[int, list[tuple[int, int]]] = {}
        for number, first, last in self._connection.execute(select(gaps.c.partition, gaps.c.first_offset, gaps.c.last_offset)):
            found.setdefault(int(number), []).append((int(first), int(last)))
        return found

    def messages(self, partition: int) -> Iterator[Message]:
        """Every record of a partition, in order of offsets."""
        after = -1
        while True:
            asked = select(records).where(records.c.partition == partition, records.c.offset > after).order_by(records.c.offset).limit(ROWS_PER_LOOK)
            found = self._connection.execute(asked).mappings().all()
            for row in found:
                yield Message(partition, row["offset"], _bytes(row["key"]), _bytes(row["value"]), rows.headers_of(row["headers"]))
            if len(found) < ROWS_PER_LOOK:
                return
            after = found[-1]["offset"]

    def runs(self) -> Iterator[Run]:
        """Every record that this version can read and that has its effect on a run."""
        for number in self.partitions():
            for message in self.messages(number):
                if (run := decode(message.headers, message.value)) is not None:
                    yield run

    # ---- against the topic ------------------------------------------------------------------------------------------------------------
    def compare(self, topic: str, messages: Sequence[Message]) -> Iterator[Difference]:
        """Hold records of the topic, all of one partition, against the rows that they must have made."""
        made = [rows.rows_of(rows.Message(topic, *message)) for message in messages]
        held = self._by_offset(messages[0].partition, [message.offset for message in messages])
        repeated = {offset for offset, row in held.items() if row["fault"] and self._is_second(row)}
        for message, one in zip(messages, made, strict=True):
            row = held.get(message.offset)
            if row is None:
                yield Difference(Lack.ROW_MISSING, message.partition, message.offset, f"records has no row for {one.record['id']}")
            elif differing := _differing(one.record, row, AS_BYTES if row["fault"].startswith(REFUSED_ROWS) else AS_READ):
                yield Difference(Lack.ROW_ALTERED, message.partition, message.offset, f"records differs in {differing} for {one.record['id']}")
        yield from self._projected([(message, one) for message, one in zip(messages, made, strict=True) if one.readable and message.offset not in repeated])

    def _is_second(self, row: Mapping[str, Any]) -> bool:
        """Whether a record that is in no run has the id of an earlier one (or was refused by the database): nothing else keeps it out."""
        if row["fault"].startswith(REFUSED_ROWS):
            return True
        earlier = select(func.count()).where(records.c.partition == row["partition"], records.c.id == row["id"], records.c.offset < row["offset"])
        return bool(self._connection.execute(earlier).scalar())

    def _by_offset(self, partition: int, wanted: Sequence[int]) -> dict[int, Mapping[str, Any]]:
        asked = select(records).where(records.c.partition == partition, records.c.offset.in_(wanted))
        return {int(row["offset"]): row for row in self._rows(asked)}

    def _rows(self, asked: Select[Any]) -> Iterator[Mapping[str, Any]]:
        for row in self._connection.execute(asked).mappings():
            yield dict(row)

    def _projected(self, pairs: Sequence[tuple[Message, rows.Rows]]) -> Iterator[Difference]:
        plans = sorted({one.run["plan_id"] for _, one in pairs if one.run is not None})
        by_plan = {row["plan_id"]: row for row in self._rows(select(runs).where(runs.c.plan_id.in_(plans)))}
        by_step = {(row["plan_id"], row["step"]): row for row in self._rows(select(steps).where(steps.c.plan_id.in_(plans)))}
        by_change = {(row["plan_id"], row["step"], row["number"]): row for row in self._rows(select(changes).where(changes.c.plan_id.in_(plans)))}
        for message, one in pairs:
            assert one.run is not None
            plan = one.run["plan_id"]
            closed = plan not in by_plan or by_plan[plan]["done_at"] is not None
            # the outcome is the last word's, and so are the steps of a run that was done
            given = {name: value for name, value in one.run.items() if name != "outcome"}
            yield from _held(message, "runs", plan, given, by_plan.get(plan))
            tells = "done_at" in one.run
            for row in one.steps:
                wanted = row if tells or not closed else {name: row[name] for name in ("verb", "target", "reason", "audit_id")}
                yield from _held(message, "steps", f"{plan}/{row['step']}", wanted, by_step.get((plan, row["step"])))
            for row in one.changes:
                yield from _held(message, "changes", f"{plan}/{row['step']}/{row['number']}", row, by_change.get((plan, row["step"], row["number"])))

    # ---- against itself ---------------------------------------------------------------------------------------------------------------
    def heads(self) -> Iterator[Difference]:
        """Hold every chain's head and count against the records of the chain."""
        counted = (
            select(
                records.c.partition,
                records.c.chain,
                func.count().label("count"),
                func.min(records.c.sequence).label("first"),
                func.max(records.c.sequence).label("last"),
            )
            .where(records.c.sequence.is_not(None))
            .group_by(records.c.partition, records.c.chain)
        )
        found = {(row["partition"], row["chain"]): row for row in self._connection.execute(counted).mappings()}
        for head in self._connection.execute(select(chains)).mappings():
            row = found.pop((head["partition"], head["chain"]), None)
            have = (row["count"], row["first"], row["last"]) if row is not None else (0, 0, 0)
            wanted = (head["records"], head["first_sequence"], head["last_sequence"])
            if have != wanted:
                text = (
                    f"chain {head['chain']} of {head['source']} had {wanted[0]} records up to number {wanted[2]}, the database holds {have[0]} up to {have[2]}"
                )
                yield Difference(Lack.HEAD, head["partition"], head["last_offset"], text)
        for partition, chain in found:
            yield Difference(Lack.HEAD, partition, 0, f"chain {chain} has records and no head")

    def seals(self, partition: int, keys: Mapping[str, bytes]) -> Iterator[Finding]:
        """Verify the records of a partition as the topic itself is verified, also those that the topic no longer has."""
        first = self._connection.execute(select(func.min(records.c.offset)).where(records.c.partition == partition)).scalar()
        if first is None:
            return
        lost = self.skipped().get(partition, [])
        verification = Verification(LogFacts(partition, int(first)), keys)
        for message in self.messages(partition):
            for finding in verification.take(message):
                if not _was_skipped(finding, lost):
                    yield finding
        self.verified = verification.records
        yield from verification.finish()


def _was_skipped(finding: Finding, lost: Iterable[tuple[int, int]]) -> bool:
    """Whether what is missing before an offset was never read."""
    return any(last + 1 == finding.offset for _, last in lost)


def _held(message: Message, table: str, name: str, wanted: Mapping[str, Any], row: Mapping[str, Any] | None) -> Iterator[Difference]:
    if row is None:
        yield Difference(Lack.ROW_MISSING, message.partition, message.offset, f"{table} has no row {name}")
    elif differing := _differing(wanted, row, tuple(wanted)):
        yield Difference(Lack.ROW_ALTERED, message.partition, message.offset, f"{table} differs in {differing} for {name}")


def _differing(wanted: Mapping[str, Any], row: Mapping[str, Any], names: Iterable[str]) -> str:
    return ", ".join(name for name in names if _plain(wanted[name]) != _plain(row[name]))


def _plain(value: Any) -> Any:
    return bytes(value) if isinstance(value, memoryview | bytearray) else value


def _bytes(value: Any) -> bytes | None:
    return bytes(value) if value is not None else None
