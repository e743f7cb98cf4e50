"""Writing records into the trail: rows and the offset behind them in one transaction, so that each record has its effect once, whoever is killed when.

``records`` gets every record, one row an offset. Its writer may have produced one twice: what is there by its id has no further effect on runs, steps and
changes. Whoever else writes the same partition is found out by the offset it moved.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, and_, case, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from fleetwake.errors import FencedError
from services.audit_trail.database import REFUSED, fault_of
from services.audit_trail.rows import RECOVERED, Message, Row, Rows, rows_of
from services.audit_trail.schema import chains, changes, gaps, offsets, records, runs, steps

REPEATS, REFUSED_ROWS = "repeats", "the database refused its rows"
IDENTIFIED_MAX = 500
"""Ids asked for in one statement."""


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a batch: records, those of them that repeat an earlier one, those that are in no run for another reason."""

    records: int = 0
    repeats: int = 0
    unread: int = 0

    def __add__(self, other: Written) -> Written:
        return Written(self.records + other.records, self.repeats + other.repeats, self.unread + other.unread)


class TrailWriter:
    """The one writer of its partitions of one topic."""

    def __init__(self, engine: Engine, topic: str) -> None:
        self._engine, self._topic = engine, topic
        self._upsert: Any = postgresql.insert if engine.dialect.name == "postgresql" else sqlite.insert

    def positions(self, starts: Mapping[int, int]) -> dict[int, int]:
        """Where to go on in each partition; one never read before begins at its start."""
        with self._engine.begin() as connection:
            found = connection.execute(select(offsets.c.partition, offsets.c.next_offset).where(offsets.c.topic == self._topic))
            known = {int(partition): int(offset) for partition, offset in found}
            fresh = [{"topic": self._topic, "partition": number, "next_offset": start, "at": _now()} for number, start in starts.items() if number not in known]
            if fresh:
                connection.execute(insert(offsets), fresh)
        return {number: known.get(number, start) for number, start in starts.items()}

    def write(self, messages: Sequence[Message]) -> Written:
        """Write a batch: of each partition consecutive records from its offset on.

        A record that the database refuses for its content is kept as bytes alone, with the reason; the others are not delayed by it.

        Raises:
            FencedError: another consumer moved the offset of one of the partitions.
            SQLAlchemyError: the database did not take it; nothing of the batch is there.
        """
        try:
            return self._transaction(messages, [rows_of(message) for message in messages])
        except SQLAlchemyError as error:
            if fault_of(error, self._engine).kind != REFUSED:
                raise
            if len(messages) == 1:
                return self._transaction(messages, [_bare(messages[0], error)])
        half = len(messages) // 2
        return self.write(messages[:half]) + self.write(messages[half:])

    def skipped(self, partition: int, first: int, next_offset: int) -> None:
        """Kafka no longer has the offsets from ``first`` to ``next_offset - 1``: say so in the trail, and go on behind them."""
        with self._engine.begin() as connection:
            connection.execute(insert(gaps).values(partition=partition, first_offset=first, last_offset=next_offset - 1, at=_now()))
            self._advance(connection, {partition: (first, next_offset)})

    def _transaction(self, messages: Sequence[Message], found: Sequence[Rows]) -> Written:
        with self._engine.begin() as connection:
            self._advance(connection, _moves(messages))
            judged = self._judged(connection, found)
            connection.execute(insert(records), [one.record for one in judged])
            self._runs(connection, [one.run for one in judged if one.run is not None])
            self._steps(connection, judged)
            self._chains(connection, [one.record for one in judged if one.record["sequence"] is not None])
        repeats = sum(one.record["fault"].startswith(REPEATS) for one in judged)
        return Written(len(judged), repeats, sum(not one.readable for one in judged) - repeats)

    def _advance(self, connection: Connection, moves: Mapping[int, tuple[int, int]]) -> None:
        for partition, (first, following) in moves.items():
            mine = and_(offsets.c.topic == self._topic, offsets.c.partition == partition, offsets.c.next_offset <= first)
            moved = connection.execute(update(offsets).where(mine).values(next_offset=following, at=_now()))
            if moved.rowcount != 1:
                raise FencedError(
                    f"the trail is beyond offset {first} of partition {partition}: another consumer writes the same partitions into this database; stop one",
                    operation="write the trail",
                )

    def _judged(self, connection: Connection, found: Sequence[Rows]) -> list[Rows]:
        """The same, but a record with the id of an earlier one is in no run: it repeats it, or tells something else under its name."""
        known = self._known(connection, found)
        judged: list[Rows] = []
        for one in found:
            record = one.record
            earlier = known.setdefault((record["partition"], record["id"]), record)
            if earlier is record:
                judged.append(one)
                continue
            same = bytes(earlier["value"] or b"") == bytes(record["value"] or b"") and earlier["type"] == record["type"]
            word = REPEATS if same else "differs from the record of the same id at"
            judged.append(Rows({**record, "fault": f"{word} offset {earlier['offset']}"}))
        return judged

    @staticmethod
    def _known(connection: Connection, found: Sequence[Rows]) -> dict[tuple[int, str], Mapping[str, Any]]:
        known: dict[tuple[int, str], Mapping[str, Any]] = {}
        by_partition: dict[int, list[str]] = {}
        for one in found:
            by_partition.setdefault(one.record["partition"], []).append(one.record["id"])
        for partition, ids in by_partition.items():
            for first in range(0, len(ids), IDENTIFIED_MAX):
                asked = select(records.c.offset, records.c.id, records.c.type, records.c.value).where(
                    records.c.partition == partition, records.c.id.in_(ids[first : first + IDENTIFIED_MAX])
                )
                for row in connection.execute(asked.order_by(records.c.offset)).mappings():
                    known.setdefault((partition, row["id"]), dict(row))
        return known

    def _runs(self, connection: Connection, found: Iterable[Row]) -> None:
        """Each kind of record sets its own columns; a run that was done stays done, whoever recovers it."""
        by_columns: dict[tuple[str, ...], list[Row]] = {}
        for row in found:
            by_columns.setdefault(tuple(row), []).append(row)
        for columns, rows in by_columns.items():
            statement = self._upsert(runs)
            given = {name: statement.excluded[name] for name in columns if name not in ("plan_id", "outcome")}
            if "done_at" in columns:
                given["outcome"] = statement.excluded.outcome
            elif "recovered_at" in columns:
                given["outcome"] = case((runs.c.done_at.is_(None), RECOVERED), else_=runs.c.outcome)
            connection.execute(statement.on_conflict_do_update(index_elements=["plan_id"], set_=given), rows)

    def _steps(self, connection: Connection, found: Iterable[Rows]) -> None:
        planned: list[Row] = []
        done: list[Row] = []
        changed: list[Row] = []
        for one in found:
            (done if one.run is not None and "done_at" in one.run else planned).extend(one.steps)
            changed.extend(one.changes)
        key = ["plan_id", "step"]
        if planned:
            connection.execute(self._upsert(steps).on_conflict_do_nothing(index_elements=key), planned)
        if done:
            statement = self._upsert(steps)
            given = {column.name: statement.excluded[column.name] for column in steps.c if not column.primary_key}
            connection.execute(statement.on_conflict_do_update(index_elements=key, set_=given), done)
        if changed:
            connection.execute(self._upsert(changes).on_conflict_do_nothing(index_elements=[*key, "number"]), changed)

    def _chains(self, connection: Connection, found: Iterable[Row]) -> None:
        heads: dict[tuple[int, str], Row] = {}
        for record in found:
            place = (record["partition"], record["chain"])
            held = heads.get(place)
            if held is None:
                heads[place] = _head(record)
            else:
                held["whole"] = held["whole"] and record["sequence"] == held["last_sequence"] + 1
                held |= {"last_sequence": record["sequence"], "last_offset": record["offset"], "last_mac": record["mac"], "records": held["records"] + 1}
        if not heads:
            return
        statement = self._upsert(chains)
        new = statement.excluded
        given = {name: new[name] for name in ("last_sequence", "last_offset", "last_mac")}
        given["records"] = chains.c.records + new.records
        given["whole"] = and_(chains.c.whole, new.whole, new.first_sequence == chains.c.last_sequence + 1)
        connection.execute(statement.on_conflict_do_update(index_elements=["partition", "chain"], set_=given), list(heads.values()))


def _head(record: Row) -> Row:
    return {
        "partition": record["partition"],
        "chain": record["chain"],
        "source": record["source"],
        "first_sequence": record["sequence"],
        "last_sequence": record["sequence"],
        "last_offset": record["offset"],
        "last_mac": record["mac"],
        "records": 1,
        "whole": True,
    }


def _moves(messages: Iterable[Message]) -> dict[int, tuple[int, int]]:
    """Of each partition its first offset and the one behind its last."""
    moves: dict[int, tuple[int, int]] = {}
    for message in messages:
        first, _ = moves.get(message.partition, (message.offset, 0))
        moves[message.partition] = (first, message.offset + 1)
    return moves


def _bare(message: Message, error: SQLAlchemyError) -> Rows:
    """The record as bytes alone: what could be read of it is what the database refused."""
    reason = str(getattr(error, "orig", None) or error).splitlines()[0]
    row: dict[str, Any] = {column.name: "" for column in records.c}
    row |= {"partition": message.partition, "offset": message.offset, "id": f"{message.topic}[{message.partition}]@{message.offset}"}
    row |= {"at": None, "sequence": None, "key": message.key, "value": message.value, "headers": rows_of(message).record["headers"]}
    return Rows({**row, "fault": f"{REFUSED_ROWS}: {reason}".replace("\x00", "\ufffd")})


def _now() -> datetime:
    return datetime.fromtimestamp(time.time(), UTC)
