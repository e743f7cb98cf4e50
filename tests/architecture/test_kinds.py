"""Decisions are pure, registered, and tested."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

from fleetwake.kind import Kind
from schemas.api.registry import KINDS as MODELS
from services.reconcilers.kinds.cluster.reconcile import OWNED as CLUSTER_OWNED
from services.reconcilers.kinds.cluster_topology.condition import TOPOLOGY_RECONCILED
from tests.architecture.source_tree import ROOT, functions, imports, is_kind, sources, text, tree

IO_MODULES = frozenset(
    {
        "aiohttp", "aiokafka", "asyncio", "faust", "hiredis", "http", "kafka", "kubernetes", "logging", "mode", "os", "pathlib", "random", "redis", "requests",
        "secrets", "select", "shutil", "socket", "ssl", "subprocess", "tempfile", "threading", "time", "urllib",
    }
)  # fmt: skip
CLOCKS = ("now", "utcnow", "today")
PURE = (
    "fleetwake/plan.py", "fleetwake/kind.py", "fleetwake/conditions.py", "fleetwake/patches.py", "fleetwake/names.py", "fleetwake/errors.py",
    "fleetwake/contracts.py", "fleetwake/labels.py", "fleetwake/versions.py", "fleetwake/defaults.py",
)  # fmt: skip

REGISTRIES = sorted(path.parent.name for path in ROOT.glob("services/*/registry.py"))
PURE_FOLDERS = ("schemas", "fleetwake/topology")
PURE_FILES = [path for path in sources() if is_kind(path) or str(path).startswith(PURE_FOLDERS) or str(path) in PURE]


def registered() -> list[tuple[str, Kind[object]]]:
    """Every kind with the service that registers it."""
    found = [(service, importlib.import_module(f"services.{service}.registry")) for service in REGISTRIES]
    return [(service, kind) for service, module in found for kind in (*module.KINDS, *getattr(module, "TOPOLOGY_KINDS", ()))]


@pytest.mark.parametrize("path", PURE_FILES, ids=str)
def test_pure_modules_import_no_io(path: Path) -> None:
    assert not imports(path) & IO_MODULES


@pytest.mark.parametrize("path", PURE_FILES, ids=str)
def test_pure_modules_ask_no_clock_and_await_nothing(path: Path) -> None:
    asked = [
        f"line {node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in CLOCKS
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id in ("datetime", "date")
    ]
    assert not asked, "time is a field of what was observed"
    assert not [node.name for node in functions(path) if isinstance(node, ast.AsyncFunctionDef)]


def test_there_are_kinds() -> None:
    assert "reconcilers" in REGISTRIES and len(registered()) >= 6


@pytest.mark.parametrize(("service", "kind"), registered(), ids=lambda value: value if isinstance(value, str) else value.name)
def test_a_registered_kind_is_whole(service: str, kind: Kind[object]) -> None:
    assert kind.manager, "server-side apply needs a field manager of its own"
    assert kind.model in MODELS, "it has a schema"
    assert kind.observe.__module__.startswith(f"services.{service}.kinds") and kind.reconcile.__module__.startswith(f"services.{service}.kinds")


def test_field_managers_are_not_shared() -> None:
    managers = [kind.manager for _, kind in registered()]
    assert len(managers) == len(set(managers))


def test_a_second_reconciler_of_a_kind_has_a_name_of_its_own() -> None:
    """Queues, deadlines, failures, confirmations and metrics are by name; one reconciler of a kind in a service is the kind's own."""
    names = [(service, kind.name) for service, kind in registered()]
    assert len(names) == len(set(names))
    for service, kind in registered():
        assert not kind.controller or kind.controller.startswith("topology/")
        assert any(other == service and one.model is kind.model and not one.controller for other, one in registered()), kind.name


def test_reconcilers_of_the_same_kind_tell_different_conditions() -> None:
    """Conditions are a map by type with one writer each; two reconcilers of an object must not take them from each other."""
    assert set(CLUSTER_OWNED.condition_types).isdisjoint({TOPOLOGY_RECONCILED})


@pytest.mark.parametrize(("service", "kind"), registered(), ids=lambda value: value if isinstance(value, str) else value.name)
def test_a_registered_kind_has_tests_of_its_decisions(service: str, kind: Kind[object]) -> None:
    """A file below tests/decide (or tests/shell, where the service's own actions are needed) imports the kind's module."""
    module = kind.reconcile.__module__
    parts = module.split(".")
    package = ".".join(parts[: parts.index("kinds") + 2])
    files = sources("tests/decide", "tests/shell", "tests/golden", "tests/properties")
    naming = [path for path in files if path.name.startswith("test_") and package in text(path)]
    through = [path for path in files if package.rpartition(".")[0] in text(path) and package.rpartition(".")[2] in text(path)]
    assert naming or through, f"no test imports {package}"
