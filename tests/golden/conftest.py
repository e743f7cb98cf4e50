"""``pytest tests/golden --regolden`` rewrites the recorded logs; the diff is then read as prose."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--regolden``."""
    parser.addoption("--regolden", action="store_true", default=False, help="rewrite the golden logs instead of comparing with them")


@pytest.fixture
def regolden(request: pytest.FixtureRequest) -> bool:
    """Whether golden logs are to be rewritten."""
    return bool(request.config.getoption("--regolden", default=False))
