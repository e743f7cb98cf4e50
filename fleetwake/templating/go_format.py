"""Go's printing, truth and comparison, and the functions a template has without being given any.

Source: pkg.go.dev/fmt and pkg.go.dev/text/template (Go 1.26).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

EXPONENT_FROM = 6
"""Most digits that Go writes before the point of a float; it writes an exponent otherwise."""
_VERB = re.compile(r"%([-+# 0]*)(\d*)(?:\.(\d+))?([%a-zA-Z])")


def truth(value: Any) -> bool:
    """Whether a value is not empty: nil, false, 0 and what has no length are."""
    return bool(value)


def printed(value: Any) -> str:
    """A value as ``{{ value }}`` shows it."""
    return "<no value>" if value is None else spelled(value)


def spelled(value: Any) -> str:
    """A value as Go's Sprint and the verb %v show it."""
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "map[" + " ".join(f"{key}:{spelled(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, list | tuple):
        return "[" + " ".join(spelled(item) for item in value) + "]"
    if isinstance(value, float):
        return float_text(value)
    return str(value)


def float_text(value: float) -> str:
    """Go's %v of a float: the fewest digits that tell it, with an exponent below 1e-4 and from 1e+06 on."""
    if not math.isfinite(value):
        return {"inf": "+Inf", "-inf": "-Inf"}.get(str(value), "NaN")
    sign, digits, exponent = Decimal(repr(value)).as_tuple()
    text = "".join(map(str, digits)).rstrip("0") or "0"
    point = len(digits) + int(exponent)
    lead = "-" if sign else ""
    if text == "0":
        return f"{lead}0"
    if point < -3 or point > EXPONENT_FROM:
        mantissa = text[0] + (f".{text[1:]}" if len(text) > 1 else "")
        power = point - 1
        return f"{lead}{mantissa}e{'-' if power < 0 else '+'}{abs(power):02d}"
    if point <= 0:
        return f"{lead}0.{'0' * -point}{text}"
    if len(text) <= point:
        return lead + text.ljust(point, "0")
    return f"{lead}{text[:point]}.{text[point:]}"


def sprint(*values: Any) -> str:
    """Go's Sprint: a blank between two values that are both no text."""
    out = ""
    for index, value in enumerate(values):
        if index and not isinstance(value, str) and not isinstance(values[index - 1], str):
            out += " "
        out += spelled(value)
    return out


def sprintf(template: str, *values: Any) -> str:
    """Go's Sprintf for texts, numbers and booleans. Raises: ValueError for another verb, or values too many or few."""
    left = list(values)

    def verb(match: re.Match[str]) -> str:
        flags, width, precision, letter = match.groups()
        if letter == "%":
            return "%"
        if not left:
            raise ValueError("too few values")
        text = _formatted(left.pop(0), letter, precision)
        if width:
            fill = "0" if "0" in flags and letter in "dfxX" else " "
            text = text.ljust(int(width)) if "-" in flags else text.rjust(int(width), fill)
        return text

    made = _VERB.sub(verb, template)
    if left:
        raise ValueError("too many values")
    return made


def _formatted(value: Any, letter: str, precision: str | None) -> str:
    if letter == "v":
        return spelled(value)
    if letter == "s" and isinstance(value, str):
        return value[: int(precision)] if precision else value
    if letter == "q" and isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if letter == "d" and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if letter in "xX" and isinstance(value, int | str) and not isinstance(value, bool):
        digits = value.encode().hex() if isinstance(value, str) else f"{value:x}"
        return digits.upper() if letter == "X" else digits
    if letter == "f" and isinstance(value, float):
        return f"{value:.{int(precision) if precision else 6}f}"
    if letter == "t" and isinstance(value, bool):
        return spelled(value)
    raise ValueError("a verb does not fit its value")


def equal(first: Any, *others: Any) -> bool:
    """``eq``: whether the first equals one of the others. Raises: ValueError for none, or for values of different kinds."""
    if not others:
        raise ValueError("eq needs two values")
    return any(_kind(first) == _kind(other) and bool(first == other) for other in others if _comparable(first, other))


def less(one: Any, other: Any) -> bool:
    """``lt``. Raises: ValueError for values without an order."""
    if _kind(one) != _kind(other) or _kind(one) not in ("text", "integer", "float"):
        raise ValueError("these have no order")
    return bool(one < other)


def _kind(value: Any) -> str:
    for kind, types in (("boolean", bool), ("text", str), ("integer", int), ("float", float)):
        if isinstance(value, types):
            return kind
    return "nil" if value is None else "map"


def _comparable(one: Any, other: Any) -> bool:
    kinds = {_kind(one), _kind(other)}
    if "map" in kinds or (len(kinds) > 1 and "nil" not in kinds):
        raise ValueError("these cannot be compared")
    return True


def _length(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode())
    return len(value)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, list | tuple):
            value = value[_position(key, len(value) - 1)]
        elif isinstance(value, str):
            value = value.encode()[_position(key, len(value.encode()) - 1)]
        else:
            raise ValueError("this has no index")
    return value


def _slice(value: Any, *bounds: Any) -> Any:
    if not isinstance(value, str | list | tuple) or len(bounds) > 2:
        raise ValueError("only a text or list can be sliced")
    data = value.encode() if isinstance(value, str) else value
    first = _position(bounds[0], len(data)) if bounds else 0
    last = _position(bounds[1], len(data)) if len(bounds) > 1 else len(data)
    if first > last:
        raise ValueError("the slice ends before it begins")
    part = data[first:last]
    return part.decode(errors="replace") if isinstance(part, bytes) else list(part)


def _position(value: Any, largest: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= largest:
        raise ValueError("out of range")
    return value


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "eq": equal,
    "ne": lambda one, other: not equal(one, other),
    "lt": less,
    "le": lambda one, other: less(one, other) or equal(one, other),
    "gt": lambda one, other: less(other, one),
    "ge": lambda one, other: less(other, one) or equal(one, other),
    "not": lambda value: not truth(value),
    "len": _length,
    "index": _index,
    "slice": _slice,
    "print": sprint,
    "printf": sprintf,
    "println": lambda *values: " ".join(spelled(value) for value in values) + "\n",
}
"""Those with values already made; ``and`` and ``or`` stop at the first that decides."""
