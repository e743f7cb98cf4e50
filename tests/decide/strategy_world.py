"""A MachineDeployment with an external strategy, whose answers a function gives at once: what a server would say, without one."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

from fleetwake.plan import Apply, Create, Delete, Local, Patch, Plan, SyncMetadata, flatten
from schemas.api.core.v1beta2.machine_deployment import MachineDeployment
from schemas.keys import ObjectKey
from services.reconcilers.kinds.machine_deployment.extension import ANSWERS, STRATEGY, Answer, Told
from services.reconcilers.kinds.machine_deployment.strategy import ASK
from tests.decide.workers_world import DEPLOYMENT, INFRA, Workers, deployment, machine_template, template, workers
from tests.decide.world import Json

NAME = "canary.rollouts"
Answering = Callable[[Json, Workers], Any]
CANARY = Path(__file__).parents[2] / "examples" / "canary" / "canary.py"


def canary() -> ModuleType:
    """The example's module."""
    spec = importlib.util.spec_from_file_location("canary", CANARY)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def extension_config(settings: Mapping[str, str] | None = None, **spec: Any) -> Json:
    """The ExtensionConfig ``rollouts``."""
    body = {"clientConfig": {"url": "https://rollouts.example.com:9444/"}, "settings": dict(settings or {}), **spec}
    return {"apiVersion": "runtime.cluster.x-k8s.io/v1beta2", "kind": "ExtensionConfig", "metadata": {"name": "rollouts"}, "spec": body}


@dataclass
class Server:
    """What answers; ``asked`` are the requests so far. An answer that is an ``Answer`` stands for itself (a call that failed)."""

    answering: Answering
    answers: dict[ObjectKey, Answer] = field(default_factory=dict)
    asked: list[Json] = field(default_factory=list)
    calls: list[Json] = field(default_factory=list)

    def told(self, key: ObjectKey) -> Told:
        """What decisions see."""
        return Told(self.answers.get(key))

    def take(self, plan: Plan, world: Workers) -> int:
        """Answer what a plan asks; returns how many questions that were."""
        found = [step for step in flatten(plan.steps) if isinstance(step, Local) and step.action == ASK]
        for step in found:
            request = step.arguments["request"]
            self.asked.append(request)
            self.calls.append(dict(step.arguments))
            made = self.answering(request, world)
            digest, key = str(step.arguments["digest"]), ObjectKey.parse(step.arguments["key"])
            if isinstance(made, str):
                failures = self.answers[key].failures + 1 if key in self.answers else 1
                self.answers[key] = Answer(digest, world.at, error=made, failures=failures)
            else:
                self.answers[key] = Answer(digest, world.at, made)
        return len(found)


@dataclass
class Asking(Workers):
    """Workers whose MachineDeployment's questions are answered as soon as they are asked."""

    server: Server = field(default_factory=lambda: Server(lambda request, world: success()))

    def run_deployment(self, name: str = DEPLOYMENT) -> Plan:
        """One run of the MachineDeployment, and another for each answer."""
        plan = super().run_deployment(name)
        for _ in range(3):
            if not self.server.take(plan, self):
                break
            plan = super().run_deployment(name)
        return plan

    def write(self, step: Create | Apply | Patch | SyncMetadata | Delete) -> None:
        """Apply one write; the MachineDeployment's conditions have one manager: what it sends no more is gone."""
        if isinstance(step, Apply) and step.subresource and step.key.kind == "MachineDeployment":
            self.store[step.key].get("status", {}).pop("conditions", None)
        super().write(step)

    def told(self) -> tuple[str, str, str]:
        """Status, reason and message of the strategy's condition."""
        found = [one for one in self.md().status.conditions if one.type == "UpgradeStrategyReady"]
        return (found[0].status, found[0].reason, found[0].message) if found else ("", "", "")

    def roll(self, name: str = "second") -> None:
        """Ask for another infrastructure template."""
        body = machine_template()
        body["spec"]["infrastructureRef"]["name"] = name
        self.change(MachineDeployment, DEPLOYMENT, template=body)
        self.judge()

    def quiet(self) -> None:
        """Let everything settle that does not wait for a Machine: the kinds, and what is told late."""
        self.settle_kinds()
        self.later(20)
        self.settle_kinds()


def success(message: str = "", retry: int = 0, **replicas: int) -> Json:
    """An answer with replicas by MachineSet."""
    sets = [{"name": name, "replicas": number} for name, number in replicas.items()]
    return {
        "apiVersion": "hooks.fleetwake.io/v1alpha1",
        "kind": "PlanRolloutResponse",
        "status": "Success",
        "message": message,
        "retryAfterSeconds": retry,
        "machineSets": sets,
    }


def by_revision(request: Json, new: int, old: int, **more: Any) -> Json:
    """An answer that gives the current MachineSet and each of the others so many replicas."""
    sets = {one["name"]: new if one["current"] else min(old, one["replicas"]) for one in request["machineSets"]}
    return success(**sets) | more


def asking(answering: Answering, replicas: int = 4, *, config: Json | None = None, **bounds: Any) -> Asking:
    """A MachineDeployment of this strategy, brought up, with an ExtensionConfig and a second and a third template."""
    made = deployment(replicas, **bounds)
    made["metadata"]["annotations"] = {STRATEGY: NAME}
    objects = (made, template(INFRA, "DevMachineTemplate", "second"), template(INFRA, "DevMachineTemplate", "third"))
    base = workers(*objects, *(() if config is None else (config,)), *((extension_config(),) if config is None else ()))
    server = Server(answering)
    world = Asking(objects=[*base.store.values()], server=server, locals={ANSWERS: server.told})
    world.converge()
    return world


def later(world: Workers, **span: float) -> None:
    """Let time pass."""
    world.later(timedelta(**span).total_seconds())
