"""Handing out fetched data: made from live objects, once for each token whatever happens at the same time, with a record of it and of every refusal."""

from __future__ import annotations

import asyncio
import base64
import io
import tarfile
from typing import Any

import pytest

from fleetwake.errors import UnavailableError
from fleetwake.plan import Computed, SecretInputs
from fleetwake.shell.ports import Ports
from fleetwake.shell.resources import Resources
from fleetwake.shell.results import Results, Writer
from fleetwake.sim.apiserver import WORKLOAD_KINDS, ApiServer, Settings, WriteOptions, definition_of_crd
from fleetwake.sim.loop import SimClock
from fleetwake.tracing.spans import Tracer
from schemas.api.registry import KINDS as MODELS
from schemas.crd import definition
from schemas.keys import ClusterKey, ObjectKey
from schemas.topics import Topics
from services.reconcilers.bootstrap import transports
from services.reconcilers.bootstrap.host import Role
from services.reconcilers.bootstrap.request import Request
from services.reconcilers.bootstrap_data.handing_out import HandingOut, Place, config_key
from services.reconcilers.kubeadm.documents import ClusterFacts
from tests.decide.bootstrap_world import POINT, stored
from tests.decide.kubeadm_world import certificates, cluster, kubeadm_config, machine
from tests.shell.shell_world import CountedKeys, ListBus, Wire, simulated, status_response

KEY = config_key("default", "m1")
SPEC = {
    "fleetwake": {"secretTransport": {"type": "Fetch"}},
    "files": [{"path": "/etc/login", "contentFrom": {"secret": {"name": "login", "key": "word"}}, "contentFormat": "Template"}],
}


class Forgetful:
    """A memory of used tokens that a test can empty."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {}

    async def cluster_of(self, token_hash: str) -> str:
        return self.known.get(token_hash, "")

    async def remember(self, token_hash: str, cluster: str) -> None:
        self.known[token_hash] = cluster


class Handed:
    """The API server with one Machine whose host fetches, and the service."""

    def __init__(self) -> None:
        loop: Any = asyncio.get_running_loop()
        self.clock = SimClock(loop)
        definitions = [definition_of_crd(definition(model)) for model in MODELS]
        self.api = ApiServer(self.clock.now, Settings(create_namespaces=True, first_version=100), [*WORKLOAD_KINDS, *definitions])
        self.kube, self.bus, self.spent = Wire(self.api), ListBus(), Forgetful()
        ports = Ports(self.kube, self.bus, self.clock, CountedKeys(), Tracer("reconcilers", "w0", "", self.clock))
        results = Results(ports, Topics("t"), Writer("reconcilers", "w0", "life-1"))
        self.service = HandingOut(Place(ports, Resources(MODELS), results, self.spent, POINT, 4))
        for body in (cluster(), machine("m1", control_plane=True), kubeadm_config("m1", "m1", SPEC), *certificates()):
            self.create(body)
        self.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login", "namespace": "default"}, "data": {"word": b"s3cr3t"}})
        self.token = self.store()

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        if body["kind"] == "Secret":
            body = {**body, "data": {name: base64.b64encode(value).decode() for name, value in body["data"].items()}}
        found = self.api.by_kind[(body["apiVersion"].rpartition("/")[0] if "/" in body["apiVersion"] else "", body["kind"])]
        return self.api.create(found.resource, body, "default", WriteOptions("somebody"))

    def store(self) -> str:
        """Make the bootstrap Secret as the KubeadmConfig's own decision does; returns its token."""
        uid = self.api.get("kubeadmconfigs.bootstrap.cluster.x-k8s.io", "default", "m1")["metadata"]["uid"]
        request = Request(ClusterKey("default", "demo"), KEY, uid, SPEC, ClusterFacts("demo", "v1.34.2"), fetch=POINT)
        given = SecretInputs({ObjectKey("", "Secret", "default", "demo-ca"): stored("ca")}, (), self.clock.now())
        notes = {name: value.render(given) if isinstance(value, Computed) else value for name, value in transports.notes(request, Role.INIT).items()}
        meta = {"name": "m1", "namespace": "default", "labels": {"cluster.x-k8s.io/cluster-name": "demo"}, "annotations": notes}
        self.create({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "type": "cluster.x-k8s.io/secret", "data": {"value": b"stub"}})
        return transports.token(request, given)

    async def ask(self, token: str = "", remote: str = "10.0.0.7") -> Any:
        return await self.service.answer(KEY, f"Bearer {token or self.token}", remote)

    def annotations(self) -> dict[str, str]:
        found: dict[str, str] = self.api.get("secrets", "default", "m1")["metadata"]["annotations"]
        return found

    def errors(self) -> list[str]:
        return [one.get("error", "") for one in self.bus.results("done") if one["outcome"] == "failed"]


@simulated
async def test_data_is_made_from_live_objects_and_marked_before_it_goes() -> None:
    world = Handed()
    answer = await world.ask()
    assert answer.status == 200
    with tarfile.open(fileobj=io.BytesIO(answer.body), mode="r:gz") as tar:
        names = tar.getnames()
        login = tar.extractfile("etc/login")
        assert login is not None and login.read() == b"s3cr3t\n"
    assert {"etc/kubernetes/pki/ca.key", "etc/kubernetes/pki/sa.key", "run/kubeadm/kubeadm.yaml", "run/fleetwake/apply.sh"} <= set(names)
    assert world.annotations()["fleetwake.io/fetched-by"] == "10.0.0.7"
    (planned,), (done,) = world.bus.results("planned"), world.bus.results("done")
    assert planned["key"] == str(KEY) and planned["cluster"] == "default/demo" and planned["planId"] == done["planId"]
    (step,) = done["steps"]
    (write,) = world.kube.writes
    assert (step["reason"], step["outcome"], step["status"]) == ("fetched by 10.0.0.7", "done", 200) and write.audit_id == step["auditId"]
    assert not any(b"s3cr3t" in (record.value or b"") or b"PRIVATE KEY" in (record.value or b"") for record in world.bus.produced)


@simulated
async def test_of_many_at_once_one_wins() -> None:
    world = Handed()
    answers = await asyncio.gather(*(world.ask(remote=f"10.0.0.{number}") for number in range(8)))
    assert sorted(answer.status for answer in answers) == [200] + [410] * 7
    assert all(not answer.body for answer in answers if answer.status != 200)
    assert len([error for error in world.errors() if "used before" in error]) == 7
    assert world.annotations()["fleetwake.io/fetched-by"] in {f"10.0.0.{number}" for number in range(8)}


@pytest.mark.parametrize("flushed", [False, True])
def test_replay_is_refused_whatever_redis_knows(flushed: bool) -> None:
    @simulated
    async def replayed() -> None:
        world = Handed()
        assert (await world.ask()).status == 200
        if flushed:
            world.spent.known.clear()
        reads = len(world.kube.requests)
        assert (await world.ask(remote="10.6.6.6")).status == 410
        # what Redis remembers costs the API server nothing
        assert (len(world.kube.requests) > reads) is flushed
        assert world.errors() == ["bootstrap data is refused to 10.6.6.6: the token has been used before"]
        # in the history of the Secret, beside the use
        steps = [(step["reason"], step["outcome"], step["target"]) for one in world.bus.results("done") for step in one["steps"]]
        assert [(reason, outcome) for reason, outcome, _ in steps] == [("fetched by 10.0.0.7", "done"), ("refused to 10.6.6.6", "skipped")]
        assert len({target for _, _, target in steps}) == 1

    replayed()


@simulated
async def test_refusals_are_told_and_give_nothing() -> None:
    world = Handed()
    assert (await world.ask("x" * transports.TOKEN_LETTERS)).status == 403
    assert (await world.service.answer(KEY, "Bearer short", "10.0.0.7")).status == 401
    assert (await world.service.answer(config_key("default", "other"), f"Bearer {world.token}", "10.0.0.7")).status == 403
    await asyncio.sleep(transports.LIFETIME_SECONDS)
    assert (await world.ask()).status == 410
    assert [error.partition(": ")[2] for error in world.errors()] == ["the token is not the one of this data", "the token has expired"]
    assert "fleetwake.io/fetched-at" not in world.annotations() and not world.kube.writes


@simulated
async def test_what_is_missing_or_silent_costs_no_token() -> None:
    world = Handed()
    world.api.delete("secrets", "default", "login")
    with pytest.raises(UnavailableError, match="login does not exist"):
        await world.ask()
    world.kube.answer("GET", "/secrets/m1", status_response(503, "ServiceUnavailable", "later"))
    with pytest.raises(Exception, match="later"):
        await world.ask()
    assert "fleetwake.io/fetched-at" not in world.annotations()
    world.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login", "namespace": "default"}, "data": {"word": b"s3cr3t"}})
    assert (await world.ask()).status == 200


@simulated
async def test_an_answer_that_is_lost_is_not_given_again() -> None:
    world = Handed()
    world.kube.lose_answer("PATCH", "/secrets/m1")
    with pytest.raises(UnavailableError):
        await world.ask()
    assert (await world.ask()).status == 410
    assert any("connection reset" in error for error in world.errors())
