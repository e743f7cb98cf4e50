"""The grammars by which Grafana's editors read TraceQL and LogQL, as one program: ``rig/queries`` with what npm has pinned in its lock file.

Tempo and Loki themselves are under the AGPL and are not built here; these grammars are Grafana's too, under the Apache licence, and follow them.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fleetwake.rig.cache import SOURCES, artifact, digest
from fleetwake.rig.commands import follow
from fleetwake.rig.errors import RigError
from fleetwake.rig.progress import Progress
from fleetwake.rig.toolchain import find_node

FOLDER = SOURCES / "queries"
PARSE_LIMIT_S = 30


@dataclass(frozen=True)
class Parsed:
    """What a grammar made of a query: the pieces it has no place for, and its leaves as (name, text)."""

    errors: tuple[str, ...]
    nodes: tuple[tuple[str, str], ...]


def parse_queries(queries: Sequence[tuple[str, str]], progress: Progress) -> list[Parsed]:
    """Parse (language, text) pairs; a language is ``traceql`` or ``logql``.

    Raises:
        RigError: there is no Node.js and none can be had, or the program failed.
    """
    node, _ = find_node(progress)
    folder = _installed(progress)
    lines = "".join(json.dumps({"language": language, "text": text}) + "\n" for language, text in queries)
    done = subprocess.run([*node, folder / "parse.mjs"], input=lines, capture_output=True, text=True, timeout=PARSE_LIMIT_S, check=False)
    if done.returncode != 0:
        raise RigError(f"the queries could not be parsed: {done.stderr}")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return [Parsed(tuple(one["errors"]), tuple((name, text) for name, text in one["nodes"])) for one in found]


def _installed(progress: Progress) -> Path:
    sources = [FOLDER / name for name in ("package.json", "package-lock.json", "parse.mjs")]

    def build(folder: Path) -> None:
        for source in sources:
            shutil.copyfile(source, folder / source.name)
        _, npm = find_node(progress)
        progress.step("fetching the grammars of TraceQL and LogQL")
        follow([*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], progress, lambda line: line, cwd=folder)
        progress.done("grammars fetched")

    return artifact(f"queries-{digest(*sources)}", build, progress)
