"""Durations of alert rules, as installed or shortened for tests: the same source in both, so that a test fires what an installation would."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
WINDOW_SECONDS_MIN = 5
"""A shortened window still holds some scrapes of a test's one a second."""


@dataclass(frozen=True)
class Durations:
    """``shortened`` divides every duration; 1 for an installation."""

    shortened: float = 1.0

    def window(self, text: str) -> str:
        """A range of a query, as ``10m``."""
        return text if self.shortened == 1 else f"{max(WINDOW_SECONDS_MIN, math.ceil(self._seconds(text)))}s"

    def hold(self, text: str) -> str:
        """How long something must hold before an alert fires, as ``10m``."""
        return text if self.shortened == 1 else f"{math.ceil(self._seconds(text) * 1000)}ms"

    def seconds(self, text: str) -> str:
        """A duration as the number of seconds that a metric is compared with."""
        return f"{self._seconds(text):g}"

    def _seconds(self, text: str) -> float:
        found = re.fullmatch(r"(\d+)([smhd])", text)
        if found is None:
            raise ValueError(f"{text!r} is no duration like 10m")
        return int(found.group(1)) * UNITS[found.group(2)] / self.shortened


AS_INSTALLED = Durations()
