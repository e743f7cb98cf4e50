"""Order statistics of small samples, by nearest rank: every figure printed is one that was measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` (0 to 1) of the values do not exceed; 0 of none."""
    if not values:
        return 0.0
    ranked = sorted(values)
    return ranked[max(math.ceil(share * len(ranked)) - 1, 0)]


@dataclass(frozen=True, slots=True)
class Spread:
    """A sample in five numbers."""

    count: int
    p50: float
    p95: float
    p99: float
    max: float

    @classmethod
    def of(cls, values: Sequence[float], digits: int = 3) -> Spread:
        """Summarize, rounded to ``digits`` decimals."""
        shares = (0.5, 0.95, 0.99, 1.0)
        return cls(len(values), *(round(percentile(values, share), digits) for share in shares))

    def __str__(self) -> str:
        return f"p50 {self.p50:g}, p95 {self.p95:g}, p99 {self.p99:g}, max {self.max:g} (n={self.count})"


def span(values: Sequence[float], digits: int = 2) -> str:
    """The median with the least and the greatest: how far repeated runs lie apart."""
    if not values:
        return "-"
    return f"{percentile(values, 0.5):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f}, n={len(values)})"
