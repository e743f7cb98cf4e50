"""Every service has done its whole job with the rights that an installation gives it, and has no others. Last of the tier: all that the others did counts."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from fleetwake.rig.access_page import Grant, grants
from tests.e2e import manifests
from tests.e2e.api import Api
from tests.e2e.autoscaler import Autoscaler, certificates
from tests.e2e.fleet import ACCOUNTS, Fleet, left_of
from tests.e2e.recorder import World

pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.apiserver, pytest.mark.redis]

AGENT = "fleetwake-"
DECISION = "authorization.k8s.io/decision"
RUNNING = ("watcher", "reconcilers", "remediation", "admission", "autoscaler-bridge", "dev-infrastructure", "prepare")
KUBECTL_LIMIT_S = 30
REMEDIATED_LIMIT_S = 60.0
MANAGED = "managed"

Asked = tuple[str, str, str, str]
"""Service, API group, resource (with its subresource), verb."""


def _restarted(fleet: Fleet) -> bool:
    state = fleet.rig.state()
    assert state is not None
    return state.process("apiserver").starts > 1


def _covers(grant: Grant, service: str, event: dict[str, Any]) -> bool:
    """Whether a rule allows what a request asked."""
    asked = {asked[1:] for asked in _asked(service, event)} if event.get("objectRef") else {("", event["requestURI"], event["verb"])}
    allowed = {(group, resource, verb) for group in grant.groups for resource in grant.resources for verb in grant.verbs}
    return service in _holders(grant) and asked <= allowed and (not grant.names or event["objectRef"].get("name") in grant.names)


def _by_services(fleet: Fleet) -> Iterable[tuple[str, dict[str, Any]]]:
    for event in fleet.audit():
        user = event["user"]["username"]
        # what the tests themselves ask under an account is none of the service's
        if user.startswith(ACCOUNTS) and event.get("userAgent", "").startswith(AGENT):
            yield user.removeprefix(ACCOUNTS), event


def _asked(service: str, event: dict[str, Any]) -> Iterable[Asked]:
    ref = event["objectRef"]
    resource = "/".join(filter(None, (ref["resource"], ref.get("subresource"))))
    yield service, ref.get("apiGroup", ""), resource, event["verb"]
    if event["verb"] == "patch" and event["responseStatus"]["code"] == 201:
        # an apply that made the object has been asked for both verbs
        yield service, ref.get("apiGroup", ""), resource, "create"


@pytest.fixture(scope="module")
def life(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """A cluster's whole life: made, scaled, rolled out, a Machine replaced, another remediated, a pool, one more and one less by an autoscaler, deleted.

    And one of a class: its templates rotated, its health check and its workers taken away.
    """
    namespace, name = fleet.namespace("rights"), "humble"
    workers, plane = f"machinedeployment/{name}-workers", f"kubeadmcontrolplane/{name}-control-plane"
    fleet.apply(*manifests.cluster(name, namespace, workers=2))
    fleet.settle(namespace, name)
    for resource, replicas in ((workers, 3), (workers, 1), (plane, 3), (plane, 1)):
        fleet.scale(namespace, resource, replicas)
        fleet.settle(namespace, name)
    fleet.patch(namespace, workers, {"spec": {"template": {"spec": {"version": "v1.34.1"}}}})
    fleet.settle(namespace, name)
    fleet.kubectl("-n", namespace, "delete", "machine", "--selector", "!cluster.x-k8s.io/control-plane")
    fleet.settle(namespace, name)
    _pooled(fleet, namespace, name)
    _remediated(fleet, namespace, name)
    _autoscaled(fleet, namespace, name, tmp_path_factory.mktemp("autoscaler"))
    fleet.kubectl("-n", namespace, "delete", "cluster", name, "--wait=false")
    _managed(fleet, namespace)
    for one in (name, MANAGED):
        fleet.recorder.wait(lambda world, one=one: left_of(world, namespace, one), 60.0, f"{one} gone")
    fleet.kubectl("-n", namespace, "delete", "clusterclass", MANAGED)
    return fleet


def _managed(fleet: Fleet, namespace: str) -> None:
    """A topology with workers that have a health check: a variable is changed, the check is dropped, the workers leave, and the cluster is deleted."""
    checked = {"name": "md-0", "replicas": 1, "healthCheck": {"checks": {"nodeStartupTimeoutSeconds": 300}}}
    fleet.apply(*manifests.cluster_class(MANAGED, namespace), manifests.classed(MANAGED, namespace, MANAGED, workers=[checked]))
    fleet.settle(namespace, MANAGED)
    unchecked = {"class": "default", "name": "md-0", "replicas": 1}
    for topology in (
        {"variables": [{"name": "word", "value": "b"}]},
        {"workers": {"machineDeployments": [unchecked]}},
        {"workers": None},
    ):
        fleet.patch(namespace, f"cluster/{MANAGED}", {"spec": {"topology": topology}})
        fleet.settle(namespace, MANAGED)
    fleet.kubectl("-n", namespace, "delete", "cluster", MANAGED, "--wait=false")


def _pooled(fleet: Fleet, namespace: str, name: str) -> None:
    """A pool that is scaled up and down, deleted by hand, and another that goes with the cluster."""
    for last in (False, True):
        fleet.apply(*manifests.pool(name, namespace, replicas=1))
        fleet.settle(namespace, name)
        if not last:
            for replicas in (2, 1):
                fleet.scale(namespace, f"machinepool/{name}-pool", replicas)
                fleet.settle(namespace, name)
            fleet.kubectl("-n", namespace, "delete", "machinepool", f"{name}-pool")
            fleet.settle(namespace, name)


def _remediated(fleet: Fleet, namespace: str, name: str) -> None:
    """A MachineHealthCheck, and a worker that is to be remediated whatever its Node says."""
    checks = {"unhealthyNodeConditions": [{"type": "Ready", "status": "False", "timeoutSeconds": 300}]}
    fleet.apply(manifests.health_check("workers", name, namespace, checks))
    before = {machine["metadata"]["uid"] for machine in fleet.recorder.world.all("Machine", namespace)}
    fleet.kubectl("-n", namespace, "annotate", "machine", "--selector", "!cluster.x-k8s.io/control-plane", "cluster.x-k8s.io/remediate-machine=")

    def awaited(world: World) -> list[str]:
        left = before & {machine["metadata"]["uid"] for machine in world.all("Machine", namespace)}
        return [] if len(left) == len(before) - 1 else [f"{len(left)} of {len(before)} Machines are still there"]

    fleet.recorder.wait(awaited, REMEDIATED_LIMIT_S, "the marked Machine replaced")
    fleet.settle(namespace, name)


def _autoscaled(fleet: Fleet, namespace: str, name: str, folder: Path) -> None:
    """The workers as a node group that gets one more and loses one that is named."""
    prefix = "cluster.x-k8s.io/cluster-api-autoscaler-node-group-"
    fleet.patch(namespace, f"machinedeployment/{name}-workers", {"metadata": {"annotations": {f"{prefix}min-size": "1", f"{prefix}max-size": "3"}}})
    autoscaler, group = Autoscaler(certificates(fleet, f"{namespace}/{name}", folder)), f"MachineDeployment/{namespace}/{name}-workers"
    autoscaler.until(lambda: group in autoscaler.groups())
    (before,) = autoscaler.nodes(group)
    autoscaler.increase(group, 1)
    fleet.settle(namespace, name)
    autoscaler.until(lambda: set(autoscaler.nodes(group).values()) == {"instanceRunning"} and len(autoscaler.nodes(group)) == 2)
    autoscaler.delete(group, [before])
    fleet.settle(namespace, name)


def test_no_request_of_our_accounts_was_refused(life: Fleet) -> None:
    events = list(_by_services(life))
    assert {service for service, _ in events} == set(RUNNING)
    assert {event["annotations"][DECISION] for _, event in events} <= {"allow", "forbid"}
    refused = [(service, event) for service, event in events if event["annotations"][DECISION] == "forbid"]
    if _restarted(life):
        # an API server that starts answers before it has read the roles: what they grant is refused for a moment, and asked again
        refused = [(service, event) for service, event in refused if not any(_covers(grant, service, event) for grant in grants())]
    assert {f"{service} {event['verb']} {event['requestURI']}" for service, event in refused} == set()
    # admission of owner references refuses with a decision of its own
    blocked = {f"{service} {event['requestURI']}" for service, event in events if "finalizers" in str(event.get("responseStatus", {}).get("message", ""))}
    assert blocked == set()


def test_every_right_was_used_or_is_known_to_be_rare(life: Fleet) -> None:
    used = {asked for service, event in _by_services(life) if event.get("objectRef") for asked in _asked(service, event)}
    unused = {
        f"{grant.service} {verb} {resource}.{group}"
        for grant in grants()
        # tests/e2e/test_served_versions.py has those that older versions need
        if grant.service in RUNNING and not grant.admission and grant.scope != "older"
        for group in grant.groups
        for resource in grant.resources
        for verb in grant.verbs
        if verb not in grant.rare and not any((service, group, resource, verb) in used for service in _holders(grant))
    }
    assert unused == set(), "\n".join(sorted(unused))


def _holders(grant: Grant) -> tuple[str, ...]:
    """Who has the right: the service itself, or those that aggregate what it grants."""
    return {
        "cluster.x-k8s.io/aggregate-to-manager": ("reconcilers", "remediation"),
        "fleetwake.cluster.x-k8s.io/aggregate-to-watcher": ("watcher",),
    }.get(grant.scope, (grant.service,))


REFUSED = {
    "watcher": [
        ("create", "machines.cluster.x-k8s.io"),
        ("patch", "clusters.cluster.x-k8s.io"),
        ("patch", "machines.cluster.x-k8s.io/status"),
        ("create", "secrets"),
        ("update", "secrets"),
        ("delete", "configmaps"),
        ("update", "leases.coordination.k8s.io/another"),
        ("list", "pods"),
        ("patch", "customresourcedefinitions.apiextensions.k8s.io"),
    ],
    "reconcilers": [
        ("list", "secrets"),
        ("watch", "secrets"),
        ("create", "clusters.cluster.x-k8s.io"),
        ("delete", "clusters.cluster.x-k8s.io"),
        ("watch", "machines.cluster.x-k8s.io"),
        ("create", "clusterclasses.cluster.x-k8s.io"),
        ("patch", "clusterclasses.cluster.x-k8s.io"),
        ("create", "kubeadmcontrolplanetemplates.controlplane.cluster.x-k8s.io"),
        ("patch", "devmachines.infrastructure.cluster.x-k8s.io/status"),
        ("create", "clusterroles.rbac.authorization.k8s.io"),
        ("create", "pods"),
        ("update", "leases.coordination.k8s.io/fleetwake-watcher"),
        ("list", "namespaces"),
    ],
    "remediation": [
        ("get", "secrets"),
        ("list", "secrets"),
        ("watch", "machines.cluster.x-k8s.io"),
        ("list", "clusters.cluster.x-k8s.io"),
        ("create", "machines.cluster.x-k8s.io"),
        ("patch", "machines.cluster.x-k8s.io"),
        ("delete", "machines.cluster.x-k8s.io"),
        ("patch", "clusters.cluster.x-k8s.io"),
        ("patch", "clusters.cluster.x-k8s.io/status"),
        ("patch", "machinesets.cluster.x-k8s.io/status"),
        ("create", "machinehealthchecks.cluster.x-k8s.io"),
        ("update", "leases.coordination.k8s.io/fleetwake-watcher"),
    ],
    "dev-infrastructure": [
        ("list", "secrets"),
        ("create", "secrets"),
        ("patch", "machines.cluster.x-k8s.io"),
        ("patch", "clusters.cluster.x-k8s.io/status"),
        ("delete", "devclusters.infrastructure.cluster.x-k8s.io"),
        ("create", "machines.cluster.x-k8s.io"),
        ("patch", "machinepools.cluster.x-k8s.io"),
        ("get", "kubeadmconfigs.bootstrap.cluster.x-k8s.io"),
        ("get", "configmaps"),
        ("create", "events"),
    ],
    "prepare": [
        ("delete", "customresourcedefinitions.apiextensions.k8s.io"),
        ("patch", "customresourcedefinitions.apiextensions.k8s.io/foreign.example.org"),
        ("get", "clusters.cluster.x-k8s.io"),
        ("list", "secrets"),
        ("get", "secrets/another"),
    ],
    "autoscaler-bridge": [
        ("get", "secrets"),
        ("list", "secrets"),
        ("create", "machines.cluster.x-k8s.io"),
        ("delete", "machines.cluster.x-k8s.io"),
        ("delete", "machinedeployments.cluster.x-k8s.io"),
        ("patch", "machines.cluster.x-k8s.io/status"),
        ("patch", "clusters.cluster.x-k8s.io"),
        ("patch", "kubeadmcontrolplanes.controlplane.cluster.x-k8s.io"),
        ("get", "devmachinetemplates.infrastructure.cluster.x-k8s.io"),
    ],
}


@pytest.mark.parametrize("service", REFUSED)
def test_what_is_outside_a_role_is_refused(fleet: Fleet, service: str) -> None:
    """By the API server's own authorizer, asked under the account's own token."""
    api = Api(f"{fleet.rig.endpoints().kubeconfig}-{service}")
    allowed = [call for call in REFUSED[service] if _allowed(api, *call)]
    assert allowed == []


def _allowed(api: Api, verb: str, resource: str) -> bool:
    plural, _, rest = resource.partition("/")
    name, _, group = plural.partition(".")
    attributes = {"namespace": "fleetwake-system", "verb": verb, "group": group, "resource": name}
    attributes["subresource" if rest in ("status", "scale") else "name"] = rest
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": {"resourceAttributes": attributes}}
    return bool(api.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review)["status"]["allowed"])


def test_a_call_outside_a_role_has_no_effect(fleet: Fleet) -> None:
    """Not only the authorizer's word: the real calls, with the account's own token, and the world as it was."""
    endpoints, namespace = fleet.rig.endpoints(), fleet.namespace("refused")
    fleet.kubectl("-n", namespace, "create", "secret", "generic", "kept", "--from-literal=a=1")
    document = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "made", "namespace": namespace}}
    calls = (
        ("watcher", ("create", "-f", "-")),
        ("watcher", ("-n", namespace, "delete", "secret", "kept")),
        ("dev-infrastructure", ("create", "-f", "-")),
        ("reconcilers", ("-n", namespace, "get", "secrets")),
        ("prepare", ("-n", namespace, "get", "secret", "kept")),
    )
    for service, arguments in calls:
        command = [endpoints.kubectl, "--kubeconfig", f"{endpoints.kubeconfig}-{service}", *arguments]
        done = subprocess.run(command, input=json.dumps(document), capture_output=True, text=True, timeout=KUBECTL_LIMIT_S, check=False)
        assert done.returncode != 0 and "Forbidden" in done.stderr, (service, arguments, done.stdout, done.stderr)
    assert fleet.kubectl("-n", namespace, "get", "secrets", "-o", "jsonpath={.items[*].metadata.name}") == "kept"
