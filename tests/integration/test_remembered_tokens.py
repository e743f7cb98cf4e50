"""Used fetch tokens in a real Redis: remembered for a week by their hash, and no loss when it forgets or is not there."""

from __future__ import annotations

import asyncio
import hashlib
import secrets

import pytest
import redis

from fleetwake.connections.redis import Redis
from fleetwake.rig.records import Endpoints
from schemas.access import REDIS_KEYS
from services.reconcilers.bootstrap_data.server import REMEMBERED_SECONDS, RememberedTokens

pytestmark = pytest.mark.redis


def test_a_used_token_is_remembered_until_redis_forgets(rig_endpoints: Endpoints, topic_prefix: str) -> None:
    used = hashlib.sha256(secrets.token_bytes()).hexdigest()

    async def spent() -> tuple[str, str, str]:
        memory, other = (RememberedTokens(Redis(rig_endpoints.redis_url), topic_prefix) for _ in range(2))
        before = await memory.cluster_of(used)
        await memory.remember(used, "default/demo")
        # another worker knows it too
        after = await other.cluster_of(used)
        with redis.Redis.from_url(rig_endpoints.redis_url, decode_responses=True) as client:
            (key,) = client.keys(f"fleetwake:{topic_prefix}:*:{used}")
            assert key.startswith(REDIS_KEYS.rstrip("*")) and 0 < client.ttl(key) <= REMEMBERED_SECONDS
            client.delete(key)
        forgotten = await memory.cluster_of(used)
        await memory.close()
        await other.close()
        return before, after, forgotten

    assert asyncio.run(spent()) == ("", "default/demo", "")


@pytest.mark.parametrize("url", ["", "redis://127.0.0.1:1/0"], ids=["none", "gone"])
def test_without_redis_nothing_is_remembered_and_nothing_fails(url: str) -> None:
    async def spent() -> str:
        memory = RememberedTokens(Redis(url), "memory")
        await memory.remember("0" * 64, "default/demo")
        found = await memory.cluster_of("0" * 64)
        await memory.close()
        return found

    assert asyncio.run(spent()) == ""
