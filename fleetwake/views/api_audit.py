"""The API server's own audit log: who, by name, made the changes that records of ours only know by field manager.

Joined by resource, name, field manager and time: at level Metadata the log keeps no resourceVersion; where it keeps the answer, the version decides.
Source: Kubernetes audit.k8s.io/v1 Event (1.36).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson

from schemas.api.registry import KINDS

READS = (b'"verb":"get"', b'"verb":"list"', b'"verb":"watch"')
FIRST_FAILURE = 400
SLACK = timedelta(seconds=1)
"""How much later than its effect was noticed a request may have been stamped: the clocks of API server and workers differ."""
FAR = timedelta(minutes=10)
"""A request older than this is not the one that was noticed then."""
COLLECTOR = "system:serviceaccount:kube-system:generic-garbage-collector"
NAMESPACE_CONTROLLER = "system:serviceaccount:kube-system:namespace-controller"
VERBS: Mapping[str, frozenset[str]] = {
    "ADDED": frozenset({"create", "patch", "update"}),
    "MODIFIED": frozenset({"patch", "update"}),
    "DELETING": frozenset({"delete", "deletecollection"}),
    "DELETED": frozenset({"delete", "deletecollection"}),
}
SUBRESOURCES = frozenset({"", "scale"})
PLURALS: Mapping[str, str] = {**{model.KIND: model.PLURAL for model in KINDS}, "Secret": "secrets", "ConfigMap": "configmaps", "Namespace": "namespaces"}


@dataclass(frozen=True, slots=True)
class Request:
    """One write by somebody, as the API server logged it."""

    audit_id: str
    at: datetime
    user: str
    agent: str
    verb: str
    resource: str
    subresource: str
    namespace: str
    name: str
    manager: str
    version: str

    @property
    def program(self) -> str:
        """The program that sent it: ``kubectl/v1.36.2``."""
        return self.agent.split(" ", 1)[0]


@dataclass(frozen=True, slots=True)
class Seen:
    """A change as a record of ours names it: its type, the object, its version, the field manager, and when we noticed."""

    type: str
    kind: str
    namespace: str
    name: str
    version: str
    manager: str
    noticed: datetime


class ApiAudit:
    """Writes of others."""

    def __init__(self, requests: Iterable[Request]) -> None:
        self._by_place: dict[tuple[str, str, str], list[Request]] = {}
        for request in requests:
            self._by_place.setdefault((request.resource, request.namespace, request.name), []).append(request)

    def of(self, seen: Seen) -> Request | None:
        """The request that made a change; None when the log has none that could be it."""
        plural = PLURALS.get(seen.kind, f"{seen.kind.lower()}s")
        verbs = VERBS.get(seen.type, frozenset())
        found = [
            request
            for name in ((seen.name, "") if "deletecollection" in verbs else (seen.name,))
            for request in self._by_place.get((plural, seen.namespace, name), ())
            if request.verb in verbs and seen.noticed - FAR <= request.at <= seen.noticed + SLACK
        ]
        exact = [request for request in found if request.version and request.version == seen.version]
        named = [request for request in found if request.manager and request.manager == seen.manager]
        # a delete has no field manager, so the one in the record is of some earlier write
        chosen = exact or (named if seen.type in ("ADDED", "MODIFIED") else []) or found
        return max(chosen, key=lambda request: request.at, default=None)


def read(path: Path, ours: Collection[str]) -> ApiAudit:
    """Read a log; ``ours`` are the Audit-IDs of requests of ours, which are left out. A last line that is half written is too.

    Raises:
        OSError: the file cannot be read.
    """
    return ApiAudit(_writes(path, ours))


def _writes(path: Path, ours: Collection[str]) -> Iterator[Request]:
    with path.open("rb") as lines:
        for line in lines:
            if not line.endswith(b"\n") or any(read in line for read in READS):
                continue
            try:
                event = orjson.loads(line)
            except orjson.JSONDecodeError:
                continue
            target, code = event.get("objectRef"), (event.get("responseStatus") or {}).get("code", 0)
            if event.get("stage") == "ResponseComplete" and target and code < FIRST_FAILURE and event.get("auditID") not in ours:
                request = _request(event, target)
                if request.subresource in SUBRESOURCES:
                    yield request


def _request(event: Mapping[str, Any], target: Mapping[str, Any]) -> Request:
    user = (event.get("impersonatedUser") or event.get("user") or {}).get("username", "")
    answer = event.get("responseObject") or {}
    query = parse_qs(urlsplit(event.get("requestURI", "")).query)
    return Request(
        audit_id=event.get("auditID", ""),
        at=datetime.fromisoformat(event["requestReceivedTimestamp"].replace("Z", "+00:00")),
        user=user,
        agent=event.get("userAgent", ""),
        verb=event.get("verb", ""),
        resource=target.get("resource", ""),
        subresource=target.get("subresource", ""),
        namespace=target.get("namespace", ""),
        name=target.get("name", "") or str((answer.get("metadata") or {}).get("name", "")),
        manager=next(iter(query.get("fieldManager", ())), ""),
        version=str((answer.get("metadata") or {}).get("resourceVersion", "")),
    )
