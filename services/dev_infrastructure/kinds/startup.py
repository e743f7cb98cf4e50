"""How long the parts of an emulated machine take to start, and which have started by now.

Source: kinds.md §14; Cluster API v1.14 in-memory backend (each stage counts from the one before; jitter adds a share of the duration).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation

from schemas.api.infrastructure.v1beta2.dev_machine import InMemoryMachineBackend, Provisioning
from services.dev_infrastructure.kinds.state import API_SERVER, ETCD, NODE, VM

_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


def go_duration(text: str) -> timedelta:
    """Read a Go duration (``1m30s``).

    Raises:
        ValueError: it is none, or negative.
    """
    if text == "0":
        return timedelta(0)
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is no duration; write it like 1m30s")
    return timedelta(seconds=sum(float(number) * _SECONDS[unit] for number, unit in parts))


def startup_duration(wanted: Provisioning | None, uid: str, stage: str) -> timedelta:
    """The duration of one stage of one machine: the same each time it is asked for, different between machines.

    Raises:
        ValueError: a setting is malformed.
    """
    if wanted is None:
        return timedelta(0)
    duration = go_duration(wanted.startup_duration)
    try:
        jitter = Decimal(wanted.startup_jitter or "0")
    except InvalidOperation as error:
        raise ValueError(f"startupJitter {wanted.startup_jitter!r} is no number") from error
    share = int.from_bytes(hashlib.sha256(f"{uid}/{stage}".encode()).digest()[:4], "big") / 2**32
    return duration * (1 + share * max(float(jitter), 0.0))


@dataclass(frozen=True, slots=True)
class Startup:
    """The stages by when they are (or were) reached; ``reached`` those that are by now, ``wait`` the time to the next."""

    due: Mapping[str, datetime] = field(default_factory=dict)
    reached: tuple[str, ...] = ()
    wait: timedelta | None = None


def startup(backend: InMemoryMachineBackend, uid: str, control_plane: bool, known: Mapping[str, datetime], begun: tuple[datetime, datetime]) -> Startup:
    """Compute the start of a machine; ``known`` are stages already reached, ``begun`` when it was requested and the present time.

    Raises:
        ValueError: a setting is malformed.
    """
    requested, at = begun
    due: dict[str, datetime] = {}
    due[VM] = known.get(VM, requested + startup_duration(backend.vm.provisioning, uid, VM))
    due[NODE] = known.get(NODE, due[VM] + startup_duration(backend.node.provisioning, uid, NODE))
    if control_plane:
        due[ETCD] = known.get(ETCD, due[NODE] + startup_duration(backend.etcd.provisioning, uid, ETCD))
        # an API server cannot answer before its etcd does
        due[API_SERVER] = known.get(API_SERVER, max(due[NODE] + startup_duration(backend.api_server.provisioning, uid, API_SERVER), due[ETCD]))
    reached = tuple(stage for stage, when in due.items() if when <= at)
    waits = [when - at for when in due.values() if when > at]
    return Startup(due, reached, min(waits, default=None))


def internal_address(uid: str) -> str:
    """The address an emulated machine claims to have: in 10.0.0.0/8, from its uid."""
    digest = hashlib.sha256(uid.encode()).digest()
    return f"10.{digest[0]}.{digest[1]}.{digest[2] % 254 + 1}"
