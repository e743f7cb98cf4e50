"""Bodies of requests, and what changed between two states."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from fleetwake.errors import ConflictError
from fleetwake.plan import Apply, Computed, Event, Patch, SyncMetadata, UidOf
from fleetwake.shell import bodies
from fleetwake.shell.bodies import CHANGES_MAX, TEXT_MAX
from schemas.api.core.v1beta2.shared import APIEndpoint
from schemas.keys import ObjectKey
from schemas.sensitive import MARK
from tests.shell.shell_world import ShellWorld, kind_of, simulated

KEY = ObjectKey("cluster.x-k8s.io", "Machine", "default", "m1")
API = "cluster.x-k8s.io/v1beta2"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


async def no_secret(key: ObjectKey) -> None:
    raise AssertionError(f"{key} is read")


async def encoded(body: dict[str, Any]) -> Any:
    ports = ShellWorld(kind_of(lambda seen: None)).worker.ports  # type: ignore[arg-type,return-value]
    return orjson.loads(await bodies.encode(body, lambda key: f"uid-of-{key.name}", ports, no_secret))


@simulated
async def test_every_leaf_becomes_json() -> None:
    body = {"uid": UidOf(KEY), "bytes": b"\x00text", "model": APIEndpoint(host="h", port=1), "time": NOW, "tuple": (1, 2)}
    text = base64.b64encode(b"\x00text").decode()
    assert await encoded(body) == {"uid": "uid-of-m1", "bytes": text, "model": {"host": "h", "port": 1}, "time": "2026-01-02T03:04:05Z", "tuple": [1, 2]}


@simulated
async def test_computed_leaves_are_rendered_where_they_stand() -> None:
    key = Computed("a key", lambda inputs: inputs.private_keys, private_keys=("RSA-2048", "ECDSA-P256"))
    found = await encoded({"deep": [{"er": key}], "at": Computed("time", lambda inputs: inputs.now.isoformat())})
    assert [base64.b64decode(text).decode() for text in found["deep"][0]["er"]] == ["RSA-2048 1", "ECDSA-P256 2"]
    assert found["at"] == "2026-01-01T00:00:00+00:00"


@simulated
async def test_what_has_no_json_form_is_refused() -> None:
    with pytest.raises(TypeError, match="object"):
        await encoded({"x": object()})


def test_applies_and_patches_carry_identity_and_preconditions() -> None:
    applied = bodies.apply_body(Apply(KEY, API, "u1", {"spec": {"a": 1}, "metadata": {"labels": {"l": "1"}}}, "why", resource_version="7"))
    meta = {"labels": {"l": "1"}, "name": "m1", "namespace": "default", "uid": "u1", "resourceVersion": "7"}
    assert applied == {"apiVersion": API, "kind": "Machine", "metadata": meta, "spec": {"a": 1}}
    patched = bodies.patch_body(Patch(KEY, API, "u1", {"metadata": {"finalizers": None}}, "why", "7"))
    assert patched == {"metadata": {"finalizers": None, "uid": "u1", "resourceVersion": "7"}}
    assert bodies.patch_body(Patch(KEY, API, "", {"spec": {}}, "why")) == {"spec": {}}


class TestMetadataPatch:
    STEP = SyncMetadata(KEY, API, "u1", {"a": "1", "b": "2"}, {}, "why")

    @staticmethod
    def state(labels: dict[str, str], *ours: str) -> dict[str, Any]:
        fields = {"f:metadata": {"f:labels": {".": {}, **{f"f:{name}": {} for name in ours}}}}
        managers = [{"manager": "capi-test", "fieldsV1": fields}, {"manager": "somebody", "fieldsV1": {"f:metadata": {"f:labels": {"f:theirs": {}}}}}]
        return {"metadata": {"labels": labels, "managedFields": managers}}

    @pytest.mark.parametrize(
        ("labels", "ours", "edit"),
        [
            pytest.param({"a": "1", "b": "2", "theirs": "x"}, ("a", "b"), None, id="nothing differs"),
            pytest.param({"a": "0", "theirs": "x"}, ("a",), {"a": "1", "b": "2"}, id="changed and missing"),
            pytest.param({"a": "1", "b": "2", "old": "x"}, ("a", "b", "old"), {"old": None}, id="ours and not wanted any more"),
            pytest.param({"a": "1", "b": "2"}, ("a", "b", "gone"), None, id="ours, and somebody has removed it"),
        ],
    )
    def test_edit(self, labels: dict[str, str], ours: tuple[str, ...], edit: dict[str, Any] | None) -> None:
        found = bodies.metadata_patch(self.STEP, self.state(labels, *ours), "capi-test")
        assert found == (None if edit is None else {"metadata": {"uid": "u1", "labels": edit}})


def test_hashes_are_restored_or_refused() -> None:
    body = orjson.dumps({"a": f"{MARK}1", "b": ["plain", f"{MARK}2"]})
    assert orjson.loads(bodies.restored(body, {f"{MARK}1": "one", f"{MARK}2": "two"})) == {"a": "one", "b": ["plain", "two"]}
    with pytest.raises(ConflictError, match="has changed"):
        bodies.restored(body, {f"{MARK}1": "one"})


def test_the_same_event_within_a_second_is_one() -> None:
    step = Event(KEY, API, "u1", "Created", "made it " * 500)
    first, again = (bodies.event_body(step, NOW, "capi-test") for _ in range(2))
    assert first == again and len(first["message"]) == 1024 and first["metadata"]["namespace"] == "default"
    assert first["metadata"]["name"] != bodies.event_body(Event(KEY, API, "u1", "Created", "other"), NOW, "capi-test")["metadata"]["name"]


class TestDifference:
    def test_changed_leaves_by_path_and_conditions_by_type(self) -> None:
        before = {"metadata": {"resourceVersion": "1"}, "spec": {"a": 1, "gone": 2}, "status": {"conditions": [{"type": "Ready", "status": "False"}]}}
        after = {
            "metadata": {"resourceVersion": "2"},
            "spec": {"a": 2},
            "status": {"conditions": [{"type": "Paused", "status": "False"}, {"type": "Ready", "status": "True"}]},
        }
        assert bodies.difference(before, after) == {
            "spec.a": (1, 2),
            "spec.gone": (2, None),
            "status.conditions.[Ready].status": ("False", "True"),
            "status.conditions.[Paused]": (None, {"type": "Paused", "status": "False"}),
        }

    def test_a_new_object_is_one_entry(self) -> None:
        assert bodies.difference(None, {"spec": {}}) == {"": (None, "created")}

    def test_it_is_bounded(self) -> None:
        found = bodies.difference({f"k{n}": 0 for n in range(500)}, {f"k{n}": "x" * 5000 for n in range(500)})
        assert len(found) == CHANGES_MAX and all(len(after) <= TEXT_MAX + 1 for _, after in found.values())
