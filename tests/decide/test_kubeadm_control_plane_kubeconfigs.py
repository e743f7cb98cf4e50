"""Kubeconfigs that a control plane declares: made, renewed each by its own clock, revoked at once; the controllers' own is left as it is."""

from __future__ import annotations

import base64
from datetime import timedelta

import pytest
import yaml
from cryptography import x509
from cryptography.x509.oid import NameOID

from fleetwake.plan import Create, Delete, Patch, Step
from services.reconcilers.kinds.kubeadm_control_plane import KIND
from services.reconcilers.kinds.kubeadm_control_plane.declared_kubeconfigs import KUBECONFIGS, DeclarationError, declared
from services.reconcilers.kinds.kubeadm_control_plane.kubeconfigs import KUBECONFIGS_AVAILABLE
from tests.decide.control_plane_fleet import Fleet, fleet, running, writes
from tests.decide.kubeadm_world import CLUSTER
from tests.decide.world import Json

JANE = {"name": "viewers", "user": "jane", "groups": ["viewers", "night"], "lifetimeHours": 24, "audience": "the night shift"}
ROBOT = {"name": "robot", "user": "robot", "lifetimeHours": 240}
ACCESS = "fleetwake:kubeconfig:viewers"


def declare(world: Fleet, *entries: Json) -> list[Step]:
    """Declare these and no others; the steps until nothing is left to do."""
    text = yaml.safe_dump(list(entries)) if entries else None
    world.edit("KubeadmControlPlane", "demo-cp", {"metadata": {"annotations": {KUBECONFIGS: text}}})
    return world.settle_kcp()


def secret(world: Fleet, name: str) -> Json:
    found = world.stored("Secret", f"demo-kubeconfig-{name}")
    assert found is not None
    return found


def user(world: Fleet, name: str) -> Json:
    """The user in a kubeconfig."""
    document: Json = yaml.safe_load(secret(world, name)["data"]["value"])
    (one,) = document["users"]
    assert one["name"] == f"demo-{name}"
    assert document["clusters"][0]["cluster"]["server"] == "https://10.0.0.1:6443"
    return dict(one["user"])


def certificate(world: Fleet, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(base64.b64decode(user(world, name)["client-certificate-data"]))


def access(world: Fleet, kind: str) -> Json | None:
    return world.stored(kind, ACCESS, CLUSTER)


def test_each_declared_kubeconfig_gets_a_secret_of_its_own() -> None:
    world = running()
    own = world.stored("Secret", "demo-kubeconfig")
    declare(world, JANE, ROBOT)
    assert {key: value for key, value in user(world, "viewers").items() if key.startswith("as")} == {"as": "jane", "as-groups": ["viewers", "night"]}
    assert {key: value for key, value in user(world, "robot").items() if key.startswith("as")} == {"as": "robot"}
    made = secret(world, "viewers")
    assert made["type"] == "cluster.x-k8s.io/secret"
    assert made["metadata"]["labels"] == {"cluster.x-k8s.io/cluster-name": "demo"}
    assert [ref["uid"] for ref in made["metadata"]["ownerReferences"]] == ["uid-kcp"]
    assert made["metadata"]["annotations"]["fleetwake.io/audience"] == "the night shift"
    shown = certificate(world, "viewers")
    assert [part.value for part in shown.subject] == [f"{ACCESS}:1"], "no group: by itself the certificate is allowed nothing"
    assert timedelta(hours=24) <= shown.not_valid_after_utc - shown.not_valid_before_utc <= timedelta(hours=24, minutes=10)
    role, binding = access(world, "ClusterRole"), access(world, "ClusterRoleBinding")
    assert role is not None
    assert binding is not None
    assert [(rule["resources"], rule["resourceNames"], rule["verbs"]) for rule in role["rules"]] == [
        (["users"], ["jane"], ["impersonate"]),
        (["groups"], ["viewers", "night"], ["impersonate"]),
    ]
    assert [one["name"] for one in binding["subjects"]] == [f"{ACCESS}:1"]
    assert world.told(KUBECONFIGS_AVAILABLE) == ("True", "Available", "")
    assert world.stored("Secret", "demo-kubeconfig") == own


def test_permissions_come_before_the_secret() -> None:
    world = running()
    made = [step.key.kind for step in declare(world, JANE) if isinstance(step, Create)]
    assert made == ["ClusterRole", "ClusterRoleBinding", "Secret"]


def test_settled_kubeconfigs_ask_for_nothing() -> None:
    world = running()
    declare(world, JANE)
    world.asked.clear()
    assert not writes(world.settle_kcp())
    assert not world.asked
    plan = world.plan(KIND, "demo-cp")
    assert plan.requeue_after is not None
    assert plan.requeue_after <= timedelta(hours=12)


def test_each_is_renewed_by_its_own_clock() -> None:
    world = running()
    declare(world, JANE, ROBOT)
    first, other = certificate(world, "viewers"), certificate(world, "robot")
    world.at += timedelta(hours=11, minutes=59)
    assert not writes(world.settle_kcp())
    world.at += timedelta(minutes=2)
    assert writes(world.settle_kcp()).count("Patch Secret") == 1
    assert certificate(world, "viewers").not_valid_after_utc - first.not_valid_after_utc >= timedelta(hours=12)
    assert certificate(world, "robot") == other


@pytest.mark.parametrize(
    ("change", "patched"),
    [
        pytest.param({"user": "joe"}, {"ClusterRole", "Secret"}, id="user"),
        pytest.param({"groups": ["admins"]}, {"ClusterRole", "Secret"}, id="groups"),
        pytest.param({"lifetimeHours": 2}, {"Secret"}, id="lifetime"),
        pytest.param({"revision": 2}, {"ClusterRoleBinding", "Secret"}, id="revision"),
        pytest.param({"audience": ""}, {"Secret"}, id="audience"),
    ],
)
def test_what_changes_is_made_anew(change: Json, patched: set[str]) -> None:
    world = running()
    declare(world, JANE)
    world.later(60)
    taken = declare(world, JANE | change)
    assert {step.key.kind for step in taken if isinstance(step, Patch)} == patched
    assert user(world, "viewers")["as"] == (JANE | change)["user"]
    assert certificate(world, "viewers").subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == f"{ACCESS}:{change.get('revision', 1)}"
    assert ("fleetwake.io/audience" in secret(world, "viewers")["metadata"]["annotations"]) == ("audience" not in change)
    assert world.told(KUBECONFIGS_AVAILABLE)[0] == "True"


def test_another_revision_takes_all_that_was_handed_out_away_before_it_hands_out_anew() -> None:
    world = running()
    declare(world, JANE)
    world.later(60)
    order = [step.key.kind for step in declare(world, JANE | {"revision": 2}) if isinstance(step, Patch)]
    assert order == ["ClusterRoleBinding", "Secret"]
    binding = access(world, "ClusterRoleBinding")
    assert binding is not None
    assert [one["name"] for one in binding["subjects"]] == [f"{ACCESS}:2"]


@pytest.mark.parametrize("limit", range(4))
def test_revoked_by_taking_it_from_the_declaration_even_if_cut_short(limit: int) -> None:
    world = running()
    declare(world, JANE, ROBOT)
    world.later(60)
    world.edit("KubeadmControlPlane", "demo-cp", {"metadata": {"annotations": {KUBECONFIGS: yaml.safe_dump([ROBOT])}}})
    world.run(KIND, "default", "demo-cp")
    world.run(KIND, "default", "demo-cp", limit)
    assert access(world, "ClusterRoleBinding") is None or world.stored("Secret", "demo-kubeconfig-viewers") is not None, (
        "the Secret is the record: it goes last"
    )
    world.settle_kcp()
    assert access(world, "ClusterRoleBinding") is access(world, "ClusterRole") is world.stored("Secret", "demo-kubeconfig-viewers") is None
    assert world.stored("ClusterRoleBinding", "fleetwake:kubeconfig:robot", CLUSTER) is not None
    assert secret(world, "robot")
    # the same name may come again, and is allowed what it says
    declare(world, ROBOT, JANE)
    assert access(world, "ClusterRoleBinding") is not None
    assert secret(world, "viewers")


def test_the_last_one_is_revoked_too() -> None:
    world = running()
    declare(world, JANE)
    world.later(60)
    taken = declare(world)
    assert [step.key.kind for step in taken if isinstance(step, Delete)] == ["ClusterRoleBinding", "ClusterRole", "Secret"]
    assert world.told(KUBECONFIGS_AVAILABLE)[:2] == ("True", "NoneDeclared")


def test_revoking_waits_for_the_workload_cluster() -> None:
    world = running()
    declare(world, JANE)
    world.connected = False
    declare(world)
    assert secret(world, "viewers"), "what cannot be revoked yet is not forgotten"
    assert world.told(KUBECONFIGS_AVAILABLE)[:2] == ("False", "WaitingForControlPlane")


def test_nothing_is_handed_out_before_there_is_a_control_plane() -> None:
    world = fleet()
    declare(world, JANE)
    assert world.stored("Secret", "demo-kubeconfig-viewers") is None
    world.live()
    assert secret(world, "viewers")


def test_a_secret_of_somebody_else_is_left_alone() -> None:
    world = running()
    world.put({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "demo-kubeconfig-viewers", "namespace": "default"}, "data": {"a": b"b"}})
    declare(world, JANE)
    # what only changes a message is told when nothing moves any more
    world.later(30)
    world.settle_kcp()
    assert secret(world, "viewers")["data"] == {"a": b"b"}
    assert world.told(KUBECONFIGS_AVAILABLE) == ("False", "NotAvailable", "* viewers: Secret demo-kubeconfig-viewers belongs to somebody else")


def test_a_secret_that_lost_its_owner_is_owned_again_and_one_that_was_deleted_is_made_again() -> None:
    world = running()
    declare(world, JANE)
    world.edit("Secret", "demo-kubeconfig-viewers", {"metadata": {"ownerReferences": None}})
    world.settle_kcp()
    assert [ref["uid"] for ref in secret(world, "viewers")["metadata"]["ownerReferences"]] == ["uid-kcp"]
    world.remove("Secret", "demo-kubeconfig-viewers")
    world.settle_kcp()
    assert secret(world, "viewers")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("[", "is no YAML", id="no YAML"),
        pytest.param("{}", "should be a valid tuple", id="no list"),
        pytest.param("- name: a", ".user: Field required", id="no user"),
        pytest.param("- {name: A, user: b}", "[0].name: String should match", id="name"),
        pytest.param("- {name: a, user: b, grups: [c]}", "[0].grups: Extra inputs", id="misspelled"),
        pytest.param("- {name: a, user: b, lifetimeHours: 0}", "greater than or equal to 1", id="lifetime"),
        pytest.param("[{name: a, user: b}, {name: a, user: c}]", "two entries are named a", id="twice"),
        pytest.param("- {name: a, user: 'system:node:x'}", "must not begin with system:", id="user of the system"),
        pytest.param("- {name: x-kubeconfig, user: b}", "must not end with", id="name of a Secret that controllers read"),
    ],
)
def test_a_declaration_that_cannot_be_read_changes_nothing(text: str, words: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        declared(text)
    assert words in str(caught.value)
    world = running()
    declare(world, JANE)
    world.edit("KubeadmControlPlane", "demo-cp", {"metadata": {"annotations": {KUBECONFIGS: text}}})
    assert {one.split()[0] for one in writes(world.settle_kcp())} <= {"Apply"}
    assert secret(world, "viewers")
    status, reason, message = world.told(KUBECONFIGS_AVAILABLE)
    assert (status, reason) == ("False", "Invalid")
    assert words in message


def test_no_declared_name_can_be_that_of_any_clusters_secret() -> None:
    """Whatever a Cluster is called, the Secrets its controllers read end otherwise."""
    for name in ("ca", "x-ca", "etcd", "sa", "my-proxy", "kubeconfig", "apiserver-etcd-client"):
        with pytest.raises(DeclarationError):
            declared(yaml.safe_dump([{"name": name, "user": "a"}]))
    assert declared(None) == declared("  ") == ()
