"""The project's source files and their syntax trees, as the tests of this folder read them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("fleetwake", "schemas", "services")
GENERATED = ("fleetwake/kube/etcd_pb/", "services/autoscaler_bridge/externalgrpc_pb/")


def sources(*folders: str) -> list[Path]:
    """Python files below the folders (default: the three packages), without generated ones, relative to the root."""
    found = sorted(path.relative_to(ROOT) for folder in folders or PACKAGES for path in (ROOT / folder).rglob("*.py"))
    return [path for path in found if not str(path).startswith(GENERATED)]


@cache
def text(path: Path) -> str:
    """The text of a file."""
    return (ROOT / path).read_text()


@cache
def tree(path: Path) -> ast.Module:
    """Its syntax tree."""
    return ast.parse(text(path), str(path))


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function of a file."""
    return (node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function, its docstring included."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def is_kind(path: Path) -> bool:
    """Whether a file holds decisions."""
    return "kinds" in path.parts or path.parts[:3] == ("services", "admission", "rules")


def imports(path: Path) -> set[str]:
    """Top-level names of the modules a file imports at run time."""
    found: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found
