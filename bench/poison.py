"""Input beside a measurement, bad or sound: Clusters, an object of 1.4 MB that changes, and, of the bad, garbage on the topic.

To make a Cluster costs a CPU second or two whatever it is: what bad input costs others is the difference to as much sound input.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import TracebackType

import aiokafka
import orjson

from bench.fleet import BOOTSTRAP, NAMESPACE, Json, apply, manifests
from fleetwake.kube.client import MERGE_PATCH, ApiClient, raise_for, resource_path
from fleetwake.rig import Rig
from schemas.topics import PARTITIONS_DEFAULT, Topics

GARBAGE_SECONDS = 0.1
CLUSTER_SECONDS = 10.0
LARGE_SECONDS = 10.0
LARGE_BYTES = 1_400_000
IMPOSSIBLE_VERSION = "v1.10.0"
NOT_JSON = b"{not json"


class Poison:
    """A context in which a record of garbage comes every ``GARBAGE_SECONDS``, a bad Cluster every ``CLUSTER_SECONDS`` and the large object changes.

    Half of the Clusters name a bootstrap template that does not exist, the others a version that no kubeadm of ours serves. ``sound``: no garbage, and
    nothing is wrong with the Clusters.
    """

    def __init__(self, rig: Rig, client: ApiClient, sound: bool = False) -> None:
        self._rig, self._client, self._sound = rig, client, sound
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Poison:
        await apply(self._client, {"large": [large()]})
        work = [self._clusters(), self._large(), *([] if self._sound else [self._garbage()])]
        self._tasks = [asyncio.create_task(one) for one in work]
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task

    async def _garbage(self) -> None:
        producer = aiokafka.AIOKafkaProducer(**self._rig.kafka().client())
        await producer.start()
        try:
            number = 0
            while True:
                number += 1
                await producer.send_and_wait(Topics().objects, NOT_JSON, key=b"no key of ours", partition=number % PARTITIONS_DEFAULT)
                await asyncio.sleep(GARBAGE_SECONDS)
        finally:
            await producer.stop()

    async def _clusters(self) -> None:
        number = 0
        while True:
            number += 1
            name = f"bad-{number}"
            await apply(self._client, {name: manifests(name, 1) if self._sound else bad(name, number % 2 == 0)})
            await asyncio.sleep(CLUSTER_SECONDS)

    async def _large(self) -> None:
        path = resource_path(BOOTSTRAP, "kubeadmconfigtemplates", NAMESPACE, "large")
        number = 0
        while True:
            number += 1
            body = orjson.dumps({"metadata": {"annotations": {"bench.fleetwake.dev/change": str(number)}}})
            raise_for(await self._client.request("PATCH", path, body=body, content_type=MERGE_PATCH, timeout_seconds=60), "patch KubeadmConfigTemplate large")
            await asyncio.sleep(LARGE_SECONDS)


def bad(name: str, old: bool) -> list[Json]:
    """A cluster that cannot be: its version is older than any kubeadm that is served, or its bootstrap template does not exist."""
    made = manifests(name, 1)
    if not old:
        return [one for one in made if one["kind"] != "KubeadmConfigTemplate"]
    for one in made:
        if one["kind"] == "KubeadmControlPlane":
            one["spec"]["version"] = IMPOSSIBLE_VERSION
    return made


def large() -> Json:
    """A KubeadmConfigTemplate of ``LARGE_BYTES``."""
    made = next(one for one in manifests("large", 1) if one["kind"] == "KubeadmConfigTemplate")
    made["metadata"]["name"] = "large"
    made["spec"]["template"]["spec"]["preKubeadmCommands"] = [f": {number:09998d}" for number in range(LARGE_BYTES // 10_000)]
    return made
