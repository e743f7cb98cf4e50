"""Sizes that keep every file and every function readable."""

from __future__ import annotations

from tests.architecture.source_tree import functions, is_kind, length, sources, text

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
DECISION_LINES_MAX = 40


def test_files_are_short() -> None:
    long = {str(path): count for path in sources("fleetwake", "schemas", "services", "bench") if (count := len(text(path).splitlines())) > FILE_LINES_MAX}
    assert not long, f"longer than {FILE_LINES_MAX} lines; split by what the parts know: {long}"


def test_functions_are_short() -> None:
    found = [(path, node, DECISION_LINES_MAX if is_kind(path) else FUNCTION_LINES_MAX) for path in sources() for node in functions(path)]
    long = [f"{path}:{node.lineno} {node.name} has {length(node)} lines, at most {limit}" for path, node, limit in found if length(node) > limit]
    assert not long, "\n".join(long)
