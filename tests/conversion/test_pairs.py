"""The same object in two versions, written down by hand from what the versions' fields mean; each way must give the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.conversion import from_hub, to_hub
from tests.conversion.objects import assert_valid, model_of
from tests.conversion.test_laws import CONTEXT, without_data

PAIRS = sorted((Path(__file__).parent / "pairs").glob("*.yaml"))


@pytest.fixture(params=PAIRS, ids=lambda path: path.stem)
def pair(request: pytest.FixtureRequest) -> tuple[dict[str, Any], dict[str, Any]]:
    both = yaml.safe_load(request.param.read_text())
    return both["old"], both["hub"]


def test_up(pair: tuple[dict[str, Any], dict[str, Any]]) -> None:
    old, hub = pair
    assert to_hub(old, CONTEXT) == hub


def test_down(pair: tuple[dict[str, Any], dict[str, Any]]) -> None:
    old, hub = pair
    assert without_data(from_hub(hub, old["apiVersion"].rpartition("/")[2], CONTEXT)) == old


def test_both_are_of_their_schemas(pair: tuple[dict[str, Any], dict[str, Any]]) -> None:
    for obj in pair:
        assert_valid(obj, model_of(obj))
