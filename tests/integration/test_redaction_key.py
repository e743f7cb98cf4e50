"""The redaction key on a real API server: one for all, made by the watcher, awaited by services that start beside it."""

from __future__ import annotations

import asyncio

import pytest

from fleetwake.errors import NotFoundError
from fleetwake.kube import config, key_secret, redaction
from fleetwake.kube.client import ApiClient
from fleetwake.kube.redaction import awaited_redaction_key, redaction_key
from fleetwake.rig.records import Endpoints

pytestmark = pytest.mark.apiserver


async def test_a_service_that_starts_before_the_watcher_waits_for_its_key(rig_endpoints: Endpoints, kube_namespace: str) -> None:
    async with ApiClient(config.load(rig_endpoints.kubeconfig)) as client:
        waiting = asyncio.create_task(awaited_redaction_key(client, kube_namespace))
        with pytest.raises(NotFoundError, match=redaction.REDACTION_SECRET):
            await redaction_key(client, kube_namespace)
        made = await redaction_key(client, kube_namespace, create=True)
        assert await waiting == made == await redaction_key(client, kube_namespace, create=True)


async def test_without_a_watcher_it_says_what_is_missing(rig_endpoints: Endpoints, kube_namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_secret, "AWAIT_SECONDS_MAX", 0.5)
    async with ApiClient(config.load(rig_endpoints.kubeconfig)) as client:
        with pytest.raises(NotFoundError, match=f"{kube_namespace}/{redaction.REDACTION_SECRET}"):
            await awaited_redaction_key(client, kube_namespace)
