"""A rig of its own for the whole tier: all services, two reconcilers, restarted by a supervisor as an installation restarts them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleetwake.rig import Rig
from tests.e2e.fleet import Fleet, watched

STATE_VARIABLE = "FLEETWAKE_E2E_STATE"


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """The system, up and recorded from its first object on; a running rig is used, and left running, when the environment names its folder."""
    running = os.environ.get(STATE_VARIABLE)
    rig = Rig(Path(running)) if running else Rig.up(tmp_path_factory.mktemp("e2e"), workers=2, restart=True, bound_to=os.getpid())
    with watched(rig, ends=not running) as found:
        yield found
