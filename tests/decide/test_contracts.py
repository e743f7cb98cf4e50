"""Readers of provider objects in both contracts, and of objects that break them."""

from __future__ import annotations

from typing import Any

import pytest

from fleetwake.contracts import BootstrapConfig, ControlPlane, InfraCluster, InfraMachine, conditions
from fleetwake.kind import External
from fleetwake.patches import MetadataChange, differs, metadata_body, owners_with, pruned
from fleetwake.versions import newer, version_key
from schemas.api.meta import ObjectMeta, OwnerReference
from schemas.keys import GroupKind, ObjectKey


def external(spec: Any = None, status: Any = None, contract: str = "v1beta2") -> External:
    key = ObjectKey("example.org", "Foo", "default", "foo")
    return External(key, "example.org/v1", ObjectMeta(name="foo"), {"spec": spec, "status": status}, contract)


@pytest.mark.parametrize(
    ("status", "contract", "expected"),
    [
        pytest.param({"initialization": {"provisioned": True}}, "v1beta2", True, id="v1beta2"),
        pytest.param({"ready": True}, "v1beta2", False, id="v1beta2-ignores-the-old-field"),
        pytest.param({"ready": True}, "v1beta1", True, id="v1beta1"),
        pytest.param({"initialization": {"provisioned": True}}, "v1beta1", False, id="v1beta1-ignores-the-new-field"),
        pytest.param({"initialization": {"provisioned": "yes"}}, "v1beta2", False, id="wrong-shape"),
        pytest.param({"initialization": ["x"]}, "v1beta2", False, id="list-instead-of-map"),
        pytest.param(None, "v1beta2", False, id="no-status"),
    ],
)
def test_provisioned(status: Any, contract: str, expected: bool) -> None:
    assert InfraCluster(external(status=status, contract=contract)).provisioned is expected
    assert InfraMachine(external(status=status, contract=contract)).provisioned is expected


@pytest.mark.parametrize(
    ("domains", "contract"),
    [
        pytest.param([{"name": "b"}, {"name": "a", "controlPlane": True, "attributes": {"x": "y"}}], "v1beta2", id="list"),
        pytest.param({"b": {}, "a": {"controlPlane": True, "attributes": {"x": "y"}}}, "v1beta1", id="map"),
    ],
)
def test_failure_domains_come_sorted_with_a_plain_answer(domains: Any, contract: str) -> None:
    found = InfraCluster(external(status={"failureDomains": domains}, contract=contract)).failure_domains
    assert [(one.name, one.control_plane, dict(one.attributes)) for one in found] == [("a", True, {"x": "y"}), ("b", False, {})]


def test_endpoint() -> None:
    assert InfraCluster(external(spec={"controlPlaneEndpoint": {"host": "h", "port": 6443}})).endpoint.valid
    assert not InfraCluster(external(spec={"controlPlaneEndpoint": {"host": "", "port": 0}})).endpoint.valid
    assert not InfraCluster(external()).endpoint.valid


def test_machine_fields() -> None:
    status = {
        "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}, {"type": "Pigeon", "address": "x"}, "junk"],
        "failureDomain": "fd",
        "interruptible": True,
    }
    machine = InfraMachine(external(spec={"providerID": "foo://1", "failureDomain": "old"}, status=status))
    assert (machine.provider_id, machine.failure_domain, machine.spec_failure_domain, machine.interruptible) == ("foo://1", "fd", "old", True)
    assert [(one.type, one.address) for one in machine.addresses] == [("InternalIP", "10.0.0.1")]


def test_bootstrap_config() -> None:
    assert BootstrapConfig(external(status={"initialization": {"dataSecretCreated": True}})).data_secret_created
    assert BootstrapConfig(external(status={"ready": True}, contract="v1beta1")).data_secret_created
    assert BootstrapConfig(external(status={"dataSecretName": "s"})).data_secret_name == "s"


@pytest.mark.parametrize(
    ("contract", "status", "available", "up_to_date"),
    [
        pytest.param("v1beta2", {"availableReplicas": 2, "upToDateReplicas": 1}, 2, 1, id="v1beta2"),
        pytest.param("v1beta1", {"unavailableReplicas": 1, "updatedReplicas": 3}, 2, 3, id="v1beta1-subtracts"),
        pytest.param("v1beta1", {"unavailableReplicas": 9}, 0, None, id="v1beta1-never-below-zero"),
        pytest.param("v1beta2", {}, None, None, id="not-reported"),
    ],
)
def test_control_plane_counters(contract: str, status: Any, available: int | None, up_to_date: int | None) -> None:
    found = ControlPlane(external(spec={"replicas": 3}, status=status, contract=contract))
    assert (found.replicas, found.available_replicas, found.up_to_date_replicas) == (3, available, up_to_date)


def test_control_plane_versions() -> None:
    status = {"versions": [{"version": "v1.34.2", "replicas": 1}, {"version": "v1.35.0", "replicas": 2}], "version": "v1.34.2"}
    found = ControlPlane(external(spec={"version": "v1.35.0"}, status=status))
    assert found.upgrading and not found.provisioning and found.current_version == "v1.34.2"
    assert ControlPlane(external(spec={"version": "v1.35.0"})).provisioning
    assert not ControlPlane(external(spec={"version": "1.35.0"}, status={"version": "v1.35.0"})).upgrading


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        pytest.param({"conditions": [{"type": "Ready", "status": "True"}]}, [("Ready", "True", "NoReasonReported")], id="legacy-without-reason"),
        pytest.param(
            {"conditions": [{"type": "Ready", "status": "False"}], "v1beta2": {"conditions": [{"type": "Ready", "status": "True", "reason": "R"}]}},
            [("Ready", "True", "R")],
            id="transitional-place-wins",
        ),
        pytest.param({"conditions": [{"type": "Ready"}, {"status": "True"}, "x", {"type": "A", "status": "maybe"}]}, [], id="malformed-left-out"),
        pytest.param({"conditions": "x"}, [], id="not-a-list"),
    ],
)
def test_conditions(status: Any, expected: list[tuple[str, str, str]]) -> None:
    assert [(one.type, one.status, one.reason) for one in conditions(external(status=status))] == expected


def test_versions_are_ordered_by_number() -> None:
    ordered = ["v1.9.0", "v1.10.0-alpha.1", "v1.10.0", "v1.10.0+build.2", "v1.10.0+build.10", "v2.0.0", "nonsense"]
    shuffled = [ordered[index] for index in (3, 6, 0, 5, 2, 4, 1)]
    assert sorted(shuffled, key=version_key) == ordered
    assert not newer("v1.10.0", "1.10.0") and not newer("nonsense", "v1.0.0") and newer("v1.10.1", "v1.10.0")


def owner(kind: str, name: str, uid: str, *, controller: bool = False, version: str = "v1beta2") -> OwnerReference:
    group = "cluster.x-k8s.io/"
    return OwnerReference(api_version=group + version, kind=kind, name=name, uid=uid, controller=controller, block_owner_deletion=controller)


MACHINE = owner("Machine", "m", "u1", controller=True)
BARE = MACHINE.model_copy(update={"block_owner_deletion": False})


@pytest.mark.parametrize(
    ("owners", "expected"),
    [
        pytest.param((), [MACHINE], id="added"),
        pytest.param((owner("Machine", "m", "u1", controller=True, version="v1beta1"),), [MACHINE], id="api-version-refreshed"),
        pytest.param((owner("Machine", "m", "old", controller=True),), [MACHINE], id="made-anew-under-the-same-name"),
        pytest.param((BARE,), [BARE], id="not-rewritten-for-a-missing-block-flag"),
        pytest.param((owner("Machine", "m", "u1"),), [MACHINE], id="made-controller"),
        pytest.param((owner("MachineSet", "s", "u2", controller=True),), [MACHINE], id="maker-dropped"),
        pytest.param(
            (owner("Other", "o", "u3", controller=True),),
            [owner("Other", "o", "u3", controller=True), owner("Machine", "m", "u1")],
            id="foreign-controller-stays-the-only-one",
        ),
    ],
)
def test_owners_with(owners: tuple[OwnerReference, ...], expected: list[OwnerReference]) -> None:
    assert list(owners_with(owners, MACHINE, drop=[GroupKind("cluster.x-k8s.io", "MachineSet")])) == expected


def test_metadata_body_says_only_what_differs() -> None:
    meta = ObjectMeta(labels={"a": "1", "b": "2"}, finalizers=("f",), owner_references=(MACHINE,))
    assert metadata_body(meta, MetadataChange(finalizers=("f",), owners=(MACHINE,), labels={"a": "1"})) == {}
    assert metadata_body(meta, MetadataChange(labels={"a": "2", "b": None})) == {"labels": {"a": "2", "b": None}}
    assert metadata_body(meta, MetadataChange(finalizers=(), owners=())) == {"finalizers": None, "ownerReferences": None}


@pytest.mark.parametrize(
    ("have", "want", "expected"),
    [
        pytest.param({"a": 1, "b": 2}, {"a": 1}, False, id="others-fields-do-not-count"),
        pytest.param({"a": 1}, {"a": None}, True, id="to-be-taken-away"),
        pytest.param({}, {"a": None, "b": {"c": None}}, False, id="absent-as-wanted"),
        pytest.param({"a": 0}, {"a": 0}, False, id="zero-is-a-value"),
        pytest.param({}, {"a": 0}, True, id="zero-is-not-absence"),
        pytest.param({"l": [{"name": "a"}]}, {"l": [{"name": "a", "attributes": {}}]}, False, id="empty-parts-of-items-do-not-count"),
        pytest.param({"l": ["a", "b"]}, {"l": ["b", "a"]}, True, id="order-of-lists-counts"),
    ],
)
def test_differs(have: Any, want: Any, expected: bool) -> None:
    assert differs(have, want) is expected


def test_pruned_leaves_no_empty_part() -> None:
    assert pruned({"a": None, "b": {}, "c": {"d": None}, "e": [], "f": 0, "g": False, "h": {"i": 1}}) == {"f": 0, "g": False, "h": {"i": 1}}
