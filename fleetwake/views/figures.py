"""Figures of a run of the whole: how many writes, whether each has a record, whether each record leads to the change that caused it.

The API server's own audit log is the other side of the books: it knows every request, and keeps the Audit-ID that a record of ours names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from fleetwake.views.runs import RunView

OUR_ACCOUNTS = "system:serviceaccount:fleetwake-system:fleetwake-"
READS = frozenset({"get", "list", "watch"})
ASIDE = frozenset({"leases", "events"})
"""Resources that are no part of the work: leadership, and notes to people."""


@dataclass(frozen=True, slots=True)
class Write:
    """One write in the API server's audit log."""

    audit_id: str
    at: datetime
    account: str
    verb: str
    resource: str
    name: str
    code: int

    def __str__(self) -> str:
        return f"{self.verb} {self.resource} {self.name} by {self.account}: {self.code}"


def our_writes(audit_log: Path, since: datetime, accounts: str = OUR_ACCOUNTS) -> list[Write]:
    """The writes of our accounts from a time on, Leases and Events aside, in the log's order. A last line that is half written is left out."""
    found = []
    with audit_log.open("rb") as lines:
        for line in lines:
            if not line.endswith(b"\n") or accounts.encode() not in line:
                continue
            event = orjson.loads(line)
            target = event.get("objectRef") or {}
            if event["verb"] in READS or target.get("resource") in ASIDE or event.get("stage") != "ResponseComplete":
                continue
            at = datetime.fromisoformat(event["requestReceivedTimestamp"].replace("Z", "+00:00"))
            if at >= since and event["user"]["username"].startswith(accounts):
                found.append(_write(event, target, at))
    return found


def _write(event: Mapping[str, Any], target: Mapping[str, Any], at: datetime) -> Write:
    resource = "/".join(part for part in (target.get("resource", ""), target.get("subresource", "")) if part)
    account = event["user"]["username"].rpartition(":")[2].removeprefix("fleetwake-")
    return Write(event["auditID"], at, account, event["verb"], resource, target.get("name", ""), (event.get("responseStatus") or {}).get("code", 0))


def by_resource(writes: Iterable[Write]) -> dict[str, int]:
    """How many writes of each verb and resource, most first."""
    return dict(Counter(f"{write.verb} {write.resource}" for write in writes).most_common())


def recorded(writes: Iterable[Write], runs: Iterable[RunView]) -> tuple[list[Write], list[Write]]:
    """The writes whose Audit-ID a planned or done record names, and those without a record."""
    known = {step.audit_id for run in runs for record in (run.planned, run.done) if record is not None for step in record.steps if step.audit_id}
    with_record: list[Write] = []
    without: list[Write] = []
    for write in writes:
        (with_record if write.audit_id in known else without).append(write)
    return with_record, without


def traced(runs: Iterable[RunView], traces: frozenset[str]) -> tuple[list[RunView], list[RunView]]:
    """The runs that share or link to one of the traces, and those that do not."""
    inside: list[RunView] = []
    outside: list[RunView] = []
    for run in runs:
        (inside if run.traces & traces else outside).append(run)
    return inside, outside


def share(part: int, whole: int) -> float:
    """``part / whole`` to four digits; 1.0 of nothing."""
    return round(part / whole, 4) if whole else 1.0
