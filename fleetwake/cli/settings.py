"""``fleetwake settings``: every setting, what it is for, and what may be chosen; docs/settings.md is made by it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer

from fleetwake.cli.looking import looking
from fleetwake.settings import ENV_PREFIX, GROUPS, Settings

WIDTH_MAX = 120
"""Lines longer than this are hard to read, however wide the terminal is."""
INDENT = 4
SAID_BY_PURPOSE = ("text", "path of a file", "path of a folder")


@dataclass(frozen=True, slots=True)
class Described:
    """One setting as a user meets it. ``default`` is as it would be written into the variable; ``accepts`` says type and bounds."""

    variable: str
    group: str
    default: str
    accepts: str
    purpose: str


def settings(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print docs/settings.md.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Print nothing but what is wrong with the settings of this environment, files included.")] = False,
) -> None:
    """List every setting: variable, default, what may be chosen, what it is for, and what this environment sets."""
    if check:
        with looking("settings"):
            Settings.from_env()
    elif markdown:
        typer.echo(page(), nl=False)
    elif as_json:
        print(json.dumps([{**asdict(one), "set": _set(one.variable, os.environ)} for one in described()], indent=2))
    else:
        _show(os.environ)


def described() -> list[Described]:
    """Every setting, in the order of the model."""
    schema = Settings.model_json_schema()["properties"]
    starts = {first: title for title, first in GROUPS}
    group, found = "", []
    for name in Settings.model_fields:
        group = starts.get(name, group)
        found.append(Described(f"{ENV_PREFIX}{name.upper()}", group, _default(schema[name]), _accepts(name, schema[name]), schema[name]["description"]))
    return found


def page() -> str:
    """docs/settings.md."""
    lines = [
        "# Settings",
        "",
        "<!-- made by `fleetwake settings --markdown`; a test fails when it is not up to date -->",
        "",
        "Every setting of every service and command is an environment variable. A misspelt variable, a value that is not accepted, settings that contradict",
        "each other and a file that cannot be used end the process at its start with one line that names the variable and the remedy;",
        "`fleetwake settings --check` says the same without starting anything. `fleetwake settings` prints this list and what the environment sets.",
        "",
        "Secrets are never in a variable: a setting that ends in `_FILE` names a file, a mounted Secret say.",
        "[security/transport.md](security/transport.md) tells how they are used and rotated.",
    ]
    for group, members in _grouped():
        lines += ["", f"## {group}", "", "| variable | default | accepts | what it is for |", "|---|---|---|---|"]
        lines += [f"| `{one.variable}` | {f'`{one.default}`' if one.default else ''} | {_cell(one.accepts)} | {_cell(one.purpose)} |" for one in members]
    return "\n".join([*lines, ""])


def _show(environment: Mapping[str, str]) -> None:
    from rich.text import Text

    from fleetwake.views.terminal import console

    out = console()
    width = min(out.width, WIDTH_MAX)
    for group, members in _grouped():
        out.print(Text(group, style="bold underline"))
        for one in members:
            out.print(Text.assemble((one.variable, "bold cyan"), (f" = {one.default}" if one.default else "", "")), soft_wrap=True)
            body = Text.assemble(one.purpose, (f" ({one.accepts})" if one.accepts not in SAID_BY_PURPOSE else "", "dim"))
            if (here := _set(one.variable, environment)) is not None:
                body.append(f"\nset here: {here}", style="green")
            for line in body.wrap(out, width - INDENT):
                line.rstrip()
                out.print(Text(" " * INDENT) + line)
        out.print()


def _set(variable: str, environment: Mapping[str, str]) -> str | None:
    """What the environment sets; a URL with somebody in it, which every command refuses, is not shown: it holds a password."""
    value = environment.get(variable)
    return "(not shown: it holds a user name or a password)" if value is not None and "://" in value and "@" in value else value


def _grouped() -> Iterator[tuple[str, list[Described]]]:
    every = described()
    for title, _ in GROUPS:
        yield title, [one for one in every if one.group == title]


def _default(schema: Mapping[str, Any]) -> str:
    value = schema.get("default", "")
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def _accepts(name: str, schema: Mapping[str, Any]) -> str:
    """What may be written, in words."""
    if "enum" in schema:
        return ", ".join(schema["enum"][:-1]) + f" or {schema['enum'][-1]}"
    if schema["type"] in ("integer", "number"):
        noun = "whole number" if schema["type"] == "integer" else "number"
        if "minimum" in schema and "maximum" in schema:
            return f"{noun} from {schema['minimum']} to {schema['maximum']}"
        if "minimum" in schema:
            return f"{noun}, {schema['minimum']} or more"
        return f"{noun} above {schema['exclusiveMinimum']:g}" if "exclusiveMinimum" in schema else noun
    if schema["type"] == "boolean":
        return "true or false"
    if name.endswith("_file") or name == "kubeconfig":
        return "path of a file"
    if name.endswith("_dir"):
        return "path of a folder"
    return "text, not empty" if schema.get("minLength") else "text"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
