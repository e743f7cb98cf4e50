"""The configuration of CoreDNS brought from one release to a later one: what a release no longer reads is taken out, or said the way it reads it.

Text is changed line by line; lines that no rule touches stay as they are, comments too.

Source: release notes of CoreDNS 1.6.7 (of Kubernetes 1.18) to 1.14; kubernetes-sigs and coredns/corefile-migration know the same list of releases.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

Release = tuple[int, int, int]

RELEASES: tuple[Release, ...] = (
    *((1, 6, patch) for patch in (7, 9)),
    *((1, 7, patch) for patch in (0, 1)),
    *((1, 8, patch) for patch in (0, 3, 4, 5, 6, 7)),
    *((1, 9, patch) for patch in (0, 1, 2, 3, 4)),
    *((1, 10, patch) for patch in (0, 1)),
    *((1, 11, patch) for patch in (0, 1, 3, 4)),
    *((1, 12, patch) for patch in (0, 1, 2, 3, 4)),
    *((1, 13, patch) for patch in (0, 1, 2)),
    *((1, 14, patch) for patch in (0, 1, 2)),
)
"""The releases whose configuration is known, oldest first."""
MAX_CONCURRENT = "max_concurrent 1000"


class MigrationError(ValueError):
    """The configuration cannot be brought from the one release to the other."""


@dataclass(slots=True)
class Plugin:
    """A plugin of a server block: its own line, and those of its block (None: it has none), without the closing brace."""

    line: str
    block: list[str] | None = None
    closing: str = ""

    @property
    def words(self) -> list[str]:
        """The words of its line, without the brace."""
        return self.line.split("#")[0].replace("{", " ").split()

    @property
    def name(self) -> str:
        """What the plugin is called, ``""`` for a line that is none."""
        return self.words[0] if self.words else ""

    def lines(self) -> list[str]:
        """The text again."""
        return [self.line] if self.block is None else [self.line, *self.block, self.closing]


@dataclass(slots=True)
class Server:
    """A server block: what opens and closes it, and the plugins between."""

    opening: str
    plugins: list[Plugin] = field(default_factory=list)
    closing: str = ""

    def lines(self) -> list[str]:
        """The text again."""
        return [self.opening, *(line for plugin in self.plugins for line in plugin.lines()), self.closing]


def migrate(text: str, old: Release, new: Release) -> str:
    """The configuration for the release ``new`` that says what this one of ``old`` says.

    Raises:
        MigrationError: one of the releases is not known, or the text is no Corefile.
    """
    for release in (old, new):
        if release not in RELEASES:
            raise MigrationError(f"CoreDNS {'.'.join(map(str, release))} is not a known release")
    rules = [rule for since, rule in _RULES if old < since <= new]
    if not rules:
        return text
    parts = _parse(text)
    for server in (part for part in parts if isinstance(part, Server)):
        for rule in rules:
            rule(server)
    return "\n".join(line for part in parts for line in (part.lines() if isinstance(part, Server) else [part]))


# --- reading -----------------------------------------------------------------------------------------------------------------------------------


def _parse(text: str) -> list[Server | str]:
    """The server blocks, and the lines between them."""
    parts: list[Server | str] = []
    server: Server | None = None
    plugin: Plugin | None = None
    for line in text.split("\n"):
        code = line.split("#")[0].strip()
        if server is None:
            if code.endswith("{"):
                server = Server(line)
                parts.append(server)
            elif code:
                raise MigrationError(f"not a Corefile: {code!r} stands outside of a server block")
            else:
                parts.append(line)
        elif plugin is not None:
            if code == "}":
                plugin.closing, plugin = line, None
            else:
                assert plugin.block is not None
                plugin.block.append(line)
        elif code == "}":
            server.closing, server = line, None
        else:
            server.plugins.append(Plugin(line))
            if code.endswith("{"):
                plugin = server.plugins[-1]
                plugin.block = []
    if server is not None:
        raise MigrationError("not a Corefile: a block is not closed")
    return parts


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip())]


# --- rules -------------------------------------------------------------------------------------------------------------------------------------


def _without_options(plugin: Plugin, names: Sequence[str]) -> list[str]:
    """Take options out of a plugin's block; returns them."""
    taken = [line for line in plugin.block or () if line.split("#")[0].split()[:1] and line.split()[0] in names]
    if plugin.block is not None:
        plugin.block = [line for line in plugin.block if line not in taken]
    return taken


def _without_upstream(server: Server) -> None:
    """1.7.0 reads neither ``upstream`` nor ``resyncperiod`` of the plugin kubernetes, and has no plugin federation."""
    server.plugins = [plugin for plugin in server.plugins if plugin.name != "federation"]
    for plugin in server.plugins:
        if plugin.name == "kubernetes":
            _without_options(plugin, ("upstream", "resyncperiod"))


def _bounded_forward(server: Server) -> None:
    """From 1.7.0 on what is forwarded at a time has a bound, as in the configuration it comes with."""
    for plugin in server.plugins:
        if plugin.name != "forward" or any(line.split()[:1] == ["max_concurrent"] for line in plugin.block or ()):
            continue
        indent = _indent(plugin.line)
        if plugin.block is None:
            plugin.line, plugin.block, plugin.closing = f"{plugin.line.rstrip()} {{", [], f"{indent}}}"
        plugin.block.append(f"{indent}   {MAX_CONCURRENT}")


def _transfer_plugin(server: Server) -> None:
    """1.8.0 reads no ``transfer`` of the plugin kubernetes: a plugin of that name does it for the same zones."""
    for plugin in list(server.plugins):
        taken = _without_options(plugin, ("transfer",)) if plugin.name == "kubernetes" else []
        targets = [word for line in taken for word in line.split()[2:]]
        if targets:
            indent, zones = _indent(plugin.line), " ".join(plugin.words[1:])
            opening = f"{indent}transfer {zones}".rstrip()
            server.plugins.append(Plugin(f"{opening} {{", [f"{indent}   to {' '.join(targets)}"], f"{indent}}}"))


_RULES: tuple[tuple[Release, Callable[[Server], None]], ...] = (
    ((1, 7, 0), _without_upstream),
    ((1, 7, 0), _bounded_forward),
    ((1, 8, 0), _transfer_plugin),
)
