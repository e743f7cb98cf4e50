"""Results and audit log of a real rig, recorded once (``python -m tests.audit.record``): what goldens are made from and what traffic replays."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from fleetwake.views.results import MODELS
from schemas.records import Headers
from schemas.results import Run

FOLDER = Path(__file__).parent / "recorded_run"
RESULTS, REQUESTS, SCRIPT = FOLDER / "results.jsonl.gz", FOLDER / "audit.log.gz", FOLDER / "script.json"


@dataclass(frozen=True, slots=True)
class Recorded:
    """One record, without the seal it had."""

    partition: int
    key: bytes
    value: bytes
    headers: Headers

    @property
    def run(self) -> Run:
        """It, read."""
        return MODELS[dict(self.headers)["ce_type"]].model_validate(orjson.loads(self.value))

    def spread(self, partitions: int) -> int:
        """A partition for the records of its run: one cluster was recorded, which lives in one."""
        return zlib.crc32(dict(self.headers)["ce_id"].partition(b"/")[0]) % partitions

    def renamed(self, suffix: str) -> Recorded:
        """The same of another run: with another plan id."""
        plan = orjson.loads(self.value)["planId"].encode()
        other = plan[: -len(suffix) - 1] + b"-" + suffix.encode()
        headers = [(name, value.replace(plan, other) if name == "ce_id" else value) for name, value in self.headers]
        return Recorded(self.partition, self.key, self.value.replace(plan, other), headers)


@cache
def recorded() -> Sequence[Recorded]:
    """Every record, in order of partitions and offsets."""
    return [_read(line) for line in gzip.decompress(RESULTS.read_bytes()).splitlines()]


def _read(line: bytes) -> Recorded:
    event: dict[str, Any] = orjson.loads(line)
    value = orjson.dumps(event.pop("data"))
    partition, _ = event.pop("kafkapartition"), event.pop("kafkaoffset")
    names = {"datacontenttype": "content-type", "traceparent": "traceparent"}
    kept = {names.get(name, f"ce_{name}"): str(text).encode() for name, text in event.items() if not name.startswith("chain")}
    return Recorded(partition, kept["ce_partitionkey"], value, list(kept.items()))


@cache
def runs() -> Sequence[Run]:
    """Every record, read, in order of time."""
    return sorted((one.run for one in recorded()), key=lambda run: run.at)  # type: ignore[attr-defined]


def script() -> dict[str, Any]:
    """What was done on the rig, and to which objects."""
    found: dict[str, Any] = orjson.loads(SCRIPT.read_bytes())
    return found
