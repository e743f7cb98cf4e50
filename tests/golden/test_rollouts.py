"""Whole rollouts as logs: every decision with its reason, in a seeded order of who acts when.

The two kinds run for real; Machines join and leave one at a time. Names are replaced by their order of appearance.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fleetwake.plan import Plan
from schemas.api.core.v1beta2.machine_deployment import MachineDeployment
from tests.decide.workers_world import DEPLOYMENT, INFRA, Workers, deployment, machine_template, template, workers
from tests.decide.world import plan_writes

LOGS = Path(__file__).with_name("rollouts")
TURNS_MAX = 2000
QUIET_TURNS = 40


@dataclass
class Rollout:
    """One seeded rollout and its log."""

    seed: int
    world: Workers
    lines: list[str] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)

    def say(self, text: str) -> None:
        """Add a line, with derived names made readable."""
        for one in self.world.sets():
            self.names.setdefault(one.name, f"set-{sum(name.startswith('set-') for name in self.names.values()) + 1}")
        for machine in self.world.machines():
            self.names.setdefault(machine.name, f"m{sum(name.startswith('m') for name in self.names.values()) + 1}")
        for name in sorted(self.names, key=len, reverse=True):
            text = text.replace(name, self.names[name])
        self.lines.append(re.sub(r"-[bcdfghjklmnpqrstvwxz2456789]{5}\b", "-#####", text))

    def decided(self, who: str, plan: Plan) -> bool:
        """Log the writes of a plan but for status; returns whether there was any write."""
        writes = plan_writes(plan)
        for step in writes:
            if not getattr(step, "subresource", "") and step.key.kind in ("MachineSet", "Machine"):
                self.say(f"{who}: {type(step).__name__.lower()} {step.key.kind} {step.key.name}: {step.reason}")
        return bool(writes)

    def counts(self) -> str:
        """The MachineSets in numbers: machines/spec, available."""
        by_set = {one.name: (one.status.replicas or 0, one.spec.replicas, one.status.available_replicas or 0) for one in self.world.sets()}
        return "  " + ", ".join(f"{name} {have}/{want} ({available} available)" for name, (have, want, available) in by_set.items())

    def play(self) -> None:
        """Let random actors act until nothing happens any more."""
        chance, quiet, last = random.Random(self.seed), 0, ""
        for _ in range(TURNS_MAX):
            quiet = 0 if self.turn(chance) else quiet + 1
            if quiet > QUIET_TURNS:
                return
            now = self.counts()
            if now != last:
                self.say(now)
                last = now
        raise AssertionError("the rollout does not end")

    def turn(self, chance: random.Random) -> bool:
        """One actor's turn; returns whether something happened."""
        world = self.world
        world.later(6)
        actor = chance.choice(["deployment", "sets", "sets", "join", "leave"])
        if actor == "deployment":
            return self.decided("deployment", world.run_deployment())
        if actor == "sets" and world.sets():
            one = chance.choice(world.sets())
            return self.decided(one.name, world.run_set(one.name))
        waiting = [one.name for one in world.machines() if one.status.node_ref is None and not one.metadata.deleting]
        if actor == "join" and waiting:
            name = chance.choice(waiting)
            self.say(f"{name} joins")
            return bool(world.join([name]))
        world.judge()
        return bool(world.leave()) if actor == "leave" else False


def rolled(seed: int, replicas: int, *, scale_to: int | None = None, twice: bool = False, on_delete: bool = False, **bounds: Any) -> Rollout:
    """A MachineDeployment brought up, then its template changed (twice, or scaled, in the middle)."""
    strategy: dict[str, Any] = {"rollout": {"strategy": {"type": "OnDelete"}}} if on_delete else {}
    world = workers(deployment(replicas, **bounds, **strategy), template(INFRA, "DevMachineTemplate", "second"), template(INFRA, "DevMachineTemplate", "third"))
    world.converge()
    rollout = Rollout(seed, world)
    rollout.say(rollout.counts())
    change(rollout, "second")
    if scale_to is not None or twice:
        chance = random.Random(seed)
        for _ in range(30):
            rollout.turn(chance)
        if twice:
            change(rollout, "third")
        else:
            rollout.say(f"user: {scale_to} replicas")
            world.change(MachineDeployment, DEPLOYMENT, replicas=scale_to)
    rollout.play()
    while on_delete and (
        old := [one for one in world.machines() if (one.metadata.labels["machine-template-hash"] not in world.sets()[-1].name) and outdated(one)]
    ):
        rollout.say(f"user: deletes {old[0].name}")
        world.json(type(old[0]), old[0].name)["metadata"]["deletionTimestamp"] = "2026-01-02T03:04:05Z"
        rollout.play()
    return rollout


def outdated(machine: Any) -> bool:
    """Whether a Machine is of an old revision."""
    return any(one.type == "UpToDate" and one.status == "False" for one in machine.status.conditions)


def change(rollout: Rollout, name: str) -> None:
    """Point the deployment at another infrastructure template."""
    body = machine_template()
    body["spec"]["infrastructureRef"]["name"] = name
    rollout.say(f"user: infrastructure template {name}")
    rollout.world.change(MachineDeployment, DEPLOYMENT, template=body)
    rollout.world.judge()


CASES: dict[str, dict[str, Any]] = {
    "3 replicas, surge 1, unavailable 0": {"replicas": 3, "surge": 1, "unavailable": 0},
    "3 replicas, surge 0, unavailable 1": {"replicas": 3, "surge": 0, "unavailable": 1},
    "6 replicas, surge 3, unavailable 1": {"replicas": 6, "surge": 3, "unavailable": 1},
    "6 replicas, surge 10, unavailable 0": {"replicas": 6, "surge": 10, "unavailable": 0},
    "4 replicas, surge 25%, unavailable 25%": {"replicas": 4, "surge": "25%", "unavailable": "25%"},
    "6 replicas, surge 3, unavailable 1, template changes twice": {"replicas": 6, "surge": 3, "unavailable": 1, "twice": True},
    "6 replicas, surge 3, unavailable 1, scale to 12": {"replicas": 6, "surge": 3, "unavailable": 1, "scale_to": 12},
    "8 replicas, surge 2, unavailable 1, scale to 4": {"replicas": 8, "surge": 2, "unavailable": 1, "scale_to": 4},
    "3 replicas, OnDelete": {"replicas": 3, "on_delete": True},
}


@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize("case", CASES)
def test_rollout(case: str, seed: int, regolden: bool) -> None:
    rollout = rolled(seed, **CASES[case])
    world = rollout.world
    assert all(not outdated(machine) for machine in world.machines())
    assert len(world.machines()) == world.md().spec.replicas
    assert len(world.sets()) == 1
    path = LOGS / f"{case}, seed {seed}.txt"
    text = "\n".join([f"# {case}, seed {seed}", *rollout.lines, ""])
    if regolden:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert path.read_text() == text
