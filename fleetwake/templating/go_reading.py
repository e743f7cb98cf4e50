"""Reading of Go's text/template: from text to nodes.

Knows the grammar alone: which functions there are, and what values mean, is for ``go_template``.

Source: pkg.go.dev/text/template (Go 1.26).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

_ACTION = re.compile(r"\{\{(-(?=\s))?\s*(/\*.*?\*/|(?:`[^`]*`|\"(?:\\.|[^\"\\\n])*\"|[^`\"}]|\}(?!\}))*?)\s*((?<=\s)-)?\}\}", re.DOTALL)
_TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:\\.|[^"\\\n])*")|(?P<raw>`[^`]*`)|(?P<number>[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)|(?P<assign>:=|=)|(?P<symbol>[()|,])"""
    r"""|(?P<field>(?:\.[A-Za-z_]\w*)+)|(?P<dot>\.(?![\w]))|(?P<variable>\$\w*(?:\.[A-Za-z_]\w*)*)|(?P<word>[A-Za-z_]\w*))"""
)
_NAME = re.compile(r'^"((?:\\.|[^"\\\n])*)"\s*(.*)$', re.DOTALL)
_SPACE = " \t\r\n"
_BLOCKS = ("if", "with", "range", "define", "block")
DEPTH_MAX = 64
"""Blocks inside one another; more are a mistake."""


class TemplateError(ValueError):
    """The template cannot be read or executed; the message never repeats its text."""


@dataclass(slots=True)
class Text:
    """What is written as it stands."""

    text: str


@dataclass(slots=True)
class Output:
    """A pipeline whose value is written, unless it sets a variable."""

    pipeline: Pipeline


@dataclass(slots=True)
class Branch:
    """``if`` or ``with``; an ``else if`` is a branch in ``otherwise``."""

    word: str
    pipeline: Pipeline
    body: list[Node] = field(default_factory=list)
    otherwise: list[Node] = field(default_factory=list)


@dataclass(slots=True)
class Range:
    """``range``: the body once for each item; ``names`` are the variables for its index and value, or its value alone."""

    pipeline: Pipeline
    names: tuple[str, ...] = ()
    declares: bool = False
    body: list[Node] = field(default_factory=list)
    otherwise: list[Node] = field(default_factory=list)


@dataclass(slots=True)
class Call:
    """``template`` or ``block``: a named template with the pipeline's value as its dot."""

    name: str
    pipeline: Pipeline | None


@dataclass(slots=True)
class Leave:
    """``break`` or ``continue``."""

    word: str


Node: TypeAlias = Text | Output | Branch | Range | Call | Leave


@dataclass(slots=True)
class Pipeline:
    """Commands from left to right, each an operand and its arguments; ``variable`` is set to the result, ``declares`` tells := from =."""

    commands: list[list[Operand]]
    variable: str = ""
    declares: bool = False


@dataclass(slots=True)
class Operand:
    """A token's kind and value; for a parenthesis the pipeline inside, for ``path`` the fields asked of it."""

    kind: str
    value: Any
    path: tuple[str, ...] = ()


@dataclass(slots=True)
class Template:
    """A template as read: its own nodes and those of the templates it defines, by name."""

    nodes: list[Node] = field(default_factory=list)
    defined: dict[str, list[Node]] = field(default_factory=dict)


@dataclass(slots=True)
class _Open:
    """A block that waits for its end; ``continued``: it is the else-if of the block before it and ends with it."""

    word: str
    node: Branch | Range | None
    into: list[Node]
    continued: bool = False


def read(template: str) -> Template:
    """The nodes of a template. Raises: TemplateError."""
    found = Template()
    stack: list[_Open] = [_Open("", None, found.nodes)]
    for piece in _pieces(template):
        if isinstance(piece, Text):
            stack[-1].into.append(piece)
            continue
        word, _, rest = piece.partition(" ")
        if word in _BLOCKS:
            stack.append(_opened(word, rest.strip(), stack, found))
            if len(stack) > DEPTH_MAX:
                raise TemplateError(f"more than {DEPTH_MAX} blocks inside one another")
        elif word == "else":
            _else(rest.strip(), stack)
        elif piece == "end":
            _end(stack)
        elif word in ("break", "continue"):
            _leave(piece, stack)
        elif word == "template":
            name, pipeline = _named(rest.strip(), word)
            stack[-1].into.append(Call(name, pipeline))
        else:
            stack[-1].into.append(Output(_pipeline(piece)))
    if len(stack) > 1:
        raise TemplateError("a block has no end")
    return found


def _opened(word: str, rest: str, stack: list[_Open], found: Template) -> _Open:
    node: Branch | Range
    if word in ("define", "block"):
        if word == "define" and len(stack) > 1:
            raise TemplateError("a define stands inside a block")
        name, pipeline = _named(rest, word)
        if word == "block":
            if pipeline is None:
                raise TemplateError("a block has no value")
            stack[-1].into.append(Call(name, pipeline))
        elif pipeline is not None:
            raise TemplateError("a define has a value")
        body: list[Node] = []
        found.defined[name] = body
        return _Open(word, None, body)
    node = _range(rest) if word == "range" else Branch(word, _pipeline(rest))
    stack[-1].into.append(node)
    return _Open(word, node, node.body)


def _range(text: str) -> Range:
    tokens = _tokens(text)
    names: list[str] = []
    at = 0
    while at + 1 < len(tokens) and tokens[at].kind == "variable" and "." not in tokens[at].value:
        after = tokens[at + 1]
        if after.kind == "assign" or (after.kind, after.value) == ("symbol", ","):
            names.append(tokens[at].value)
            at += 2
            if after.kind == "assign":
                break
        else:
            break
    if len(names) > 2 or (names and tokens[at - 1].kind != "assign"):
        raise TemplateError("a range sets one or two variables")
    declares = bool(names) and tokens[at - 1].value == ":="
    return Range(_whole(tokens[at:]), tuple(names), declares)


def _named(text: str, word: str) -> tuple[str, Pipeline | None]:
    match = _NAME.match(text)
    if match is None:
        raise TemplateError(f"a {word} has no name")
    return match[1], _pipeline(match[2]) if match[2].strip() else None


def _leave(piece: str, stack: list[_Open]) -> None:
    if piece not in ("break", "continue") or not any(one.word == "range" for one in stack):
        raise TemplateError("a break or continue stands outside a range")
    stack[-1].into.append(Leave(piece))


def _end(stack: list[_Open]) -> None:
    if len(stack) == 1:
        raise TemplateError("an end without a beginning")
    while stack.pop().continued:
        pass


def _else(rest: str, stack: list[_Open]) -> None:
    one = stack[-1]
    node = one.node
    if node is None:
        raise TemplateError("an else without a beginning")
    if one.into is node.otherwise:
        raise TemplateError("two else of one block")
    one.into = node.otherwise
    if rest:
        word, _, condition = rest.partition(" ")
        if word not in ("if", "with") or word != one.word:
            raise TemplateError("an else is followed by nothing, or by the word of its block")
        inner = Branch(word, _pipeline(condition))
        node.otherwise.append(inner)
        # closed by the end of the block it continues
        stack.append(_Open(word, inner, inner.body, continued=True))


def _pieces(template: str) -> list[Text | str]:
    """Texts and actions in order, blanks trimmed where asked for, comments left out."""
    found: list[Text | str] = []
    position, trim = 0, False
    for action in _ACTION.finditer(template):
        before, inside, after = action.groups()
        text = template[position : action.start()]
        found.append(Text(_trimmed(text, left=trim, right=bool(before))))
        if not inside.startswith("/*"):
            if not inside:
                raise TemplateError("an action is empty")
            found.append(" ".join(inside.split(None, 1)) if not inside.startswith(('"', "`")) else inside)
        position, trim = action.end(), bool(after)
    rest = template[position:]
    if "{{" in rest or any("{{" in piece.text for piece in found if isinstance(piece, Text)):
        raise TemplateError("an action is not closed")
    return [*found, Text(_trimmed(rest, left=trim, right=False))]


def _trimmed(text: str, *, left: bool, right: bool) -> str:
    text = text.lstrip(_SPACE) if left else text
    return text.rstrip(_SPACE) if right else text


def _pipeline(text: str) -> Pipeline:
    return _whole(_tokens(text))


def _whole(tokens: Sequence[Operand]) -> Pipeline:
    found, rest = _read(tokens, 0)
    if rest != len(tokens):
        raise TemplateError("a parenthesis is closed that was not opened")
    return found


def _tokens(text: str) -> list[Operand]:
    found: list[Operand] = []
    position = 0
    text = text.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            raise TemplateError("an action has a character that means nothing")
        kind, value = match.lastgroup, match[match.lastgroup]
        if kind == "field" and found and found[-1].kind == "symbol" and found[-1].value == ")" and match.start(kind) == position:
            kind = "access"
        found.append(Operand(kind, value))
        position = match.end()
    return found


def _read(tokens: Sequence[Operand], at: int, depth: int = 0) -> tuple[Pipeline, int]:
    """One pipeline from the token ``at``, up to the end or its closing parenthesis."""
    pipeline = Pipeline([])
    if depth > DEPTH_MAX:
        raise TemplateError(f"more than {DEPTH_MAX} parentheses inside one another")
    if at + 1 < len(tokens) and tokens[at].kind == "variable" and tokens[at + 1].kind == "assign":
        pipeline.variable, pipeline.declares = tokens[at].value, tokens[at + 1].value == ":="
        at += 2
    command: list[Operand] = []
    while at < len(tokens) and not (tokens[at].kind == "symbol" and tokens[at].value == ")"):
        token = tokens[at]
        at += 1
        if token.kind == "symbol" and token.value == "|":
            pipeline.commands.append(command)
            command = []
        elif token.kind == "symbol" and token.value == "(":
            inner, at = _read(tokens, at, depth + 1)
            if at >= len(tokens):
                raise TemplateError("a parenthesis is not closed")
            at += 1
            path: tuple[str, ...] = ()
            if at < len(tokens) and tokens[at].kind == "access":
                path = path_of(tokens[at].value)
                at += 1
            command.append(Operand("pipeline", inner, path))
        elif token.kind in ("assign", "access", "symbol"):
            raise TemplateError("an assignment stands at the beginning of an action")
        else:
            command.append(token)
    pipeline.commands.append(command)
    if any(not one for one in pipeline.commands):
        raise TemplateError("a command is empty")
    return pipeline, at


def path_of(text: str) -> tuple[str, ...]:
    """The names of a chain of fields (``.a.b``)."""
    return tuple(text.split(".")[1:])
