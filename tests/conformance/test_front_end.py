"""The HTTP front end: discovery, renderings, refusals of formats, authentication, extensions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from fleetwake.sim.apiserver import ApiServer, PatchType, ResourceDefinition, Settings, WriteOptions
from fleetwake.sim.http import Credentials, Extensions, application

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
METADATA = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io,application/json"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io,application/json"
GADGETS = ResourceDefinition("g.dev", "v2", "Gadget", "gadgets", served=("v2", "v1"))
Http = TestClient[web.Request, web.Application]


def _server() -> ApiServer:
    api = ApiServer(lambda: datetime(2026, 1, 1, 1, tzinfo=UTC), Settings(create_namespaces=True))
    api.register(GADGETS)
    api.create("nodes", {"metadata": {"name": "n", "labels": {"node-role.kubernetes.io/control-plane": ""}}, "spec": {"unschedulable": True}})
    ready = {"conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"kubeletVersion": "v1.36.0"}}
    api.patch("nodes", ("", "n"), {"status": ready}, PatchType.MERGE, WriteOptions(subresource="status"))
    api.create(GADGETS.resource, {"metadata": {"name": "g"}}, "default")
    return api


async def _forward(request: web.Request, namespace: str, name: str) -> web.StreamResponse:
    return web.Response(text=f"forward {namespace}/{name}")


async def _debug(request: web.Request) -> web.StreamResponse:
    return web.Response(text=f"debug {request.path}")


def _user(credentials: Credentials) -> str | None:
    return "admin" if credentials.token == "secret" else None


@pytest.fixture
async def http() -> AsyncIterator[Http]:
    extra = web.get("/debug", _debug)
    extensions = Extensions(authenticate=_user, subresources={("pods", "portforward"): _forward}, routes=(extra,))
    headers = {"Authorization": "Bearer secret"}
    async with TestClient(TestServer(application(_server(), extensions)), headers=headers) as client:
        yield client


async def test_who_is_not_known_is_turned_away(http: Http) -> None:
    answer = await http.get("/api/v1/nodes", headers={"Authorization": "Bearer wrong"})
    assert (answer.status, (await answer.json())["reason"]) == (401, "Unauthorized")


async def test_discovery_names_every_resource(http: Http) -> None:
    assert (await (await http.get("/version")).json())["gitVersion"] == "v1.36.0"
    groups = (await (await http.get("/apis")).json())["groups"]
    gadget = next(group for group in groups if group["name"] == "g.dev")
    assert [version["version"] for version in gadget["versions"]] == ["v2", "v1"]
    resources = (await (await http.get("/apis/g.dev/v1")).json())["resources"]
    assert [resource["name"] for resource in resources] == ["gadgets", "gadgets/status"]
    assert (await http.get("/")).status == 200
    assert (await http.get("/apis/none.dev/v1")).status == 404
    assert (await http.get("/api/v1/nothings")).status == 404


async def test_tables_have_the_columns_kubectl_shows(http: Http) -> None:
    table = await (await http.get("/api/v1/nodes", headers={"Accept": TABLE})).json()
    assert [column["name"] for column in table["columnDefinitions"] if not column["priority"]] == ["Name", "Status", "Roles", "Version", "Age"]
    assert table["rows"][0]["cells"][:4] == ["n", "Ready,SchedulingDisabled", "control-plane", "v1.36.0"]


async def test_metadata_alone_can_be_asked_for(http: Http) -> None:
    one = await (await http.get("/api/v1/nodes/n", headers={"Accept": METADATA})).json()
    assert (one["kind"], sorted(one)) == ("PartialObjectMetadata", ["apiVersion", "kind", "metadata"])
    many = await (await http.get("/api/v1/nodes", headers={"Accept": METADATA_LIST})).json()
    assert (many["kind"], len(many["items"])) == ("PartialObjectMetadataList", 1)


async def test_other_served_versions_differ_in_api_version_only(http: Http) -> None:
    newest = await (await http.get("/apis/g.dev/v2/namespaces/default/gadgets/g")).json()
    older = await (await http.get("/apis/g.dev/v1/namespaces/default/gadgets/g")).json()
    assert (newest["apiVersion"], older["apiVersion"]) == ("g.dev/v2", "g.dev/v1")
    assert older["metadata"]["uid"] == newest["metadata"]["uid"]
    made = await http.post("/apis/g.dev/v1/namespaces/default/gadgets", json={"apiVersion": "g.dev/v1", "kind": "Gadget", "metadata": {"name": "h"}})
    assert (made.status, (await made.json())["apiVersion"]) == (201, "g.dev/v1")


async def test_formats_not_served_are_refused(http: Http) -> None:
    body = await http.post("/api/v1/namespaces", data=b"k8s\x00", headers={"Content-Type": "application/vnd.kubernetes.protobuf"})
    patch = await http.patch("/api/v1/nodes/n", data=b"{}", headers={"Content-Type": "application/json"})
    assert (body.status, patch.status) == (415, 415)
    answer = await http.get("/api/v1/nodes", headers={"Accept": "application/vnd.kubernetes.protobuf, */*"})
    assert (answer.status, answer.content_type) == (200, "application/json")


async def test_a_body_of_yaml_is_applied(http: Http) -> None:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: c\ndata:\n  a: b\n"
    headers = {"Content-Type": "application/apply-patch+yaml"}
    path = "/api/v1/namespaces/default/configmaps/c?fieldManager=m"
    assert [(await http.patch(path, data=text, headers=headers)).status for _ in range(2)] == [201, 200]


async def test_extensions_take_their_paths(http: Http) -> None:
    answer = await http.post("/api/v1/namespaces/default/pods/p/portforward")
    assert await answer.text() == "forward default/p"
    assert await (await http.get("/debug")).text() == "debug /debug"


async def test_a_watch_ends_with_its_time(http: Http) -> None:
    async with http.get("/api/v1/nodes?watch=true&timeoutSeconds=1") as answer:
        lines = [line async for line in answer.content]
    assert len(lines) == 1 and lines[0].startswith(b'{"type":"ADDED"')


async def test_a_client_that_leaves_closes_its_watch() -> None:
    api = _server()
    async with TestClient(TestServer(application(api))) as client:
        answer = await client.get("/api/v1/nodes?watch=true")
        await answer.content.readline()
        watches = api.store.watches["nodes"]
        assert len(watches) == 1
        answer.close()
    assert watches == []
