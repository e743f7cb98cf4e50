"""``fleetwake audit why``: which change, by whom, through which decisions; told from what a real rig recorded."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from fleetwake.views.api_audit import ApiAudit, read
from fleetwake.views.runs import RunView, join
from fleetwake.views.why import Asked, Decision, Past, Story, Verdict, read_change, story
from fleetwake.views.why_text import as_json, told
from schemas.keys import ObjectKey
from tests.audit.recorded import REQUESTS, runs, script
from tests.shell.view_records import BEGIN, CLUSTER, DEPLOYMENT, MACHINE, SCALED, at, records, run, step

GOLDEN = Path(__file__).parent / "golden"
GROUP = "cluster.x-k8s.io"
DEEDS: Mapping[str, Any] = {deed["name"]: deed for deed in script()["deeds"]} if REQUESTS.exists() else {}
WENT = [(deed["name"], name) for deed in DEEDS.values() for name in deed["went"]]
CAME = [(deed["name"], name) for deed in DEEDS.values() for name in deed["came"]]
VERDICTS = {
    "rollout": Verdict.ROLLOUT,
    "scale down": Verdict.SCALE_DOWN,
    "delete machine": Verdict.DELETED_BY_HAND,
    "delete deployment": Verdict.OWNER_DELETED,
    "delete cluster": Verdict.OWNER_DELETED,
}
REPLACED = ("rollout", "delete machine")


def machine(name: str) -> ObjectKey:
    """A Machine of the recorded namespace."""
    return ObjectKey(GROUP, "Machine", script()["namespace"], name)


@pytest.fixture(scope="module")
def views() -> list[RunView]:
    """The recorded runs."""
    return join(runs())


@pytest.fixture(scope="module")
def audit(views: list[RunView], tmp_path_factory: pytest.TempPathFactory) -> ApiAudit:
    """The recorded writes of others."""
    path = tmp_path_factory.mktemp("why") / "audit.log"
    path.write_bytes(gzip.decompress(REQUESTS.read_bytes()))
    return read(path, {one.audit_id for view in views for one in view.steps})


@pytest.fixture(scope="module")
def past(views: list[RunView], audit: ApiAudit) -> Past:
    """The recorded runs with the names of users."""
    return Past(views, audit)


def test_the_recording_has_what_must_be_explained() -> None:
    assert set(DEEDS) == {"create", *VERDICTS, "scale up"}
    assert len(DEEDS["rollout"]["went"]) == len(DEEDS["rollout"]["came"]) == 3
    assert (len(DEEDS["scale down"]["went"]), len(DEEDS["delete machine"]["went"]), len(DEEDS["delete machine"]["came"])) == (1, 1, 1)


@pytest.mark.parametrize(("deed", "name"), WENT)
def test_every_machine_that_went_is_explained(past: Past, deed: str, name: str) -> None:
    found = story(past, machine(name))
    assert found.verdict is VERDICTS[deed]
    assert found.finished is not None, "it is gone"
    root = found.root
    assert root is not None
    assert root.request is not None
    assert (root.request.user, root.seen.manager if root.seen.type != "DELETING" else "") == (DEEDS[deed]["user"], DEEDS[deed]["manager"])
    assert (found.replaced_by is not None) is (deed in REPLACED)


def test_each_machine_of_a_rollout_has_a_successor_of_its_own(past: Past) -> None:
    successors = {story(past, machine(name)).replaced_by for name in DEEDS["rollout"]["went"]}
    assert successors == {machine(name) for name in DEEDS["rollout"]["came"]}


def test_the_machine_deleted_by_hand_and_its_replacement_name_each_other(past: Past) -> None:
    (went,), (came,) = DEEDS["delete machine"]["went"], DEEDS["delete machine"]["came"]
    assert story(past, machine(went)).replaced_by == machine(came)
    # it was deleted with its deployment later: what it replaced is told still
    assert story(past, machine(came)).replaces == machine(went)


@pytest.mark.parametrize(("deed", "name"), CAME)
def test_every_machine_that_came_is_explained(past: Past, deed: str, name: str) -> None:
    """As it was asked while the Machine was there: before anything deleted it."""
    made = past.making(machine(name))
    root = made[-1]
    assert isinstance(root, Asked)
    assert root.request is not None
    assert root.request.user == DEEDS[deed]["user"]
    assert isinstance(made[0], Decision)
    assert made[0].step.verb == "create"


@pytest.mark.parametrize("deed", sorted(VERDICTS))
@pytest.mark.parametrize("named", [True, False], ids=["with the audit log", "without"])
def test_it_is_told_in_sentences(views: list[RunView], audit: ApiAudit, deed: str, named: bool) -> None:
    found = story(Past(views, audit if named else None), machine(DEEDS[deed]["went"][0]))
    text = "\n".join(told(found)) + "\n"
    path = GOLDEN / f"{deed}, {'with' if named else 'without'} the audit log.txt"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        raise AssertionError(f"{path} was written: look at it")
    assert text == path.read_text()
    assert (DEEDS[deed]["user"] in text) is named


def test_a_machine_that_is_there_is_told_as_such(views: list[RunView], audit: ApiAudit) -> None:
    """The recording up to the moment in which the replacement was made."""
    (came,) = DEEDS["delete machine"]["came"]
    made = next(view for view in views for one in view.steps if one.verb == "create" and one.target == str(machine(came)))
    found = story(Past([view for view in views if view.started <= made.started], audit), machine(came))
    assert found.gone == ()
    text = told(found)[0]
    assert text.startswith(f"Machine {came} is there because it replaces {DEEDS['delete machine']['went'][0]}: dave")


def test_the_same_as_data(past: Past) -> None:
    plain = as_json(story(past, machine(DEEDS["rollout"]["went"][0])))
    assert (plain["verdict"], plain["chain"][0]["change"]["user"], plain["chain"][0]["change"]["field_manager"]) == ("rollout", "bob", "kubectl-patch")
    assert [link["decision"]["verb"] for link in plain["chain"][1:]] == ["create", "apply", "delete"]
    orjson.dumps(plain)


# ---- small worlds -------------------------------------------------------------------------------------------------------------------------


def small(*more: Any) -> Past:
    """The views' records and some more."""
    return Past(join([*records(), *more]))


def test_without_records_it_says_so() -> None:
    found = story(small(), ObjectKey(GROUP, "Machine", "default", "nobody"))
    assert (found.verdict, found.chain) == (Verdict.UNKNOWN, ())
    assert "No record says why Machine nobody came or went" in told(found)[0]


def test_a_scale_down_is_told_from_the_runs_alone() -> None:
    found = story(small(), MACHINE)
    assert found.verdict is Verdict.SCALE_DOWN
    assert "somebody with kubectl scaled MachineDeployment workers down" in told(found)[0]


def test_a_health_checks_machine_is_told_as_such() -> None:
    gone = run("r1", DEPLOYMENT, (700_000, 700_100), step(0, "delete", MACHINE, "a health check handed the Machine over"), cause="")
    found = story(Past(join(gone)), MACHINE)
    assert found.verdict is Verdict.REMEDIATION
    assert "a health check found it unhealthy" in told(found)[0]


def test_what_failed_or_was_skipped_explains_nothing() -> None:
    failed = run("r1", DEPLOYMENT, (700_000, 700_100), step(0, "delete", MACHINE, "why", outcome="failed", status=409, error="conflict"))
    assert Past(join(failed)).deletion(MACHINE) == ()


def test_a_deletion_that_we_sent_is_not_taken_for_a_users() -> None:
    """The record of the deletion names the last writer of the object: here a user who had labelled it."""
    noticed = run(
        "r2",
        MACHINE,
        (600_300, 600_400),
        step(0, "patch", MACHINE, "everything of the machine is gone"),
        cause="DELETING Machine default/workers-abcde @300 by kubectl-label",
    )
    found = story(small(*noticed), MACHINE)
    assert found.verdict is Verdict.SCALE_DOWN
    assert found.finished == at(600_400)


def test_a_change_that_woke_a_run_beside_others_is_found() -> None:
    """The oldest cause is somebody else's: the change that counts stands among ``also``."""
    scale = run("r1", DEPLOYMENT, (700_000, 700_100), step(0, "delete", MACHINE, "2 Machines exist, 1 is wanted"), cause="")
    cause = scale[0].cause.model_copy(update={"change": "MODIFIED Cluster default/demo @9 by capi-cluster", "also": (SCALED,)})  # type: ignore[attr-defined]
    found = story(Past(join([scale[0].model_copy(update={"cause": cause}), scale[1]])), MACHINE)
    assert found.root is not None
    assert (found.root.seen.name, found.root.seen.manager) == ("workers", "kubectl")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("MODIFIED Machine default/m @7 by kubectl", ("MODIFIED", "Machine", "default", "m", "7", "kubectl")),
        ("DELETING Cluster default/c @8", ("DELETING", "Cluster", "default", "c", "8", "")),
        ("ADDED ClusterClass quick @9 by unknown", ("ADDED", "ClusterClass", "", "quick", "9", "")),
    ],
)
def test_changes_in_words_are_read(text: str, wanted: tuple[str, ...]) -> None:
    found = read_change(text, BEGIN)
    assert found is not None
    assert (found.type, found.kind, found.namespace, found.name, found.version, found.manager) == wanted
    assert read_change("ADDED DevMachine", BEGIN) is None


def event(**changed: Any) -> dict[str, Any]:
    """A request as the API server logs it."""
    return {
        "auditID": "a1", "stage": "ResponseComplete", "verb": "patch", "user": {"username": "admin"}, "userAgent": "kubectl/v1.36.2 (linux/amd64)",
        "objectRef": {"resource": "machinedeployments", "namespace": "default", "name": "workers"}, "responseStatus": {"code": 200},
        "requestURI": "/apis/cluster.x-k8s.io/v1beta2/namespaces/default/machinedeployments/workers?fieldManager=kubectl",
        "requestReceivedTimestamp": at(599_990).isoformat().replace("+00:00", "Z"), **changed,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("events", "user"),
    [
        ([event()], "admin"),
        ([event(impersonatedUser={"username": "carol"})], "carol"),
        ([event(), event(auditID="a2", user={"username": "late"}, requestReceivedTimestamp=at(700_000).isoformat())], "admin"),
        ([event(), event(user={"username": "other"}, requestURI="/x?fieldManager=helm", requestReceivedTimestamp=at(599_995).isoformat())], "admin"),
        ([event(user={"username": "status"}, objectRef={**event()["objectRef"], "subresource": "status"})], None),
        ([event(user={"username": "scale"}, objectRef={**event()["objectRef"], "subresource": "scale"})], "scale"),
        ([event(user={"username": "refused"}, responseStatus={"code": 403})], None),
        ([event(user={"username": "reader"}, verb="get")], None),
        ([event(auditID="audit-workers-abcde-delete-0")], None),
        (
            [
                event(responseObject={"metadata": {"resourceVersion": "200"}}),
                event(user={"username": "near"}, requestReceivedTimestamp=at(599_999).isoformat()),
            ],
            "admin",
        ),
    ],
    ids=["the one", "for somebody else", "too late", "another manager", "a status", "by scale", "refused", "a read", "our own", "by version"],
)
def test_the_user_is_found_in_the_audit_log(tmp_path: Path, events: list[dict[str, Any]], user: str | None) -> None:
    path = tmp_path / "audit.log"
    path.write_bytes(b"".join(orjson.dumps(one, option=orjson.OPT_APPEND_NEWLINE) for one in events) + b'{"half')
    views = join(records())
    found: Story = story(Past(views, read(path, {one.audit_id for view in views for one in view.steps})), MACHINE)
    assert found.root is not None
    assert (found.root.request.user if found.root.request is not None else None) == user


def test_an_object_that_a_user_made_is_told_as_theirs() -> None:
    found = story(small(), CLUSTER)
    assert "somebody with kubectl created Cluster demo" in told(found)[0]


# ---- node groups and pools ------------------------------------------------------------------------------------------------------------------

SET = ObjectKey(GROUP, "MachineSet", "default", "workers-1")
POOL, HOSTS = ObjectKey(GROUP, "MachinePool", "default", "pool"), ObjectKey("infrastructure.cluster.x-k8s.io", "DevMachinePool", "default", "hosts")
REMOVED = ObjectKey(GROUP, "Machine", "default", "workers-fghij")
ASKER = "cluster-autoscaler of default/demo"


def replicas(key: ObjectKey, before: int, after: int, reason: str) -> Any:
    """A step that changes a size."""
    return step(0, "patch", key, reason, changes={"spec.replicas": (before, after)})


def autoscaled(at_ms: float, before: int, after: int, what: str) -> list[Any]:
    """The bridge's run for the MachineDeployment, and the MachineDeployment's for its MachineSet."""
    asked = replicas(DEPLOYMENT, before, after, f"{ASKER} {what}: {before} to {after}, of 0 to 5")
    handed_on = replicas(SET, before, after, f"{before} to {after} replicas: as many as the MachineDeployment wants")
    return [
        *run(f"ask-{at_ms}", DEPLOYMENT, (at_ms, at_ms + 10), asked, service="autoscaler_bridge"),
        *run(f"hand-{at_ms}", DEPLOYMENT, (at_ms + 20, at_ms + 30), handed_on),
    ]


def pool_machine(name: str) -> ObjectKey:
    """A Machine of the pool."""
    return ObjectKey(GROUP, "Machine", "default", name)


def born(at_ms: float, name: str, why: str) -> list[Any]:
    """A host of the pool and its Machine."""
    host = ObjectKey(HOSTS.group, "DevMachine", "default", name)
    return [
        *run(f"host-{name}", HOSTS, (at_ms, at_ms + 5), step(0, "create", host, why), service="dev_infrastructure"),
        *run(f"machine-{name}", POOL, (at_ms + 10, at_ms + 15), step(0, "create", pool_machine(name), "1 hosts have no Machine")),
    ]


def a_pool(*more: Any) -> Past:
    """A pool with two hosts, made by a user, and what happened then."""
    taken = run("own", POOL, (100, 110), step(0, "patch", HOSTS, "the pool owns its infrastructure"), cause="ADDED MachinePool default/pool @10 by kubectl")
    added = run(
        "add", HOSTS, (105, 115), step(0, "patch", HOSTS, "finalizer"), service="dev_infrastructure", cause="ADDED DevMachinePool default/hosts @11 by helm"
    )
    return Past(join([*taken, *added, *born(200, "a", "2 hosts are missing"), *born(220, "b", "1 hosts are missing"), *more]))


def test_what_a_cluster_autoscaler_removed_names_the_group_and_its_request() -> None:
    gone = run("r1", SET, (900_050, 900_060), step(0, "delete", REMOVED, "3 Machines exist, 2 are wanted"))
    found = story(small(*autoscaled(900_000, 3, 2, "removes workers-fghij"), *gone), REMOVED)
    assert (found.verdict, found.root) == (Verdict.SCALE_DOWN, None)
    assert told(found)[0].endswith(
        f"because cluster-autoscaler scaled node group MachineDeployment workers down from 3 to 2 replicas ({ASKER} removes workers-fghij: 3 to 2, of 0 to 5)."
    )
    assert told(found)[-1].startswith("What cluster-autoscaler decided it from is in its own log")


def test_a_user_who_scales_after_a_cluster_autoscaler_is_the_one_named() -> None:
    later = "MODIFIED MachineDeployment default/workers @900 by kubectl"
    scaled = run("r0", DEPLOYMENT, (950_000, 950_010), replicas(SET, 2, 1, "2 to 1 replicas: fewer are wanted"), cause=later)
    gone = run("r1", SET, (950_050, 950_060), step(0, "delete", REMOVED, "2 Machines exist, 1 is wanted"))
    found = story(small(*autoscaled(900_000, 3, 2, "removes workers-x"), *scaled, *gone), REMOVED)
    assert found.root is not None and found.root.seen.version == "900"


def test_an_autoscaler_that_scales_what_a_rollout_has_brought_is_no_rollout() -> None:
    old = ObjectKey(GROUP, "MachineSet", "default", "workers-0")
    first = run("m0", DEPLOYMENT, (700_000, 700_010), step(0, "create", old, "no MachineSet exists yet"))
    change = "MODIFIED MachineDeployment default/workers @800 by kubectl-patch"
    rolled = run("m1", DEPLOYMENT, (800_000, 800_010), step(0, "create", SET, "Version v1.34.0, v1.34.5 required; a new MachineSet"), cause=change)
    gone = run("r1", SET, (900_050, 900_060), step(0, "delete", REMOVED, "3 Machines exist, 2 are wanted"))
    found = story(small(*first, *rolled, *autoscaled(900_000, 3, 2, "removes workers-fghij"), *gone), REMOVED)
    assert found.verdict is Verdict.SCALE_DOWN and found.autoscaled is not None


def test_a_pools_machines_are_there_for_the_sake_of_the_pool() -> None:
    found = story(a_pool(), pool_machine("a"))
    assert told(found)[0] == "Machine a is there because somebody with kubectl created MachinePool pool."
    assert any("made DevMachine a for DevMachinePool hosts: 2 hosts are missing" in line for line in told(found))


def test_a_write_of_ours_that_bears_a_users_name_is_no_wish_of_theirs() -> None:
    """Within one second of the user's own write, a record of ours names the user."""
    adopted = step(0, "patch", HOSTS, "more of the infrastructure's hosts are known", resource_version="12")
    taken = run("own-2", POOL, (120, 125), adopted)
    woken = run("woken", HOSTS, (150, 155), step(0, "patch", HOSTS, "finalizer"), cause="MODIFIED DevMachinePool default/hosts @12 by helm")
    found = story(a_pool(*taken, *woken), pool_machine("a"))
    assert told(found)[0] == "Machine a is there because somebody with kubectl created MachinePool pool."


def test_a_pool_that_shrank_is_told_with_its_numbers() -> None:
    cause = "MODIFIED MachinePool default/pool @50 by kubectl"
    gone = run("r1", HOSTS, (500, 510), step(0, "delete", pool_machine("a"), "2 hosts exist, 1 are wanted"), service="dev_infrastructure", cause=cause)
    found = story(a_pool(*gone), pool_machine("a"))
    assert found.verdict is Verdict.SCALE_DOWN
    assert "somebody with kubectl scaled MachinePool pool down from 2 to 1 replicas" in told(found)[0]


@pytest.mark.parametrize("changed", ["MachinePool default/pool", "DevMachinePool default/hosts"])
def test_each_machine_of_a_pools_rollout_has_a_successor_of_its_own(changed: str) -> None:
    cause = f"MODIFIED {changed} @50 by kubectl-patch"
    words = "of another revision: Version v1.34.0, v1.34.1 required"
    woken = run("wake", POOL, (400, 401), step(0, "apply", HOSTS, "x", outcome="skipped"), cause=cause)
    made = [*born(500, "c", f"2 hosts are missing, 2 are {words}"), *born(520, "d", f"1 hosts are missing, 2 are {words}")]
    left = [
        one
        for number, name in enumerate("ba")
        for one in run(
            f"r{name}", HOSTS, (600 + number, 605 + number), step(0, "delete", pool_machine(name), f"its host is {words}"), service="dev_infrastructure"
        )
    ]
    past = a_pool(*woken, *made, *left)
    stories = {name: story(past, pool_machine(name)) for name in "abcd"}
    assert {name: one.verdict for name, one in stories.items()} == dict.fromkeys("abcd", Verdict.ROLLOUT)
    assert (stories["b"].replaced_by, stories["a"].replaced_by) == (pool_machine("c"), pool_machine("d"))
    assert f"changed the template of {changed.partition(' ')[0]} {changed.rpartition('/')[2]} (version v1.34.0 → v1.34.1)" in told(stories["a"])[0]
