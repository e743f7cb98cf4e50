"""Functions over numbers, and how other values become numbers.

Source: masterminds.github.io/sprig (math, conversion, integer slices), v3.3.0; github.com/spf13/cast v1.7 (what is no number is 0).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from fleetwake.templating.go_format import spelled
from fleetwake.templating.go_reading import TemplateError

NUMBERS_MAX = 10_000
"""Numbers in a list that one function may make."""
_BITS = 64


def whole(value: Any) -> int:
    """A value as a whole number: fractions are cut, a text is read as decimal (octal and hexadecimal with their prefix), all else is 0."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if math.isfinite(value) else 0
    if isinstance(value, str):
        return _read(value)
    return 0


def _read(text: str) -> int:
    bare = text.strip()
    try:
        if bare.lower().startswith(("0x", "-0x", "0b", "0o")):
            return int(bare, 0)
        return int(bare.lstrip("0") or "0", 10) if bare == text else 0
    except ValueError:
        return 0


def fraction(value: Any) -> float:
    """A value as a float; what is no number is 0."""
    if isinstance(value, bool | int | float):
        return float(value)
    try:
        return float(value) if isinstance(value, str) else 0.0
    except ValueError:
        return 0.0


def _wrapped(value: int) -> int:
    """A whole number within 64 bits, as Go's arithmetic overflows."""
    half = 1 << (_BITS - 1)
    return (value + half) % (1 << _BITS) - half


def _divided(one: Any, other: Any) -> int:
    quotient = abs(whole(one)) // abs(whole(other))
    return quotient if (whole(one) < 0) == (whole(other) < 0) else -quotient


def _multiplied(*values: Any) -> int:
    product = 1
    for value in values:
        product = _wrapped(product * whole(value))
    return product


def _until_step(start: Any, stop: Any, step: Any) -> list[int]:
    if step == 0 or (stop < start) != (step < 0):
        return []
    found = range(start, stop, step)
    if len(found) > NUMBERS_MAX:
        raise TemplateError(f"a list of more than {NUMBERS_MAX} numbers")
    return list(found)


def _until(count: Any) -> list[int]:
    return _until_step(0, count, -1 if count < 0 else 1)


def _sequence(*bounds: Any) -> str:
    numbers = [whole(bound) for bound in bounds]
    step = 1
    if len(numbers) == 1:
        first, last = 1, numbers[0]
        step = 1 if last >= first else -1
    elif len(numbers) == 2:
        first, last = numbers
        step = 1 if last >= first else -1
    elif len(numbers) == 3:
        first, step, last = numbers
    else:
        return ""
    end = last + (1 if step > 0 else -1)
    return " ".join(str(number) for number in _until_step(first, end, step))


def _rounded(value: Any, places: Any, threshold: float = 0.5) -> float:
    if threshold != 0.5:
        raise TemplateError("a threshold of round is not supported")
    return float(Decimal(repr(fraction(value))).quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP))


def _decimal(operation: Callable[[Decimal, Decimal], Decimal]) -> Callable[..., float]:
    def over(first: Any, *others: Any) -> float:
        total = Decimal(repr(fraction(first)))
        for other in others:
            total = operation(total, Decimal(repr(fraction(other))))
        # there is no negative zero among decimals of Go's library
        return float(total) + 0.0

    return over


def _octal(value: Any) -> int:
    try:
        return int(spelled(value), 8)
    except ValueError:
        return 0


NUMBERS: Mapping[str, Callable[..., Any]] = {
    "add": lambda *values: _wrapped(sum(whole(value) for value in values)),
    "add1": lambda value: _wrapped(whole(value) + 1),
    "add1f": lambda value: _decimal(lambda one, other: one + other)(value, 1),
    "addf": _decimal(lambda one, other: one + other),
    "atoi": lambda value: _read(value) if value.lstrip("+-").isdigit() else 0,
    "biggest": lambda *values: max(whole(value) for value in values),
    "ceil": lambda value: float(math.ceil(fraction(value))),
    "div": _divided,
    "divf": _decimal(lambda one, other: one / other),
    "float64": fraction,
    "floor": lambda value: float(math.floor(fraction(value))),
    "int": whole,
    "int64": whole,
    "max": lambda *values: max(whole(value) for value in values),
    "maxf": lambda *values: max(fraction(value) for value in values),
    "min": lambda *values: min(whole(value) for value in values),
    "minf": lambda *values: min(fraction(value) for value in values),
    "mod": lambda one, other: whole(one) - whole(other) * _divided(one, other),
    "mul": _multiplied,
    "mulf": _decimal(lambda one, other: one * other),
    "round": _rounded,
    "seq": _sequence,
    "sub": lambda one, other: _wrapped(whole(one) - whole(other)),
    "subf": _decimal(lambda one, other: one - other),
    "toDecimal": _octal,
    "until": _until,
    "untilStep": _until_step,
}
