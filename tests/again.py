"""Which tests a second run takes: ``python -m tests.again`` prints those that failed last, a line each, as pytest reads them from a file.

A file marked ``history`` tells one story: its tests build on each other, and one of them alone would be run in a world in which nothing has happened yet.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
LAST_FAILED = ".pytest_cache/v/cache/lastfailed"
HISTORY = "pytest.mark.history"


def again(failed: Iterable[str], root: Path) -> list[str]:
    """The tests to run for these, by their ids: themselves, or the whole file where its tests build on each other."""
    found = {}
    for test in failed:
        file, _, name = test.partition("::")
        found[file if name and HISTORY in (root / file).read_text() else test] = None
    return sorted(found)


def main() -> int:
    """0 when there is something to run; 1 when a run failed without naming a test."""
    try:
        failed = json.loads((ROOT / LAST_FAILED).read_text())
    except FileNotFoundError:
        failed = {}
    if not failed:
        sys.stderr.write("no test is said to have failed: the run itself did\n")
        return 1
    sys.stdout.write("".join(f"{test}\n" for test in again(failed, ROOT)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
