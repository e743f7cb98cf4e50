"""Steps become fenced requests: who may not write, and whose answer was lost. The API server's objects are what is asserted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from fleetwake.plan import Apply, Computed, Create, Delete, Patch, Step, SyncMetadata, Together
from fleetwake.sim.apiserver import PatchType
from tests.shell.carry_out_world import (
    API,
    CHILDREN,
    SECRET,
    done,
    once,
    outcomes,
)
from tests.shell.shell_world import (
    NAMESPACE,
    Seen,
    ShellWorld,
    child_body,
    child_key,
    simulated,
)


class TestFence:
    @simulated
    async def test_a_fenced_worker_sends_nothing(self) -> None:
        world = once(lambda seen: [Create(child_body("c", seen), "missing", seen.uid)])
        world.fenced = True
        world.parent()
        await world.settle(30)
        assert not world.kube.writes
        world.fenced = False
        await world.settle(2)
        assert done(world)

    @simulated
    async def test_a_fence_between_two_steps_stops_the_second_and_the_status(self) -> None:
        world = once(lambda seen: [Create(child_body(name, seen), "missing", seen.uid) for name in ("a", "b")])

        def fence(request: Any, _: Any) -> None:
            world.fenced = world.fenced or request.method == "POST"

        world.kube.after.append(fence)
        world.parent()
        await world.settle(10)
        assert [request.method for request in world.kube.writes] == ["POST"]
        assert [outcome for _, outcome in outcomes(world)] == ["done", "failed", "skipped", "skipped"]
        assert world.bus.results("done")[0]["outcome"] == "failed"

    @simulated
    async def test_a_fence_that_comes_while_a_write_waits_for_its_connection_keeps_it_here(self) -> None:
        """As when the process is frozen there, and another takes its keys over."""
        world = once(lambda seen: [Create(child_body("c", seen), "missing", seen.uid)])
        world.kube.gate = asyncio.Event()
        world.parent()
        await world.settle(1)
        world.fenced = True
        world.kube.gate.set()
        await world.settle(1)
        assert not world.kube.writes
        assert outcomes(world)[0][1] == "failed"
        world.fenced = False
        await world.settle(2)
        assert done(world)

    @simulated
    async def test_a_bug_in_a_branch_lets_the_others_end_before_the_run(self) -> None:
        """No branch may outlive its run: the key's next run would work beside it, and nobody would write down what it did."""
        buggy = {"spec": {"x": object()}}
        world = once(lambda seen: [Together(tuple((Create(child_body(name, seen, **more), "missing", seen.uid),) for name, more in (("a", buggy), ("b", {}))))])
        world.parent()
        await world.settle(0.4)
        first = world.bus.results("done")[0]
        assert [(step["outcome"], step.get("status", 0)) for step in first["steps"][:2]] == [("failed", 0), ("done", 201)]
        assert world.get(child_key("b")) is not None

    @simulated
    async def test_nothing_is_sent_between_revoke_and_assign(self) -> None:
        world = once(lambda seen: [Create(child_body(f"c{n}", seen), "missing", seen.uid) for n in range(5)])
        world.kube.after.append(lambda request, _: world.worker.revoke() if b'"c1"' in (request.body or b"") else None)
        world.parent()
        await world.settle(30)
        assert len(world.api.list(CHILDREN, NAMESPACE)["items"]) == 2
        world.kube.after.clear()
        for number in list(world.worker.partitions):
            world.worker.resume(number)
        world.worker.pump_all()
        await world.settle(5)
        assert done(world) and len(world.api.list(CHILDREN, NAMESPACE)["items"]) == 5

    @simulated
    async def test_a_secret_is_not_read_by_a_fenced_worker(self) -> None:
        def steps(seen: Seen) -> list[Step]:
            value = Computed("copy", lambda inputs: inputs.secrets[SECRET]["tls.key"].decode(), secrets=(SECRET,))
            return [Create(child_body("c", seen, spec={"copy": value}), "missing", seen.uid)]

        world = once(steps)
        world.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "demo-ca", "namespace": NAMESPACE}, "data": {"tls.key": "b2xk"}})
        world.fenced = True
        world.parent()
        await world.settle(3)
        assert not [request for request in world.kube.requests if "secrets" in request.path]


class TestLostAnswers:
    @pytest.mark.parametrize("method", ["POST", "PATCH"])
    @simulated
    async def test_the_effect_is_not_doubled(self, method: str) -> None:
        def steps(seen: Seen) -> list[Step]:
            if any(child.name == "c" for child in seen.children):
                return []
            return [Create(child_body("c", seen), "missing", seen.uid)]

        world = once(steps)
        world.kube.lose_answer(method, "children" if method == "POST" else "parents")
        world.parent()
        await world.settle(10)
        assert done(world) and len(world.api.list(CHILDREN, NAMESPACE)["items"]) == 1

    @simulated
    async def test_a_delete_whose_answer_was_lost_is_finished(self) -> None:
        def steps(seen: Seen) -> list[Step]:
            return [Delete(child_key(child.name), API, child.metadata.uid, "surplus") for child in seen.children]

        world = once(steps)
        world.worker.revoke()
        parent = world.parent()
        ref = {"apiVersion": API, "kind": "Parent", "name": "p", "uid": parent["metadata"]["uid"], "controller": True}
        world.create({"apiVersion": API, "kind": "Child", "metadata": {"name": "c", "namespace": NAMESPACE, "ownerReferences": [ref]}})
        world.deaf = True
        world.kube.lose_answer("DELETE", "children")
        for number in list(world.worker.partitions):
            world.worker.resume(number)
        await world.settle(10)
        assert done(world) and world.get(child_key("c")) is None
        assert world.worker.cache.get(child_key("c")) is None


class TestPreconditions:
    @staticmethod
    def replaced(step: Callable[[Seen, str, str], Step]) -> ShellWorld:
        """A Child was deleted and made anew by somebody; the worker has not heard of it."""
        world = once(lambda seen: [step(seen, child.metadata.uid, child.metadata.resource_version) for child in seen.children])
        world.worker.revoke()
        parent = world.parent()
        ref = {"apiVersion": API, "kind": "Parent", "name": "p", "uid": parent["metadata"]["uid"], "controller": True}
        world.create({"apiVersion": API, "kind": "Child", "metadata": {"name": "c", "namespace": NAMESPACE, "ownerReferences": [ref]}})
        world.deaf = True
        world.api.delete(CHILDREN, NAMESPACE, "c")
        world.create({"apiVersion": API, "kind": "Child", "metadata": {"name": "c", "namespace": NAMESPACE}, "spec": {"by": "somebody"}})
        for number in list(world.worker.partitions):
            world.worker.resume(number)
        return world

    @pytest.mark.parametrize(
        "step",
        [
            pytest.param(lambda seen, uid, rv: Delete(child_key("c"), API, uid, "surplus"), id="delete"),
            pytest.param(lambda seen, uid, rv: Patch(child_key("c"), API, uid, {"spec": {"ours": 1}}, "patch"), id="patch: 422 on metadata.uid is a conflict"),
            pytest.param(lambda seen, uid, rv: Apply(child_key("c"), API, uid, {"spec": {"ours": 1}}, "apply"), id="apply"),
            pytest.param(lambda seen, uid, rv: SyncMetadata(child_key("c"), API, uid, {"ours": "1"}, {}, "sync"), id="sync metadata"),
        ],
    )
    @simulated
    async def test_a_successor_of_the_name_is_never_touched(self, step: Callable[[Seen, str, str], Step]) -> None:
        world = self.replaced(step)
        await world.settle(30)
        held = world.get(child_key("c"))
        assert held is not None and held["spec"] == {"by": "somebody"} and "labels" not in held["metadata"]
        assert done(world), "the conflict was understood: observed anew from the API server, nothing is ours to do"

    @simulated
    async def test_a_delete_guarded_by_version_spares_what_changed(self) -> None:
        world = once(lambda seen: [Delete(child_key(c.name), API, c.metadata.uid, "idle", c.metadata.resource_version) for c in seen.children if not c.spec])
        world.worker.revoke()
        parent = world.parent()
        ref = {"apiVersion": API, "kind": "Parent", "name": "p", "uid": parent["metadata"]["uid"], "controller": True}
        world.create({"apiVersion": API, "kind": "Child", "metadata": {"name": "c", "namespace": NAMESPACE, "ownerReferences": [ref]}})
        world.deaf = True
        world.api.patch(CHILDREN, (NAMESPACE, "c"), {"spec": {"busy": True}}, PatchType.MERGE)
        for number in list(world.worker.partitions):
            world.worker.resume(number)
        await world.settle(30)
        assert world.get(child_key("c")) is not None and done(world)

    @simulated
    async def test_an_apply_never_brings_a_vanished_object_back(self) -> None:
        world = once(lambda seen: [Apply(child_key(c.name), API, c.metadata.uid, {"spec": {"ours": 1}}, "apply") for c in seen.children])
        world.worker.revoke()
        parent = world.parent()
        ref = {"apiVersion": API, "kind": "Parent", "name": "p", "uid": parent["metadata"]["uid"], "controller": True}
        world.create({"apiVersion": API, "kind": "Child", "metadata": {"name": "c", "namespace": NAMESPACE, "ownerReferences": [ref]}})
        world.deaf = True
        world.api.delete(CHILDREN, NAMESPACE, "c")
        for number in list(world.worker.partitions):
            world.worker.resume(number)
        await world.settle(30)
        assert world.get(child_key("c")) is None and done(world)
