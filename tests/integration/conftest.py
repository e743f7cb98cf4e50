"""What the tests against real servers share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from fleetwake.rig.records import Endpoints
from tests.integration.bus_world import Bus


@pytest.fixture
async def bus(rig_endpoints: Endpoints, topic_prefix: str) -> AsyncIterator[Bus]:
    """The topics of one test, on the rig's Kafka."""
    async with Bus(rig_endpoints.bootstrap_servers, topic_prefix) as found:
        yield found
