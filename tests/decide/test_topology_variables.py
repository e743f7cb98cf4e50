"""Variables of a topology: defaults, what breaks a schema and how it is told, CEL rules, overrides."""

from __future__ import annotations

from typing import Any

import pytest

from fleetwake.topology.rules import rule_violations, unreadable_rules
from fleetwake.topology.schema import defaulted, unknown_fields, violations
from fleetwake.topology.variables import Definitions, defaulted_topology, definitions_of, topology_problems
from schemas.api.core.v1beta2.cluster_class import ClusterClassStatusVariable
from schemas.api.core.v1beta2.topology import Topology

Json = dict[str, Any]

PROXY: Json = {
    "type": "object",
    "required": ["url"],
    "properties": {
        "url": {"type": "string", "format": "uri"},
        "port": {"type": "integer", "default": 3128, "minimum": 1, "maximum": 65535},
        "noProxy": {"type": "array", "items": {"type": "string", "pattern": "^[a-z0-9.-]+$"}, "maxItems": 3, "uniqueItems": True},
        "auth": {"type": "object", "default": {}, "properties": {"mode": {"type": "string", "enum": ["none", "basic"], "default": "none"}}},
        "labels": {"type": "object", "additionalProperties": {"type": "string", "maxLength": 5}},
        "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        "size": {"x-kubernetes-int-or-string": True},
    },
}


def definitions(*variables: tuple[str, Json, bool]) -> Definitions:
    return definitions_of(
        ClusterClassStatusVariable.model_validate(
            {"name": name, "definitionsConflict": False, "definitions": [{"from": "inline", "required": required, "schema": {"openAPIV3Schema": schema}}]}
        )
        for name, schema, required in variables
    )


def topology(variables: list[Json] | None = None, **parts: Any) -> Topology:
    given = {"variables": variables} if variables else {}
    return Topology.model_validate({"classRef": {"name": "quick"}, "version": "v1.34.2", **given, **parts})


def problems(known: Definitions, wanted: Topology, old: Topology | None = None) -> list[str]:
    return [str(one) for one in topology_problems(wanted, old, known)]


# --- defaults --------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        pytest.param({"url": "http://p"}, {"url": "http://p", "port": 3128, "auth": {"mode": "none"}}, id="nested"),
        pytest.param({"url": "u", "port": 1, "auth": {"mode": "basic"}}, {"url": "u", "port": 1, "auth": {"mode": "basic"}}, id="given values stay"),
        pytest.param({"auth": {}}, {"auth": {"mode": "none"}, "port": 3128}, id="inside what is given"),
        pytest.param({"port": None}, {"port": 3128, "auth": {"mode": "none"}}, id="null counts as absent"),
    ],
)
def test_nested_defaults(value: Json, wanted: Json) -> None:
    assert defaulted(value, PROXY) == wanted
    assert defaulted(defaulted(value, PROXY), PROXY) == wanted


def test_defaults_inside_lists_and_maps() -> None:
    item = {"type": "object", "properties": {"a": {"type": "integer", "default": 1}}}
    assert defaulted([{}, {"a": 2}], {"type": "array", "items": item}) == [{"a": 1}, {"a": 2}]
    assert defaulted({"x": {}}, {"type": "object", "additionalProperties": item}) == {"x": {"a": 1}}


def test_an_absent_variable_gets_its_default_and_order_is_kept() -> None:
    known = definitions(("a", {"type": "string", "default": "A"}, False), ("b", {"type": "string"}, False), ("c", {"type": "boolean", "default": False}, True))
    found = defaulted_topology(topology([{"name": "b", "value": "B"}]), known)
    assert [(one.name, one.value) for one in found.variables] == [("b", "B"), ("a", "A"), ("c", False)]
    assert defaulted_topology(found, known) is not None and defaulted_topology(found, known) == found


def test_an_override_is_only_completed_inside() -> None:
    known = definitions(("proxy", PROXY, False), ("a", {"type": "string", "default": "A"}, False))
    part = {"variables": {"overrides": [{"name": "proxy", "value": {"url": "u"}}]}}
    wanted = topology(
        controlPlane=part, workers={"machineDeployments": [{"class": "c", "name": "md", **part}], "machinePools": [{"class": "c", "name": "mp", **part}]}
    )
    found = defaulted_topology(wanted, known)
    for one in (found.control_plane, found.workers.machine_deployments[0], found.workers.machine_pools[0]):
        assert [(each.name, each.value["port"]) for each in one.variables.overrides] == [("proxy", 3128)]


# --- validation ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "field", "message"),
    [
        pytest.param({}, ".url", "is required; set it", id="required"),
        pytest.param({"url": 5}, ".url", "must be of type string, is 5", id="type"),
        pytest.param({"url": "no scheme"}, ".url", "must be a uri, is 'no scheme'", id="format"),
        pytest.param({"url": "http://p", "port": 0}, ".port", "must be at least 1, is 0", id="minimum"),
        pytest.param({"url": "http://p", "port": 70000}, ".port", "must be at most 65535, is 70000", id="maximum"),
        pytest.param({"url": "http://p", "port": True}, ".port", "must be of type integer, is true", id="a boolean is no number"),
        pytest.param({"url": "http://p", "port": 1.5}, ".port", "must be of type integer, is 1.5", id="a fraction"),
        pytest.param({"url": "http://p", "auth": {"mode": "x"}}, ".auth.mode", "must be one of 'none', 'basic', is 'x'", id="enum"),
        pytest.param({"url": "http://p", "noProxy": ["a", "B"]}, ".noProxy[1]", "must match '^[a-z0-9.-]+$', is 'B'", id="pattern"),
        pytest.param({"url": "http://p", "noProxy": ["a", "b", "c", "d"]}, ".noProxy", "must have at most 3 items, has 4", id="many items"),
        pytest.param({"url": "http://p", "noProxy": ["a", "a"]}, ".noProxy[1]", "'a' is there twice; items must differ", id="twice"),
        pytest.param({"url": "http://p", "labels": {"k": "toolong"}}, ".labels.k", "must have at most 5 characters, has 7", id="value of a map"),
        pytest.param({"url": "http://p", "size": 1.5}, ".size", "must be a whole number or a text, is 1.5", id="int or string"),
        pytest.param({"url": None}, ".url", "must not be null; give a value of type string or leave it out", id="null"),
        pytest.param({"url": "http://p", "Port": 1}, ".Port", "the schema has no such field; remove it", id="unknown field"),
        pytest.param("x", "", "must be of type object, is 'x'", id="the value itself"),
    ],
)
def test_what_is_wrong_names_variable_path_and_remedy(value: Any, field: str, message: str) -> None:
    found = problems(definitions(("proxy", PROXY, False)), topology([{"name": "proxy", "value": value}]))
    assert found == [f'spec.topology.variables[proxy].value{field}: variable "proxy": {message}']


@pytest.mark.parametrize("value", [{"url": "http://p", "any": {"x": {"y": 1}}}, {"url": "http://p", "size": "10Gi"}, {"url": "http://p", "size": 3}])
def test_what_is_right(value: Json) -> None:
    assert problems(definitions(("proxy", PROXY, False)), topology([{"name": "proxy", "value": value}])) == []


def test_variables_that_are_missing_unknown_or_doubled() -> None:
    known = definitions(("imageRepository", {"type": "string", "enum": ["a", "b"]}, True))
    assert problems(known, topology()) == [
        "spec.topology.variables: the ClusterClass requires the variable \"imageRepository\"; add it with a value of type string, one of 'a', 'b'"
    ]
    assert problems(known, topology([{"name": "image-repository", "value": "a"}]))[0] == (
        'spec.topology.variables[image-repository]: the ClusterClass has no variable "image-repository"; remove it, or name it "imageRepository"'
    )
    doubled = topology([{"name": "imageRepository", "value": "a"}, {"name": "imageRepository", "value": "b"}])
    assert problems(known, doubled) == ['spec.topology.variables[imageRepository]: the variable "imageRepository" is there twice; keep one']


def test_overrides_are_judged_where_they_stand_and_required_of_nobody() -> None:
    known = definitions(("n", {"type": "integer"}, False), ("must", {"type": "string"}, True))
    bad = {"variables": {"overrides": [{"name": "n", "value": "x"}]}}
    wanted = topology(
        [{"name": "must", "value": "y"}],
        controlPlane=bad,
        workers={"machineDeployments": [{"class": "c", "name": "md", **bad}], "machinePools": [{"class": "c", "name": "mp", **bad}]},
    )
    assert [one.partition(": ")[0] for one in problems(known, wanted)] == [
        "spec.topology.controlPlane.variables.overrides[n].value",
        "spec.topology.workers.machineDeployments[md].variables.overrides[n].value",
        "spec.topology.workers.machinePools[mp].variables.overrides[n].value",
    ]


@pytest.mark.parametrize(
    ("schema", "good", "bad", "message"),
    [
        pytest.param(
            {"type": "integer", "oneOf": [{"maximum": 3}, {"minimum": 10}]}, 2, 5, "exactly one of 2 alternatives: must be at most 3", id="one of none"
        ),
        pytest.param({"type": "integer", "oneOf": [{"maximum": 3}, {"maximum": 9}]}, 5, 2, "exactly one of 2 alternatives, satisfies 1, 2", id="one of two"),
        pytest.param({"type": "string", "anyOf": [{"enum": ["a"]}, {"format": "ipv4"}]}, "10.0.0.1", "x", "at least one of 2 alternatives", id="any of"),
        pytest.param({"type": "string", "allOf": [{"minLength": 2}, {"pattern": "^a"}]}, "ab", "b", "must have at least 2", id="all of"),
        pytest.param({"type": "string", "not": {"enum": ["x"]}}, "y", "x", "the schema's not excludes", id="not"),
        pytest.param({"type": "number", "maximum": 3, "exclusiveMaximum": True}, 2.9, 3, "less than 3", id="exclusive"),
        pytest.param({"type": "string", "format": "cidr"}, "10.0.0.0/8", "10.0.0.0", "must be a cidr", id="cidr"),
        pytest.param({"type": "string", "format": "duration"}, "1h30m", "90", "must be a duration", id="duration"),
        pytest.param({"type": "integer", "format": "int32"}, 5, 1 << 40, "format int32", id="int32"),
        pytest.param({"type": "string", "format": "unheard-of"}, "x", 5, "type string", id="unknown format asks nothing"),
    ],
)
def test_words_of_schemas(schema: Json, good: Any, bad: Any, message: str) -> None:
    assert not list(violations(good, schema))
    assert message in next(one.message for one in violations(bad, schema))


# --- CEL -------------------------------------------------------------------------------------------------------------------------------------


def ruled(*rules: Json, **schema: Any) -> Json:
    return {**schema, "x-kubernetes-validations": list(rules)}


@pytest.mark.parametrize(
    ("schema", "value", "message"),
    [
        pytest.param(
            ruled({"rule": "self.min <= self.max", "message": "min must not exceed max"}, type="object"),
            {"min": 3, "max": 1},
            "min must not exceed max",
            id="fields",
        ),
        pytest.param(ruled({"rule": "self > 3"}, type="integer"), 2, "must satisfy self > 3", id="no message"),
        pytest.param(ruled({"rule": "self > 3", "messageExpression": "'is ' + string(self)", "message": "m"}, type="integer"), 2, "is 2", id="expression"),
        pytest.param(ruled({"rule": "self.all(x, x.startsWith('a'))", "message": "m"}, type="array"), ["a", "b"], "m", id="all"),
        pytest.param(ruled({"rule": "self.matches('^v1')", "message": "m"}, type="string"), "v2", "m", id="matches"),
        pytest.param(ruled({"rule": "!has(self.a) || self.b", "message": "m"}, type="object"), {"a": 1, "b": False}, "m", id="has"),
        pytest.param(ruled({"rule": "self.lowerAscii() == self", "message": "m"}, type="string"), "A", "m", id="text function"),
        pytest.param(ruled({"rule": "self.split('.').size() == 3", "message": "m"}, type="string"), "a.b", "m", id="split"),
        pytest.param(ruled({"rule": "isCIDR(self)", "message": "m"}, type="string"), "x", "m", id="cidr"),
    ],
)
def test_a_rule_that_does_not_hold(schema: Json, value: Any, message: str) -> None:
    assert [one.message for one in rule_violations(value, schema)] == [message]


def test_rules_below_and_their_fields() -> None:
    inner = ruled({"rule": "self.a != self.b", "message": "m", "fieldPath": ".b"}, type="object", properties={"a": {}, "b": {}})
    schema = {"type": "object", "properties": {"list": {"type": "array", "items": inner}, "map": {"type": "object", "additionalProperties": inner}}}
    value = {"list": [{"a": 1, "b": 2}, {"a": 1, "b": 1}], "map": {"k": {"a": 2, "b": 2}}}
    assert [one.path for one in rule_violations(value, schema)] == [".list[1].b", ".map.k.b"]


def test_names_are_escaped() -> None:
    schema = ruled({"rule": "self.a__dash__b == 1 && self.__in__ == 2", "message": "m"}, type="object", properties={"a-b": {"type": "integer"}, "in": {}})
    assert not list(rule_violations({"a-b": 1, "in": 2}, schema))
    assert len(list(rule_violations({"a-b": 2, "in": 2}, schema))) == 1


def test_a_transition_is_only_judged_where_something_was() -> None:
    schema = {"type": "object", "properties": {"zone": ruled({"rule": "self == oldSelf", "message": "zone cannot change"}, type="string")}}
    assert not list(rule_violations({"zone": "b"}, schema))
    assert not list(rule_violations({"zone": "b"}, schema, {}))
    assert [one.path for one in rule_violations({"zone": "b"}, schema, {"zone": "a"})] == [".zone"]
    known = definitions(("place", schema, False))
    before, after = (topology([{"name": "place", "value": {"zone": zone}}]) for zone in "ab")
    assert problems(known, after, before) == ['spec.topology.variables[place].value.zone: variable "place": zone cannot change']
    assert problems(known, after, after) == problems(known, after) == []


def test_a_rule_that_cannot_be_evaluated_is_the_classs_mistake() -> None:
    found = [one.message for one in rule_violations(1, ruled({"rule": "self.nosuch()"}, type="integer"))]
    assert len(found) == 1 and found[0].startswith("the rule 'self.nosuch()' cannot be evaluated:") and found[0].endswith("the ClusterClass must be corrected")
    assert [one.path for one in unreadable_rules({"properties": {"a": ruled({"rule": "1 +"})}})] == [".a"]


def test_rules_are_not_asked_of_a_value_of_another_form() -> None:
    known = definitions(("n", ruled({"rule": "self > 3"}, type="integer"), False))
    assert problems(known, topology([{"name": "n", "value": "x"}])) == ["spec.topology.variables[n].value: variable \"n\": must be of type integer, is 'x'"]


def test_unknown_fields_at_every_depth() -> None:
    schema = {"type": "object", "properties": {"l": {"type": "array", "items": {"type": "object", "properties": {"a": {}}}}, "m": {"type": "object"}}}
    assert list(unknown_fields({"l": [{"a": 1, "b": 2}], "m": {"x": 1}, "n": 1}, schema)) == [".l[0].b", ".m.x", ".n"]
