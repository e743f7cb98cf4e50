"""Values of Secrets are kept for seconds by version: what is rendered is what the API server holds, it is asked once, and nothing older than known is used."""

from __future__ import annotations

import asyncio
import base64
import socket
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pytest

from fleetwake.errors import UnavailableError
from fleetwake.kube.pki import CertificateSpec, generate_key, render_kubeconfig, self_signed_ca, sign_certificate
from fleetwake.plan import Computed, Create, Step
from fleetwake.shell import secret_bytes
from fleetwake.shell.cache import Cache
from fleetwake.shell.dial import Dialer
from fleetwake.shell.secret_bytes import BYTES_MAX, KEEP_SECONDS, KEPT_MAX, SecretBytes
from fleetwake.sim.apiserver import PatchType
from schemas.keys import ClusterKey, ObjectKey
from schemas.records import Version
from tests.shell.shell_world import NAMESPACE, Json, Seen, ShellWorld, child_body, child_key, simulated
from tests.shell.test_carry_out import SECRET, once

SECRETS = "secrets"


def secret(text: str, name: str = SECRET.name) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "data": {"tls.key": base64.b64encode(text.encode()).decode()},
    }


def copies(*names: str) -> Any:
    """Steps that copy the Secret's value into Children, one after the other."""

    def steps(seen: Seen) -> Iterable[Step]:
        value = Computed("copy", lambda inputs: inputs.secrets[SECRET]["tls.key"].decode(), secrets=(SECRET,))
        return [Create(child_body(name, seen, spec={"copy": value}), "missing", seen.uid) for name in names]

    return steps


def reads(world: ShellWorld) -> int:
    return len([request for request in world.kube.requests if request.method == "GET" and request.path.endswith(f"/{SECRETS}/{SECRET.name}")])


def copied(world: ShellWorld, name: str) -> Any:
    found = world.get(child_key(name))
    return found["spec"]["copy"] if found is not None else None


def change(world: ShellWorld, text: str) -> None:
    world.api.patch(SECRETS, (NAMESPACE, SECRET.name), {"data": secret(text)["data"]}, PatchType.MERGE)


class TestReading:
    @simulated
    async def test_one_read_serves_all_renderings(self) -> None:
        world = once(copies("a", "b", "c"))
        world.create(secret("old"))
        world.parent()
        await world.settle(3)
        assert [copied(world, name) for name in "abc"] == ["old"] * 3
        assert reads(world) == 1

    @simulated
    async def test_what_a_run_created_is_not_read_at_all(self) -> None:
        world = once(lambda seen: [Create(secret("made"), "missing"), *copies("a", "b")(seen)])
        world.parent()
        await world.settle(3)
        assert [copied(world, name) for name in "ab"] == ["made"] * 2
        assert reads(world) == 0

    @simulated
    async def test_a_change_that_is_known_is_read(self) -> None:
        world = once(copies("a", "b"))
        world.create(secret("old"))
        world.kube.after.append(lambda request, _: change(world, "new") if request.method == "POST" and b'"a"' in (request.body or b"") else None)
        world.parent()
        await world.settle(3)
        assert (copied(world, "a"), copied(world, "b")) == ("old", "new")

    @simulated
    async def test_another_secret_of_the_name_is_read(self) -> None:
        world = once(copies("a", "b"))
        world.create(secret("old"))

        def replace(request: Any, _: Any) -> None:
            if request.method == "POST" and b'"a"' in (request.body or b""):
                world.api.delete(SECRETS, NAMESPACE, SECRET.name)
                world.create(secret("other"))

        world.kube.after.append(replace)
        world.parent()
        await world.settle(3)
        assert (copied(world, "a"), copied(world, "b")) == ("old", "other")


class Bounds:
    """A cache that knows some Secrets, and a clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0
        self.cache = Cache(lambda: self.now)
        self.bytes = SecretBytes(self.cache, lambda: self.now)

    def state(self, number: int, text: str = "value", version: int = 5) -> Json:
        return {**secret(text, f"s{number}"), "metadata": {"name": f"s{number}", "namespace": NAMESPACE, "uid": f"u{number}", "resourceVersion": str(version)}}

    def key(self, number: int) -> ObjectKey:
        return ObjectKey("", "Secret", NAMESPACE, f"s{number}")

    def put(self, number: int, text: str = "value") -> None:
        state = self.state(number, text)
        self.bytes.keep(self.key(number), state)
        self.cache.upsert(self.key(number), Version(1, 5), state, "", -1)


class TestBounds:
    def test_values_end_with_their_time(self) -> None:
        world = Bounds()
        world.put(0)
        assert world.bytes.find(world.key(0)) == {"tls.key": b"value"}
        world.now += KEEP_SECONDS
        assert world.bytes.find(world.key(0)) is None and len(world.bytes) == 0

    def test_the_oldest_gives_way(self) -> None:
        world = Bounds()
        for number in range(KEPT_MAX + 1):
            world.put(number)
        assert world.bytes.find(world.key(0)) is None and world.bytes.find(world.key(KEPT_MAX)) is not None
        assert len(world.bytes) == KEPT_MAX

    def test_bytes_are_counted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(secret_bytes, "BYTES_MAX", 10)
        world = Bounds()
        for number in range(4):
            world.put(number, "x" * 4)
        assert [number for number in range(4) if world.bytes.find(world.key(number))] == [2, 3]
        world.put(9, "x" * 11)
        assert world.bytes.find(world.key(9)) is None and BYTES_MAX > 1 << 20

    def test_nothing_is_used_of_what_the_cache_does_not_know_or_knows_newer(self) -> None:
        world = Bounds()
        world.bytes.keep(world.key(0), world.state(0))
        assert world.bytes.find(world.key(0)) is None
        world.put(1)
        world.cache.upsert(world.key(1), Version(1, 6), world.state(1, version=6), "", -1)
        assert world.bytes.find(world.key(1)) is None

    def test_an_older_answer_does_not_replace_a_newer(self) -> None:
        world = Bounds()
        world.put(0, "new")
        world.bytes.keep(world.key(0), world.state(0, "old", version=4))
        assert world.bytes.find(world.key(0)) == {"tls.key": b"new"}

    def test_hashes_and_foreign_clusters_are_not_kept_and_nothing_shows_values(self) -> None:
        world = Bounds()
        hashed = world.state(0)
        hashed["data"] = {"tls.key": "hmac-sha256:00"}
        world.bytes.keep(world.key(0), hashed)
        world.bytes.keep(ObjectKey("", "Secret", NAMESPACE, "s1", "default/demo"), world.state(1))
        assert len(world.bytes) == 0
        world.put(2, "s3cr3t")
        assert "s3cr3t" not in repr(world.bytes._kept)


class TestDialling:
    """A cluster that is coming up refuses many calls: each asks with the kubeconfig that was read once."""

    def kubeconfig(self, port: int) -> str:
        now = datetime.now(UTC)
        ca = self_signed_ca("kubernetes", generate_key("ECDSA-P256"), now=now)
        client = sign_certificate(ca, CertificateSpec("kubernetes-admin"), generate_key("ECDSA-P256"), now=now)
        return render_kubeconfig("demo", f"https://127.0.0.1:{port}", ca.cert_pem, client).decode()

    def test_refused_calls_read_the_secret_once_and_a_changed_one_again(self) -> None:
        asyncio.run(self._refused())

    async def _refused(self) -> None:
        with socket.socket() as free, socket.socket() as other:
            # bound and not listening: every call is refused
            free.bind(("127.0.0.1", 0))
            other.bind(("127.0.0.1", 0))
            ports = free.getsockname()[1], other.getsockname()[1]
            world = ShellWorld()
            world.own_all()
            state = secret("", "demo-kubeconfig")
            state["data"] = {"value": base64.b64encode(self.kubeconfig(ports[0]).encode()).decode()}
            world.create(state)
            await asyncio.sleep(0)
            dialer = Dialer(world.kube, world.clock, world.worker.secrets)
            cluster = ClusterKey(NAMESPACE, "demo")
            for _ in range(3):
                with pytest.raises(UnavailableError, match=str(ports[0])):
                    await dialer.dial(cluster)
            assert len(world.kube.requests) == 1
            changed = base64.b64encode(self.kubeconfig(ports[1]).encode()).decode()
            world.api.patch(SECRETS, (NAMESPACE, "demo-kubeconfig"), {"data": {"value": changed}}, PatchType.MERGE)
            await asyncio.sleep(0)
            with pytest.raises(UnavailableError, match=str(ports[1])):
                await dialer.dial(cluster)
