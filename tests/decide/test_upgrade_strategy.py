"""External upgrade strategies: when they are asked, what of their answers is followed, what is told; and the canary that ships as the example."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fleetwake.kind import Change
from fleetwake.plan import Local, flatten
from schemas.api.core.v1beta2.machine import Machine
from schemas.api.core.v1beta2.machine_deployment import MachineDeployment
from schemas.keys import ObjectKey
from services.reconcilers.kinds import machine_deployment
from services.reconcilers.kinds.machine_deployment.extension import ANSWERS, STRATEGY, Told
from services.reconcilers.kinds.machine_deployment.planner import Bounds, Counts, plan_towards
from tests.decide.strategy_world import Asking, asking, by_revision, canary, extension_config, later, success
from tests.decide.workers_world import DEPLOYMENT
from tests.decide.world import Json


def hold(request: Json, world: Any) -> Json:
    """A strategy that moves nothing."""
    return success("waiting for the change board")


def everything(request: Json, world: Any) -> Json:
    """A strategy that wants the new revision at once."""
    return by_revision(request, request["machineDeployment"]["replicas"], 0)


def test_without_a_rollout_nothing_is_asked() -> None:
    world = asking(hold, 3)
    world.change(MachineDeployment, DEPLOYMENT, replicas=5)
    world.converge()
    assert not world.server.asked
    assert len(world.machines()) == 5
    assert world.told() == ("True", "NotRollingOut", "")


def test_the_question_tells_what_there_is_and_the_bounds() -> None:
    world = asking(hold, 4, surge="25%", unavailable=1, config=extension_config({"color": "yellow"}))
    world.roll()
    world.quiet()
    [call, *_] = world.server.calls
    assert call["url"] == "https://rollouts.example.com:9444/hooks.fleetwake.io/v1alpha1/planrollout/canary"
    request = world.server.asked[-1]
    assert (request["apiVersion"], request["kind"], request["settings"]) == ("hooks.fleetwake.io/v1alpha1", "PlanRolloutRequest", {"color": "yellow"})
    assert {key: request["machineDeployment"][key] for key in ("name", "replicas", "maxSurge", "maxUnavailable")} == {
        "name": DEPLOYMENT,
        "replicas": 4,
        "maxSurge": 1,
        "maxUnavailable": 1,
    }
    old, new = request["machineSets"]
    assert [(one["current"], one["replicas"], one["revision"]) for one in (old, new)] == [(False, 4, "1"), (True, 0, "2")]
    assert [one["available"] for one in old["machines"]] == [True] * 4
    assert world.sizes() == "4/0"
    assert world.told() == ("True", "Answered", "waiting for the change board")


def test_an_answer_is_not_asked_for_again_while_nothing_changes() -> None:
    world = asking(hold)
    world.roll()
    world.quiet()
    asked = len(world.server.asked)
    later(world, minutes=9)
    assert world.settle_kinds() == 0
    assert len(world.server.asked) == asked
    later(world, minutes=2)
    world.run_deployment()
    assert len(world.server.asked) == asked + 1


def test_a_strategy_that_wants_all_at_once_is_followed_at_the_pace_of_the_bounds() -> None:
    world = asking(everything, 4, surge=1, unavailable=0)
    world.roll()
    seen = []
    for _ in range(80):
        world.settle_kinds()
        machines = world.machines()
        available = sum(any(c.type == "Available" and c.status == "True" for c in one.status.conditions) and not one.metadata.deleting for one in machines)
        assert len(machines) <= 5
        assert available >= 4
        if world.sizes() not in seen:
            seen.append(world.sizes())
        world.later(20)
        if not world.join() and not world.leave():
            break
    assert seen == ["4/1", "3/1", "3/2", "2/2", "2/3", "1/3", "1/4", "0/4", "4"]
    assert world.told() == ("True", "NotRollingOut", "")


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        pytest.param(lambda sets: ["nothing"], "document: Input should be a valid dictionary or instance of PlanRolloutResponse", id="no-document"),
        pytest.param(lambda sets: {**success(), "apiVersion": "hooks.fleetwake.io/v2"}, "apiVersion: Input should be", id="version"),
        pytest.param(lambda sets: success(**{sets[1]: -1}), "machineSets.0.replicas: Input should be greater than or equal to 0", id="negative"),
        pytest.param(lambda sets: success(**{sets[1]: True}), "machineSets.0.replicas: Input should be a valid integer", id="no-number"),
        pytest.param(lambda sets: success(other=1), "MachineSet other is none of this MachineDeployment", id="unknown"),
        pytest.param(lambda sets: success(**{sets[1]: 9}), "shall have 9 replicas, the MachineDeployment wants 4", id="too-many"),
        pytest.param(lambda sets: success(**{sets[0]: 5}), "is of an old revision and shall grow from 4 to 5", id="old-grows"),
        pytest.param(lambda sets: {**success(), "machineSets": [{"name": sets[1], "replicas": 1}] * 2}, "is named 2 times", id="twice"),
    ],
)
def test_an_answer_that_makes_no_sense_is_named_and_the_rollout_waits(answer: Any, told: str) -> None:
    world = asking(lambda request, world: answer([one["name"] for one in request["machineSets"]]))
    world.roll()
    world.quiet()
    status, reason, message = world.told()
    assert (status, reason) == ("False", "InvalidAnswer")
    assert told in message
    assert world.sizes() == "4/0"
    # asked again a minute later: whoever mends the strategy need not touch the MachineDeployment
    world.server.answering = everything
    later(world, minutes=1)
    world.run_deployment()
    assert world.sizes() == "4/1"


def test_a_strategy_that_fails_says_why() -> None:
    world = asking(lambda request, world: {**success("no budget this week", 30), "status": "Failure"})
    world.roll()
    world.quiet()
    assert world.told() == ("False", "StrategyFailed", "Strategy canary.rollouts: no budget this week")
    assert world.run_deployment().requeue_after == timedelta(seconds=10)


def test_a_call_that_fails_is_told_and_tried_again_ever_later() -> None:
    world = asking(lambda request, world: "call failed: refused")
    world.roll()
    world.settle_kinds()
    waits = []
    for _ in range(11):
        plan = world.run_deployment()
        assert plan.requeue_after is not None
        waits.append(plan.requeue_after.total_seconds())
        later(world, seconds=waits[-1])
    assert waits == sorted(waits)
    assert waits[-1] == 300
    world.quiet()
    assert world.told() == ("False", "CallFailed", "Strategy canary.rollouts: call failed: refused")
    assert world.sizes() == "4/0"


def test_a_failing_call_may_be_ignored() -> None:
    world = asking(lambda request, world: "call failed: refused", config=extension_config({"failurePolicy": "Ignore"}))
    world.roll()
    world.quiet()
    assert world.told()[1] == "CallFailedIgnored"
    world.converge()
    assert world.sizes() == "4"


def test_what_was_discovered_of_the_handler_counts_before_settings() -> None:
    config = extension_config({"failurePolicy": "Ignore", "timeoutSeconds": "3"})
    hook = {"apiVersion": "hooks.fleetwake.io/v1alpha1", "hook": "PlanRollout"}
    config["status"] = {"handlers": [{"name": "canary.rollouts", "requestHook": hook, "timeoutSeconds": 7, "failurePolicy": "Fail"}]}
    world = asking(lambda request, world: "no", config=config)
    world.roll()
    world.quiet()
    assert {call["timeout_seconds"] for call in world.server.calls} == {7}
    assert world.told()[1] == "CallFailed"


SELECTING = extension_config(namespaceSelector={"matchLabels": {"kubernetes.io/metadata.name": "other"}})
UNKNOWN = extension_config(namespaceSelector={"matchLabels": {"team": "a"}})
GONE = extension_config() | {"metadata": {"name": "other"}}


@pytest.mark.parametrize(
    ("config", "reason", "message"),
    [
        pytest.param(GONE, "StrategyNotFound", "ExtensionConfig rollouts does not exist", id="gone"),
        pytest.param(SELECTING, "NamespaceNotSelected", "ExtensionConfig rollouts does not select namespace default", id="not-selected"),
        pytest.param(UNKNOWN, "NamespaceNotSelected", "selects namespaces by team", id="unknown-label"),
    ],
)
def test_a_strategy_that_cannot_be_asked_stops_the_rollout(config: Json, reason: str, message: str) -> None:
    world = asking(everything, config=config)
    world.roll()
    world.quiet()
    assert world.told()[:2] == ("False", reason)
    assert message in world.told()[2]
    assert world.sizes() == "4/0"
    assert not world.server.asked


def test_a_malformed_name_and_on_delete_are_told() -> None:
    world = asking(everything)
    found = world.json(MachineDeployment, DEPLOYMENT)
    found["metadata"]["annotations"][STRATEGY] = "canary"
    world.roll()
    world.quiet()
    assert world.told()[:2] == ("False", "InvalidName")
    found["metadata"]["annotations"][STRATEGY] = "canary.rollouts"
    world.change(MachineDeployment, DEPLOYMENT, rollout={"strategy": {"type": "OnDelete"}})
    world.quiet()
    assert world.told()[:2] == ("False", "BoundsMissing")
    # without the annotation the type decides, and nothing more is told
    del found["metadata"]["annotations"][STRATEGY]
    world.quiet()
    assert world.told() == ("", "", "")


def test_a_sick_new_revision_may_be_withdrawn() -> None:
    """The brake that unavailable new Machines are does not hold a strategy that takes them back."""
    bounds, old = Bounds(3, 1, 0), Counts("old", 3, 3, 3)
    sick = Counts("new", 1, 1, 0)
    assert plan_towards({"new": 0}, bounds, sick, [old])["new"].replicas == 0
    # a healthy one goes only as far as enough stay available
    assert not plan_towards({"new": 0}, Bounds(3, 1, 0), Counts("new", 1, 1, 1), [Counts("old", 2, 2, 2)])


def test_the_annotation_stays_with_the_deployment() -> None:
    world = asking(hold)
    assert all(STRATEGY not in one.metadata.annotations for one in world.sets())


def test_a_paused_deployment_asks_nothing_and_moves_nothing() -> None:
    world = asking(everything)
    world.change(MachineDeployment, DEPLOYMENT, paused=True)
    world.roll()
    world.quiet()
    assert world.sizes() == "4"
    assert not world.server.asked


def test_what_wakes_a_deployment_of_a_strategy() -> None:
    world = asking(hold)
    [watch] = [one for one in machine_deployment.KIND.watches if one.source == machine_deployment.EXTENSION_CONFIG]
    key = ObjectKey("runtime.cluster.x-k8s.io", "ExtensionConfig", "", "rollouts")
    config = extension_config()
    change = Change(key, None, config, {**config, "spec": {"clientConfig": {"url": "https://elsewhere"}}})
    assert watch.matters(change)
    assert [found.name for found in watch.concerns(change, world)] == [DEPLOYMENT]
    other = Change(key._replace(name="other"), None, config, None)
    assert not list(watch.concerns(other, world))


def test_a_question_under_way_is_not_asked_twice() -> None:
    world = asking(hold)
    world.roll()
    world.server.answering = everything
    super(Asking, world).run_deployment()
    plan = super(Asking, world).run_deployment()
    [first] = [step for step in flatten(plan.steps) if isinstance(step, Local)]
    told = world.server.told
    world.locals = {ANSWERS: lambda key: Told(told(key).answer, str(first.arguments["digest"]))}
    plan = super(Asking, world).run_deployment()
    assert not [step for step in flatten(plan.steps) if isinstance(step, Local)]


# --- the example


def machine(available_since: datetime | None) -> Json:
    return {"name": "m", "available": available_since is not None, **({"availableSince": available_since.isoformat()} if available_since else {})}


NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("current", "olds", "machines", "replicas", "retry"),
    [
        pytest.param(0, [4], [], [1, 3], 0, id="begins-with-one"),
        pytest.param(1, [4], [None], [1, 3], 0, id="waits-until-it-is-available"),
        pytest.param(1, [3], [NOW - timedelta(seconds=40)], [1, 3], 20, id="waits-its-time"),
        pytest.param(1, [3], [NOW - timedelta(seconds=60)], [4, 0], 0, id="then-the-rest"),
        pytest.param(2, [3], [NOW, NOW - timedelta(seconds=90)], [4, 0], 0, id="goes-on"),
        pytest.param(0, [2, 2], [], [1, 2, 1], 0, id="oldest-goes-first"),
    ],
)
def test_the_canary(current: int, olds: list[int], machines: list[datetime | None], replicas: list[int], retry: int) -> None:
    sets = [{"name": f"old{index}", "current": False, "replicas": number, "machines": []} for index, number in enumerate(olds)]
    new = {"name": "new", "current": True, "replicas": current, "machines": [machine(one) for one in machines]}
    request = {"settings": {"machines": "1", "waitSeconds": "60"}, "machineDeployment": {"replicas": 4}, "machineSets": [*sets, new]}
    answer = canary().plan(request, NOW)
    assert [one["replicas"] for one in answer["machineSets"]] == replicas
    assert answer["retryAfterSeconds"] == retry


@pytest.mark.parametrize(("surge", "unavailable"), [(1, 0), (0, 1), (3, 0)])
def test_a_rollout_by_the_canary(surge: int, unavailable: int) -> None:
    plan = canary().plan
    world = asking(lambda request, world: plan(request, world.at), config=extension_config({"waitSeconds": "120"}), surge=surge, unavailable=unavailable)
    world.roll()
    for _ in range(4):
        world.settle_kinds()
        world.join()
        world.leave()
    # one has come up; nothing more happens until it has held
    assert [one.spec.replicas for one in world.sets()][-1] == 1
    assert sum(one.spec.replicas or 0 for one in world.sets()) in (4, 5)
    before = {one.name for one in world.machines()}
    for _ in range(5):
        later(world, seconds=15)
        world.settle_kinds()
    assert {one.name for one in world.machines()} == before
    assert "the rest follows at" in world.told()[2]
    later(world, seconds=60)
    world.converge()
    assert world.sizes() == "4"
    assert len(before & {one.name for one in world.machines()}) == 1


def test_a_canary_that_fails_keeps_the_rest() -> None:
    plan = canary().plan
    world = asking(lambda request, world: plan(request, world.at), surge=1, unavailable=0)
    world.roll()
    world.settle_kinds()
    for _ in range(40):
        later(world, minutes=1)
        world.settle_kinds()
    assert world.sizes() == "4/1"
    assert world.told() == ("True", "Answered", "0 of 1 Machines that go first are available")
    assert isinstance(world.machines()[0], Machine)
