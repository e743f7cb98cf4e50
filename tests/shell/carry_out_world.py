"""A kind that asks for given steps once, and what became of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from fleetwake.plan import Apply, Patch, Plan, Step
from schemas.keys import ObjectKey
from tests.shell.shell_world import (
    GROUP,
    NAMESPACE,
    Seen,
    ShellWorld,
    kind_of,
    parent_key,
)

API = f"{GROUP}/v1"
CHILDREN, PARENTS = f"children.{GROUP}", f"parents.{GROUP}"
SECRET = ObjectKey("", "Secret", NAMESPACE, "demo-ca")


def status(seen: Seen, **fields: Any) -> Apply:
    return Apply(seen.key, API, seen.uid, {"status": fields}, "status", subresource="status")


def once(steps: Callable[[Seen], Iterable[Step]]) -> ShellWorld:
    """A world whose kind wants these steps until they all succeeded in one run; then the Parent is labelled."""

    def reconcile(seen: Seen) -> Plan:
        if "done" in seen.parent.metadata.labels:
            return Plan()
        mark = Patch(seen.key, API, seen.uid, {"metadata": {"labels": {"done": "true"}}}, "all done")
        told = () if seen.parent.status else (status(seen, tried=True),)
        return Plan((*steps(seen), mark, *told))

    world = ShellWorld(kind_of(reconcile))
    world.own_all()
    return world


def done(world: ShellWorld) -> bool:
    """Whether every step was carried out in one run."""
    return "done" in (world.get(parent_key("p")) or {})["metadata"].get("labels", {})


def outcomes(world: ShellWorld, run: int = 0) -> list[tuple[str, str]]:
    """(verb, outcome) of the steps of a run, from the audit trail."""
    return [(step["verb"], step["outcome"]) for step in world.bus.results("done")[run]["steps"]]
