"""Which watcher leads: a Lease in the management API, and a clock that counts suspension.

``fresh`` is the fence: it says whether this process may still produce. It counts from before the last successful renewal was sent, on
CLOCK_BOOTTIME, and ends before the Lease does, so that a process that was frozen finds it false before anybody else can lead.

Source: client-go leaderelection (v0.36): a standby trusts its own observation of the record, never the clock of another machine.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from fleetwake.errors import FleetwakeError
from fleetwake.kube.client import ApiClient, raise_for, resource_path

LEASE_API = "coordination.k8s.io/v1"
log = logging.getLogger("services.watcher.lease")


def boottime() -> float:
    """Seconds on a clock that also runs while the machine or the process sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class LeaseTerms:
    """Durations in seconds; duration > renew_deadline > retry."""

    duration: float = 5.0
    renew_deadline: float = 3.0
    retry: float = 1.0

    def __post_init__(self) -> None:
        if not self.duration > self.renew_deadline > self.retry > 0:
            raise ValueError(f"lease terms must satisfy duration > renew_deadline > retry > 0, not {self}")


class LeaderLease:
    """One candidate for one Lease."""

    def __init__(
        self, client: ApiClient, namespace: str, name: str, identity: str, terms: LeaseTerms = LeaseTerms(), *, now: Callable[[], float] = boottime
    ) -> None:
        self._client = client
        self._path = resource_path(LEASE_API, "leases", namespace, name)
        self._collection = resource_path(LEASE_API, "leases", namespace)
        self._name, self._namespace = name, namespace
        self.identity = identity
        self.terms = terms
        self._now = now
        self._renewed = float("-inf")
        self._held: dict[str, Any] | None = None
        self._observed: tuple[str, float] = ("", float("-inf"))

    @property
    def age(self) -> float:
        """Seconds since the last successful renewal was sent; infinite before the first."""
        return self._now() - self._renewed

    @property
    def fresh(self) -> bool:
        """Whether this process leads and may produce at this moment."""
        return self.age < self.terms.renew_deadline

    async def acquire(self) -> None:
        """Wait until this candidate leads."""
        while True:
            try:
                if await self._attempt():
                    log.info("leading: lease=%s identity=%s", self._name, self.identity)
                    return
            except FleetwakeError as error:
                log.warning("lease not reached: lease=%s error=%s", self._name, error)
            await asyncio.sleep(self.terms.retry)

    async def keep(self) -> None:
        """Renew until leadership is lost; then return."""
        while self.fresh:
            await asyncio.sleep(self.terms.retry)
            try:
                if not await self._attempt():
                    break
            except FleetwakeError as error:
                log.warning("lease not renewed: lease=%s error=%s", self._name, error)
        self._renewed = float("-inf")
        log.warning("leadership lost: lease=%s identity=%s", self._name, self.identity)

    async def release(self) -> None:
        """Give the Lease up, so that a standby need not wait for its end. Best effort."""
        held, self._renewed = self._held, float("-inf")
        if held is None:
            return
        held["spec"].update(holderIdentity="", leaseDurationSeconds=1)
        try:
            await self._client.request("PUT", self._path, body=orjson.dumps(held), timeout_seconds=self.terms.retry)
        except FleetwakeError as error:
            log.info("lease not released: lease=%s error=%s", self._name, error)

    async def _attempt(self) -> bool:
        started = self._now()
        if self._held is not None and self.fresh:
            self._held["spec"] = self._spec(self._held["spec"])
            if await self._write("PUT", self._path, self._held, started):
                return True
            # perhaps our own write whose answer was lost: look
        answer = await self._client.request("GET", self._path, timeout_seconds=self.terms.renew_deadline)
        if answer.status == 404:
            body: dict[str, Any] = {"apiVersion": LEASE_API, "kind": "Lease", "metadata": {"name": self._name, "namespace": self._namespace}}
            body["spec"] = self._spec({})
            return await self._write("POST", self._collection, body, started)
        raise_for(answer, f"get Lease {self._namespace}/{self._name}")
        lease = answer.json()
        spec = lease.setdefault("spec", {})
        if spec.get("holderIdentity") not in (self.identity, "", None) and not self._expired(lease):
            self._held = None
            return False
        lease["spec"] = self._spec(spec)
        return await self._write("PUT", self._path, lease, started)

    def _expired(self, lease: dict[str, Any]) -> bool:
        version = lease["metadata"]["resourceVersion"]
        if self._observed[0] != version:
            self._observed = (version, self._now())
        return self._now() - self._observed[1] > float(lease["spec"].get("leaseDurationSeconds") or self.terms.duration)

    def _spec(self, before: dict[str, Any]) -> dict[str, Any]:
        now = datetime.fromtimestamp(time.time(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {**before, "holderIdentity": self.identity, "leaseDurationSeconds": math.ceil(self.terms.duration), "renewTime": now}
        if before.get("holderIdentity") != self.identity:
            spec.update(acquireTime=now, leaseTransitions=int(before.get("leaseTransitions") or 0) + 1)
        return spec

    async def _write(self, method: str, path: str, lease: dict[str, Any], started: float) -> bool:
        answer = await self._client.request(method, path, body=orjson.dumps(lease), timeout_seconds=self.terms.renew_deadline)
        if answer.status == 409:  # the other candidate was quicker
            self._held = None
            return False
        raise_for(answer, f"write Lease {self._namespace}/{self._name}")
        self._held, self._renewed = answer.json(), started
        return True
