"""Rules that tell an older version from the hub; each works in both directions.

A table of rules speaks of an object in the older version's words. Fields that no rule names are the same in both, as far as both have them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from schemas.conversion.values import MISSING, Path, path, placed, taken
from schemas.conversion.values import found as value_at


class ConversionError(ValueError):
    """An object that cannot be said in the other version; the message names the field and what is wrong with it."""


@dataclass(frozen=True)
class Context:
    """What of the world a conversion needs.

    ``api_version`` gives the ``group/version`` in which objects of a group and kind are referred to; it raises ConversionError if there is none.
    """

    api_version: Callable[[str, str], str]
    namespace: str = ""


Step = Callable[[Any, Context], Any]


@dataclass(frozen=True)
class Codec:
    """A pair of functions between a value's two forms; either may give MISSING for what the other version leaves unsaid."""

    up: Step
    down: Step


SAME = Codec(lambda value, _: value, lambda value, _: value)


@dataclass(frozen=True)
class Moved:
    """A value that stands elsewhere in the hub, or in another form. ``also``: places of the hub that hold it as well."""

    old: Path
    hub: Path
    codec: Codec = SAME
    also: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Within:
    """Rules for an object, or for each item of a list, at a path of the older version."""

    old: Path
    rules: tuple[Rule, ...]


@dataclass(frozen=True)
class Derived:
    """A field that only the older version has and that follows from its others."""

    old: Path
    derive: Callable[[dict[str, Any]], Any]


@dataclass(frozen=True)
class Adjusted:
    """A change that an object needs on its way up, where two fields together mean something else in the hub."""

    change: Callable[[dict[str, Any]], None]


Rule = Moved | Within | Derived | Adjusted


def moved(old: str, hub: str, codec: Codec = SAME, *also: str) -> Moved:
    """A rule from dotted paths."""
    return Moved(path(old), path(hub), codec, tuple(path(one) for one in also))


def said(where: str, codec: Codec) -> Moved:
    """A value at the same place in both versions, in another form."""
    return moved(where, where, codec)


def within(old: str, *rules: Rule) -> Within:
    """Rules for what is at a dotted path."""
    return Within(path(old), rules)


@dataclass(frozen=True)
class Table:
    """The rules of one object or part of one, in the order in which they are applied."""

    rules: tuple[Rule, ...]
    moves_up: tuple[Moved, ...] = field(init=False)
    moves_down: tuple[tuple[Moved, Path], ...] = field(init=False)
    parts: tuple[tuple[Path, Table], ...] = field(init=False)

    def __post_init__(self) -> None:
        moves = [rule for rule in self.rules if isinstance(rule, Moved)]
        # what lies within another rule's value is taken out before it
        object.__setattr__(self, "moves_up", tuple(sorted(moves, key=lambda rule: -len(rule.old))))
        down = [(rule, where) for rule in moves for where in (rule.hub, *rule.also)]
        object.__setattr__(self, "moves_down", tuple(sorted(down, key=lambda pair: -len(pair[1]))))
        object.__setattr__(self, "parts", tuple((rule.old, Table(rule.rules)) for rule in self.rules if isinstance(rule, Within)))


def raised(obj: dict[str, Any], table: Table, context: Context) -> None:
    """Say an object of the older version in the hub's words, in place.

    Raises:
        ConversionError: a value has no form in the hub.
    """
    for where, part in table.parts:
        for item in _objects(value_at(obj, where)):
            raised(item, part, context)
    for rule in table.rules:
        match rule:
            case Adjusted(change):
                change(obj)
            case Derived(old):
                taken(obj, old)
    values = [(move, value) for move in table.moves_up if (value := taken(obj, move.old)) is not MISSING]
    for move, value in values:
        new = _coded(move.codec.up, value, context, move.old)
        if new is not MISSING:
            for where in (move.hub, *move.also):
                placed(obj, where, new)


def lowered(obj: dict[str, Any], table: Table, context: Context) -> None:
    """Say a hub object in the older version's words, in place.

    Raises:
        ConversionError: a value has no form in the older version.
    """
    values = [(move, where, value) for move, where in table.moves_down if (value := taken(obj, where)) is not MISSING]
    for move, where, value in values:
        if where == move.hub and (old := _coded(move.codec.down, value, context, move.hub)) is not MISSING:
            placed(obj, move.old, old)
    for where, part in table.parts:
        for item in _objects(value_at(obj, where)):
            lowered(item, part, context)
    for rule in table.rules:
        if isinstance(rule, Derived) and (derived := rule.derive(obj)) is not MISSING:
            placed(obj, rule.old, derived)


def table(*groups: Rule | Iterable[Rule]) -> Table:
    """A table of rules and groups of rules."""
    return Table(tuple(_flat(groups)))


def _flat(groups: Sequence[Rule | Iterable[Rule]]) -> Iterator[Rule]:
    for one in groups:
        if isinstance(one, Rule):
            yield one
        else:
            yield from one


def _objects(value: Any) -> list[dict[str, Any]]:
    """An object, or those in a list; others are for the API server to refuse."""
    return [one for one in (value if isinstance(value, list) else [value]) if isinstance(one, dict)]


def _coded(step: Step, value: Any, context: Context, where: Path) -> Any:
    try:
        return step(value, context)
    except ConversionError as error:
        raise ConversionError(f"{'.'.join(where)}: {error}") from error
    except (AttributeError, TypeError, ValueError) as error:
        # admission is asked before the API server has checked types
        raise ConversionError(f"{'.'.join(where)}: not of the type that its schema says") from error
