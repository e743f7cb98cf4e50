"""The answer to a write is lost though the server stored it, for every write of a create: nothing is doubled, nothing is orphaned."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import manifests
from tests.e2e.fleet import Fleet, left_of
from tests.e2e.lossy_proxy import LossyProxy
from tests.e2e.recorder import World, controller

pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.apiserver, pytest.mark.redis]

BEHIND_THE_PROXY = {"reconcilers-0": "reconcilers", "reconcilers-1": "reconcilers", "dev_infrastructure-0": "dev-infrastructure"}
MACHINES = 1 + 3
LIMIT_S = 120.0


@pytest.fixture
def proxies(fleet: Fleet) -> Iterator[dict[str, LossyProxy]]:
    """A proxy for each account, which the services use while the test runs: the files of their kubeconfigs are replaced."""
    admin = Path(fleet.rig.endpoints().kubeconfig)
    pki = admin.parent / "pki"
    files = {account: admin.with_name(f"{admin.name}-{account}") for account in set(BEHIND_THE_PROXY.values())}
    before = {account: file.read_text() for account, file in files.items()}
    made = {account: LossyProxy(file, pki / "server.crt", pki / "server.key") for account, file in files.items()}
    for account, proxy in made.items():
        proxy.__enter__()
        files[account].write_text(proxy.kubeconfig())
    try:
        fleet.restart(BEHIND_THE_PROXY)
        yield made
    finally:
        for account, text in before.items():
            files[account].write_text(text)
        fleet.restart(BEHIND_THE_PROXY)
        for proxy in made.values():
            proxy.__exit__()


def test_every_write_of_a_create_loses_its_answer(fleet: Fleet, proxies: dict[str, LossyProxy]) -> None:
    namespace, name = fleet.namespace("lost"), "deaf"
    fleet.apply(*manifests.cluster(name, namespace))
    fleet.settle(namespace, name, limit_s=LIMIT_S)
    fleet.check_history(namespace)
    written = {account: [path for _, path in proxy.lost if f"/namespaces/{namespace}/" in path] for account, proxy in proxies.items()}
    assert len(written["reconcilers"]) > len(set(written["reconcilers"])) > MACHINES * 3, "of several writes to one object, each"
    assert len(set(written["dev-infrastructure"])) > MACHINES
    world = fleet.recorder.world
    for kind in ("Machine", "KubeadmConfig", "DevMachine"):
        born = {seen.object["metadata"]["uid"] for seen in fleet.recorder.events(namespace) if seen.name.kind == kind}
        assert len(born) == MACHINES, f"{len(born)} of {kind} ever existed"
    assert _orphans(world, namespace) == []
    fleet.kubectl("-n", namespace, "delete", "cluster", name, "--wait=false")
    fleet.recorder.wait(lambda world: left_of(world, namespace, name), LIMIT_S, f"{name} gone")


def _orphans(world: World, namespace: str) -> list[str]:
    """Objects made by a controller whose controller owner is not there."""
    there = {(key.kind, key.name) for key in world.objects if key.namespace == namespace}
    made = [value for kind in ("MachineSet", "Machine", "KubeadmConfig", "DevMachine", "Secret") for value in world.all(kind, namespace)]
    return [f"{value.get('kind')} {value['metadata']['name']}" for value in made if controller(value) not in there]
