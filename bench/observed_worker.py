"""A reconcilers worker that notes the start of every run: what ``fleetwake reconcile`` runs, and one line a run in the file BENCH_STARTS names.

A histogram's buckets are too coarse for a percentile of milliseconds, and only with the key is a start joined to the record that caused it.
The lines are written one by one, so that they survive a kill -9.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fleetwake.cli.logs import configure
from fleetwake.settings import Settings
from fleetwake.shell import worker
from fleetwake.shell.runner import Runner

if TYPE_CHECKING:
    from fleetwake.shell.queue import Wakeup
    from fleetwake.shell.worker import KindQueue, Partition
    from schemas.keys import ObjectKey


@dataclass(frozen=True, slots=True)
class Start:
    """The start of one run: Unix times of it and of the watch line that woke the key (0: woken otherwise), the partition, the key."""

    at: float
    received: float
    partition: int
    key: str

    def line(self) -> bytes:
        """The note."""
        return f"{self.at!r} {self.received!r} {self.partition} {self.key}\n".encode()

    @classmethod
    def parse(cls, line: str) -> Start:
        """Read a note."""
        at, received, partition, key = line.split(" ", 3)
        return cls(float(at), float(received), int(partition), key)


def read_starts(path: Path) -> list[Start]:
    """All notes of a worker; a torn last line is passed over."""
    text = path.read_text() if path.exists() else ""
    return [Start.parse(line) for line in text[: text.rfind("\n") + 1].splitlines()]


class ObservedRunner(Runner):
    """Notes each start, then runs as ever."""

    notes = -1

    async def _guarded(self, entry: KindQueue, key: ObjectKey, wakeup: Wakeup, partition: Partition) -> None:
        os.write(self.notes, Start(time.time(), wakeup.received, partition.number, str(key)).line())
        await super()._guarded(entry, key, wakeup, partition)


def main() -> int:
    """Run the worker."""
    from services.reconcilers.app import main as reconcile

    ObservedRunner.notes = os.open(os.environ["BENCH_STARTS"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    setattr(worker, "Runner", ObservedRunner)  # noqa: B010 -- the seam is the name that Worker looks up
    settings = Settings.from_env()
    configure(settings, "reconcilers")
    return reconcile(settings)


if __name__ == "__main__":
    sys.exit(main())
