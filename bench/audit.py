"""The API server's own audit log: which requests our accounts sent, by verb, resource and subresource.

It is the reference for every count of requests: what a client believes to have sent is not counted anywhere. Leases and Events are left aside.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import orjson

ACCOUNTS = "system:serviceaccount:fleetwake-system:fleetwake-"
MARK = ACCOUNTS.encode()
ASIDE = frozenset({"leases", "events"})
READS = frozenset({"get", "list", "watch"})
CONFLICT = 409
FIRST_FAILURE = 400


@dataclass
class Requests:
    """Counts over a part of the log. ``writes`` are those that succeeded; keys are ``account verb resource/subresource``."""

    writes: Counter[str] = field(default_factory=Counter)
    reads: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    conflicts: int = 0

    @property
    def total(self) -> int:
        """Every request that was answered."""
        return self.writes.total() + self.reads.total() + self.refused.total()


def count(lines: Iterable[bytes]) -> Requests:
    """Count the completed requests of our accounts in lines of the audit log; a torn last line is passed over."""
    found = Requests()
    for line in lines:
        if MARK not in line:
            continue
        try:
            event = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        _take(found, event)
    return found


def _take(found: Requests, event: dict[str, object]) -> None:
    user, target = event.get("user"), event.get("objectRef")
    if event.get("stage") != "ResponseComplete" or not isinstance(user, dict) or not isinstance(target, dict):
        return
    account = str(user.get("username", ""))
    if not account.startswith(ACCOUNTS) or target.get("resource") in ASIDE:
        return
    resource = "/".join(filter(None, (str(target.get("resource", "")), str(target.get("subresource", "")))))
    verb = str(event.get("verb", ""))
    name = f"{account.removeprefix(ACCOUNTS)} {verb} {resource}"
    status = event.get("responseStatus")
    code = int(status.get("code", 0)) if isinstance(status, dict) else 0
    found.conflicts += code == CONFLICT
    if verb in READS:
        found.reads[name] += 1
    elif code < FIRST_FAILURE:
        found.writes[name] += 1
    else:
        found.refused[f"{name} {code}"] += 1


class AuditLog:
    """The growing file; each call of ``lines`` gives what came since the last."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._offset = 0

    def skip(self) -> None:
        """Forget what was written up to now."""
        self._offset = self._path.stat().st_size

    def lines(self) -> list[bytes]:
        """Whole lines written since the last call."""
        with self._path.open("rb") as log:
            log.seek(self._offset)
            text = log.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        return whole.splitlines()
