"""Amounts that are a number or a percentage (maxSurge, maxUnavailable, maxInFlight, unhealthyLessThanOrEqualTo).

Source: kinds.md §4 "Maths" (rounding); apimachinery IntOrString.
"""

from __future__ import annotations


def scaled(value: int | str | None, total: int, *, up: bool) -> int:
    """Resolve a number or percentage of ``total``, rounding up or down. Text that is neither counts as 0 (admission rejects it)."""
    if value is None:
        return 0
    if isinstance(value, int):
        return value
    digits = value.strip().removesuffix("%")
    if not digits.isdecimal() or not value.strip().endswith("%"):
        return 0
    product = int(digits) * total
    return -(-product // 100) if up else product // 100
