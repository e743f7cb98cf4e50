"""Label and field selectors, parsed once into predicates.

Source: Kubernetes "Labels and Selectors", "Field Selectors"; apimachinery ``labels`` and ``fields`` packages, 1.36.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from typing import Any

from .status import bad_request

JsonDict = dict[str, Any]
LabelPredicate = Callable[[Mapping[str, str]], bool]
ObjectPredicate = Callable[[JsonDict], bool]

_SET_BASED = re.compile(r"^\s*(?P<key>[^\s!=(),]+)\s+(?P<op>in|notin)\s*\((?P<values>[^()]*)\)\s*$")
_EQUALITY = re.compile(r"^\s*(?P<key>[^\s!=(),<>]+)\s*(?P<op>==|!=|=)\s*(?P<value>[^\s!=(),]*)\s*$")
_EXISTENCE = re.compile(r"^\s*(?P<negated>!?)\s*(?P<key>[^\s!=(),]+)\s*$")
_ORDER = re.compile(r"^\s*(?P<key>[^\s!=(),<>]+)\s*(?P<op>[<>])\s*(?P<value>-?\d+)\s*$")
_COMMA_OUTSIDE_PARENTHESES = re.compile(r",(?![^(]*\))")


@lru_cache(maxsize=512)
def label_selector(text: str) -> LabelPredicate:
    """Return the predicate over labels that ``text`` means; the empty text matches everything.

    Raises: ApiStatusError 400 when it cannot be parsed.
    """
    requirements = [_requirement(part, text) for part in _COMMA_OUTSIDE_PARENTHESES.split(text)] if text.strip() else []
    return lambda labels: all(requirement(labels) for requirement in requirements)


def _requirement(part: str, text: str) -> LabelPredicate:
    if found := _SET_BASED.match(part):
        key = found["key"]
        values = frozenset(value.strip() for value in found["values"].split(","))
        if found["op"] == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    if found := _EQUALITY.match(part):
        key, value = found["key"], found["value"]
        if found["op"] == "!=":
            return lambda labels: labels.get(key) != value
        return lambda labels: labels.get(key) == value
    if found := _ORDER.match(part):
        key, bound, greater = found["key"], int(found["value"]), found["op"] == ">"
        return lambda labels: _is_beyond(labels.get(key), bound, greater=greater)
    if found := _EXISTENCE.match(part):
        key = found["key"]
        if found["negated"]:
            return lambda labels: key not in labels
        return lambda labels: key in labels
    raise bad_request(f"unable to parse requirement: {text!r}")


def _is_beyond(value: str | None, bound: int, *, greater: bool) -> bool:
    if value is None or not re.fullmatch(r"-?\d+", value):
        return False
    return int(value) > bound if greater else int(value) < bound


def match_labels(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a metav1.LabelSelector object matches; the empty selector matches everything."""
    if any(labels.get(key) != value for key, value in selector.get("matchLabels", {}).items()):
        return False
    for expression in selector.get("matchExpressions", ()):
        present, value = expression["key"] in labels, labels.get(expression["key"])
        values = expression.get("values", ())
        satisfied = {
            "In": present and value in values,
            "NotIn": not present or value not in values,
            "Exists": present,
            "DoesNotExist": not present,
        }.get(expression["operator"], False)
        if not satisfied:
            return False
    return True


def field_selector(text: str, allowed: Collection[str]) -> ObjectPredicate | None:
    """Return the predicate over objects that ``text`` means, None for the empty text.

    Raises: ApiStatusError 400 for a field the kind does not select by, or a text that cannot be parsed.
    """
    requirements: list[tuple[tuple[str, ...], str, bool]] = []
    for part in text.split(","):
        if not part.strip():
            continue
        found = _FIELD.match(part.strip())
        if found is None:
            raise bad_request(f"invalid selector: {text!r}; can't understand {part!r}")
        if found["key"] not in allowed:
            raise bad_request(f"field label not supported: {found['key']}")
        requirements.append((tuple(found["key"].split(".")), found["value"], found["op"] == "!="))
    if not requirements:
        return None
    return lambda obj: all((_field(obj, path) == value) is not negated for path, value, negated in requirements)


_FIELD = re.compile(r"^(?P<key>[^!=]+?)\s*(?P<op>==|!=|=)\s*(?P<value>.*)$")


def _field(obj: JsonDict, path: tuple[str, ...]) -> str:
    value: Any = obj
    for part in path:
        value = value.get(part) if isinstance(value, dict) else None
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)
