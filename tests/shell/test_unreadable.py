"""Objects that are not what their model says: whoever reads them tells so in its own conditions, once, and goes on when they are repaired."""

from __future__ import annotations

from typing import Any

from fleetwake.failing import telling
from fleetwake.kind import Kind
from fleetwake.pausing import OwnedStatus
from fleetwake.plan import Apply, Plan
from tests.shell.shell_world import GROUP, MANAGER, NAMESPACE, Json, Seen, ShellWorld, child_key, kind_of, parent_key, simulated

API = f"{GROUP}/v1"
OWNED = OwnedStatus(MANAGER, ("children",), ("Available", "Paused"))


def counts() -> Kind[Seen]:
    """A kind that tells how many Children there are, and Available with it."""

    def reconcile(seen: Seen) -> Plan:
        condition = {"type": "Available", "status": "True", "reason": "Available", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}
        wanted: Json = {"children": len(seen.children), "conditions": [condition]}
        if seen.parent.status == wanted:
            return Plan()
        return Plan((Apply(seen.key, API, seen.uid, {"status": wanted}, "status", subresource="status"),))

    return kind_of(reconcile, unreadable=telling(OWNED, API, "Available"))


def child(owner: Json, spec: Any) -> Json:
    ref = {"apiVersion": API, "kind": "Parent", "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"], "controller": True}
    return {"apiVersion": API, "kind": "Child", "metadata": {"name": "c", "namespace": NAMESPACE, "ownerReferences": [ref]}, "spec": spec}


def available(world: ShellWorld, name: str = "p") -> Json:
    found: Json = (world.get(parent_key(name)) or {})["status"]
    return next(one for one in found["conditions"] if one["type"] == "Available")


@simulated
async def test_an_unreadable_relative_is_named_by_who_reads_it_and_its_repair_is_noticed() -> None:
    world = ShellWorld(counts())
    world.own_all()
    owner = world.parent()
    await world.settle()
    assert available(world)["status"] == "True"
    world.create(child(owner, "not a mapping"))
    await world.settle(120)
    told = available(world)
    assert (told["status"], told["reason"]) == ("Unknown", "InternalError")
    assert told["message"].startswith(f"read Child {NAMESPACE}/c: spec: ") and "correct the field or remove it" in told["message"]
    assert (world.get(parent_key("p")) or {})["status"]["children"] == 0, "what was told before stays"
    written = len(world.kube.writes)
    await world.settle(3600)
    assert len(world.kube.writes) == written, "told once"
    repaired = (world.get(child_key("c")) or {}) | {"spec": {}}
    world.deaf = True
    world.api.delete(world.api.by_kind[(GROUP, "Child")].resource, NAMESPACE, "c")
    world.create(child(owner, {}) | {"metadata": {**repaired["metadata"], "uid": None, "resourceVersion": None}})
    world.deaf = False
    world.deliver("MODIFIED", world.get(child_key("c")) or {})
    await world.settle(120)
    assert available(world)["status"] == "True"


@simulated
async def test_an_unreadable_object_tells_of_itself() -> None:
    world = ShellWorld(counts())
    world.own_all()
    world.parent("torn", spec="not a mapping")
    world.parent("sound")
    await world.settle(120)
    assert available(world, "sound")["status"] == "True"
    told = available(world, "torn")
    assert (told["status"], told["reason"]) == ("Unknown", "InternalError")
    assert told["message"].startswith(f"read Parent {NAMESPACE}/torn: spec: ")
