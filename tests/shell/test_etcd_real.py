"""The client against a real etcd of three members with TLS, through a port forward, as in a workload cluster; and the emulation held to what it says.

A member that is down, one with an alarm, a removal, a new leader, and every refusal that the emulated etcd gives.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from grpclib.const import Status

from fleetwake.errors import FleetwakeError
from fleetwake.kube.etcd import EtcdClient, EtcdError, EtcdTls
from fleetwake.kube.pki import CertificateSpec, generate_key, sign_certificate
from fleetwake.plan import EtcdMoveLeader, EtcdRemoveMember
from fleetwake.shell.dial import RemoteApi
from fleetwake.shell.service import SystemClock
from fleetwake.sim.etcd import EmulatedEtcd, EtcdRefusal
from tests.shell.real_etcd import NODES, RealEtcd, real_etcd
from tests.shell.test_etcd import NOW, forwarding
from tests.shell.test_etcd_closing import DEMO, Management, remote

pytestmark = pytest.mark.apiserver

UNKNOWN_MEMBER = 42


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[RealEtcd]:
    with real_etcd(tmp_path) as found:
        yield found


@contextlib.asynccontextmanager
async def connected(etcd: RealEtcd) -> AsyncIterator[RemoteApi]:
    """What a worker has of the cluster: it signs its own certificate with the cluster's etcd CA."""
    management = Management(etcd.ca)
    management.may.set()
    async with forwarding(etcd.pods) as access:
        api = remote(access, management, SystemClock())
        try:
            yield api
        finally:
            await api.close()


async def look(api: RemoteApi, *via: str) -> tuple[dict[str, int], dict[str, Any]]:
    """The members' ids by name, and the whole answer."""
    found = await api.look("etcd", via or NODES)
    return {member["name"]: member["id"] for member in found["members"]}, found


async def test_members_leader_and_alarms_are_what_etcd_has(etcd: RealEtcd) -> None:
    async with connected(etcd) as api:
        ids, found = await look(api)
        assert set(ids) == set(NODES)
        assert found["leader"] in ids.values()
        assert (found["alarms"], found["via"]) == ([], "cp-0")
        etcd.gateway("cp-2", "maintenance/alarm", {"action": "ACTIVATE", "memberID": str(ids["cp-1"]), "alarm": "NOSPACE"})
        _, alarmed = await look(api)
        assert alarmed["alarms"] == [{"memberID": ids["cp-1"], "alarm": "NOSPACE"}]
        etcd.gateway("cp-2", "maintenance/alarm", {"action": "DEACTIVATE", "memberID": str(ids["cp-1"]), "alarm": "NOSPACE"})
        _, calm = await look(api)
        assert calm["alarms"] == []


async def test_leadership_is_handed_over_and_the_former_leader_removed(etcd: RealEtcd) -> None:
    async with connected(etcd) as api:
        ids, found = await look(api)
        names = {member: name for name, member in ids.items()}
        leader = names[found["leader"]]
        heir, other = (name for name in NODES if name != leader)
        await api.move_leader(EtcdMoveLeader(DEMO, UNKNOWN_MEMBER, heir, leader, "a test", (ids[heir],)))
        _, moved = await look(api)
        assert moved["leader"] == ids[heir], "the second heir was to lead: nobody is called as the first"
        await _removed(api, EtcdRemoveMember(DEMO, ids[leader], leader, (heir, other), "a test"))
        left, _ = await look(api, heir)
        assert set(left) == {heir, other}
        await api.remove_member(EtcdRemoveMember(DEMO, ids[leader], leader, (heir, other), "a test"))


async def _removed(api: RemoteApi, step: EtcdRemoveMember) -> None:
    """Remove a member that runs, as soon as etcd allows it: it counts a connection between members for nothing until it is five seconds old."""
    for _ in range(60):
        try:
            return await api.remove_member(step)
        except EtcdError as error:
            assert error.cause == "etcdserver: unhealthy cluster"
            await asyncio.sleep(0.25)
    pytest.fail("etcd never let the member go")


async def test_a_member_that_is_down_is_passed_over_seen_and_removed(etcd: RealEtcd) -> None:
    etcd.kill("cp-0")
    async with connected(etcd) as api:
        ids, found = await look(api)
        assert set(ids) == set(NODES), "a member that is down is still a member"
        # the next one, unless it is just electing a leader instead of the dead one
        assert found["via"] in {"cp-1", "cp-2"}
        assert found["leader"] in {ids["cp-1"], ids["cp-2"]}
        await api.remove_member(EtcdRemoveMember(DEMO, ids["cp-0"], "cp-0", NODES, "a test"))
        left, _ = await look(api)
        assert set(left) == {"cp-1", "cp-2"}
        etcd.kill("cp-1")
        with pytest.raises(FleetwakeError):
            await look(api)


async def test_a_client_of_another_ca_is_refused(etcd: RealEtcd, tmp_path_factory: pytest.TempPathFactory) -> None:
    stranger = RealEtcd(tmp_path_factory.mktemp("stranger")).ca
    management = Management(stranger)
    management.may.set()
    async with forwarding(etcd.pods) as access:
        api = remote(access, management, SystemClock())
        with pytest.raises(EtcdError, match="dial"):
            await api.look("etcd", NODES)
        await api.close()


# --- the emulation says what etcd says ---------------------------------------------------------------------------------------------------------


class Pair:
    """A real and an emulated etcd of the same members, whose leader is the first in ``names``."""

    def __init__(self, real: RealEtcd, api: Any, ids: dict[str, int], leader: str) -> None:
        self.real, self._api, self._ids = real, api, ids
        self.names = (leader, *(name for name in NODES if name != leader))
        self.emulated = EmulatedEtcd("default/demo")
        for name in self.names:
            self.emulated.join(name, (f"https://{name}:2380",))
        pair = sign_certificate(real.ca, CertificateSpec("test", usages=("client",)), generate_key("ECDSA-P256"), now=NOW)
        self._tls = EtcdTls(real.ca.cert_pem, pair.cert_pem, pair.key_pem)

    def id(self, name: str) -> int:
        """The id of the emulated member."""
        found = self.emulated.find(name)
        return found.id if found is not None else UNKNOWN_MEMBER

    def kill(self, name: str) -> None:
        """End a member of both."""
        self.real.kill(name)
        self.emulated.lose(self.id(name))

    async def same(self, emulated: Callable[[], object], real: Callable[[EtcdClient], Awaitable[object]], via: str) -> str:
        """Ask both, and hold the one to the other; returns what they said."""
        said = _emulated(emulated)
        async with EtcdClient.through(self._api, pod=f"etcd-{via}", tls=self._tls) as client:
            try:
                await real(client)
                heard = "done"
            except EtcdError as error:
                heard = f"{error.code}: {error.cause}"
        assert said == heard
        return said

    async def move(self, via: str, to: str) -> str:
        """Ask a member to hand its leadership over."""
        mine, heir = self.id(via), self.id(to)
        return await self.same(lambda: self.emulated.move_leader(mine, heir), lambda etcd: etcd.move_leader(self._ids.get(to, UNKNOWN_MEMBER)), via)

    async def remove(self, via: str, name: str) -> str:
        """Ask a member to remove one."""
        mine, gone = self.id(via), self.id(name)
        return await self.same(lambda: self.emulated.remove(mine, gone), lambda etcd: etcd.remove_member(self._ids.get(name, UNKNOWN_MEMBER)), via)

    def add(self, via: str, name: str) -> str:
        """Ask for one more, as kubeadm does before it starts it."""
        said = _emulated(lambda: self.emulated.add(name, (f"https://{name}:2380",)))
        answer = self.real.gateway(via, "cluster/member/add", {"peerURLs": [f"https://{name}:2380"]})
        heard = f"{Status(answer['code']).name}: {answer['message']}" if "code" in answer else "done"
        assert said == heard
        return said


def _emulated(ask: Callable[[], object]) -> str:
    try:
        ask()
    except EtcdRefusal as refusal:
        return f"{refusal.status.name}: {refusal.message}"
    return "done"


async def test_the_emulated_etcd_refuses_what_a_real_one_refuses(etcd: RealEtcd) -> None:
    async with connected(etcd) as api, forwarding(etcd.pods) as access:
        ids, found = await look(api)
        leader = next(name for name, member in ids.items() if member == found["leader"])
        pair = Pair(etcd, access, ids, leader)
        _, second, third = pair.names
        assert await pair.move(second, leader) == "FAILED_PRECONDITION: etcdserver: not leader"
        assert await pair.move(leader, "nobody") == "FAILED_PRECONDITION: etcdserver: bad leader transferee"
        assert await pair.remove(second, "nobody") == "NOT_FOUND: etcdserver: member not found"
        assert await pair.move(leader, second) == "done"
        assert await pair.move(second, leader) == "done"

        pair.kill(third)
        assert pair.add(leader, "cp-3") == "UNAVAILABLE: etcdserver: unhealthy cluster"
        assert await pair.remove(leader, second) == "UNAVAILABLE: etcdserver: unhealthy cluster"
        assert "leader transfer took too long" in await pair.move(leader, third)
        assert await pair.remove(leader, third) == "done"

        pair.kill(second)
        assert await pair.same(pair.emulated.require_quorum, lambda client: client.members(), leader) == "UNAVAILABLE: etcdserver: request timed out"
