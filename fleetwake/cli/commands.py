"""The commands' modules, imported when one of theirs is run: a service that starts again after a crash must not import the others' libraries first."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import typer
import typer.main
from typer.core import TyperGroup

if TYPE_CHECKING:
    from typer._click.core import Command, Context


@dataclass(frozen=True, slots=True)
class Source:
    """Where a command is: the module, and the name in it of a Typer or of a function that is a command by itself."""

    module: str
    name: str


class Commands(TyperGroup):
    """A group whose commands are those of ``SOURCES`` and those registered on it."""

    SOURCES: ClassVar[Mapping[str, Source]] = {}

    def list_commands(self, ctx: Context) -> list[str]:
        """The names in order: those of ``SOURCES`` first."""
        return [*self.SOURCES, *super().list_commands(ctx)]

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:
        """The command, its module imported now; None if there is none of that name."""
        source = self.SOURCES.get(cmd_name)
        if source is None:
            return super().get_command(ctx, cmd_name)
        found = getattr(importlib.import_module(source.module), source.name)
        holder = typer.Typer(add_completion=False)
        if isinstance(found, typer.Typer):
            holder.add_typer(found, name=cmd_name)
        else:
            holder.command(cmd_name)(found)
        return typer.main.get_group(holder).get_command(ctx, cmd_name)
