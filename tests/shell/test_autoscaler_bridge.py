"""The bridge around its decisions: requests that wait, who asks, hosts by providerID, the template's bytes, certificates from files."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from grpclib.client import Channel
from grpclib.exceptions import StreamTerminatedError

from fleetwake.errors import SettingsError
from fleetwake.exposition import Families
from fleetwake.kind import Change
from fleetwake.kube.authority import Authority, Lifetimes, first, leaf
from fleetwake.kube.pki import KeyPair
from fleetwake.rig.ports import free_ports
from fleetwake.settings import Settings
from fleetwake.tracing.types import Cause
from schemas.keys import ClusterKey, ObjectKey
from services.autoscaler_bridge.externalgrpc_pb import externalgrpc_pb2 as pb
from services.autoscaler_bridge.externalgrpc_pb import node_pb2
from services.autoscaler_bridge.externalgrpc_pb.externalgrpc_grpc import CloudProviderBase, CloudProviderStub
from services.autoscaler_bridge.groups import Hosts, id_of, key_of_id
from services.autoscaler_bridge.identities import cluster_of, issue, uri_of
from services.autoscaler_bridge.kinds.node_group.capacity import HostTemplate, Taint
from services.autoscaler_bridge.kinds.node_group.wanted import Answer, Attempt, Wanted
from services.autoscaler_bridge.kinds.options import options
from services.autoscaler_bridge.listener import Listener, place_of
from services.autoscaler_bridge.metrics import BridgeMetrics
from services.autoscaler_bridge.node_bytes import node_bytes
from services.autoscaler_bridge.options_answer import options_answer
from services.autoscaler_bridge.requests import ASKED_MAX, Requests

KEY = ObjectKey("cluster.x-k8s.io", "MachineDeployment", "team", "md")
DEMO = ClusterKey("team", "demo")
HOST = "127.0.0.1"
MORE = Wanted(0, "increase", "team/demo", amount=2)


class Woken:
    """Requests, and what they woke."""

    def __init__(self) -> None:
        self.causes: list[str] = []
        self.requests = Requests(lambda key, cause: self._wake(key, cause))

    def _wake(self, key: ObjectKey, cause: Cause) -> None:
        assert key == KEY
        self.causes.append(cause.change)

    async def asked(self, count: int) -> tuple[Wanted, ...]:
        """What is asked, once it is so many."""
        while len(self.requests.asked.get(KEY, ())) != count:
            await asyncio.sleep(0)
        return self.requests.asked.get(KEY, ())


async def test_a_request_waits_for_the_step_that_answers_it() -> None:
    woken = Woken()
    both = [asyncio.ensure_future(woken.requests.ask(KEY, MORE, 5.0)) for _ in range(2)]
    one, other = await woken.asked(2)
    await woken.requests.attempt({"key": str(KEY), "id": one.id, "base": 1, "target": 3})
    assert [entry.attempt for entry in woken.requests.asked[KEY]] == [Attempt(1, 3), None]
    await woken.requests.answer({"key": str(KEY), "id": one.id, "code": "OK", "message": ""})
    assert await both[0] == Answer("OK") and woken.requests.asked == {KEY: (other,)}
    await woken.requests.answer({"key": str(KEY), "id": other.id, "code": "OUT_OF_RANGE", "message": "too many"})
    assert await both[1] == Answer("OUT_OF_RANGE", "too many") and woken.requests.asked == {}
    assert woken.causes == [MORE.text] * 3, "asked, asked, and on with the second"


async def test_a_request_that_nobody_waits_for_any_more_is_taken_back() -> None:
    woken = Woken()
    answer = await woken.requests.ask(KEY, MORE, 0.01)
    assert answer.code == "DEADLINE_EXCEEDED" and woken.requests.asked == {}
    assert woken.causes[-1] == f"nobody waits any more: {MORE.text}"
    asking = asyncio.ensure_future(woken.requests.ask(KEY, MORE, 5.0))
    (one,) = await woken.asked(1)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert woken.requests.asked == {}
    await woken.requests.answer({"key": str(KEY), "id": one.id, "code": "OK", "message": ""})
    await woken.requests.attempt({"key": str(KEY), "id": one.id, "base": 1, "target": 3})
    assert woken.requests.asked == {}, "what comes late changes nothing"


async def test_only_so_many_wait_for_one_group() -> None:
    woken = Woken()
    many = [asyncio.ensure_future(woken.requests.ask(KEY, MORE, 5.0)) for _ in range(ASKED_MAX)]
    await woken.asked(ASKED_MAX)
    assert (await woken.requests.ask(KEY, MORE, 5.0)).code == "FAILED_PRECONDITION"
    for one in many:
        one.cancel()
    await asyncio.gather(*many, return_exceptions=True)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        pytest.param([uri_of(DEMO)], DEMO, id="its own"),
        pytest.param(["spiffe://other/x", uri_of(DEMO)], DEMO, id="beside another's"),
        pytest.param([uri_of(DEMO), uri_of(ClusterKey("team", "b"))], None, id="two clusters"),
        pytest.param(["fleetwake://autoscaler/team"], None, id="no name"),
        pytest.param(["fleetwake://autoscaler/team/demo/more"], None, id="too much"),
        pytest.param(["fleetwake://autoscaler//demo"], None, id="no namespace"),
        pytest.param(["fleetwake://bridge/team/demo"], None, id="another host"),
        pytest.param(["https://autoscaler/team/demo"], None, id="another scheme"),
        pytest.param([], None, id="none"),
    ],
)
def test_a_certificate_names_one_cluster(names: list[str], found: ClusterKey | None) -> None:
    assert cluster_of({"subjectAltName": tuple(("URI", name) for name in names)}) == found
    assert cluster_of({"subjectAltName": tuple(("DNS", name) for name in names)}) is None
    assert cluster_of(None) is None


def test_ids_of_groups_are_those_of_the_clusterapi_provider() -> None:
    assert id_of(KEY) == "MachineDeployment/team/md" and key_of_id(id_of(KEY)) == KEY
    assert [key_of_id(text) for text in ("", "Machine/team/md", "MachineSet/team", "MachineSet//x", "MachineSet/a/b/c")] == [None] * 5


def test_hosts_are_found_by_what_machines_say_now() -> None:
    hosts, key = Hosts(), ObjectKey("cluster.x-k8s.io", "Machine", "team", "a")

    def state(provider_id: str) -> dict[str, Any]:
        return {"spec": {"providerID": provider_id} if provider_id else {}}

    for before, after, found in (
        (None, state(""), {}),
        (state(""), state("foo://1"), {"foo://1": [key]}),
        (state("foo://1"), state("foo://1"), {"foo://1": [key]}),
        (state("foo://1"), state("foo://2"), {"foo://1": [], "foo://2": [key]}),
        (state("foo://2"), None, {"foo://2": []}),
    ):
        hosts.changed(Change(key, DEMO, before, after))
        for provider_id, machines in found.items():
            assert list(hosts.find("team", provider_id)) == machines
    hosts.changed(Change(KEY, DEMO, None, state("foo://3")))
    assert not hosts.find("team", "foo://3") and not hosts.find("other", "foo://2")


def test_the_bytes_of_a_node_say_what_the_template_says() -> None:
    host = HostTemplate({"cpu": "4", "memory": "16Gi"}, {"a": "b", "kubernetes.io/os": "windows"}, (Taint("k", "v", "NoSchedule"),))
    found = node_pb2.Node()
    found.ParseFromString(node_bytes("md-template", host, datetime(2026, 1, 2, tzinfo=UTC)))
    assert dict(found.metadata.labels) == {
        "a": "b", "kubernetes.io/os": "windows", "kubernetes.io/arch": "amd64", "kubernetes.io/hostname": "md-template",
    }  # fmt: skip
    assert {name: value.text for name, value in found.status.allocatable.items()} == {"cpu": "4", "memory": "16Gi"}
    assert (found.status.nodeInfo.operatingSystem, found.status.nodeInfo.architecture) == ("windows", "amd64")
    assert [(one.key, one.value, one.effect) for one in found.spec.taints] == [("k", "v", "NoSchedule")]
    assert {one.type: one.status for one in found.status.conditions}["Ready"] == "True"


def test_a_group_without_options_of_its_own_leaves_cluster_autoscaler_all_of_its_own() -> None:
    defaults = pb.NodeGroupAutoscalingOptions(scaleDownUtilizationThreshold=0.5, ignoreDaemonSetsUtilization=True)
    defaults.MaxNodeProvisionDuration.FromSeconds(900)
    prefix = "cluster.x-k8s.io/autoscaling-options-"
    for said in ({}, {prefix + "maxnodeprovisiontime": "soon"}):
        assert not options_answer(defaults, options(said)).HasField("nodeGroupAutoscalingOptions"), "an empty one would set the start-up time to 0"
    own = options({prefix + "scaledownunneededtime": "90s", prefix + "scaledowngpuutilizationthreshold": "0.2"})
    found = options_answer(defaults, own).nodeGroupAutoscalingOptions
    assert (found.scaleDownUtilizationThreshold, found.scaleDownGpuUtilizationThreshold, found.ignoreDaemonSetsUtilization) == (0.5, 0.2, True)
    assert (found.scaleDownUnneededDuration.seconds, found.MaxNodeProvisionDuration.seconds) == (90, 900)


class Refreshing(CloudProviderBase):  # type: ignore[misc]
    """A provider that says to whom it speaks."""

    async def Refresh(self, stream: Any) -> None:
        await stream.recv_message()
        self.asked_by = cluster_of(stream.peer.cert())
        await stream.send_message(pb.RefreshResponse())


for _name in CloudProviderBase.__abstractmethods__ - {"Refresh"}:
    setattr(Refreshing, _name, None)
Refreshing.__abstractmethods__ = frozenset()


class Mounted:
    """A listener with certificates in files, of a CA that is somebody else's."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now = folder, datetime.now(UTC)
        self.authority = first("somebody", now=self.now, lifetimes=Lifetimes())
        self.provider = Refreshing()
        (self.port,) = free_ports(1)
        self.write(self.authority)

    def write(self, authority: Authority) -> None:
        """Put a certificate of the CA, its key and the CA into the files."""
        pair = leaf(authority, HOST, now=self.now, lifetimes=Lifetimes())
        for name, content in (("tls.crt", pair.cert_pem), ("tls.key", pair.key_pem), ("ca.crt", authority.bundle)):
            (self.folder / name).write_bytes(content)

    def settings(self, **changes: Any) -> Settings:
        """The settings of the bridge."""
        files = {f"autoscaler_{part}_file": str(self.folder / name) for part, name in (("certificate", "tls.crt"), ("key", "tls.key"), ("ca", "ca.crt"))}
        return Settings(autoscaler_bind=HOST, autoscaler_port=self.port, **{**files, **changes})

    async def refresh(self, pair: KeyPair | None, trust: Authority | None = None) -> None:
        """Ask with a certificate."""
        context = ssl.create_default_context(cadata=(trust or self.authority).bundle.decode())
        context.set_alpn_protocols(["h2"])
        if pair is not None:
            (self.folder / "client.pem").write_bytes(pair.cert_pem + pair.key_pem)
            context.load_cert_chain(self.folder / "client.pem")
        async with Channel(HOST, self.port, ssl=context) as channel:
            await CloudProviderStub(channel).Refresh(pb.RefreshRequest(), timeout=5.0)


@pytest.fixture
async def mounted(tmp_path: Path) -> AsyncIterator[Mounted]:
    found = Mounted(tmp_path)
    listener = Listener(found.settings(), found.provider, BridgeMetrics(Families()))  # type: ignore[arg-type]
    nobody: Any = None  # with files nothing is asked of the API server
    await listener.start(nobody)
    yield found
    await listener.stop()


async def test_whom_the_mounted_ca_signed_is_let_in_and_nobody_else(mounted: Mounted) -> None:
    await mounted.refresh(issue(mounted.authority, DEMO, now=mounted.now))
    assert mounted.provider.asked_by == DEMO
    stranger = first("somebody", now=mounted.now, lifetimes=Lifetimes())
    for pair in (None, issue(stranger, DEMO, now=mounted.now), issue(mounted.authority, DEMO, now=mounted.now - timedelta(days=100))):
        with pytest.raises((OSError, StreamTerminatedError)):
            await mounted.refresh(pair)
    with pytest.raises(ssl.SSLCertVerificationError):
        await mounted.refresh(None, stranger)


async def test_a_certificate_without_whom_to_believe_is_refused(tmp_path: Path) -> None:
    found = Mounted(tmp_path)
    nobody: Any = None
    with pytest.raises(SettingsError, match="FLEETWAKE_AUTOSCALER_CA_FILE is not set"):
        await Listener(found.settings(autoscaler_ca_file=""), found.provider, BridgeMetrics(Families())).start(nobody)  # type: ignore[arg-type]


def test_the_certificate_is_for_the_name_that_it_is_reached_by() -> None:
    assert place_of(Settings()).host == "fleetwake-autoscaler-bridge.fleetwake-system.svc"
    assert place_of(Settings(autoscaler_host="10.0.0.1")).host == "10.0.0.1"
