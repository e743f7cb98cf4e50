"""What becomes of a request of cluster-autoscaler: sizes inside the bounds, exactly the named Machines, one writer, nothing twice."""

from __future__ import annotations

import random
from datetime import timedelta

import pytest

from fleetwake.labels import AUTOSCALER_MAX_SIZE, AUTOSCALER_MIN_SIZE
from fleetwake.plan import Patch
from services.autoscaler_bridge.kinds.node_group.wanted import Attempt
from services.autoscaler_bridge.kinds.options import Options, duration, options
from tests.decide.node_group_world import BOUNDS, NAMES, Groups, answers, machine, marks, scalable
from tests.decide.world import Json, plan_writes

KINDS = tuple(NAMES)
HOLDER = {"MachineDeployment": ("MachineSet", "md-1"), "MachineSet": ("MachineSet", "ms"), "MachinePool": ("MachinePool", "mp")}
LATER = "2026-01-02T00:00:00Z"


def group(kind: str, replicas: int, *, nodes: int = 0, pending: int = 0, least: int = 0, most: int = 5) -> Groups:
    """A group with so many Nodes and so many Machines that are none yet, told of already."""
    owner = HOLDER[kind]
    found = [machine(f"n{number}", owner) for number in range(nodes)]
    found += [machine(f"p{number}", owner, node=False, creationTimestamp=f"2026-01-01T00:00:0{number}Z") for number in range(pending)]
    bounds = {AUTOSCALER_MIN_SIZE: str(least), AUTOSCALER_MAX_SIZE: str(most)}
    world = Groups(kind, scalable(kind, replicas, annotations=bounds), *found)
    world.go()
    assert world.standing()[1] == "Served"
    return world


def size(world: Groups) -> int | None:
    return world.group.spec.replicas


@pytest.mark.parametrize("kind", KINDS)
def test_more(kind: str) -> None:
    world = group(kind, 0)
    world.ask("increase", 3)
    version = world.group.metadata.resource_version
    plan = world.go()
    assert size(world) == 3 and answers(plan) == [("OK", "")] and world.asked == {}
    (patch,) = plan_writes(plan)
    assert isinstance(patch, Patch) and patch.resource_version == version
    assert patch.reason == "cluster-autoscaler of team/demo asks for 3 more: 0 to 3, of 0 to 5"


@pytest.mark.parametrize(
    ("verb", "amount", "code", "says"),
    [
        pytest.param("increase", 0, "INVALID_ARGUMENT", "positive", id="none more"),
        pytest.param("increase", 4, "OUT_OF_RANGE", "2 and 4 more are more than the 5", id="too many"),
        pytest.param("decrease", 0, "INVALID_ARGUMENT", "negative", id="none fewer"),
        pytest.param("decrease", 1, "FAILED_PRECONDITION", "2 are Nodes already", id="Nodes"),
    ],
)
def test_sizes_that_are_refused(verb: str, amount: int, code: str, says: str) -> None:
    world = group("MachineDeployment", 2, nodes=2)
    world.ask(verb, amount)
    plan = world.go()
    ((found, message),) = answers(plan)
    assert found == code and says in message and size(world) == 2
    assert not plan.writes and plan.recorded, "a refusal is a result too"


def test_never_under_the_least() -> None:
    world = group("MachineSet", 2, pending=2, least=2)
    for verb, machines in (("decrease", ()), ("remove", ("p0",))):
        world.ask(verb, 1, *machines)
        assert [code for code, _ in answers(world.go())] == ["OUT_OF_RANGE"]
    assert size(world) == 2 and marks(world) == {}


@pytest.mark.parametrize("kind", KINDS)
def test_exactly_the_named_go(kind: str) -> None:
    world = group(kind, 3, nodes=3)
    world.ask("remove", 0, "n1", "n1")
    plan = world.go()
    assert size(world) == 2 and marks(world) == {"n1": "2026-01-02T03:04:05Z autoscaler-bridge"} and answers(plan) == [("OK", "")]
    assert [step.key.kind for step in plan_writes(plan)] == ["Machine", kind], "marked before the size is lowered"


def test_what_goes_already_is_not_taken_off_again() -> None:
    world = group("MachineSet", 3, nodes=3)
    for _ in range(2):
        world.ask("remove", 0, "n1")
        world.go()
    assert size(world) == 2, "marked, and its set is about to delete it"
    world.store[next(key for key in world.store if key.name == "n1")]["metadata"] |= {"deletionTimestamp": LATER, "finalizers": ["x"]}
    world.ask("remove", 0, "n1")
    assert answers(world.go()) == [("OK", "")] and size(world) == 2
    world.ask("remove", 0, "n0")
    world.go()
    assert size(world) == 1


def test_a_machine_of_another_group_is_refused() -> None:
    world = group("MachineSet", 2, nodes=2)
    world.put(machine("stranger", ("MachineSet", "another")))
    world.ask("remove", 0, "n0", "stranger")
    ((code, message),) = answers(world.go())
    assert code == "FAILED_PRECONDITION" and "stranger" in message and size(world) == 2 and marks(world) == {}


def test_no_host_is_named_while_a_rollout_chooses() -> None:
    world = group("MachineDeployment", 2, nodes=2)
    older = scalable("MachineSet")
    older["metadata"] |= {
        "name": "md-0",
        "ownerReferences": [
            {
                **world.store[world.key]["metadata"]["ownerReferences"][0],
                "kind": "MachineDeployment",
                "name": "md",
                "uid": "uid-MachineDeployment-md",
                "controller": True,
            }
        ],
    }
    world.put(older)
    world.put(machine("old", ("MachineSet", "md-0")))
    world.ask("remove", 0, "n0")
    assert [code for code, _ in answers(world.go())] == ["FAILED_PRECONDITION"] and marks(world) == {}
    world.ask("increase", 1)
    assert answers(world.go()) == [("OK", "")] and size(world) == 3, "growing chooses nobody"


def test_what_is_not_there_yet_is_given_up_youngest_first() -> None:
    world = group("MachineDeployment", 4, nodes=1, pending=3)
    world.ask("decrease", 2)
    plan = world.go()
    assert size(world) == 2 and set(marks(world)) == {"p1", "p2"} and answers(plan) == [("OK", "")]


def test_machines_that_were_not_made_yet_are_given_up_without_a_mark() -> None:
    world = group("MachineDeployment", 4, nodes=1, pending=1)
    world.ask("decrease", 2)
    world.go()
    assert size(world) == 2 and marks(world) == {}


def test_a_pool_without_machines_grows_and_shrinks_by_what_it_lists() -> None:
    world = group("MachinePool", 3)
    world.store[world.key]["spec"]["providerIDList"] = ["foo://1", "foo://2"]
    world.ask("decrease", 1)
    world.go()
    assert size(world) == 2
    world.ask("decrease", 1)
    assert [code for code, _ in answers(world.go())] == ["FAILED_PRECONDITION"] and size(world) == 2


@pytest.mark.parametrize("done", range(3))
def test_a_run_that_ends_half_way_goes_on_with_the_same_numbers(done: int) -> None:
    """Of the three writes, so many were made; then the request is decided again."""
    world = group("MachineSet", 3, nodes=3)
    world.ask("remove", 0, "n0", "n2")
    world.go(limit=done)
    assert world.asked[world.key][0].attempt == Attempt(3, 1)
    plan = world.go()
    assert size(world) == 1 and set(marks(world)) == {"n0", "n2"} and answers(plan) == [("OK", "")]


def test_a_write_whose_answer_was_lost_is_not_made_again() -> None:
    world = group("MachineSet", 1, nodes=1)
    world.ask("increase", 2, attempt=Attempt(1, 3))
    world.store[world.key]["spec"]["replicas"] = 3
    plan = world.go()
    assert answers(plan) == [("OK", "")] and size(world) == 3 and not plan.writes


def test_a_size_that_somebody_else_set_meanwhile_ends_the_request() -> None:
    world = group("MachineSet", 1, nodes=1)
    world.ask("increase", 2, attempt=Attempt(1, 3))
    world.store[world.key]["spec"]["replicas"] = 2
    ((code, message),) = answers(world.go())
    assert code == "ABORTED" and "to 2" in message and size(world) == 2


def test_marks_that_nothing_comes_of_are_taken_back_but_only_ours() -> None:
    world = group("MachineSet", 3, nodes=3)
    world.store[next(key for key in world.store if key.name == "n2")]["metadata"]["annotations"] = {"cluster.x-k8s.io/delete-machine": "by hand"}
    world.ask("remove", 0, "n0")
    world.go(limit=1)
    assert set(marks(world)) == {"n0", "n2"} and size(world) == 3
    world.asked.clear()
    world.go()
    assert marks(world) == {"n2": "by hand"}
    assert not world.go().steps


def test_a_mark_stays_while_its_machine_is_one_too_many() -> None:
    world = group("MachineSet", 3, nodes=3)
    world.ask("remove", 0, "n0")
    world.go()
    assert not world.go().steps and set(marks(world)) == {"n0"}


def test_requests_are_done_one_a_run_and_in_order() -> None:
    world = group("MachineDeployment", 0)
    for amount in (2, 3, 1):
        world.ask("increase", amount)
    codes = [answers(world.go())[0][0] for _ in range(3)]
    assert codes == ["OK", "OK", "OUT_OF_RANGE"] and size(world) == 5 and world.asked == {}


@pytest.mark.parametrize("state", ["deleting", "no bounds"])
def test_what_is_no_group_refuses_everything(state: str) -> None:
    found = scalable("MachineDeployment", annotations={} if state == "no bounds" else BOUNDS)
    if state == "deleting":
        found["metadata"] |= {"deletionTimestamp": LATER, "finalizers": ["x"]}
    world = Groups("MachineDeployment", found)
    world.ask("increase", 1)
    world.ask("remove", 0)
    plan = world.go()
    assert len(answers(plan)) == 2 and "OK" not in dict(answers(plan)) and not plan.writes


def test_whatever_is_asked_the_size_stays_inside_the_bounds_and_no_mark_is_left() -> None:
    """A long walk of requests, crashes and Machines that come and go."""
    dice = random.Random(6)
    for seed in range(30):
        world = group("MachineSet", dice.randint(1, 4), nodes=4, least=1, most=6)
        for _ in range(12):
            named = {key.name for key in world.store if key.kind == "Machine"}
            chosen = dice.sample(sorted(named), k=min(len(named), dice.randint(0, 2)))
            world.ask(dice.choice(("increase", "decrease", "remove")), dice.randint(0, 3), *chosen)
            world.go(limit=dice.choice((None, None, 0, 1)))
            if dice.random() < 0.3:
                world.asked.clear()
            world.at += timedelta(seconds=1)
            assert 1 <= (size(world) or 0) <= 6, seed
        for _ in range(20):
            if not world.asked:
                break
            world.go()
        world.go()
        live = [key for key, obj in world.store.items() if key.kind == "Machine"]
        assert len(live) > (size(world) or 0) or marks(world) == {}, seed


def test_options_are_the_groups_own_where_they_can_be_read() -> None:
    prefix = "cluster.x-k8s.io/autoscaling-options-"
    said: Json = {
        prefix + "scaledownutilizationthreshold": "0.4",
        prefix + "scaledowngpuutilizationthreshold": "much",
        prefix + "scaledownunneededtime": "1m30s",
    }
    found = options(said | {prefix + "maxnodeprovisiontime": "soon"})
    assert found == Options(0.4, None, timedelta(seconds=90), None, None, ("scaledowngpuutilizationthreshold", "maxnodeprovisiontime"))
    assert found.said
    assert options({prefix + "scaledownunneededtime": "1M30S"}).unneeded == timedelta(seconds=90), "read in small letters, as the clusterapi provider does"
    assert options({}) == Options(None, None, None, None, None) and not options({prefix + "maxnodeprovisiontime": "soon"}).said


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10m0s", 600.0), ("1h2m3.5s", 3723.5), ("250ms", 0.25), ("0", 0.0), ("10", None), ("-1m", None), ("m", None), ("", None), (None, None)],
)
def test_durations_are_go_s(text: str | None, seconds: float | None) -> None:
    found = duration(text)
    assert (found.total_seconds() if found is not None else None) == seconds
