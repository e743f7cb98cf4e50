"""Whatever happens around a control plane, it touches one Machine at a time and never takes etcd its majority; and it comes to what is wanted.

Random histories of a small fleet: users scale, roll out and delete; hosts come up, stay half way, fail seen and unseen, and recover; health checks hand
Machines over; time passes. Etcd is the emulated one, which refuses what a real one refuses.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fleetwake import labels
from services.reconcilers.kinds.kubeadm_control_plane import KIND
from tests.decide.world import Json
from tests.properties.quorum_fleet import QuorumFleet, act, calm, quorum_fleet, rest

SETTLED = 3
"""Seconds: what etcd said is believed for two of them, and what joins meanwhile is nobody's to know."""
VERSIONS = ("v1.34.2", "v1.34.3", "v1.34.4", "v1.35.0")


def _pick(world: QuorumFleet, number: int, keep: Callable[[Json], bool]) -> str | None:
    found = [one["metadata"]["name"] for one in world.machines() if keep(one)]
    return found[number % len(found)] if found else None


def _leaving(one: Json) -> bool:
    return "deletionTimestamp" in one["metadata"]


def _living(one: Json) -> bool:
    return not _leaving(one)


def _spec(world: QuorumFleet, spec: Json) -> None:
    world.edit("KubeadmControlPlane", "demo-cp", {"spec": spec})


def scale(world: QuorumFleet, number: int) -> None:
    _spec(world, {"replicas": (1, 3, 5)[number % 3]})


def upgrade(world: QuorumFleet, number: int) -> None:
    current = world.kcp()["spec"]["version"]
    _spec(world, {"version": VERSIONS[min(VERSIONS.index(current) + 1, len(VERSIONS) - 1)]})


def rotate(world: QuorumFleet, number: int) -> None:
    """Another infrastructure template."""
    _spec(world, {"machineTemplate": {"spec": {"infrastructureRef": {"name": ("demo-cp", "other")[number % 2]}}}})


def surge(world: QuorumFleet, number: int) -> None:
    _spec(world, {"rollout": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": number % 2}}}})


def come(world: QuorumFleet, number: int) -> None:
    pending = world.coming()
    if pending:
        world.later(SETTLED)
        world.provision(pending[number % len(pending)])


def half(world: QuorumFleet, number: int) -> None:
    """A host joins etcd, and nobody hears of its Node."""
    pending = [name for name in world.coming() if world.etcd.find(name) is None]
    if pending and world.etcd.members and all(member.running for member in world.etcd.members.values()):
        world.later(SETTLED)
        world.etcd.add(pending[number % len(pending)], ("https://half:2380",))


def delete(world: QuorumFleet, number: int) -> None:
    name = _pick(world, number, _living)
    if name is not None and not world.leaving():
        world.edit("Machine", name, {"metadata": {"deletionTimestamp": world.at.strftime("%Y-%m-%dT%H:%M:%SZ")}})


def leave(world: QuorumFleet, number: int) -> None:
    name = _pick(world, number, _leaving)
    if name is not None:
        world.leave(name)


def hand_over(world: QuorumFleet, number: int) -> None:
    name = _pick(world, number, _living)
    if name is not None:
        world.hand_over(name)


def recover(world: QuorumFleet, number: int) -> None:
    name = _pick(world, number, _living)
    if name is not None:
        world.revive(name)
        world.set_conditions(
            name, {"type": "HealthCheckSucceeded", "status": "True", "reason": "x", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        )


def ask_for_remediation(world: QuorumFleet, number: int) -> None:
    name = _pick(world, number, _living)
    if name is not None:
        world.edit("Machine", name, {"metadata": {"annotations": {labels.REMEDIATE_MACHINE: ""}}})
        world.hand_over(name)


def fail(world: QuorumFleet, number: int) -> None:
    name = _pick(world, number, lambda one: True)
    if name is not None:
        world.fail(name, seen=number % 3 > 0)


def notice(world: QuorumFleet, number: int) -> None:
    for name in sorted(world.unseen):
        world.notice(name)


def revive(world: QuorumFleet, number: int) -> None:
    name = _pick(world, number, lambda one: True)
    if name is not None:
        world.revive(name)


def later(world: QuorumFleet, number: int) -> None:
    world.later((3, 25, 400)[number % 3])


ACTIONS = (scale, upgrade, rotate, surge, come, come, half, delete, leave, leave, hand_over, recover, ask_for_remediation, fail, notice, revive, later)


HALF_WAY = [
    (upgrade, 0, 1), (hand_over, 0, 1), (leave, 0, 1), (leave, 0, 1), (hand_over, 0, 1), (come, 0, 1), (half, 0, 1), (fail, 2, 1), (come, 0, 1), (later, 0, 1),
]  # fmt: skip
"""A host that dies half way and comes up after all, while a second Machine is handed over."""


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from([0, 1, 3, 5]), st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 20), st.integers(1, 3)), max_size=40))
@example(3, HALF_WAY)
def test_history(start: int, history: list[tuple[Callable[[QuorumFleet, int], None], int, int]]) -> None:
    world = copy.deepcopy(_started(start))
    for action, number, runs in history:
        action(world, number)
        for _ in range(runs):
            act(world, world.plan(KIND, "demo-cp"))
    rest(world)
    calm(world)


_STARTED: dict[int, QuorumFleet] = {}


def _started(replicas: int) -> QuorumFleet:
    if replicas not in _STARTED:
        _STARTED[replicas] = quorum_fleet(replicas)
    return _STARTED[replicas]
