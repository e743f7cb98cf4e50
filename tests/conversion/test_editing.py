"""What happens to an object of the hub when somebody works on it in an older version."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from schemas.conversion import CONVERSION_DATA, Context, ConversionError, from_hub, to_hub
from schemas.conversion.codecs import go_duration, seconds
from tests.conversion.objects import NAMESPACE
from tests.conversion.test_laws import CONTEXT

Obj = dict[str, Any]

MACHINE: Obj = {
    "apiVersion": "cluster.x-k8s.io/v1beta2",
    "kind": "Machine",
    "metadata": {"name": "one", "namespace": NAMESPACE, "annotations": {"team": "blue"}},
    "spec": {
        "clusterName": "one",
        "bootstrap": {"dataSecretName": "s"},
        "infrastructureRef": {"apiGroup": "infrastructure.cluster.x-k8s.io", "kind": "DevMachine", "name": "one"},
        "minReadySeconds": 30,
        "deletion": {"nodeDrainTimeoutSeconds": 90, "nodeDeletionTimeoutSeconds": 0},
        "taints": [{"key": "a", "effect": "NoExecute", "propagation": "Always"}],
    },
    "status": {"phase": "Updating", "failureDomain": "a", "initialization": {"infrastructureProvisioned": False}},
}
CONFIG: Obj = {
    "apiVersion": "bootstrap.cluster.x-k8s.io/v1beta2",
    "kind": "KubeadmConfig",
    "metadata": {"name": "one", "namespace": NAMESPACE},
    "spec": {
        "clusterConfiguration": {"apiServer": {"extraArgs": [{"name": "v", "value": "4"}, {"name": "audit", "value": "-"}]}},
        "initConfiguration": {"timeouts": {"kubeletHealthCheckSeconds": 7, "controlPlaneComponentHealthCheckSeconds": 5}},
        "joinConfiguration": {"timeouts": {"discoverySeconds": 9, "controlPlaneComponentHealthCheckSeconds": 5}},
        "files": [{"path": "/a", "content": "x", "append": False}, {"path": "/b", "content": "y"}],
        "fleetwake": {"secretTransport": {"type": "Fetch"}},
    },
}


def edited(hub: Obj, version: str, edit: Callable[[Obj], None]) -> Obj:
    old = from_hub(hub, version, CONTEXT)
    edit(old)
    return to_hub(old, CONTEXT)


def changed(hub: Obj, change: Callable[[Obj], None]) -> Obj:
    new = copy.deepcopy(hub)
    change(new)
    return new


def test_a_version_is_all_that_changes() -> None:
    def edit(obj: Obj) -> None:
        obj["spec"]["version"] = "v1.36.0"

    for version in ("v1beta1", "v1alpha4"):
        assert edited(MACHINE, version, edit) == changed(MACHINE, edit)


def test_a_duration_is_all_that_changes_and_what_the_version_cannot_say_stays() -> None:
    def seen(obj: Obj) -> None:
        assert obj["spec"]["nodeDrainTimeout"] == "1m30s"
        assert "nodeDeletionTimeout" not in obj["spec"]
        assert obj["status"]["phase"] == "Running"
        obj["spec"]["nodeDrainTimeout"] = "2m"

    def wanted(obj: Obj) -> None:
        obj["spec"]["deletion"]["nodeDrainTimeoutSeconds"] = 120

    assert edited(MACHINE, "v1alpha4", seen) == changed(MACHINE, wanted)


def test_what_is_taken_away_takes_nothing_with_it_that_was_not_seen() -> None:
    hub = edited(MACHINE, "v1alpha4", lambda obj: obj["spec"].pop("nodeDrainTimeout"))
    assert hub == changed(MACHINE, lambda obj: obj["spec"]["deletion"].pop("nodeDrainTimeoutSeconds"))


def test_arguments_keep_their_order() -> None:
    def edit(obj: Obj) -> None:
        obj["spec"]["clusterConfiguration"]["apiServer"]["extraArgs"]["added"] = "1"

    hub = edited(CONFIG, "v1beta1", edit)
    assert hub["spec"]["clusterConfiguration"]["apiServer"]["extraArgs"] == [
        {"name": "v", "value": "4"},
        {"name": "audit", "value": "-"},
        {"name": "added", "value": "1"},
    ]
    assert hub["spec"]["fleetwake"] == CONFIG["spec"]["fleetwake"]


def test_files_are_followed_when_they_move() -> None:
    def edit(obj: Obj) -> None:
        obj["spec"]["files"] = [{"path": "/new", "content": "z"}, *reversed(obj["spec"]["files"])]

    assert edited(CONFIG, "v1beta1", edit)["spec"]["files"] == [
        {"path": "/new", "content": "z"},
        {"path": "/b", "content": "y"},
        {"path": "/a", "content": "x", "append": False},
    ]


def test_a_timeout_that_is_one_in_the_old_version_is_two_in_the_hub() -> None:
    def edit(obj: Obj) -> None:
        obj["spec"]["clusterConfiguration"]["apiServer"]["timeoutForControlPlane"] = "1m0s"

    hub = edited(CONFIG, "v1beta1", edit)
    assert hub["spec"]["initConfiguration"] == {"timeouts": {"kubeletHealthCheckSeconds": 7, "controlPlaneComponentHealthCheckSeconds": 60}}
    assert hub["spec"]["joinConfiguration"] == {"timeouts": {"discoverySeconds": 9, "controlPlaneComponentHealthCheckSeconds": 60}}


def test_a_client_that_writes_all_its_zeros_changes_nothing() -> None:
    """Go clients of v1beta1 have no way to leave these out."""

    def edit(obj: Obj) -> None:
        obj["spec"]["clusterConfiguration"] |= {"networking": {}, "etcd": {}, "dns": {}, "scheduler": {}, "controllerManager": {}}
        obj["spec"].setdefault("initConfiguration", {}).update({"nodeRegistration": {"taints": None}, "localAPIEndpoint": {"bindPort": 0}})
        obj["spec"].setdefault("joinConfiguration", {}).update({"discovery": {}, "nodeRegistration": {}})
        for file in obj["spec"]["files"]:
            file["append"] = False
        obj["status"] = {"ready": False, "observedGeneration": 0}

    assert edited(CONFIG, "v1beta1", edit) == CONFIG


def test_an_object_without_its_spec_is_none_the_less_an_object() -> None:
    """As the API server asks when it looks at managed fields."""
    old = {name: value for name, value in from_hub(MACHINE, "v1beta1", CONTEXT).items() if name in ("apiVersion", "kind", "metadata")}
    hub = to_hub(old, CONTEXT)
    assert hub["metadata"] == MACHINE["metadata"]
    assert "spec" not in hub


def test_neither_way_changes_what_it_is_given() -> None:
    hub = copy.deepcopy(CONFIG)
    old = from_hub(hub, "v1beta1", CONTEXT)
    before = copy.deepcopy(old)
    to_hub(old, CONTEXT)
    assert (hub, old) == (CONFIG, before)


def test_the_annotation_holds_the_object_without_its_metadata() -> None:
    data = json.loads(from_hub(MACHINE, "v1beta1", CONTEXT)["metadata"]["annotations"][CONVERSION_DATA])
    assert data == {name: value for name, value in MACHINE.items() if name != "metadata"}


def test_an_annotation_from_when_v1beta1_was_the_hub_is_understood() -> None:
    data = {"apiVersion": "cluster.x-k8s.io/v1beta1", "spec": {"nodeDeletionTimeout": "7s"}}
    old = {
        "apiVersion": "cluster.x-k8s.io/v1alpha4",
        "kind": "Machine",
        "metadata": {"name": "one", "annotations": {CONVERSION_DATA: json.dumps(data)}},
        "spec": {"clusterName": "one", "bootstrap": {}, "infrastructureRef": {}},
    }
    hub = to_hub(old, CONTEXT)
    assert hub["spec"]["deletion"] == {"nodeDeletionTimeoutSeconds": 7}
    assert hub["metadata"] == {"name": "one"}


def test_a_kind_of_provider_that_is_not_there_is_told() -> None:
    def absent(group: str, kind: str) -> str:
        raise ConversionError(f"no definition of {kind}.{group}")

    with pytest.raises(ConversionError, match=r"infrastructureRef: no definition of DevMachine\.infrastructure"):
        from_hub(MACHINE, "v1beta1", Context(api_version=absent))
    # the way back asks nobody
    assert to_hub(from_hub(MACHINE, "v1beta1", CONTEXT), Context(api_version=absent)) == MACHINE


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda obj: obj["spec"].update(nodeDrainTimeout="soon"), "nodeDrainTimeout: 'soon' is not a duration"),
        (lambda obj: obj["metadata"]["annotations"].update({CONVERSION_DATA: "{"}), "is not JSON; remove it"),
        (lambda obj: obj["metadata"]["annotations"].update({CONVERSION_DATA: "[]"}), "is not an object; remove it"),
        (lambda obj: obj["spec"]["infrastructureRef"].update(apiVersion="a/b/c"), "apiVersion 'a/b/c' is not group/version"),
        (lambda obj: obj.update(apiVersion="cluster.x-k8s.io/v1alpha2"), "v1alpha2 Machine is none of the versions"),
        (lambda obj: obj.update(kind="Unknown"), "Unknown is none of the versions"),
    ],
)
def test_what_cannot_be_said_is_told_with_its_field(change: Callable[[Obj], None], message: str) -> None:
    with pytest.raises(ConversionError, match=message):
        edited(MACHINE, "v1beta1", change)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0", 0),
        ("0s", 0),
        ("1500ms", 1),
        ("1h0m30s", 3630),
        ("1.5h", 5400),
        (".5m", 30),
        ("999us", 0),
        ("1000000µs", 1),
        ("-90s", -90),
        ("2562047h", 2**31 - 1),
    ],
)
def test_durations_are_go_s(text: str, count: int) -> None:
    assert seconds(text) == count


@pytest.mark.parametrize("text", ["", "5", "1d", "s", "1h 1m", "--1s", "1e3s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ConversionError):
        seconds(text)


@pytest.mark.parametrize(("count", "text"), [(0, "0s"), (59, "59s"), (60, "1m0s"), (3600, "1h0m0s"), (90061, "25h1m1s"), (-1, "-1s")])
def test_durations_are_written_as_go_writes_them(count: int, text: str) -> None:
    assert go_duration(count) == text
    assert seconds(text) == count
