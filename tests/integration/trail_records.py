"""Results for the trail's tests: the records of the views' tests, sealed, with repeats, strangers and records of a version that is to come."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from schemas.results import Planned, Run, cloud_event
from services.audit_trail.rows import Message
from tests.shell.sealed_records import Partition, Writer
from tests.shell.view_records import records

TOPIC = "t.results"


def value_of(run: Run) -> bytes:
    """A record's value as services write it."""
    return orjson.dumps(run.model_dump(mode="json", by_alias=True, exclude_defaults=True))


class SealedRuns:
    """Results in one partition, in the order given, by one writer."""

    def __init__(self, number: int = 0, name: str = "life") -> None:
        self.partition = Partition(number)
        self._writer = Writer(self.partition, name)

    def put(self, *runs: Run) -> SealedRuns:
        """Append results."""
        for run in runs:
            self._writer.put(value_of(run), cloud_event(run))  # type: ignore[arg-type]
        return self

    def put_raw(self, value: bytes, headers: list[tuple[str, bytes]]) -> SealedRuns:
        """Append anything, sealed."""
        self._writer.put(value, headers)
        return self

    @property
    def messages(self) -> list[Message]:
        """As the trail's consumer reads them."""
        return [Message(TOPIC, *message) for message in self.partition.messages]


def usual(number: int = 0) -> SealedRuns:
    """The runs of the views' tests: done, failed, skipped, cut off, recovered."""
    return SealedRuns(number, f"life-{number}").put(*records())


def to_come() -> tuple[bytes, list[tuple[str, bytes]]]:
    """A record of a type that a later version writes, and that this one does not know."""
    planned = next(run for run in records() if isinstance(run, Planned))
    headers = [(name, b"dev.fleetwake.run.reviewed" if name == "ce_type" else value) for name, value in cloud_event(planned)]
    return b'{"verdict":"fine"}', [(name, b"p1/reviewed" if name == "ce_id" else value) for name, value in headers]


def batches(messages: list[Message], size: int) -> Iterable[list[Message]]:
    """The messages, some at a time."""
    for first in range(0, len(messages), size):
        yield messages[first : first + size]


def plain(rows: Iterable[Any]) -> list[dict[str, Any]]:
    """Rows as plain dictionaries."""
    return [dict(row._mapping) for row in rows]
