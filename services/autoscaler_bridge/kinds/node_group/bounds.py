"""The least and the most Machines of a node group, as its annotations say.

Source: kinds.md §15; cluster-autoscaler 1.36 clusterapi provider (an integer each, the most not below the least). Where that provider stops reading all
groups over one that is wrong, here each speaks for itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fleetwake import labels

SIZE_MAX = 2**31 - 1
"""What a replica count can be."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How small and how large the group may be; ``most`` is never below ``least``."""

    least: int
    most: int

    def allows(self, size: int) -> bool:
        """Whether the group may have that size."""
        return self.least <= size <= self.most


@dataclass(frozen=True, slots=True)
class BadBounds:
    """What is wrong with the annotations, and what to do."""

    message: str


def bounds_of(annotations: Mapping[str, str]) -> Bounds | BadBounds | None:
    """The bounds; None where no annotation asks for a node group."""
    given = {name: annotations[name] for name in (labels.AUTOSCALER_MIN_SIZE, labels.AUTOSCALER_MAX_SIZE) if name in annotations}
    if not given:
        return None
    if len(given) == 1:
        (missing,) = {labels.AUTOSCALER_MIN_SIZE, labels.AUTOSCALER_MAX_SIZE} - given.keys()
        return BadBounds(f"annotation {missing} is missing: set both bounds, or none")
    for name, text in given.items():
        if not (text.isascii() and text.isdecimal()) or int(text) > SIZE_MAX:
            return BadBounds(f"annotation {name} is {text!r}: it must be a whole number from 0 to {SIZE_MAX}")
    found = Bounds(int(given[labels.AUTOSCALER_MIN_SIZE]), int(given[labels.AUTOSCALER_MAX_SIZE]))
    if found.most < found.least:
        return BadBounds(f"annotation {labels.AUTOSCALER_MAX_SIZE} is {found.most}, below the {found.least} of {labels.AUTOSCALER_MIN_SIZE}")
    return found
