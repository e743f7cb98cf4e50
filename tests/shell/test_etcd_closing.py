"""No connection to an etcd member outlives the connection to its cluster, whenever that is closed."""

from __future__ import annotations

import asyncio
import base64
import gc
import warnings
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from fleetwake.errors import FleetwakeError
from fleetwake.kube.client import ApiClient
from fleetwake.kube.config import ApiConfig
from fleetwake.kube.pki import KeyPair
from fleetwake.kube.port_forward import ApiAccess
from fleetwake.plan import EtcdMoveLeader
from fleetwake.shell.cache import Cache
from fleetwake.shell.dial import Dialer, RemoteApi
from fleetwake.shell.ports import Clock, Request, Response
from fleetwake.shell.secret_bytes import SecretBytes
from fleetwake.sim.loop import SimClock
from schemas.keys import ClusterKey
from tests.shell.test_etcd import Cluster, _emulated

DEMO = ClusterKey("default", "demo")


class Management:
    """A management API that holds the etcd CA, and gives it when it may."""

    def __init__(self, etcd_ca: KeyPair) -> None:
        self.asked, self.may = asyncio.Event(), asyncio.Event()
        pair = {"tls.crt": etcd_ca.cert_pem, "tls.key": etcd_ca.key_pem}
        self._body = orjson.dumps({"data": {name: base64.b64encode(value).decode() for name, value in pair.items()}})

    async def send(self, request: Request) -> Response:
        """Answer, when it may."""
        self.asked.set()
        await self.may.wait()
        return Response(200, self._body)


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with _emulated() as found:
        yield found


def remote(access: ApiAccess, management: Management, clock: Clock | None = None) -> RemoteApi:
    """What a worker has of a workload cluster behind that API server."""
    client = ApiClient(ApiConfig(access.base_url, access.tls))
    loop: Any = asyncio.get_running_loop()
    return RemoteApi(DEMO, client, Dialer(management, clock or SimClock(loop), SecretBytes(Cache(loop.time), loop.time)))


async def test_no_connection_is_made_once_its_cluster_is_closed(cluster: Cluster) -> None:
    management, told = Management(cluster.etcd_ca), []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["message"]))
    api = remote(cluster.api, management)
    step = EtcdMoveLeader(DEMO, cluster.id("cp-0"), "cp-0", "cp-0", "test")
    moving = asyncio.create_task(api.move_leader(step))
    await management.asked.wait()
    await api.close()
    management.may.set()
    with pytest.raises(FleetwakeError):
        await moving
    del moving, api
    async with asyncio.timeout(5):
        while cluster.endpoints["cp-0"].connections:
            await asyncio.sleep(0.01)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gc.collect()
    assert not [str(one.message) for one in caught if issubclass(one.category, ResourceWarning)]
    assert not told


async def test_a_kept_connection_is_closed_with_its_cluster(cluster: Cluster) -> None:
    management = Management(cluster.etcd_ca)
    management.may.set()
    api = remote(cluster.api, management)
    assert (await api.look("etcd/members", ("cp-0",)))["leader"] == cluster.etcd.leader_id
    assert cluster.endpoints["cp-0"].connections == 1
    await api.close()
    async with asyncio.timeout(5):
        while cluster.endpoints["cp-0"].connections:
            await asyncio.sleep(0.01)
