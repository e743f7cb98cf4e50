"""libyaml writes what PyYAML's own emitter writes, and what is written reads back."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fleetwake import yaml_text

TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
LEAVES = TEXTS | st.none() | st.booleans() | st.integers()
VALUES = st.recursive(LEAVES, lambda deeper: st.lists(deeper, max_size=3) | st.dictionaries(TEXTS, deeper, max_size=3))


@given(VALUES)
def test_what_is_written_reads_back(value: Any) -> None:
    text = yaml_text.dump(value, width=1 << 30)
    assert yaml_text.load(text) == yaml.safe_load(text) == value


@given(TEXTS)
def test_a_quoted_text_reads_back(value: str) -> None:
    text = yaml_text.quoted(value, width=1 << 30)
    assert text.startswith('"') and yaml.safe_load(text) == value


@pytest.mark.parametrize("value", ["", "a: b", "- x", "null", "1", "'", "a\nb\n", "tab\tx", "#", "ünï", {"b": [1, {"a": "x" * 300}], "a": None}])
def test_the_text_is_that_of_the_emitter_in_python(value: Any) -> None:
    plain = yaml.safe_dump(value, width=1 << 20, allow_unicode=True)
    assert yaml_text.dump(value, width=1 << 20) == plain.removesuffix("...\n")
    if isinstance(value, str):
        assert yaml_text.quoted(value, width=1 << 20) == yaml.safe_dump(value, width=1 << 20, allow_unicode=True, default_style='"')


def test_the_document_that_is_none_is_refused() -> None:
    with pytest.raises(yaml_text.YAMLError):
        yaml_text.load("a: [")
