"""Verify before harm: what a plan was decided from is confirmed by live reads, and a stale cache is put right before the first write."""

from __future__ import annotations

import pytest

from fleetwake.plan import Apply, Create, Patch, Plan, Step
from fleetwake.shell.ports import Request
from fleetwake.sim.apiserver import PatchType
from tests.shell.shell_world import GROUP, LABELS, NAMESPACE, Json, Seen, ShellWorld, child_body, child_key, kind_of, parent_key, simulated, status_response

API = f"{GROUP}/v1"
PARENTS, CHILDREN = f"parents.{GROUP}", f"children.{GROUP}"


def one_child(seen: Seen) -> Plan:
    """Wants one Child."""
    return Plan() if seen.children else Plan((Create(child_body(f"c{seen.parent.spec.get('n', 0)}", seen), "missing", seen.uid),))


def release(seen: Seen) -> Plan:
    """Lets go of its finalizer once there are no children: right only because they are not there."""
    if seen.parent.metadata.deletion_timestamp is None or seen.children or not seen.parent.metadata.finalizers:
        return Plan()
    step = Patch(seen.key, API, seen.uid, {"metadata": {"finalizers": None}}, "no children left", resource_version=seen.parent.metadata.resource_version)
    return Plan((step,), rests_on_absence=True)


def owned(parent: Json, name: str = "c") -> Json:
    ref = {"apiVersion": API, "kind": "Parent", "name": "p", "uid": parent["metadata"]["uid"], "controller": True}
    return {"apiVersion": API, "kind": "Child", "metadata": {"name": name, "namespace": NAMESPACE, "labels": LABELS, "ownerReferences": [ref]}}


def reads(world: ShellWorld) -> list[Request]:
    return [request for request in world.kube.requests if request.method == "GET"]


def hold(world: ShellWorld) -> None:
    """Nothing runs until ``go_on``."""
    world.worker.revoke()


def go_on(world: ShellWorld) -> None:
    for number in list(world.worker.partitions):
        world.worker.resume(number)


class TestAfterATakeover:
    """The previous owner's last writes are not in the topic yet."""

    @simulated
    async def test_its_create_is_found_instead_of_doubled(self) -> None:
        world = ShellWorld(kind_of(one_child))
        world.own_all()
        hold(world)
        parent = world.parent(spec={"n": 2})
        world.deaf = True
        world.create(owned(parent, "c1"))
        world.worker.unverified.add(("Parent", parent_key("p")))
        go_on(world)
        await world.settle(5)
        assert [child["metadata"]["name"] for child in world.api.list(CHILDREN, NAMESPACE)["items"]] == ["c1"]
        assert not world.kube.writes

    @simulated
    async def test_a_changed_parent_is_decided_anew(self) -> None:
        world = ShellWorld(kind_of(one_child))
        world.own_all()
        hold(world)
        world.parent(spec={"n": 1})
        world.deaf = True
        world.api.patch(PARENTS, (NAMESPACE, "p"), {"spec": {"n": 2}}, PatchType.MERGE)
        world.worker.unverified.add(("Parent", parent_key("p")))
        go_on(world)
        await world.settle(5)
        assert [child["metadata"]["name"] for child in world.api.list(CHILDREN, NAMESPACE)["items"]] == ["c2"]

    @simulated
    async def test_a_vanished_parent_gets_nothing(self) -> None:
        world = ShellWorld(kind_of(one_child))
        world.own_all()
        hold(world)
        world.parent()
        world.deaf = True
        world.api.delete(PARENTS, NAMESPACE, "p")
        world.worker.unverified.add(("Parent", parent_key("p")))
        go_on(world)
        await world.settle(5)
        assert not world.kube.writes and world.worker.cache.get(parent_key("p")) is None

    @simulated
    async def test_a_replaced_parent_is_taken_as_the_new_one(self) -> None:
        world = ShellWorld(kind_of(one_child))
        world.own_all()
        hold(world)
        world.parent()
        world.deaf = True
        world.api.delete(PARENTS, NAMESPACE, "p")
        new = world.parent()
        world.worker.unverified.add(("Parent", parent_key("p")))
        go_on(world)
        await world.settle(5)
        child = world.get(child_key("c0"))
        assert child is not None and child["metadata"]["ownerReferences"][0]["uid"] == new["metadata"]["uid"]

    @simulated
    async def test_only_the_first_writing_plan_is_confirmed(self) -> None:
        def reconcile(seen: Seen) -> Plan:
            steps: list[Step] = []
            if seen.parent.status.get("n") != seen.parent.spec["n"]:
                steps.append(Apply(seen.key, API, seen.uid, {"status": {"n": seen.parent.spec["n"]}}, "tell", subresource="status"))
            return Plan(tuple(steps))

        world = ShellWorld(kind_of(reconcile))
        world.own_all()
        world.parent(spec={"n": 1})
        world.worker.unverified.add(("Parent", parent_key("p")))
        await world.settle()
        first = len(reads(world))
        assert first > 0
        world.api.patch(PARENTS, (NAMESPACE, "p"), {"spec": {"n": 2}}, PatchType.MERGE)
        await world.settle()
        assert (world.get(parent_key("p")) or {})["status"] == {"n": 2}
        assert len(reads(world)) == first

    @simulated
    async def test_an_empty_plan_needs_no_confirmation(self) -> None:
        world = ShellWorld(kind_of(lambda seen: Plan()))
        world.own_all()
        world.parent()
        world.worker.unverified.add(("Parent", parent_key("p")))
        await world.settle()
        assert not world.kube.requests


class TestAbsence:
    @pytest.mark.parametrize("stale", [False, True], ids=["confirmed", "refuted"])
    @simulated
    async def test_a_finalizer_goes_only_when_the_absence_is_confirmed(self, stale: bool) -> None:
        world = ShellWorld(kind_of(release))
        world.own_all()
        hold(world)
        parent = world.parent(metadata={"finalizers": ["test/children"]})
        world.api.delete(PARENTS, NAMESPACE, "p")
        world.deaf = True
        if stale:
            world.create(owned(parent))
        go_on(world)
        await world.settle(5)
        assert (world.get(parent_key("p")) is not None) is stale
        if stale:
            assert world.worker.cache.get(child_key("c")) is not None, "and now it is known"
            world.api.delete(CHILDREN, NAMESPACE, "c")
            world.deaf = False
            world.deliver("DELETED", {**owned(parent), "metadata": {**owned(parent)["metadata"], "uid": "", "resourceVersion": str(world.api.version)}})
            await world.settle(5)
            assert world.get(parent_key("p")) is None

    @simulated
    async def test_without_an_answer_nothing_is_done(self) -> None:
        world = ShellWorld(kind_of(release))
        world.own_all()
        hold(world)
        world.parent(metadata={"finalizers": ["test/children"]})
        world.api.delete(PARENTS, NAMESPACE, "p")
        world.kube.answer("GET", "children", status_response(500, "InternalError", "etcd is gone"), times=5)
        go_on(world)
        await world.settle(0.03)
        assert not world.kube.writes and world.get(parent_key("p")) is not None
        await world.settle(60)
        assert world.get(parent_key("p")) is None


@simulated
async def test_a_world_that_never_holds_still_backs_off() -> None:
    """Whatever is confirmed has changed again: the run gives up for now instead of reading for ever."""
    world = ShellWorld(kind_of(one_child))
    world.own_all()
    hold(world)
    world.parent(spec={"n": 0})
    world.deaf = True
    turn = [0]

    def restless(request: Request) -> None:
        if request.method == "GET" and request.path.endswith("/parents/p") and turn[0] < 40:
            turn[0] += 1
            world.api.patch(PARENTS, (NAMESPACE, "p"), {"spec": {"n": turn[0]}}, PatchType.MERGE)

    world.kube.before.append(restless)
    world.worker.unverified.add(("Parent", parent_key("p")))
    go_on(world)
    await world.settle(60)
    assert world.worker.metrics.errors.labels("Parent")._value.get() >= 2
    assert [child["metadata"]["name"] for child in world.api.list(CHILDREN, NAMESPACE)["items"]] == ["c40"]
