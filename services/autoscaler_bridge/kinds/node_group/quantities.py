"""Quantities as Kubernetes writes them (``4``, ``500m``, ``16Gi``, ``1e3``): whether a text is one, and which whole number it is.

The ``kubernetes`` package's own ``parse_quantity`` cannot say that: it takes ``1K``, ``1_000``, ``1 Gi`` and ``NaN``, which Kubernetes refuses.
cluster-autoscaler decodes a template of which one quantity is none to nothing at all; up to 1.33 that ended its loop for all groups.

Source: apimachinery 1.36, ``resource.ParseQuantity`` (the form) and ``Quantity.Value`` (rounded up); kubernetes/autoscaler 1.31 to 1.36 (what becomes of a
template that cannot be decoded).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from fractions import Fraction

_FORM = re.compile(r"\+?(?P<number>[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?P<suffix>[KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]{1,3})?")
DECIMAL: Mapping[str, int] = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
BINARY = "KMGTPE"
LENGTH_MAX = 64
"""Longer texts are no quantity that anybody means."""


def quantity(text: str) -> Fraction | None:
    """The number that a quantity is; None if the text is none, or is negative, as no capacity is."""
    found = _FORM.fullmatch(text) if len(text) <= LENGTH_MAX else None
    if found is None:
        return None
    number, suffix = Fraction(found["number"].rstrip(".")), found["suffix"] or ""
    if suffix.endswith("i"):
        return number * Fraction(1024) ** (BINARY.index(suffix[0]) + 1)
    if suffix in DECIMAL:
        return number * Fraction(10) ** DECIMAL[suffix]
    return number * Fraction(10) ** int(suffix[1:] or 0)


def whole(text: str) -> str | None:
    """The whole number that a quantity is, rounded up, in digits alone; None if it is no quantity."""
    found = quantity(text)
    return str(math.ceil(found)) if found is not None else None
