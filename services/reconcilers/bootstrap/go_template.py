"""Go's text/template, as far as a file of a KubeadmConfig needs it: values are texts, numbers, booleans, nil and maps of them.

Actions: pipelines, ``if``/``else if``/``else``, ``with``, variables, comments, trim markers. Functions: Go's predefined ones but ``call``, ``html``, ``js`` and
``urlquery``. ``range``, ``define``, ``template`` and ``block`` need lists and named templates, which there are none of: they are refused.

Source: pkg.go.dev/text/template (Go 1.26); Cluster API v1.14 (the data of file templates).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from services.reconcilers.bootstrap import go_format

_ACTION = re.compile(r"\{\{(-(?=\s))?\s*(/\*.*?\*/|(?:`[^`]*`|\"(?:\\.|[^\"\\\n])*\"|[^`\"}]|\}(?!\}))*?)\s*((?<=\s)-)?\}\}", re.DOTALL)
_TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:\\.|[^"\\\n])*")|(?P<raw>`[^`]*`)|(?P<number>[+-]?\d+(?:\.\d+)?)|(?P<assign>:=|=)|(?P<symbol>[()|])"""
    r"""|(?P<field>(?:\.[A-Za-z_]\w*)+)|(?P<dot>\.(?![\w]))|(?P<variable>\$\w*(?:\.[A-Za-z_]\w*)*)|(?P<word>[A-Za-z_]\w*))"""
)
_SPACE = " \t\r\n"
DEPTH_MAX = 64
"""Blocks inside one another; more are a mistake."""


class TemplateError(ValueError):
    """The template cannot be read or executed; the message never repeats its text."""


@dataclass(slots=True)
class _Text:
    text: str


@dataclass(slots=True)
class _Output:
    pipeline: _Pipeline


@dataclass(slots=True)
class _Branch:
    """``if`` or ``with``; an ``else if`` is a branch in ``otherwise``."""

    word: str
    pipeline: _Pipeline
    body: list[_Node] = field(default_factory=list)
    otherwise: list[_Node] = field(default_factory=list)


_Node = _Text | _Output | _Branch


@dataclass(slots=True)
class _Pipeline:
    """Commands from left to right, each an operand and its arguments; ``variable`` is set to the result, ``declares`` tells := from =."""

    commands: list[list[_Operand]]
    variable: str = ""
    declares: bool = False


@dataclass(slots=True)
class _Operand:
    """A token's kind and value; for a parenthesis the pipeline inside, for ``path`` the fields asked of it."""

    kind: str
    value: Any
    path: tuple[str, ...] = ()


def render(template: str, data: Mapping[str, Any]) -> str:
    """The template filled in with ``data`` as dot.

    Raises:
        TemplateError: it cannot be read or executed.
    """
    out: list[str] = []
    _execute(_parse(template), data, [{"$": data}], out)
    return "".join(out)


# ---- reading --------------------------------------------------------------------------------------------------------------------------------


def _parse(template: str) -> list[_Node]:
    root: list[_Node] = []
    lists: list[list[_Node]] = [root]
    branches: list[tuple[_Branch, bool]] = []
    for piece in _pieces(template):
        if isinstance(piece, _Text):
            lists[-1].append(piece)
            continue
        word, _, rest = piece.partition(" ")
        if word in ("if", "with"):
            branch = _Branch(word, _pipeline(rest))
            lists[-1].append(branch)
            lists.append(branch.body)
            branches.append((branch, False))
            if len(branches) > DEPTH_MAX:
                raise TemplateError(f"more than {DEPTH_MAX} blocks inside one another")
        elif word == "else":
            _else(rest.strip(), lists, branches)
        elif piece == "end":
            if not branches:
                raise TemplateError("an end without a beginning")
            while branches.pop()[1]:
                pass
            lists.pop()
        elif word in ("range", "define", "template", "block", "break", "continue"):
            raise TemplateError(f"the action {word} is not supported")
        else:
            lists[-1].append(_Output(_pipeline(piece)))
    if branches:
        raise TemplateError("a block has no end")
    return root


def _else(rest: str, lists: list[list[_Node]], branches: list[tuple[_Branch, bool]]) -> None:
    if not branches:
        raise TemplateError("an else without a beginning")
    branch = branches[-1][0]
    if branch.otherwise or lists[-1] is branch.otherwise:
        raise TemplateError("two else of one block")
    lists[-1] = branch.otherwise
    if rest:
        word, _, condition = rest.partition(" ")
        if word not in ("if", "with"):
            raise TemplateError("an else is followed by nothing, if or with")
        inner = _Branch(word, _pipeline(condition))
        branch.otherwise.append(inner)
        lists[-1] = inner.body
        # closed by the end of the block it continues
        branches.append((inner, True))


def _pieces(template: str) -> list[_Text | str]:
    """Texts and actions in order, blanks trimmed where asked for, comments left out."""
    found: list[_Text | str] = []
    position, trim = 0, False
    for action in _ACTION.finditer(template):
        before, inside, after = action.groups()
        text = template[position : action.start()]
        found.append(_Text(_trimmed(text, left=trim, right=bool(before))))
        if not inside.startswith("/*"):
            if not inside:
                raise TemplateError("an action is empty")
            found.append(" ".join(inside.split(None, 1)) if not inside.startswith(('"', "`")) else inside)
        position, trim = action.end(), bool(after)
    rest = template[position:]
    if "{{" in rest or any("{{" in piece.text for piece in found if isinstance(piece, _Text)):
        raise TemplateError("an action is not closed")
    return [*found, _Text(_trimmed(rest, left=trim, right=False))]


def _trimmed(text: str, *, left: bool, right: bool) -> str:
    text = text.lstrip(_SPACE) if left else text
    return text.rstrip(_SPACE) if right else text


def _pipeline(text: str) -> _Pipeline:
    tokens = _tokens(text)
    found, rest = _read(tokens, 0)
    if rest != len(tokens):
        raise TemplateError("a parenthesis is closed that was not opened")
    return found


def _tokens(text: str) -> list[_Operand]:
    found: list[_Operand] = []
    position = 0
    text = text.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            raise TemplateError("an action has a character that means nothing")
        kind, value = match.lastgroup, match[match.lastgroup]
        if kind == "field" and found and found[-1].kind == "symbol" and found[-1].value == ")" and match.start(kind) == position:
            kind = "access"
        found.append(_Operand(kind, value))
        position = match.end()
    return found


def _read(tokens: Sequence[_Operand], at: int, depth: int = 0) -> tuple[_Pipeline, int]:
    """One pipeline from the token ``at``, up to the end or its closing parenthesis."""
    pipeline = _Pipeline([])
    if depth > DEPTH_MAX:
        raise TemplateError(f"more than {DEPTH_MAX} parentheses inside one another")
    if at + 1 < len(tokens) and tokens[at].kind == "variable" and tokens[at + 1].kind == "assign":
        pipeline.variable, pipeline.declares = tokens[at].value, tokens[at + 1].value == ":="
        at += 2
    command: list[_Operand] = []
    while at < len(tokens) and not (tokens[at].kind == "symbol" and tokens[at].value == ")"):
        token = tokens[at]
        at += 1
        if token.kind == "symbol" and token.value == "|":
            pipeline.commands.append(command)
            command = []
        elif token.kind == "symbol":
            inner, at = _read(tokens, at, depth + 1)
            if at >= len(tokens):
                raise TemplateError("a parenthesis is not closed")
            at += 1
            path: tuple[str, ...] = ()
            if at < len(tokens) and tokens[at].kind == "access":
                path = _path(tokens[at].value)
                at += 1
            command.append(_Operand("pipeline", inner, path))
        elif token.kind in ("assign", "access"):
            raise TemplateError("an assignment stands at the beginning of an action")
        else:
            command.append(token)
    pipeline.commands.append(command)
    if any(not one for one in pipeline.commands):
        raise TemplateError("a command is empty")
    return pipeline, at


def _path(text: str) -> tuple[str, ...]:
    return tuple(text.split(".")[1:])


# ---- executing ------------------------------------------------------------------------------------------------------------------------------


def _execute(nodes: Sequence[_Node], dot: Any, scopes: list[dict[str, Any]], out: list[str]) -> None:
    for node in nodes:
        if isinstance(node, _Text):
            out.append(node.text)
        elif isinstance(node, _Output):
            value = _evaluate(node.pipeline, dot, scopes)
            if not node.pipeline.variable:
                out.append(go_format.printed(value))
        else:
            scopes.append({})
            value = _evaluate(node.pipeline, dot, scopes)
            if go_format.truth(value):
                _execute(node.body, value if node.word == "with" else dot, scopes, out)
            else:
                _execute(node.otherwise, dot, scopes, out)
            scopes.pop()


def _evaluate(pipeline: _Pipeline, dot: Any, scopes: list[dict[str, Any]]) -> Any:
    value: Any = None
    for index, command in enumerate(pipeline.commands):
        value = _command(command, dot, scopes, (value,) if index else ())
    if pipeline.variable:
        name = pipeline.variable
        if "." in name or name == "$":
            raise TemplateError("only a variable can be set")
        scope = scopes[-1] if pipeline.declares else next((one for one in reversed(scopes) if name in one), None)
        if scope is None:
            raise TemplateError(f"the variable {name} is not declared")
        scope[name] = value
    return value


def _command(command: Sequence[_Operand], dot: Any, scopes: list[dict[str, Any]], piped: tuple[Any, ...]) -> Any:
    first, rest = command[0], command[1:]
    if first.kind == "word" and first.value not in _CONSTANTS:
        if first.value in ("and", "or"):
            return _short_circuit(first.value, rest, dot, scopes, piped)
        function = go_format.FUNCTIONS.get(first.value)
        if function is None:
            raise TemplateError(f"the function {first.value} is not known")
        return _called(first.value, function, (*(_operand(one, dot, scopes) for one in rest), *piped))
    if rest or piped:
        raise TemplateError("a value that is no function has arguments")
    return _operand(first, dot, scopes)


def _called(name: str, function: Callable[..., Any], arguments: Sequence[Any]) -> Any:
    try:
        return function(*arguments)
    except (TypeError, ValueError, IndexError, KeyError) as error:
        raise TemplateError(f"the function {name} cannot be called like this") from error


def _short_circuit(word: str, rest: Sequence[_Operand], dot: Any, scopes: list[dict[str, Any]], piped: tuple[Any, ...]) -> Any:
    values: list[Any] = []
    for one in rest:
        values.append(_operand(one, dot, scopes))
        if go_format.truth(values[-1]) is (word == "or"):
            return values[-1]
    values.extend(piped)
    if not values:
        raise TemplateError(f"the function {word} needs an argument")
    return values[-1]


_CONSTANTS = {"true": True, "false": False, "nil": None}


def _operand(operand: _Operand, dot: Any, scopes: list[dict[str, Any]]) -> Any:
    match operand.kind:
        case "string":
            return _unquoted(operand.value)
        case "raw":
            return operand.value[1:-1]
        case "number":
            return float(operand.value) if "." in operand.value else int(operand.value)
        case "dot":
            return dot
        case "field":
            return _field(dot, _path(operand.value))
        case "variable":
            name, *path = operand.value.split(".")
            scope = next((one for one in reversed(scopes) if name in one), None)
            if scope is None:
                raise TemplateError(f"the variable {name} is not declared")
            return _field(scope[name], path)
        case "pipeline":
            return _field(_evaluate(operand.value, dot, scopes), operand.path)
        case _ if operand.value in _CONSTANTS:
            return _CONSTANTS[operand.value]
        case _:
            return _called(operand.value, go_format.FUNCTIONS.get(operand.value, _unknown), ())


def _unknown() -> Any:
    raise ValueError


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
