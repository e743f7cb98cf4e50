"""Semantic versions: ``semver`` and ``semverCompare``.

Source: masterminds.github.io/sprig (semver), v3.3.0; github.com/Masterminds/semver v3.3 (constraints: =, !=, <, >, <=, >=, ~, ^, hyphens, wildcards).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from fleetwake.templating.go_reading import TemplateError

_VERSION = re.compile(r"^v?(\d+)(?:\.(\d+))?(?:\.(\d+))?(?:-([0-9A-Za-z.-]+))?(?:\+([0-9A-Za-z.-]+))?$")
_CONSTRAINT = re.compile(r"^(=|==|!=|>|<|>=|=>|<=|=<|~|~>|\^)?\s*v?(\d+|[xX*])(?:\.(\d+|[xX*]))?(?:\.(\d+|[xX*]))?(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?$")
_HYPHEN = re.compile(r"(\S+)\s+-\s+(\S+)")
_AFTER_OPERATOR = re.compile(r"(=|==|!=|>|<|>=|=>|<=|=<|~|~>|\^)\s+(?=v?[\dxX*])")
_WILDCARDS = (None, "x", "X", "*")

Key = tuple[Any, ...]


def _parsed(text: Any) -> tuple[int, int, int, str, str]:
    match = _VERSION.match(text) if isinstance(text, str) else None
    if match is None:
        raise TemplateError("a version cannot be read")
    major, minor, patch, pre, build = match.groups()
    return int(major), int(minor or 0), int(patch or 0), pre or "", build or ""


def _key(version: tuple[int, int, int, str]) -> Key:
    """Order by number, a release after its pre-releases; build tags do not count."""
    *numbers, pre = version
    parts = tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in pre.split(".")) if pre else ()
    return (*numbers, not pre, parts)


def semver(text: Any) -> dict[str, Any]:
    """A version by its parts. Raises: TemplateError."""
    major, minor, patch, pre, build = _parsed(text)
    return {"Major": major, "Minor": minor, "Patch": patch, "Prerelease": pre, "Metadata": build, "Original": text}


def compare(constraint: Any, version: Any) -> bool:
    """Whether a version satisfies a constraint. Raises: TemplateError."""
    major, minor, patch, pre, _ = _parsed(version)
    have = (major, minor, patch, pre)
    return any(all(_satisfies(have, one) for one in _conjunction(alternative)) for alternative in str(constraint).split("||"))


def _conjunction(text: str) -> list[str]:
    spread = _HYPHEN.sub(r">=\1 <=\2", text.strip())
    return [one for one in re.split(r"[,\s]+", _AFTER_OPERATOR.sub(r"\1", spread)) if one]


def _satisfies(have: tuple[int, int, int, str], constraint: str) -> bool:
    match = _CONSTRAINT.match(constraint)
    if match is None:
        raise TemplateError("a constraint of versions cannot be read")
    operator, *texts, pre = match.groups()
    numbers = [0 if text in _WILDCARDS else int(text) for text in texts]
    open_from = next((at for at, text in enumerate(texts) if text in _WILDCARDS), len(texts))
    if have[3] and not pre:
        # a pre-release satisfies only constraints that name one
        return False
    low = _key((numbers[0], numbers[1], numbers[2], pre or ""))
    wide = open_from < len(texts)
    version = _key(have)
    below_next = _key(have)[:3] < _next(numbers, open_from)
    match operator or "":
        case "" | "=" | "==":
            return version >= low and below_next if wide else version == low
        case "!=":
            return not (version >= low and below_next) if wide else version != low
        case ">":
            return not below_next and version[:3] >= _next(numbers, open_from) if wide else version > low
        case "<":
            return version < low
        case ">=" | "=>":
            return version >= low
        case "<=" | "=<":
            return below_next if wide else version <= low
        case "~" | "~>":
            return version >= low and version[:3] < _next(numbers, 1 if open_from <= 1 else 2)
        case _:
            return version >= low and version[:3] < _caret(numbers, open_from)


def _next(numbers: list[int], places: int) -> Key:
    """The first version that is beyond all that share the leading ``places`` numbers."""
    if places == 0:
        return (float("inf"),)
    head = numbers[:places]
    return (*head[:-1], head[-1] + 1, *(0,) * (3 - places))


def _caret(numbers: list[int], open_from: int) -> Key:
    if numbers[0] or open_from <= 1:
        return _next(numbers, 1 if open_from else 0)
    if numbers[1] or open_from == 2:
        return _next(numbers, 2)
    return _next(numbers, 3)


VERSIONS: Mapping[str, Callable[..., Any]] = {"semver": semver, "semverCompare": compare}
