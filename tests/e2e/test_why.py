"""Why was this Machine replaced? Asked of the running system as somebody on call does: one command each."""

from __future__ import annotations

import subprocess

import pytest

from fleetwake.rig.services import fleetwake_command
from tests.audit.deeds import Deed, Deeds
from tests.e2e.fleet import ASK_LIMIT_S, Fleet

pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.apiserver, pytest.mark.redis]


@pytest.fixture(scope="module")
def done(fleet: Fleet) -> tuple[str, dict[str, Deed]]:
    """A namespace, and what users have done in it."""
    namespace = fleet.namespace("why")
    deeds = Deeds(fleet, namespace)
    return namespace, {deed.name: deed for deed in (deeds.create(), deeds.rollout(), deeds.scale_down(), deeds.delete_machine())}


def test_a_rollout_is_explained(fleet: Fleet, done: tuple[str, dict[str, Deed]]) -> None:
    namespace, deeds = done
    rollout = deeds["rollout"]
    successors = set()
    for name in rollout.went:
        answer, *rest = fleet.ask(namespace, "why", f"machine/{name}").splitlines()
        assert answer.startswith(f"Machine {name} was replaced by "), answer
        assert "bob (kubectl/" in answer
        assert "field manager kubectl-patch" in answer
        assert "version v1.34.0 → v1.34.5" in answer
        successors.add(answer.split()[5])
        assert any(f"deleted Machine {name} for MachineSet" in line for line in rest)
    assert successors == set(rollout.came)


def test_a_scale_down_is_explained(fleet: Fleet, done: tuple[str, dict[str, Deed]]) -> None:
    namespace, deeds = done
    (name,) = deeds["scale down"].went
    answer = fleet.ask(namespace, "why", f"machine/{name}").splitlines()[0]
    assert answer.startswith(f"Machine {name} was deleted and nothing took its place, because carol (kubectl/"), answer
    assert "scaled MachineDeployment shop-workers down from 3 to 2 replicas" in answer


def test_a_delete_by_hand_is_explained(fleet: Fleet, done: tuple[str, dict[str, Deed]]) -> None:
    namespace, deeds = done
    (went,), (came,) = deeds["delete machine"].went, deeds["delete machine"].came
    answer = fleet.ask(namespace, "why", f"machine/{went}").splitlines()[0]
    assert answer.startswith(f"Machine {went} was replaced by {came} because dave (kubectl/"), answer
    assert answer.endswith(") deleted it.")
    there = fleet.ask(namespace, "why", f"machine/{came}").splitlines()[0]
    assert there.startswith(f"Machine {came} is there because it replaces {went}: dave (kubectl/"), there


def test_the_seals_of_the_running_system_hold(fleet: Fleet, done: tuple[str, dict[str, Deed]]) -> None:
    """All that happened on this rig, kills and moves of partitions by other tests included."""
    command = [fleetwake_command(), "audit", "verify", "--state", str(fleet.rig.state_dir)]
    verified = subprocess.run(command, capture_output=True, text=True, timeout=ASK_LIMIT_S, check=False)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "no fault" in verified.stdout
    assert " 0 of them sealed" not in verified.stdout
