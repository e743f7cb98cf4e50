"""Options of cluster-autoscaler that a node group sets for itself: annotations, over the defaults that the asker sends.

Source: kinds.md §15; cluster-autoscaler 1.36 clusterapi provider (names); Go ``time.ParseDuration`` (the form of durations).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from services.autoscaler_bridge.kinds.node_group.capacity import option

UNIT_SECONDS: Mapping[str, float] = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")

UTILIZATION, GPU_UTILIZATION = "scaledownutilizationthreshold", "scaledowngpuutilizationthreshold"
UNNEEDED, UNREADY, PROVISION = "scaledownunneededtime", "scaledownunreadytime", "maxnodeprovisiontime"


@dataclass(frozen=True, slots=True)
class Options:
    """What the group says; None where it says nothing, or nothing that can be read. ``unreadable`` names those annotations' last parts."""

    utilization: float | None
    gpu_utilization: float | None
    unneeded: timedelta | None
    unready: timedelta | None
    provision: timedelta | None
    unreadable: tuple[str, ...] = ()

    @property
    def said(self) -> bool:
        """Whether the group says anything that can be read."""
        return any(value is not None for value in (self.utilization, self.gpu_utilization, self.unneeded, self.unready, self.provision))


def options(annotations: Mapping[str, str]) -> Options:
    """The options of a group."""
    shares = {name: _share(option(annotations, name)) for name in (UTILIZATION, GPU_UTILIZATION)}
    times = {name: duration(option(annotations, name)) for name in (UNNEEDED, UNREADY, PROVISION)}
    unreadable = tuple(name for name, value in {**shares, **times}.items() if value is None and option(annotations, name) is not None)
    return Options(shares[UTILIZATION], shares[GPU_UTILIZATION], times[UNNEEDED], times[UNREADY], times[PROVISION], unreadable)


def _share(text: str | None) -> float | None:
    try:
        found = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return found if math.isfinite(found) and found >= 0 else None


def duration(text: str | None) -> timedelta | None:
    """A duration as Go writes it (``10m0s``), None if it is none or negative."""
    if text is None:
        return None
    if text == "0":
        return timedelta(0)
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return timedelta(seconds=sum(float(number) * UNIT_SECONDS[unit] for number, unit in parts))
