"""Whatever is changed of a class and a topology, and wherever a run dies, it comes to rest; names are the same in every process; values are judged as
JSON Schema's own validator judges them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from copy import deepcopy
from typing import Any

import jsonschema
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleetwake.topology.schema import defaulted, violations
from services.reconcilers.kinds.cluster_topology.rotation import difference, live, marked
from tests.decide.topology_world import NEXT, TopologyWorld, cluster, cluster_class, created, patch, variable, world
from tests.decide.world import plan_writes

Json = dict[str, Any]
IMAGE = patch("image", "DevMachineTemplate", {"controlPlane": True, "machineDeploymentClass": {"names": ["*"]}})
IMAGE["definitions"][0]["jsonPatches"] = [{"op": "add", "path": "/spec/template/spec/image", "valueFrom": {"variable": "image"}}]
VARIABLES = [variable("image", {"type": "string", "default": "a"})]

DEEDS = st.lists(
    st.one_of(
        st.tuples(st.just("image"), st.integers(0, 2)),
        st.tuples(st.just("override"), st.integers(0, 2)),
        st.tuples(st.just("field"), st.integers(0, 3)),
        st.tuples(st.just("label"), st.integers(0, 2)),
        st.tuples(st.just("replicas"), st.integers(0, 3)),
        st.tuples(st.just("worker"), st.integers(0, 2)),
        st.tuples(st.just("check"), st.integers(0, 1)),
        st.tuples(st.just("version"), st.just(0)),
        st.tuples(st.just("others"), st.integers(0, 3)),
        st.tuples(st.just("die"), st.integers(0, 6)),
    ),
    max_size=8,
)


def do(found: TopologyWorld, deed: str, number: int) -> None:
    """One thing that somebody does."""
    topology, listed = found.topology, found.topology["workers"].get("machineDeployments", [])
    template = next(obj for key, obj in found.store.items() if key.kind == "DevMachineTemplate" and key.name == "worker-machine")
    match deed:
        case "image":
            topology["variables"] = [{"name": "image", "value": "abc"[number]}]
        case "override" if listed:
            listed[0]["variables"] = {"overrides": [{"name": "image", "value": "xyz"[number]}]}
        case "field":
            template["spec"]["template"]["spec"] = {"backend": {"inMemory": {}}, **dict.fromkeys("pqr"[:number], number)}
        case "label":
            template["metadata"]["labels"] = dict.fromkeys("ab"[:number], "x")
        case "replicas" if listed:
            listed[0].pop("replicas", None) if number == 3 else listed[0].update(replicas=number)
        case "worker":
            name = f"md-{number}"
            kept = [one for one in listed if one["name"] != name]
            wanted = kept if len(kept) < len(listed) else [*listed, {"class": "default-worker", "name": name, "replicas": 1}]
            topology["workers"] = {"machineDeployments": wanted} if wanted else {}
        case "check":
            topology["controlPlane"]["healthCheck"] = {"enabled": bool(number), "checks": {"nodeStartupTimeoutSeconds": 60}}
        case "version":
            topology["version"] = NEXT
        case "others":
            for one in found.all(("DevCluster", "KubeadmControlPlane", "MachineDeployment", "DevMachineTemplate")[number]):
                one["spec"]["ofOthers"] = {"x": number}
                one["metadata"].setdefault("annotations", {})["others"] = "x"
        case "die":
            found.run_topology(limit=number)


def settle(found: TopologyWorld) -> None:
    """Let control plane and topology run until nothing is written and nothing waits."""
    for _ in range(6):
        found.settle_topology()
        found.control_plane_runs()
        if not plan_writes(found.run_topology()):
            return
    raise AssertionError("it does not come to rest")


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(deeds=DEEDS)
def test_a_topology_comes_to_rest_as_it_asks(deeds: list[tuple[str, int]]) -> None:
    found = created(cluster_class(variables=VARIABLES, patches=[IMAGE]), cluster())
    for deed, number in deeds:
        do(found, deed, number)
    settle(found)
    decision = found.decide()
    assert decision.condition.reason == "ReconcileSucceeded", decision.condition.message
    assert decision.desired is not None
    for body in decision.desired.bodies():
        assert not difference(live(found.stored(body)), marked(body))
    names = {one["metadata"]["labels"]["topology.cluster.x-k8s.io/deployment-name"] for one in found.all("MachineDeployment")}
    assert names == {one["name"] for one in found.topology["workers"].get("machineDeployments", ())}


@settings(max_examples=6, deadline=None, derandomize=True)
@given(limit=st.integers(0, 8))
def test_a_first_run_that_dies_anywhere_makes_nothing_twice(limit: int) -> None:
    whole, found = world(), world()
    settle(whole)
    found.run_topology(limit=limit)
    settle(found)
    assert set(found.store) == set(whole.store)


NAMES = """
import json
from tests.decide.topology_world import created
found = created()
spec = next(obj for key, obj in found.store.items() if key.name == "worker-machine")["spec"]["template"]["spec"]
spec["image"] = {"b": 1, "a": 2}
found.settle_topology()
print(json.dumps(sorted(map(str, found.store))))
"""


def test_names_are_the_same_in_another_process() -> None:
    ran = subprocess.run([sys.executable, "-c", NAMES], capture_output=True, text=True, check=True, timeout=60, env={**os.environ, "PYTHONHASHSEED": "77"})
    found = created()
    spec = next(obj for key, obj in found.store.items() if key.name == "worker-machine")["spec"]["template"]["spec"]
    spec["image"] = {"a": 2, "b": 1}
    found.settle_topology()
    assert json.loads(ran.stdout) == sorted(map(str, found.store)) and len(found.store) > 15


# --- schemas ---------------------------------------------------------------------------------------------------------------------------------

NUMBERS = st.integers(-3, 12)
LEAVES = st.one_of(
    st.builds(lambda least, most, open_: {"type": "integer", "minimum": least, "maximum": most, "exclusiveMaximum": open_}, NUMBERS, NUMBERS, st.booleans()),
    st.builds(lambda least, pattern: {"type": "string", "minLength": least, "pattern": pattern}, st.integers(0, 3), st.sampled_from(["^a", "b$", "[0-9]"])),
    st.builds(lambda values: {"type": "string", "enum": values}, st.lists(st.sampled_from(["a", "ab", "b", ""]), min_size=1, max_size=3, unique=True)),
    st.just({"type": "boolean"}),
    st.just({"type": "number", "minimum": 0, "exclusiveMinimum": True}),
)


def grown(inner: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    """Schemas of objects, maps, lists and alternatives around others."""
    named = st.dictionaries(st.sampled_from("xyz"), inner, min_size=1, max_size=3)
    return st.one_of(
        named.map(lambda found: {"type": "object", "properties": found, "required": sorted(found)[:1]}),
        inner.map(lambda found: {"type": "object", "additionalProperties": found, "maxProperties": 2}),
        inner.map(lambda found: {"type": "array", "items": found, "minItems": 1, "uniqueItems": True}),
        st.lists(inner, min_size=1, max_size=3).flatmap(lambda found: st.sampled_from(["anyOf", "oneOf", "allOf"]).map(lambda word: {word: found})),
        inner.map(lambda found: {"not": found}),
    )


SCHEMAS = st.recursive(LEAVES, grown, max_leaves=6)
SCALARS = st.one_of(NUMBERS, st.booleans(), st.sampled_from(["", "a", "ab", "b", "7", "aab"]), st.floats(-2, 5, width=16))
VALUES = st.recursive(SCALARS, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("xyzw"), inner, max_size=3)), max_leaves=6)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(schema=SCHEMAS, value=VALUES)
def test_values_are_judged_as_by_json_schema(schema: Json, value: Any) -> None:
    wanted = jsonschema.Draft4Validator(schema).is_valid(value)
    # draft 4 knows no whole floats
    whole = json.loads(json.dumps(value), parse_float=lambda text: int(float(text)) if float(text).is_integer() else float(text))
    if whole == value:
        wanted = jsonschema.Draft4Validator(schema).is_valid(whole)
    assert (not list(violations(value, schema))) is wanted


@settings(max_examples=100, deadline=None, derandomize=True)
@given(value=st.dictionaries(st.sampled_from("xyz"), st.one_of(NUMBERS, st.dictionaries(st.sampled_from("ab"), NUMBERS)), max_size=3))
def test_defaults_are_added_once_and_change_nothing_that_is_given(value: Json) -> None:
    inner = {"type": "object", "properties": {"a": {"type": "integer", "default": 1}}, "default": {"b": 2}}
    schema = {"type": "object", "properties": {"x": {"type": "integer", "default": 5}, "y": inner}}
    before = deepcopy(value)
    found = defaulted(value, schema)
    assert value == before and defaulted(found, schema) == found
    assert all(found[key] == item for key, item in value.items() if key != "y") and found.keys() >= {"x", "y"}
