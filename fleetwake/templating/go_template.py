"""Go's text/template: values are what JSON has (texts, numbers, booleans, nil, maps, lists).

All actions, and Go's predefined functions but ``call``, ``html``, ``js`` and ``urlquery``; a caller may bring more (``sprig``).

Source: pkg.go.dev/text/template (Go 1.26); Cluster API v1.14 (the data of file templates, and of patches of a ClusterClass).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fleetwake.templating import go_format
from fleetwake.templating.go_reading import Branch, Call, Leave, Node, Operand, Output, Pipeline, Range, TemplateError, Text, path_of, read

__all__ = ["CALLS_MAX", "NODES_MAX", "TemplateError", "render"]

CALLS_MAX = 64
"""Named templates inside one another."""
NODES_MAX = 100_000
"""Nodes executed for one text: a template is work that somebody else wrote, and it must end."""

Functions = Mapping[str, Callable[..., Any]]


def render(template: str, data: Mapping[str, Any], functions: Functions = go_format.FUNCTIONS) -> str:
    """The template filled in with ``data`` as dot.

    Raises:
        TemplateError: it cannot be read or executed.
    """
    found = read(template)
    run = _Run(functions, found.defined)
    run.execute(found.nodes, data, [{"$": data}])
    return "".join(run.out)


class _Left(Exception):
    """A break or continue on its way to its range."""

    def __init__(self, word: str) -> None:
        super().__init__(word)
        self.word = word


_Scopes = list[dict[str, Any]]


@dataclass(slots=True)
class _Run:
    """One execution: what is written so far, and how much was done for it."""

    functions: Functions
    defined: Mapping[str, list[Node]]
    out: list[str] = field(default_factory=list)
    nodes: int = 0
    calls: int = 0

    def execute(self, nodes: Sequence[Node], dot: Any, scopes: _Scopes) -> None:
        for node in nodes:
            self.nodes += 1
            if self.nodes > NODES_MAX:
                raise TemplateError(f"it takes more than {NODES_MAX} steps")
            match node:
                case Text():
                    self.out.append(node.text)
                case Output():
                    value = self._evaluate(node.pipeline, dot, scopes)
                    if not node.pipeline.variable:
                        self.out.append(go_format.printed(value))
                case Branch():
                    self._branch(node, dot, scopes)
                case Range():
                    self._range(node, dot, scopes)
                case Call():
                    self._call(node, dot, scopes)
                case Leave():
                    raise _Left(node.word)

    def _branch(self, node: Branch, dot: Any, scopes: _Scopes) -> None:
        inner = [*scopes, {}]
        value = self._evaluate(node.pipeline, dot, inner)
        if go_format.truth(value):
            self.execute(node.body, value if node.word == "with" else dot, inner)
        else:
            self.execute(node.otherwise, dot, inner)

    def _range(self, node: Range, dot: Any, scopes: _Scopes) -> None:
        outer = [*scopes, {}]
        value = self._evaluate(node.pipeline, dot, outer)
        if node.declares:
            outer[-1].update(dict.fromkeys(node.names))
        items = list(_items(value))
        if not items:
            self.execute(node.otherwise, dot, outer)
        for index, item in items:
            for name, given in zip(node.names, (index, item) if len(node.names) == 2 else (item,), strict=False):
                _set(name, given, outer)
            try:
                self.execute(node.body, item, [*outer, {}])
            except _Left as left:
                if left.word == "break":
                    break

    def _call(self, node: Call, dot: Any, scopes: _Scopes) -> None:
        body = self.defined.get(node.name)
        if body is None:
            raise TemplateError("a template is called that is not defined")
        self.calls += 1
        if self.calls > CALLS_MAX:
            raise TemplateError(f"more than {CALLS_MAX} templates inside one another")
        inner = self._evaluate(node.pipeline, dot, scopes) if node.pipeline is not None else None
        self.execute(body, inner, [{"$": inner}])
        self.calls -= 1

    def _evaluate(self, pipeline: Pipeline, dot: Any, scopes: _Scopes) -> Any:
        value: Any = None
        for index, command in enumerate(pipeline.commands):
            value = self._command(command, dot, scopes, (value,) if index else ())
        if pipeline.variable:
            if pipeline.declares:
                _plain_variable(pipeline.variable)
                scopes[-1][pipeline.variable] = value
            else:
                _set(pipeline.variable, value, scopes)
        return value

    def _command(self, command: Sequence[Operand], dot: Any, scopes: _Scopes, piped: tuple[Any, ...]) -> Any:
        first, rest = command[0], command[1:]
        if first.kind == "word" and first.value not in _CONSTANTS:
            if first.value in ("and", "or"):
                return self._short_circuit(first.value, rest, dot, scopes, piped)
            return self._called(first.value, (*(self._operand(one, dot, scopes) for one in rest), *piped))
        if rest or piped:
            raise TemplateError("a value that is no function has arguments")
        if (first.kind, first.value) == ("word", "nil"):
            raise TemplateError("nil is no command")
        return self._operand(first, dot, scopes)

    def _called(self, name: str, arguments: Sequence[Any]) -> Any:
        function = self.functions.get(name)
        if function is None:
            raise TemplateError(f"the function {name} is not known")
        try:
            return function(*arguments)
        except TemplateError:
            raise
        except (TypeError, ValueError, IndexError, KeyError, AttributeError, ArithmeticError) as error:
            raise TemplateError(f"the function {name} cannot be called like this") from error

    def _short_circuit(self, word: str, rest: Sequence[Operand], dot: Any, scopes: _Scopes, piped: tuple[Any, ...]) -> Any:
        values: list[Any] = []
        for one in rest:
            values.append(self._operand(one, dot, scopes))
            if go_format.truth(values[-1]) is (word == "or"):
                return values[-1]
        values.extend(piped)
        if not values:
            raise TemplateError(f"the function {word} needs an argument")
        return values[-1]

    def _operand(self, operand: Operand, dot: Any, scopes: _Scopes) -> Any:
        match operand.kind:
            case "string":
                return _unquoted(operand.value)
            case "raw":
                return operand.value[1:-1]
            case "number":
                return int(operand.value) if operand.value.lstrip("+-").isdigit() else float(operand.value)
            case "dot":
                return dot
            case "field":
                return _field(dot, path_of(operand.value))
            case "variable":
                name, *path = operand.value.split(".")
                return _field(_scope_of(name, scopes)[name], path)
            case "pipeline":
                return _field(self._evaluate(operand.value, dot, scopes), operand.path)
            case _ if operand.value in _CONSTANTS:
                return _CONSTANTS[operand.value]
            case _:
                return self._called(operand.value, ())


_CONSTANTS = {"true": True, "false": False, "nil": None}


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    """Index and value of what is ranged over: a list, a map by its keys in order, or the numbers below a number."""
    if isinstance(value, Mapping):
        return ((key, value[key]) for key in sorted(value))
    if isinstance(value, list | tuple):
        return iter(enumerate(value))
    if isinstance(value, int) and not isinstance(value, bool):
        if value > NODES_MAX:
            raise TemplateError(f"a range over more than {NODES_MAX} numbers")
        return ((number, number) for number in range(value))
    if value is None:
        return iter(())
    raise TemplateError("a range over what is no list, map or whole number")


def _plain_variable(name: str) -> None:
    if "." in name or name == "$":
        raise TemplateError("only a variable can be set")


def _set(name: str, value: Any, scopes: _Scopes) -> None:
    _plain_variable(name)
    _scope_of(name, scopes)[name] = value


def _scope_of(name: str, scopes: _Scopes) -> dict[str, Any]:
    scope = next((one for one in reversed(scopes) if name in one), None)
    if scope is None:
        raise TemplateError(f"the variable {name} is not declared")
    return scope


def _field(value: Any, path: Sequence[str]) -> Any:
    """A map has nothing (nil) under a key it does not have, and nothing has nothing; anything else has no fields."""
    for name in path:
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise TemplateError(f"there is no field {name}: what should have it is no map")
        value = value.get(name)
    return value


def _unquoted(text: str) -> str:
    try:
        return str(json.loads(text))
    except ValueError:
        raise TemplateError("a text in quotes has an escape that is not known") from None
