"""The development provider dies at every point of a control plane's creation, or loses what it kept: three hosts stand in the end.

One creation is recorded: at each write to the management API, each read of a Secret and each wake-up, what is on disk and what the API server holds. A new
process then begins from each of these moments.
"""

from __future__ import annotations

import asyncio
import base64
import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from fleetwake.errors import FleetwakeError
from fleetwake.kind import Kind
from fleetwake.kube.pki import generate_key, self_signed_ca
from fleetwake.plan import Local, flatten
from schemas.keys import ObjectKey
from services.dev_infrastructure.emulation.emulator import Emulator, Outside
from services.dev_infrastructure.emulation.ports import PortPool
from services.dev_infrastructure.kinds import dev_cluster, dev_machine
from services.dev_infrastructure.kinds.state import API_SERVER
from tests.decide.test_dev_infrastructure import cluster, conditions, dev, dev_of, machine
from tests.decide.world import NOW, FakeView
from tests.shell.test_dev_infrastructure import PORTS, TOKEN, bootstrap

KEY = "default/demo"
NAMES = ("cp-0", "cp-1", "cp-2")
ROUNDS_MAX = 40
ROUND_SECONDS = 31.0
"""Longer than a failure that may pass by itself rests."""
CAS = {purpose: self_signed_ca(purpose, generate_key("ECDSA-P256"), now=NOW) for purpose in ("ca", "etcd")}
Files = Mapping[str, bytes]


@dataclass
class Moment:
    """What a new process finds: the files, the API server's objects, the time."""

    what: str
    files: Files
    store: dict[ObjectKey, Any]
    at: datetime


@dataclass
class Life:
    """A process of the provider, and a control plane that grows by one Machine once the last one's API server was told."""

    folder: Path
    view: FakeView
    order: tuple[str, ...] = NAMES
    moments: list[Moment] | None = None
    emulator: Emulator = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        pool = PortPool("127.0.0.1", *PORTS)
        self.emulator = Emulator(Outside(pool, self.secret, lambda: self.view.at, lambda key: self.moment(f"wake {key.name}"), self.folder))
        self.view.locals = {"clusters": self.emulator.states}

    def moment(self, what: str, *, saved: bool = False) -> None:
        """Record this moment; ``saved``: the timer that keeps what clients changed is due in it as well."""
        if self.moments is None:
            return
        files = {path.name: path.read_bytes() for path in self.folder.iterdir()}
        self.moments.append(Moment(what, files, copy.deepcopy(self.view.store), self.view.at))
        if saved and KEY in self.emulator.clusters:
            now = self.emulator.clusters[KEY].to_bytes()
            self.moments.append(Moment(f"{what}, just kept", files | {"default_demo.jsonl": now}, copy.deepcopy(self.view.store), self.view.at))

    async def secret(self, namespace: str, name: str) -> Mapping[str, bytes]:
        """Read a Secret."""
        self.moment(f"read Secret {name}", saved=True)
        purpose = name.removeprefix("demo-")
        if purpose in CAS:
            return {"tls.crt": CAS[purpose].cert_pem, "tls.key": CAS[purpose].key_pem}
        return {"value": bootstrap("init" if name == NAMES[0] else "join-control-plane"), "format": b"cloud-config"}

    async def run(self, kind: Kind[Any], name: str) -> None:
        """One run of a key, as the runner does it."""
        observed = kind.observe(self.view, ObjectKey(kind.model.GROUP, kind.model.KIND, "default", name))
        if observed is None:
            return
        for step in flatten(kind.reconcile(observed).steps):
            self.moment(f"{type(step).__name__} of {name}")
            if isinstance(step, Local):
                try:
                    await self.emulator.actions[step.action](step.arguments)
                except FleetwakeError:
                    return
            else:
                self.view.carry_out((step,))

    def told(self, name: str) -> bool:
        """Whether the DevMachine says that its API server answers."""
        return conditions(self.view, "DevMachine", name).get("APIServerProvisioned", "").startswith("True")

    def grow(self) -> None:
        """What the control plane and its kubeadm configurations do."""
        existing = [name for name in NAMES if ObjectKey("cluster.x-k8s.io", "Machine", "default", name) in self.view.store]
        if len(existing) < len(NAMES) and all(self.told(name) for name in existing):
            name = NAMES[len(existing)]
            meta = {"name": name, "namespace": "default"}
            for obj in (machine(name), dev_of(name), {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": {"value": name}}):
                self.view.put(obj)
        found = self.emulator.clusters.get(KEY)
        name = f"bootstrap-token-{TOKEN[0]}"
        if found is not None and found.api_servers and not found.server.store.tables.get("secrets", {}).get("kube-system", {}).get(name):
            data = {"token-id": TOKEN[0], "token-secret": TOKEN[1], "usage-bootstrap-authentication": "true", "expiration": "2099-01-01T00:00:00Z"}
            coded = {key: base64.b64encode(value.encode()).decode() for key, value in data.items()}
            found.server.create("secrets", {"metadata": {"name": name, "namespace": "kube-system"}, "data": coded}, "kube-system")

    async def live(self) -> None:
        """Go on until all hosts stand."""
        await self.emulator.open()
        try:
            for _ in range(ROUNDS_MAX):
                self.grow()
                await self.run(dev_cluster.KIND, "infra")
                for name in self.order:
                    await self.run(dev_machine.KIND, name)
                if self.stands() and all(self.told(name) for name in NAMES):
                    return
                self.view.later(ROUND_SECONDS)
            raise AssertionError(self.lacks())
        finally:
            await self.emulator.close()

    def stands(self) -> bool:
        """Whether three hosts run an etcd member and an API server each."""
        return not self.lacks()

    def lacks(self) -> list[str]:
        """What is missing."""
        found = self.emulator.clusters.get(KEY)
        if found is None:
            return ["the cluster"]
        hosts = {host.name: host for host in found.hosts.values()}
        lost = [f"{name}: {hosts[name].failure if name in hosts else 'no host'}" for name in NAMES if name not in hosts or API_SERVER not in hosts[name].done]
        members = sorted(member.name for member in found.etcd.members.values())
        return [*lost, *([] if members == sorted(NAMES) else [f"etcd members {members}"])]


def beginning() -> FakeView:
    return FakeView([cluster(), dev()])


@pytest.fixture(scope="module")
def moments(tmp_path_factory: pytest.TempPathFactory) -> list[Moment]:
    """Every moment of one undisturbed creation."""
    life = Life(tmp_path_factory.mktemp("first"), beginning(), moments=[])
    asyncio.run(life.live())
    assert life.moments is not None
    return life.moments


async def begun_again(moment: Moment, folder: Path, files: Files, order: tuple[str, ...]) -> str:
    """A new process begins from a moment; returns what went wrong."""
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    view = FakeView(at=moment.at, store=copy.deepcopy(moment.store))
    view.later(1)
    try:
        await Life(folder, view, order).live()
    except AssertionError as error:
        return f"{moment.what}: {error}"
    return ""


@pytest.mark.parametrize("order", [NAMES, NAMES[::-1]], ids=["first to last", "last to first"])
@pytest.mark.parametrize("kept", [True, False], ids=["killed", "state lost"])
async def test_three_hosts_stand_wherever_it_dies(moments: list[Moment], tmp_path: Path, kept: bool, order: tuple[str, ...]) -> None:
    assert len(moments) > 30
    wrong = [await begun_again(moment, tmp_path / str(number), moment.files if kept else {}, order) for number, moment in enumerate(moments)]
    assert not any(wrong), "\n".join(filter(None, wrong))
