"""Steps become requests: collisions, order after failures, secrets, metadata. The API server's objects are what is asserted."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace
from typing import Any

import pytest

from fleetwake.errors import TerminalError
from fleetwake.plan import Computed, Create, Delete, Event, Local, Plan, SecretInputs, Step, SyncMetadata, Together, UidOf
from fleetwake.sim.apiserver import PatchType, WriteOptions
from schemas.keys import ObjectKey
from schemas.sensitive import MARK
from tests.shell.carry_out_world import (
    API,
    CHILDREN,
    PARENTS,
    SECRET,
    done,
    once,
    outcomes,
    status,
)
from tests.shell.shell_world import (
    CHILD,
    NAMESPACE,
    Json,
    Seen,
    ShellWorld,
    Tuning,
    child_body,
    child_key,
    kind_of,
    simulated,
    status_response,
)


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
    async def test_a_status_that_tells_what_a_failed_step_was_to_bring_about_is_not_told(self) -> None:
        def steps(seen: Seen) -> list[Step]:
            return [Create(child_body("a", seen), "missing", seen.uid), replace(status(seen, count=1), follows=True)]

        world = once(steps)
        world.kube.before.append(lambda request: status_response(500, "InternalError", "no") if b'"name":"a"' in (request.body or b"") else None)
        world.parent()
        await world.settle(0.02)
        assert outcomes(world)[:2] == [("create", "failed"), ("apply status", "skipped")]
        world.kube.before.clear()
        await world.settle(5)
        assert ("apply status", "done") in [outcome for run in range(len(world.bus.results("done"))) for outcome in outcomes(world, run)]

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
