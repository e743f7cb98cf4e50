"""Files, topics and exported names: what is where must be guessable, and nothing is spelt twice."""

from __future__ import annotations

import ast
import importlib

import pytest

from schemas.topics import Topics
from tests.architecture.source_tree import ROOT, sources, text, tree

FORBIDDEN_FILES = frozenset({"utils", "util", "helpers", "helper", "common", "base", "manager", "managers", "misc"})
TOPICS_HOME = "schemas/topics.py"

EXPORTED = {
    "fleetwake.plan": {
        "Apply", "Computed", "Create", "Delete", "EtcdMoveLeader", "EtcdRemoveMember", "Event", "Evict", "Local", "Look", "Patch", "Plan",
        "SecretInputs", "SyncMetadata", "Together", "UidOf", "flatten", "soonest",
    },
    "fleetwake.kind": {
        "Change", "External", "Failure", "Kind", "Looked", "Lookup", "Unread", "View", "Watch", "Workload", "any_owner", "controller_owner",
        "members_of_cluster", "the_cluster",
    },
    "fleetwake.errors": {
        "AlreadyExistsError", "ConflictError", "DecodeError", "FencedError", "FleetwakeError", "ForbiddenError", "InvalidError", "NotConnectedError",
        "NotFoundError", "RetryableError", "SettingsError", "TerminalError", "ThrottledError", "UnavailableError", "WatchExpiredError",
    },
    "schemas.keys": {"ClusterKey", "GroupKind", "ObjectKey"},
    "schemas.records": {"Actor", "ObjectRecord", "Version"},
    "schemas.topics": {"Access", "TopicSpec", "Topics"},
}  # fmt: skip
"""What kinds are written with: a name that comes or goes here changes every kind, so it is said twice."""


def test_no_file_is_named_for_nothing() -> None:
    found = [
        str(path)
        for path in sources("fleetwake", "schemas", "services", "tests", "bench")
        if path.stem in FORBIDDEN_FILES or path.parent.name in FORBIDDEN_FILES
    ]
    assert not found, f"name a module for what it knows: {found}"


def test_topic_names_are_spelt_in_one_place() -> None:
    suffixes = tuple(getattr(Topics(""), name) for name in ("objects", "shared", "results", "deadletter"))
    found = []
    for path in sources():
        if str(path) == TOPICS_HOME:
            continue
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.endswith(suffixes) and " " not in node.value:
                found.append(f"{path}:{node.lineno} {node.value!r}")
    assert not found, f"take it from schemas.topics.Topics: {found}"


@pytest.mark.parametrize("module", EXPORTED)
def test_exported_names(module: str) -> None:
    loaded = importlib.import_module(module)
    found = {
        name
        for name, value in vars(loaded).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module and (isinstance(value, type) or callable(value))
    }
    assert found == EXPORTED[module]


def test_nothing_is_left_to_do() -> None:
    marks = ("TO" + "DO", "FIX" + "ME", "X" * 3, "NotImplemented" + "Error")
    places = [
        f"{path}:{number}"
        for path in sources("fleetwake", "schemas", "services", "tests", "bench")
        for number, line in enumerate(text(path).splitlines(), 1)
        if any(mark in line for mark in marks)
    ]
    assert not places, places


def test_no_error_is_swallowed_unseen() -> None:
    """``except Exception: pass`` hides what nobody has thought of."""
    found = []
    for path in sources():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ExceptHandler) and len(node.body) == 1 and isinstance(node.body[0], ast.Pass):
                caught = ast.unparse(node.type) if node.type is not None else "everything"
                if caught in ("everything", "Exception", "BaseException"):
                    found.append(f"{path}:{node.lineno}")
    assert not found, found


def test_every_public_thing_says_what_it_is() -> None:
    found = []
    for path in sources():
        module = tree(path)
        if module.body and not ast.get_docstring(module):
            found.append(f"{path}:1 module")
        for node in module.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_") and not ast.get_docstring(node):
                found.append(f"{path}:{node.lineno} {node.name}")
    assert not found, "\n".join(found)


def test_the_three_packages_are_where_the_wheel_takes_them_from() -> None:
    assert all((ROOT / package / "__init__.py").exists() for package in ("fleetwake", "schemas", "services"))
