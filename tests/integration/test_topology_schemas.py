"""Values of variables are judged and completed as a real API server judges and completes fields of the same schema, CEL rules included."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from fleetwake.kube import config
from fleetwake.kube.client import JSON, ApiClient
from fleetwake.rig.records import Endpoints
from fleetwake.topology.rules import rule_violations
from fleetwake.topology.schema import defaulted, unknown_fields, violations
from tests.decide.test_topology_variables import PROXY, ruled

pytestmark = pytest.mark.apiserver

Json = dict[str, Any]
GROUP, PLURAL = "topology.fleetwake.test", "variables"
ESTABLISHED_SECONDS = 20.0

TEXT, WHOLE = {"type": "string"}, {"type": "integer"}
PAIR: Json = {"type": "object", "properties": {"a-b": WHOLE, "in": WHOLE, "s": {"type": "string", "maxLength": 20}}}
CASES: tuple[tuple[Json, tuple[Any, ...]], ...] = (
    (PROXY, ({"url": "http://p"}, {}, {"url": 5}, {"url": "no scheme"}, {"url": "/path"}, {"url": "http://p", "port": 0}, {"url": "http://p", "port": 1.0})),
    (
        PROXY,
        ({"url": "http://p", "port": 70000}, {"url": "http://p", "auth": {"mode": "x"}}, {"url": "http://p", "auth": {}}, {"url": "http://p", "port": None}),
    ),
    (PROXY, ({"url": "http://p", "noProxy": ["a", "B"]}, {"url": "http://p", "noProxy": list("abcd")}, {"url": "http://p", "labels": {"k": "toolong"}})),
    (PROXY, ({"url": "http://p", "size": 1.5}, {"url": "http://p", "size": "x"}, {"url": "http://p", "size": 3}, {"url": "http://p", "any": {"x": 1}})),
    ({"type": "string", "format": "ipv4"}, ("10.0.0.1", "::1", "10.0.0", "")),
    ({"type": "string", "format": "cidr"}, ("10.0.0.0/8", "10.0.0.0", "fd00::/8")),
    ({"type": "string", "format": "duration"}, ("1h30m", "90", "1.5s", "0", "-1m")),
    ({"type": "string", "format": "date-time"}, ("2026-01-02T03:04:05Z", "2026-01-02", "2026-01-02T03:04:05+01:00")),
    ({"type": "string", "format": "uuid"}, ("9d4f6b8e-0000-4000-8000-000000000001", "x")),
    ({"type": "string", "format": "byte"}, ("aGVsbG8=", "%%")),
    ({"type": "string", "pattern": "^a$"}, ("a", "a\n", "ba")),
    ({"type": "string", "pattern": "\\d+"}, ("7", "٧", "x")),
    ({"type": "integer", "oneOf": [{"maximum": 3}, {"minimum": 10}]}, (2, 5, 11)),
    ({"type": "integer", "not": {"enum": [3]}}, (2, 3)),
    ({"type": "number", "maximum": 3, "exclusiveMaximum": True}, (2.9, 3, 3.0)),
    ({"type": "integer", "format": "int32"}, (5, 1 << 40)),
    ({"type": "string", "minLength": 2}, ("é", "éé", "a")),
    (ruled({"rule": "self > 3"}, **WHOLE), (2, 4)),
    (ruled({"rule": "self.matches('^v[0-9]+$')"}, **TEXT), ("v1", "v", "xv1")),
    (ruled({"rule": "self.lowerAscii() == self && self.split('.').size() == 2"}, type="string", maxLength=20), ("a.b", "A.b", "ab")),
    (ruled({"rule": "isCIDR(self) || isIP(self)"}, type="string", maxLength=50), ("10.0.0.0/8", "10.0.0.1", "x")),
    (ruled({"rule": "self.a__dash__b == self.__in__"}, **PAIR), ({"a-b": 1, "in": 1}, {"a-b": 1, "in": 2}, {"a-b": 1})),
    (ruled({"rule": "!has(self.s) || self.s.startsWith('x')"}, **PAIR), ({}, {"s": "xy"}, {"s": "y"})),
    (ruled({"rule": "self.all(x, x.size() > 1)"}, type="array", maxItems=5, items={"type": "string", "maxLength": 9}), (["ab"], ["a"], [])),
    (ruled({"rule": "self.exists_one(x, x == 1) && self.indexOf(1) == 0"}, type="array", maxItems=5, items=WHOLE), ([1, 2], [2, 1], [1, 1])),
    (ruled({"rule": "self.isSorted() && self.sum() < 10"}, type="array", maxItems=5, items=WHOLE), ([1, 2], [2, 1], [9, 9])),
    (ruled({"rule": "self.find('[0-9]+') == '12' && self.replace('a', 'b') != self"}, type="string", maxLength=20), ("a12", "b12", "a1")),
    (ruled({"rule": "self.trim().upperAscii().substring(0, 2) == 'AB' || self.charAt(0) == 'z'"}, type="string", maxLength=20), (" abc", "zz", "bc")),
    (
        ruled({"rule": "self.map(x, x * 2).exists(x, x == 4) || size(self) == 0"}, type="array", maxItems=3, items=WHOLE),
        ([2], [3], []),
    ),
    (ruled({"rule": "duration(self) >= duration('1m')"}, type="string", maxLength=20), ("2m", "30s")),
    (ruled({"rule": "self.x / 2.0 > 1.0"}, type="object", required=["x"], properties={"x": {"type": "number"}}), ({"x": 3}, {"x": 1}, {"x": 2.5})),
)


def definition() -> Json:
    """A kind with a field for each schema."""
    fields = {f"v{index}": _typed(schema) for index, (schema, _) in enumerate(CASES)}
    schema = {"type": "object", "properties": {"spec": {"type": "object", "properties": fields}}}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"kind": "Variable", "plural": PLURAL, "singular": "variable"}
    spec = {"group": GROUP, "scope": "Cluster", "names": names, "versions": [version]}
    return {"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": f"{PLURAL}.{GROUP}"}, "spec": spec}


def _typed(schema: Json) -> Json:
    """The schema without what definitions of kinds may not say (uniqueItems) and variables may."""
    out = {key: value for key, value in schema.items() if key != "uniqueItems"}
    if "properties" in out:
        out["properties"] = {key: _typed(value) for key, value in out["properties"].items()}
    return out


@pytest.fixture
async def api(rig_endpoints: Endpoints) -> Any:
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    async with ApiClient(config.load(rig_endpoints.kubeconfig), service="test") as client:
        answer = await client.request("POST", path, body=orjson.dumps(definition()), content_type=JSON)
        assert answer.status == 201, answer.body
        async with asyncio.timeout(ESTABLISHED_SECONDS):
            while (await client.request("GET", f"/apis/{GROUP}/v1/{PLURAL}")).status != 200:
                await asyncio.sleep(0.1)
        yield client
        await client.request("DELETE", f"{path}/{PLURAL}.{GROUP}")


async def test_values_are_judged_and_completed_as_by_the_api_server(api: ApiClient) -> None:
    different: list[Any] = []
    verdicts = {201: 0, 422: 0}
    for index, (schema, values) in enumerate(CASES):
        for value in values:
            body = {"apiVersion": f"{GROUP}/v1", "kind": "Variable", "metadata": {"name": "one"}, "spec": {f"v{index}": value}}
            query = {"dryRun": "All", "fieldValidation": "Strict"}
            answer = await api.request("POST", f"/apis/{GROUP}/v1/{PLURAL}", query=query, body=orjson.dumps(body), content_type=JSON)
            verdicts[answer.status] += 1
            ours = defaulted(value, schema)
            wrong = list(violations(ours, schema)) or [*unknown_fields(ours, schema)] or [*rule_violations(ours, schema)]
            if (answer.status == 201) != (not wrong):
                different.append((schema, value, answer.status, answer.json().get("message"), wrong))
            elif answer.status == 201 and answer.json()["spec"].get(f"v{index}") != ours:
                different.append((schema, value, answer.json()["spec"], ours))
    assert not different, "\n".join(map(str, different))
    assert min(verdicts.values()) > 30, verdicts
