"""Steps become fenced requests: collisions, order after failures, lost answers, secrets, preconditions. The API server's objects are what is asserted."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from fleetwake.errors import TerminalError
from fleetwake.plan import Apply, Computed, Create, Delete, Event, Local, Patch, Plan, SecretInputs, Step, SyncMetadata, Together, UidOf
from fleetwake.sim.apiserver import PatchType, WriteOptions
from schemas.keys import ObjectKey
from schemas.sensitive import MARK
from tests.shell.shell_world import (
    CHILD,
    GROUP,
    NAMESPACE,
    Json,
    Seen,
    ShellWorld,
    Tuning,
    child_body,
    child_key,
    kind_of,
    parent_key,
    simulated,
    status_response,
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


class TestNamesTaken:
    """A create that collides is success only if the holder is ours and stays."""

    @pytest.mark.parametrize("apply", [False, True], ids=["post", "apply"])
    @simulated
    async def test_ours_is_success(self, apply: bool) -> None:
        world = once(lambda seen: [Create(child_body("c", seen), "missing", seen.uid, apply=apply)])
        world.kube.lose_answer("PATCH" if apply else "POST", "children")
        world.parent()
        await world.settle(5)
        children = world.api.list(CHILDREN, NAMESPACE)["items"]
        assert [child["metadata"]["name"] for child in children] == ["c"] and children[0]["metadata"]["generation"] == 1

    @simulated
    async def test_a_stranger_s_is_left_alone(self) -> None:
        world = once(lambda seen: [Create(child_body("c", seen), "missing", seen.uid)])
        world.create({"apiVersion": API, "kind": "Child", "metadata": {"name": "c", "namespace": NAMESPACE}, "spec": {"by": "somebody"}})
        world.parent()
        await world.settle(2)
        held = world.get(child_key("c"))
        assert held is not None and held["spec"] == {"by": "somebody"} and "ownerReferences" not in held["metadata"]
        assert "another controller" in world.bus.results("done")[0]["error"]

    @pytest.mark.parametrize("apply", [False, True], ids=["post", "apply"])
    @simulated
    async def test_one_on_its_way_out_is_waited_for(self, apply: bool) -> None:
        world = once(lambda seen: [Create(child_body("c", seen), "missing", seen.uid, apply=apply)])
        world.worker.revoke()
        parent = world.parent()
        ref = {"apiVersion": API, "kind": "Parent", "name": "p", "uid": parent["metadata"]["uid"], "controller": True}
        meta = {"name": "c", "namespace": NAMESPACE, "finalizers": ["test/hold"], "ownerReferences": [ref]}
        old = world.create({"apiVersion": API, "kind": "Child", "metadata": meta})
        world.api.delete(CHILDREN, NAMESPACE, "c")
        for number in list(world.worker.partitions):
            world.worker.resume(number)
        await world.settle(3)
        assert "being deleted" in world.bus.results("done")[0]["error"]
        world.api.patch(CHILDREN, (NAMESPACE, "c"), {"metadata": {"finalizers": None}}, PatchType.MERGE)
        await world.settle(60)
        new = world.get(child_key("c"))
        assert new is not None and new["metadata"]["uid"] != old["metadata"]["uid"] and "deletionTimestamp" not in new["metadata"]
        assert done(world)

    @simulated
    async def test_the_stored_bytes_of_a_secret_win(self) -> None:
        def steps(seen: Seen) -> list[Step]:
            data = Computed("a key", lambda inputs: inputs.private_keys[0], private_keys=("RSA-2048",))
            return [
                Create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "demo-ca", "namespace": NAMESPACE}, "data": {"tls.key": data}}, "missing")
            ]

        world = once(steps)
        world.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "demo-ca", "namespace": NAMESPACE}, "data": {"tls.key": "b2xk"}})
        world.parent()
        await world.settle()
        assert done(world) and (world.get(SECRET) or {})["data"] == {"tls.key": "b2xk"}


class TestOrder:
    @simulated
    async def test_after_a_failure_the_rest_waits_but_status_is_told(self) -> None:
        def steps(seen: Seen) -> list[Step]:
            return [Create(child_body(name, seen), "missing", seen.uid) for name in ("a", "b", "c")]

        world = once(steps)
        world.kube.before.append(lambda request: status_response(500, "InternalError", "no") if b'"name":"b"' in (request.body or b"") else None)
        world.parent()
        await world.settle(0.02)
        assert outcomes(world) == [("create", "done"), ("create", "failed"), ("create", "skipped"), ("patch", "skipped"), ("apply status", "done")]
        assert world.get(child_key("a")) is not None and world.get(child_key("c")) is None

    @simulated
    async def test_branches_do_not_wait_for_each_other(self) -> None:
        def steps(seen: Seen) -> list[Step]:
            branches = [(Create(child_body(f"{name}1", seen), "1", seen.uid), Create(child_body(f"{name}2", seen), "2", seen.uid)) for name in "abc"]
            return [Together(tuple(branches)), Create(child_body("last", seen), "after all", seen.uid)]

        world = once(steps)
        world.kube.before.append(lambda request: status_response(500, "InternalError", "no") if b'"name":"b1"' in (request.body or b"") else None)
        world.parent()
        await world.settle(0.02)
        names = {child["metadata"]["name"] for child in world.api.list(CHILDREN, NAMESPACE)["items"]}
        assert names == {"a1", "a2", "c1", "c2"}, "a branch ends with its failure, the others go on, what comes after them does not"

    @simulated
    async def test_branches_run_side_by_side(self) -> None:
        world = once(lambda seen: [Together(tuple((Create(child_body(f"c{n}", seen), "missing", seen.uid),) for n in range(10)))])
        world.parent()
        await world.settle(0.0052)
        assert len(world.api.list(CHILDREN, NAMESPACE)["items"]) == 10, "ten creates in the time of one"

    @simulated
    async def test_a_later_step_knows_the_uid_of_an_earlier_one(self) -> None:
        def steps(seen: Seen) -> list[Step]:
            owner = {"apiVersion": API, "kind": "Child", "name": "machine", "uid": UidOf(child_key("machine")), "controller": True}
            infra = {"apiVersion": API, "kind": "Child", "metadata": {"name": "infra", "namespace": NAMESPACE, "ownerReferences": [owner]}}
            return [Create(child_body("machine", seen), "missing", seen.uid), Create(infra, "missing", UidOf(child_key("machine")))]

        world = once(steps)
        world.parent()
        await world.settle()
        machine, infra = world.get(child_key("machine")), world.get(child_key("infra"))
        assert machine is not None and infra is not None and done(world)
        assert infra["metadata"]["ownerReferences"][0]["uid"] == machine["metadata"]["uid"]


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


class TestSyncMetadata:
    @simulated
    async def test_sets_ours_removes_ours_keeps_others(self) -> None:
        wanted: list[dict[str, str]] = [{"a": "1", "b": "2"}]

        def steps(seen: Seen) -> list[Step]:
            return [SyncMetadata(child_key("c"), API, child.metadata.uid, wanted[0], {}, "as the template says") for child in seen.children]

        world = once(steps)
        world.worker.revoke()
        parent = world.parent()
        ref = {"apiVersion": API, "kind": "Parent", "name": "p", "uid": parent["metadata"]["uid"], "controller": True}
        meta = {"name": "c", "namespace": NAMESPACE, "ownerReferences": [ref], "labels": {"theirs": "x"}}
        world.create({"apiVersion": API, "kind": "Child", "metadata": meta})
        for number in list(world.worker.partitions):
            world.worker.resume(number)
        await world.settle()
        assert (world.get(child_key("c")) or {})["metadata"]["labels"] == {"theirs": "x", "a": "1", "b": "2"}
        wanted[0] = {"b": "3"}
        self.again(world)
        await world.settle()
        assert (world.get(child_key("c")) or {})["metadata"]["labels"] == {"theirs": "x", "b": "3"}
        before = len([request for request in world.kube.writes if "children" in request.path])
        self.again(world)
        await world.settle()
        assert len([request for request in world.kube.writes if "children" in request.path]) == before, "no difference, no request"

    @staticmethod
    def again(world: ShellWorld) -> None:
        world.api.patch(PARENTS, (NAMESPACE, "p"), {"metadata": {"labels": None}}, PatchType.MERGE, WriteOptions("somebody"))


class TestSecrets:
    @simulated
    async def test_bytes_pass_the_shell_at_send_time_only(self) -> None:
        secret_text = "-----BEGIN RSA PRIVATE KEY----- s3cr3t"

        def render(inputs: SecretInputs) -> Any:
            return inputs.secrets[SECRET]["tls.key"] + b"/" + inputs.private_keys[0]

        def steps(seen: Seen) -> list[Step]:
            assert seen.view.exists(SECRET)
            data = {"value": Computed("kubeconfig", render, (SECRET,), ("RSA-2048",))}
            meta = {"name": "demo-kubeconfig", "namespace": NAMESPACE}
            return [Create({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": data}, "missing")]

        world = once(steps)
        encoded = base64.b64encode(secret_text.encode()).decode()
        world.create({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "demo-ca", "namespace": NAMESPACE}, "data": {"tls.key": encoded}})
        world.parent()
        await world.settle()
        made = world.get(ObjectKey("", "Secret", NAMESPACE, "demo-kubeconfig"))
        assert made is not None and base64.b64decode(made["data"]["value"]).decode() == f"{secret_text}/RSA-2048 1"
        held = world.worker.cache.get(made_key := ObjectKey("", "Secret", NAMESPACE, "demo-kubeconfig"))
        assert held is not None and held.state["data"]["value"].startswith(MARK), made_key
        everything = b"".join([record.value or b"" for record in world.bus.produced])
        for leak in (secret_text.encode(), encoded.encode(), b"RSA-2048 1", made["data"]["value"].encode()):
            assert leak not in everything

    @simulated
    async def test_hashes_are_put_back_from_a_live_read(self) -> None:
        """A plan made from redacted objects holds hashes; the world must get the values."""
        template = ObjectKey("bootstrap.cluster.x-k8s.io", "KubeadmConfigTemplate", NAMESPACE, "t")

        def steps(seen: Seen) -> list[Step]:
            found = seen.view.external(template.group_kind, NAMESPACE, "t")
            assert found is not None
            content = found.fields["spec"]["template"]["spec"]["files"][0]["content"]
            assert content.startswith(MARK)
            return [Create(child_body("c", seen, spec={"content": content}), "missing", seen.uid)]

        world = once(steps)
        world.api.register(_template_definition())
        spec = {"template": {"spec": {"files": [{"path": "/etc/x", "content": "the text"}]}}}
        world.create(
            {
                "apiVersion": "bootstrap.cluster.x-k8s.io/v1beta2",
                "kind": "KubeadmConfigTemplate",
                "metadata": {"name": "t", "namespace": NAMESPACE},
                "spec": spec,
            }
        )
        world.parent()
        await world.settle()
        assert (world.get(child_key("c")) or {})["spec"] == {"content": "the text"}

    @simulated
    async def test_an_unusable_input_is_terminal(self) -> None:
        def refuse(_: SecretInputs) -> Any:
            raise TerminalError("the CA certificate is no PEM", operation="render")

        world = once(lambda seen: [Create(child_body("c", seen, spec={"x": Computed("x", refuse)}), "missing", seen.uid)])
        world.parent()
        await world.settle(600)
        assert world.get(child_key("c")) is None
        assert len(world.bus.results("done")) <= 2


def _template_definition() -> Any:
    from fleetwake.sim.apiserver import ResourceDefinition

    return ResourceDefinition(group="bootstrap.cluster.x-k8s.io", version="v1beta2", kind="KubeadmConfigTemplate", plural="kubeadmconfigtemplates")


class TestCacheAfterWrites:
    @simulated
    async def test_a_write_is_read_back_at_once_and_wakes_dependents(self) -> None:
        """No record comes, and still the run that follows sees the Child."""
        counts: list[int] = []

        def reconcile(seen: Seen) -> Plan:
            counts.append(len(seen.children))
            return Plan() if seen.children else Plan((Create(child_body("c", seen), "missing", seen.uid),))

        world = ShellWorld(kind_of(reconcile))
        world.own_all()
        world.worker.revoke()
        world.parent()
        world.deaf = True
        for number in list(world.worker.partitions):
            world.worker.resume(number)
        await world.settle(0.5)
        assert counts == [0, 1]

    @simulated
    async def test_a_deleted_object_leaves_the_cache_and_its_finalizers_are_seen(self) -> None:
        def reconcile(seen: Seen) -> Plan:
            return Plan(tuple(Delete(child_key(c.name), API, c.metadata.uid, "surplus") for c in seen.children if c.metadata.deletion_timestamp is None))

        world = ShellWorld(kind_of(reconcile))
        world.own_all()
        world.worker.revoke()
        parent = world.parent()
        ref = {"apiVersion": API, "kind": "Parent", "name": "p", "uid": parent["metadata"]["uid"], "controller": True}
        for name, finalizers in (("plain", []), ("held", ["test/hold"])):
            meta = {"name": name, "namespace": NAMESPACE, "ownerReferences": [ref], "finalizers": finalizers}
            world.create({"apiVersion": API, "kind": "Child", "metadata": meta})
        world.deaf = True
        for number in list(world.worker.partitions):
            world.worker.resume(number)
        await world.settle(0.5)
        assert [entry.key.name for entry in world.worker.cache.of_namespace(CHILD, NAMESPACE)] == ["held"]
        assert len(world.kube.writes) == 2


@simulated
async def test_an_event_never_fails_a_run() -> None:
    world = once(lambda seen: [Event(seen.key, API, seen.uid, "Created", "something"), Create(child_body("c", seen), "missing", seen.uid)])
    world.kube.answer("POST", "/events", status_response(500, "InternalError", "no events today"))
    world.parent()
    await world.settle()
    assert done(world) and world.get(child_key("c")) is not None


@simulated
async def test_a_local_step_reaches_its_handler() -> None:
    told: list[Any] = []

    async def handler(arguments: Any) -> None:
        await asyncio.sleep(0)
        told.append(dict(arguments))

    def reconcile(seen: Seen) -> Plan:
        return Plan() if told else Plan((Local("start machine", "wanted", {"name": "m1"}),))

    world = ShellWorld(kind_of(reconcile), tuning=Tuning(options={"actions": {"start machine": handler}}))
    world.own_all()
    world.parent()
    await world.settle()
    assert told == [{"name": "m1"}] and not world.bus.produced


@simulated
async def test_a_kind_nobody_has_seen_is_named() -> None:
    unknown: Json = {"apiVersion": "other.io/v1", "kind": "Thing", "metadata": {"name": "t", "namespace": NAMESPACE}}
    world = once(lambda seen: [Create(unknown, "missing", seen.uid)])
    world.parent()
    await world.settle(0.1)
    assert "no CustomResourceDefinition seen for Thing.other.io" in world.bus.results("done")[0]["error"]
