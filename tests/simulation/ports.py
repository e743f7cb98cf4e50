"""Keys and traces of a simulated worker: fixed, counted and kept by nobody."""

from __future__ import annotations

import functools
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fleetwake.shell.ports import NO_CAUSE, Cause, Deletion
from schemas.keys import ClusterKey, ObjectKey
from schemas.records import ObjectRecord

CURVE_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@functools.cache
def private_key(number: int) -> bytes:
    """The numbered key of all simulations, as PEM: derived, so that nothing is generated."""
    key = ec.derive_private_key(1 + number * 7919 % (CURVE_ORDER - 1), ec.SECP256R1())
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


class SimKeys:
    """``KeyPort`` of fixed keys."""

    def __init__(self) -> None:
        self._taken = 0

    async def take(self, algorithm: str) -> bytes:
        """The next key, whatever the algorithm: verifiers take any."""
        self._taken += 1
        return private_key(self._taken % 64)


class SimRunTrace:
    """``RunTrace`` that only has a name."""

    links: tuple[str, ...] = ()

    def __init__(self, number: int) -> None:
        self.traceparent = f"00-{number:032x}-{number:016x}-01"

    @contextmanager
    def step(self, verb: str, key: str, audit_id: str = "") -> Generator[str, None, None]:
        """One request."""
        yield self.traceparent

    def note(self, name: str, attributes: Mapping[str, Any]) -> None:
        """Nobody looks."""


class SimTracing:
    """``Tracing`` that counts runs."""

    def __init__(self) -> None:
        self.runs = 0

    def received(self, record: ObjectRecord, deletion: Deletion = Deletion.NONE) -> Cause:
        """No cause is resolved."""
        return NO_CAUSE

    def replayed(self, record: ObjectRecord) -> None:
        """No intent is kept."""

    def wrote(self, uid: str, resource_version: str, trace: str, cluster: ClusterKey | None) -> Cause:
        """No cause is kept."""
        return NO_CAUSE

    def continues(self, cluster: ClusterKey | None, causes: Iterable[Cause]) -> str:
        """No trace is kept."""
        return ""

    @contextmanager
    def run(self, kind: str, key: ObjectKey, cluster: ClusterKey | None, causes: Iterable[Cause], started: datetime) -> Generator[SimRunTrace, None, None]:
        """One run."""
        self.runs += 1
        yield SimRunTrace(self.runs)
