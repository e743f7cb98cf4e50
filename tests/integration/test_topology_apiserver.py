"""A topology on a real API server: its objects satisfy their definitions, and what the server adds to them is no difference."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
import yaml

from fleetwake.cli import schemas as commands
from fleetwake.kube import config
from fleetwake.kube.client import APPLY_PATCH, JSON, MERGE_PATCH, ApiClient, Response, resource_path
from fleetwake.kube.definitions import apply_definitions
from fleetwake.plan import Apply, Create, Delete, Patch, Plan
from fleetwake.rig.records import Endpoints
from fleetwake.shell.bodies import apply_body, patch_body
from fleetwake.topology.blueprint import TemplateKey, references
from schemas.api import registry
from schemas.api.core.v1beta2.cluster_class import ClusterClass
from schemas.keys import GroupKind, ObjectKey
from services.reconcilers.kinds.cluster_class import decide as class_decide
from services.reconcilers.kinds.cluster_class.references import Templates
from services.reconcilers.kinds.cluster_topology.decide import MANAGER, observe, reconcile
from tests.decide.test_cluster_class import QUICK_START
from tests.decide.topology_world import BOOTSTRAP, NEXT, VERSION, cluster, cluster_class, patch, templates, variable
from tests.decide.world import FakeView, plan_writes

pytestmark = pytest.mark.apiserver

Json = dict[str, Any]
OK = range(200, 300)
COMMAND = {"op": "add", "path": "/spec/template/spec/preKubeadmCommands", "valueFrom": {"template": "- echo {{ .word | quote }}"}}
CHECK = {"checks": {"unhealthyNodeConditions": [{"type": "Ready", "status": "Unknown", "timeoutSeconds": 300}]}}


@dataclass
class Server:
    """The real server, and what is on it in one namespace."""

    api: ApiClient
    namespace: str
    class_name: str = "quick"

    async def send(self, method: str, path: str, body: Any = None, **more: Any) -> Response:
        answer = await self.api.request(method, path, body=None if body is None else orjson.dumps(body), **more)
        assert answer.status in OK, f"{method} {path}: {answer.status} {answer.body[:600]!r}"
        return answer

    def path(self, api_version: str, kind: str, name: str = "", subresource: str = "") -> str:
        model = registry.get(api_version.partition("/")[0], kind)
        return resource_path(api_version, model.PLURAL, self.namespace, name, subresource)

    async def put(self, document: Json) -> None:
        """Store an object of a user."""
        document = {**document, "metadata": {key: value for key, value in document["metadata"].items() if key in ("name", "labels", "annotations")}}
        path = self.path(document["apiVersion"], document["kind"], document["metadata"]["name"])
        await self.send("PATCH", path, document, query={"fieldManager": "user", "fieldValidation": "Strict"}, content_type=APPLY_PATCH)

    async def view(self) -> FakeView:
        """Everything in the namespace."""
        found = []
        for model in registry.KINDS:
            if model.SCOPE != "Namespaced":
                continue
            api_version = f"{model.GROUP}/{model.VERSION}"
            listed = (await self.send("GET", self.path(api_version, model.KIND))).json()["items"]
            found += [{"apiVersion": api_version, "kind": model.KIND, **item} for item in listed]
        return FakeView(found)

    async def write(self, step: Create | Apply | Patch | Delete) -> None:
        """One step as the shell sends it."""
        if isinstance(step, Create):
            path = self.path(step.body["apiVersion"], step.key.kind, step.key.name)
            await self.send("PATCH", path, step.body, query={"fieldManager": step.manager, "fieldValidation": "Strict"}, content_type=APPLY_PATCH)
            return
        path = self.path(step.api_version, step.key.kind, step.key.name, getattr(step, "subresource", ""))
        if isinstance(step, Apply):
            query = {"fieldManager": step.manager, "force": "true", "fieldValidation": "Strict"}
            await self.send("PATCH", path, apply_body(step), query=query, content_type=APPLY_PATCH)
        elif isinstance(step, Patch):
            await self.send("PATCH", path, patch_body(step), query={"fieldManager": MANAGER}, content_type=MERGE_PATCH)
        else:
            await self.send("DELETE", path, {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": step.uid}}, content_type=JSON)

    async def carry_out(self, plan: Plan) -> list[str]:
        """The steps of a plan; returns the kinds of those that are no status."""
        for step in plan_writes(plan):
            assert isinstance(step, Create | Apply | Patch | Delete)
            await self.write(step)
        return [f"{type(step).__name__} {step.key.kind}" for step in plan_writes(plan) if not getattr(step, "subresource", "")]

    async def run_class(self) -> list[str]:
        """One run of the class."""
        view = await self.view()
        one = view.get(ClusterClass, self.namespace, self.class_name)
        assert one is not None
        known = {
            TemplateKey(ref.api_version, ref.kind, ref.name): found
            for ref in references(one)
            if (found := view.external(GroupKind(ref.group, ref.kind), self.namespace, ref.name)) is not None
        }
        return await self.carry_out(class_decide.reconcile(class_decide.Observed(view.at, one, Templates(known, {}))))

    async def run(self) -> list[str]:
        """One run of the topology."""
        observed = observe(await self.view(), ObjectKey("cluster.x-k8s.io", "Cluster", self.namespace, "my"))
        assert observed is not None
        return await self.carry_out(reconcile(observed))

    async def rest(self) -> None:
        """Everything is as asked."""
        for run in (self.run_class, self.run):
            await run()
            assert await run() == []

    async def edit(self, kind: str, name: str, body: Json, api_version: str = "cluster.x-k8s.io/v1beta2", subresource: str = "") -> None:
        """A merge patch by a user or another controller."""
        await self.send("PATCH", self.path(api_version, kind, name, subresource), body, query={"fieldManager": "user"}, content_type=MERGE_PATCH)

    async def one(self, kind: str) -> Json:
        found = [obj for key, obj in (await self.view()).sorted() if key.kind == kind and "cluster.x-k8s.io/cluster-name" in obj["metadata"].get("labels", {})]
        assert len(found) == 1, (kind, len(found))
        return found[0]


@pytest.fixture
async def server(rig_endpoints: Endpoints, kube_namespace: str) -> AsyncIterator[Server]:
    async with ApiClient(config.load(rig_endpoints.kubeconfig), service="test") as api:
        await apply_definitions(api, commands.definitions())
        yield Server(api, kube_namespace)


async def test_a_topology_is_made_changed_and_upgraded(server: Server) -> None:
    one = patch("word", "KubeadmConfigTemplate", {"machineDeploymentClass": {"names": ["*"]}}, COMMAND, api_version=BOOTSTRAP)
    of_class = cluster_class(variables=[variable("word", {"type": "string", "default": "a"})], patches=[one])
    of_class["spec"]["controlPlane"]["healthCheck"] = CHECK
    workers = {
        "machineDeployments": [{"class": "default-worker", "name": "md-0", "replicas": 2, "rollout": {"strategy": {"type": "RollingUpdate"}}}],
        "machinePools": [{"class": "default-pool", "name": "mp-0", "replicas": 1}],
    }
    for document in (*templates(), of_class, cluster(workers=workers)):
        await server.put(document)
    await server.run_class()
    made = ["DevCluster", "DevMachineTemplate", "KubeadmControlPlane", "KubeadmConfigTemplate", "MachineHealthCheck", "DevMachineTemplate", "MachineDeployment"]
    made += ["KubeadmConfig", "DevMachinePool", "MachinePool"]
    assert sorted(await server.run()) == sorted([*(f"Create {kind}" for kind in made), "Patch Cluster"])
    await server.rest()
    assert (await server.one("KubeadmConfigTemplate"))["spec"]["template"]["spec"]["preKubeadmCommands"] == ['echo "a"']

    # others write beside us, and an autoscaler has its own mind
    deployment = await server.one("MachineDeployment")
    name = deployment["metadata"]["name"]
    await server.edit("MachineDeployment", name, {"metadata": {"annotations": {"of": "others"}}, "spec": {"machineNaming": {"template": "x-{{ .random }}"}}})
    assert await server.run() == []

    # a variable rotates the template that its patch changes, and nothing else
    control_plane = await server.one("KubeadmControlPlane")
    status = {"status": {"version": VERSION, "versions": [{"version": VERSION, "replicas": 3}]}}
    await server.edit("KubeadmControlPlane", control_plane["metadata"]["name"], status, "controlplane.cluster.x-k8s.io/v1beta2", "status")
    await server.edit("Cluster", "my", {"spec": {"topology": {"variables": [{"name": "word", "value": "b"}]}}})
    assert await server.run() == ["Create KubeadmConfigTemplate", "Apply MachineDeployment"]
    await server.rest()

    # a field taken out of the class's template is gone from the new one, and noticed though the server has other fields too
    await server.edit("KubeadmConfigTemplate", "worker-bootstrap", {"spec": {"template": {"spec": {"files": None}}}}, BOOTSTRAP)
    assert await server.run() == ["Create KubeadmConfigTemplate", "Apply MachineDeployment"]
    await server.rest()

    # an upgrade: the control plane first
    await server.edit("Cluster", "my", {"spec": {"topology": {"version": NEXT}}})
    assert await server.run() == ["Patch Cluster", "Apply KubeadmControlPlane"]
    await server.rest()
    told = (await server.one("Cluster"))["status"]
    assert [one["version"] for one in told["workers"]["upgradePlan"]] == [NEXT]
    assert next(one for one in told["conditions"] if one["type"] == "TopologyReconciled")["reason"] == "ClusterUpgrading"


async def test_a_cluster_of_fifteen_lines_with_a_proxy(server: Server) -> None:
    server.class_name = "quick-start"
    proxy = {"httpsProxy": "http://proxy.example:3128", "credentialsSecret": {"name": "proxy"}}
    for document in yaml.safe_load_all(QUICK_START.read_text()):
        if document["kind"] == "Cluster":
            document["spec"]["topology"]["variables"] = [{"name": "httpProxy", "value": proxy}]
        await server.put(document)
    await server.run_class()
    await server.run()
    await server.rest()
    assert (await server.one("KubeadmConfigTemplate"))["spec"]["template"]["spec"]["fleetwake"] == {"httpProxy": proxy}
    assert (await server.one("KubeadmControlPlane"))["spec"]["kubeadmConfigSpec"]["fleetwake"] == {"httpProxy": proxy}
    stored = (await server.one("Cluster"))["spec"]["topology"]["variables"]
    assert {one["name"]: one["value"] for one in stored} == {"httpProxy": proxy, "startupDuration": "0s"}
