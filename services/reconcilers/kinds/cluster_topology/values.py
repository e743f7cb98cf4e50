"""Values of patches: a variable by its path, or what a template renders to.

Source: kinds.md §10.3 (valueFrom, enabledIf); Cluster API v1.14 (values of inline patches); sigs.k8s.io/yaml (YAML 1.1 scalars of Go).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import yaml

from fleetwake.templating.go_template import TemplateError, render
from fleetwake.templating.sprig import FUNCTIONS

_STEP = re.compile(r"^([^\[\]]+)((?:\[\d+\])*)$")
_INDEX = re.compile(r"\[(\d+)\]")


class NoValueError(ValueError):
    """A value cannot be had; the message says why and what to change."""


class UnknownVariableError(NoValueError):
    """There is no such variable, or it has no such field."""


Variables = Mapping[str, Any]


def variable(variables: Variables, path: str) -> Any:
    """The value of a variable or of a place in it (``a.b[0].c``). Raises: NoValueError, UnknownVariableError."""
    value: Any = variables
    walked = ""
    for step in path.split("."):
        match = _STEP.match(step)
        if match is None:
            raise NoValueError(f"the path {path!r} of a variable cannot be read; write it as name.field[0].field")
        value = _field(value, match[1], walked, variables)
        walked = f"{walked}.{match[1]}".lstrip(".")
        for index in map(int, _INDEX.findall(match[2])):
            if not isinstance(value, list | tuple):
                raise UnknownVariableError(f"{walked} is no list, so it has no element {index}")
            if index >= len(value):
                raise UnknownVariableError(f"{walked} has {len(value)} elements, so none at {index}")
            value, walked = value[index], f"{walked}[{index}]"
    return value


def _field(value: Any, name: str, walked: str, variables: Variables) -> Any:
    if not walked and name not in variables:
        raise UnknownVariableError(f'no value is known for the variable "{name}"; give it a default, or set it in the Cluster')
    if not isinstance(value, Mapping) or name not in value:
        raise UnknownVariableError(f'{walked} has no field "{name}"')
    return value[name]


def rendered(template: str, variables: Variables) -> Any:
    """What a template renders to, read as YAML. Raises: NoValueError."""
    try:
        text = render(template, floats(variables), FUNCTIONS)
    except TemplateError as error:
        raise NoValueError(f"the template cannot be rendered: {error}") from error
    try:
        return read_yaml(text)
    except yaml.YAMLError as error:
        raise NoValueError(f"the template renders to what is no YAML: {_where(error)}") from error


def enabled(template: str | None, variables: Variables) -> bool:
    """Whether a patch applies: it has no condition, or one that renders to true. Raises: NoValueError."""
    return not template or rendered(template, variables) is True


def floats(value: Any) -> Any:
    """A value with all numbers as floats: so Go's templates get what was JSON. Maps and lists are copies, which functions of templates may change."""
    if isinstance(value, Mapping):
        return {key: floats(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [floats(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _where(error: yaml.YAMLError) -> str:
    """The problem and its place, without the text itself."""
    mark, what = getattr(error, "problem_mark", None), getattr(error, "problem", None) or "it cannot be read"
    return f"{what} (line {mark.line + 1}, column {mark.column + 1})" if mark is not None else str(what)


# --- YAML as Go reads it ---------------------------------------------------------------------------------------------------------------------


class _Loader(yaml.SafeLoader):
    """Scalars as Go's library understands them: no dates, no numbers to base 60, y and n are booleans, 1e3 is a number."""


_TRUE, _FALSE = ("y", "yes", "true", "on"), ("n", "no", "false", "off")
_NUMBER_STARTS = list("-+.0123456789")
_IMPLICIT: tuple[tuple[str, str, list[str]], ...] = (
    ("bool", "^(?:" + "|".join(f"{word}|{word.capitalize()}|{word.upper()}" for word in (*_TRUE, *_FALSE)) + ")$", list("yYnNtTfFoO")),
    ("int", r"^[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]+|0o?[0-7_]+|0|[1-9][0-9_]*)$", _NUMBER_STARTS),
    ("float", r"^[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9_]*)?)(?:[eE][-+]?[0-9]+)?$|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$", _NUMBER_STARTS),
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("merge", r"^(?:<<)$", ["<"]),
)
_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in _IMPLICIT:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)


def _whole(_: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = node.value.replace("_", "").lower()
    sign = -1 if text.startswith("-") else 1
    bare = text.lstrip("+-")
    if bare.startswith(("0x", "0b", "0o")):
        return sign * int(bare, 0)
    return sign * int(bare, 8 if len(bare) > 1 and bare.startswith("0") else 10)


def _fraction(_: yaml.SafeLoader, node: yaml.ScalarNode) -> float | int:
    text = node.value.replace("_", "").lower()
    if text.lstrip("+-") in (".inf", ".nan"):
        raise yaml.constructor.ConstructorError(problem="JSON has no such number", problem_mark=node.start_mark)
    number = float(text)
    return int(number) if number.is_integer() else number


def _truth(_: yaml.SafeLoader, node: yaml.ScalarNode) -> bool:
    return node.value.lower() in _TRUE


_CONSTRUCTORS: Mapping[str, Callable[[yaml.SafeLoader, yaml.ScalarNode], Any]] = {"int": _whole, "float": _fraction, "bool": _truth}
for _tag, _constructor in _CONSTRUCTORS.items():
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _constructor)


def read_yaml(text: str) -> Any:
    """One document as JSON values, the keys of maps as texts. Raises: yaml.YAMLError."""
    return _json_keys(yaml.load(text, Loader=_Loader))


def _json_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {_key(key): _json_keys(item) for key, item in value.items()}
    return [_json_keys(item) for item in value] if isinstance(value, list) else value


def _key(key: Any) -> str:
    if isinstance(key, bool):
        return "true" if key else "false"
    return str(key)
