"""CEL rules of a schema (``x-kubernetes-validations``): what a value must satisfy beyond its form, and how it may change.

The language is the Common Expression Language; of Kubernetes' own functions there are those over texts, lists, addresses, URLs and amounts that answer
yes or no or give a text, list or number. A rule that asks for more, or cannot be read, is the class's mistake and is told as one.

Source: kinds.md §10.3; Kubernetes "Common Expression Language in Kubernetes", "Validation rules" (escaping of names, oldSelf, messageExpression), 1.36.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from fleetwake.topology.formats import is_cidr, is_ip, is_quantity, is_uri
from fleetwake.topology.schema import Schema, Wrong

RULES = "x-kubernetes-validations"
_OLD = re.compile(r"\boldSelf\b")
_PLAIN_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
_RESERVED = frozenset(
    ("true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function", "if", "import", "let", "loop", "package", "namespace")
    + ("return", "var", "void", "while")
)
_ABSENT: Any = object()


def rule_violations(value: Any, schema: Schema, old: Any = _ABSENT, path: str = "") -> Iterator[Wrong]:
    """The rules that do not hold at and below a place. ``old`` is what stood there before: rules over ``oldSelf`` are only asked where something did."""
    for rule in schema.get(RULES) or ():
        wrong = _judged(rule, value, old, schema, path)
        if wrong is not None:
            yield wrong
    items, additional = schema.get("items"), schema.get("additionalProperties")
    if isinstance(value, list | tuple) and isinstance(items, Mapping):
        for index, item in enumerate(value):
            yield from rule_violations(item, items, _ABSENT, f"{path}[{index}]")
    if isinstance(value, Mapping):
        properties = schema.get("properties") or {}
        before = old if isinstance(old, Mapping) else {}
        for key, item in value.items():
            inner = properties.get(key, additional if isinstance(additional, Mapping) else None)
            if inner is not None:
                yield from rule_violations(item, inner, before.get(key, _ABSENT), f"{path}.{key}")


def unreadable_rules(schema: Schema, path: str = "") -> Iterator[Wrong]:
    """The rules of a schema that are no CEL, at every depth."""
    import cel

    for rule in schema.get(RULES) or ():
        for expression in filter(None, (rule["rule"], rule.get("messageExpression"))):
            try:
                cel.compile(expression)
            except ValueError as error:
                yield Wrong(path, f"the rule {expression!r} is no CEL: {_first_line(error)}")
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), Mapping):
            yield from unreadable_rules(schema[name], f"{path}.{name}")
    for key, inner in (schema.get("properties") or {}).items():
        yield from unreadable_rules(inner, f"{path}.{key}")


def _judged(rule: Mapping[str, Any], value: Any, old: Any, schema: Schema, path: str) -> Wrong | None:
    transition = _OLD.search(rule["rule"]) is not None
    if transition and old is _ABSENT:
        return None
    variables = {"self": escaped(value, schema)}
    if transition:
        variables["oldSelf"] = escaped(old, schema)
    holds = _evaluated(rule["rule"], variables)
    place = path + str(rule.get("fieldPath") or "")
    if isinstance(holds, _Failed):
        return Wrong(place, f"the rule {rule['rule']!r} cannot be evaluated: {holds.why}; the ClusterClass must be corrected")
    if holds is True:
        return None
    return Wrong(place, _message(rule, variables))


def _message(rule: Mapping[str, Any], variables: Mapping[str, Any]) -> str:
    expression = rule.get("messageExpression")
    if expression:
        made = _evaluated(expression, variables)
        if isinstance(made, str) and made.strip() and "\n" not in made:
            return made
    return str(rule.get("message") or f"must satisfy {rule['rule']}")


class _Failed:
    """An expression that gives no value, and why."""

    def __init__(self, why: str) -> None:
        self.why = why


def _evaluated(expression: str, variables: Mapping[str, Any]) -> Any:
    # its command line comes with it, which costs half a second: only classes that have rules pay for it
    import cel

    context = cel.Context()
    for name, function in FUNCTIONS.items():
        context.add_function(name, function)
    for name, value in variables.items():
        context.add_variable(name, value)
    try:
        return cel.compile(expression).execute(context)
    except Exception as error:  # the library has no error class of its own
        return _Failed(_first_line(error))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def escaped(value: Any, schema: Schema) -> Any:
    """The value with the names of declared fields as CEL can say them (``a-b`` is ``a__dash__b``); keys of maps stay."""
    items, additional = schema.get("items"), schema.get("additionalProperties")
    if isinstance(value, list | tuple):
        return [escaped(item, items if isinstance(items, Mapping) else {}) for item in value]
    if isinstance(value, Mapping):
        properties = schema.get("properties") or {}
        out = {}
        for key, item in value.items():
            if key in properties:
                out[escaped_name(key)] = escaped(item, properties[key])
            else:
                out[key] = escaped(item, additional if isinstance(additional, Mapping) else {})
        return out
    if isinstance(value, float) and schema.get("type") == "integer" and value.is_integer():
        return int(value)
    return float(value) if schema.get("type") == "number" and isinstance(value, int) and not isinstance(value, bool) else value


def escaped_name(name: str) -> str:
    """A field's name as an identifier of CEL."""
    if name in _RESERVED:
        return f"__{name}__"
    if _PLAIN_NAME.match(name) and "__" not in name:
        return name
    for old, new in (("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__")):
        name = name.replace(old, new)
    return name


def _replace(text: str, old: str, new: str, count: int = -1) -> str:
    return text.replace(old, new, count)


def _split(text: str, joint: str, count: int = -1) -> list[str]:
    if count == 0:
        return []
    return text.split(joint, count - 1 if count > 0 else -1) if joint else list(text)


def _index_of(whole: Any, part: Any, start: int = 0) -> int:
    if isinstance(whole, str):
        return whole.find(part, start)
    return next((index for index, item in enumerate(whole) if index >= start and item == part), -1)


def _last_index_of(whole: Any, part: Any) -> int:
    if isinstance(whole, str):
        return whole.rfind(part)
    return max((index for index, item in enumerate(whole) if item == part), default=-1)


def _found(text: str, pattern: str, count: int = -1) -> list[str]:
    found = [match[0] for match in re.finditer(pattern, text, re.ASCII)]
    return found if count < 0 else found[:count]


FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "charAt": lambda text, at: text[at : at + 1],
    "find": lambda text, pattern: next(iter(_found(text, pattern, 1)), ""),
    "findAll": _found,
    "indexOf": _index_of,
    "isCIDR": is_cidr,
    "isIP": is_ip,
    "isQuantity": is_quantity,
    "isSorted": lambda items: list(items) == sorted(items),
    "isURL": is_uri,
    "join": lambda items, joint="": joint.join(items),
    "lastIndexOf": _last_index_of,
    "lowerAscii": lambda text: text.lower(),
    "replace": _replace,
    "split": _split,
    "substring": lambda text, start, end=None: text[start:end],
    "sum": lambda items: sum(items),
    "trim": lambda text: text.strip(),
    "upperAscii": lambda text: text.upper(),
}
"""Kubernetes' functions by name; the receiver of a method is the first argument."""
