"""Status writes that only inform wait a moment and tell the newest; what somebody waits for goes at once; nothing stays untold."""

from __future__ import annotations

import asyncio
from typing import Any

from fleetwake.plan import Apply, Create, Plan
from fleetwake.shell.ports import Request
from fleetwake.shell.spacing import STATUS_DELAY
from fleetwake.sim.apiserver import PatchType
from tests.shell.shell_world import GROUP, NAMESPACE, Seen, ShellWorld, Tuning, child_body, child_key, kind_of, parent_key, simulated, status_response

API = f"{GROUP}/v1"
DELAY = STATUS_DELAY.total_seconds()
PARENTS = f"parents.{GROUP}"


def telling(seen: Seen) -> Plan:
    """Tells ``spec.text``, which informs, and ``spec.latch``, which somebody waits for; makes a Child where asked."""
    spec, have = seen.parent.spec, seen.parent.status
    steps: list[Any] = [Create(body=child_body("c", seen), reason="wanted", owner_uid=seen.uid)] if spec.get("child") and not seen.children else []
    want = {name: spec[name] for name in ("text", "latch") if name in spec}
    if want != have:
        informs = want.get("latch") == have.get("latch")
        steps.append(Apply(seen.key, API, seen.uid, {"status": want}, "status", subresource="status", informs=informs))
    return Plan(tuple(steps))


def world_of(**options: Any) -> ShellWorld:
    world = ShellWorld(kind_of(telling), tuning=Tuning(options=options))
    world.own_all()
    return world


def change(world: ShellWorld, **spec: Any) -> None:
    world.api.patch(PARENTS, (NAMESPACE, "p"), {"spec": spec}, PatchType.MERGE)


def told(world: ShellWorld, name: str = "p") -> Any:
    found = world.get(parent_key(name))
    assert found is not None
    return found.get("status")


def status_writes(world: ShellWorld) -> int:
    return sum(request.path.endswith("/status") for request in world.kube.writes)


@simulated
async def test_what_only_informs_is_told_once_and_newest() -> None:
    world = world_of()
    world.parent(spec={"text": "0"})
    for number in range(1, 5):
        await asyncio.sleep(DELAY / 5)
        assert told(world) is None
        change(world, text=str(number))
    await asyncio.sleep(DELAY / 4)
    assert told(world) == {"text": "4"}
    await world.settle(60)
    assert status_writes(world) == 1


@simulated
async def test_it_is_never_later_however_much_moves() -> None:
    world = world_of()
    world.parent(spec={"text": "0"})
    changed_at = {"0": world.loop.time()}
    late: list[float] = []

    def arrived(request: Request, _: Any) -> None:
        if request.path.endswith("/status"):
            late.append(world.loop.time() - changed_at[told(world)["text"]])

    world.kube.after.append(arrived)
    for number in range(1, 50):
        await asyncio.sleep(0.2)
        change(world, text=str(number))
        changed_at[str(number)] = world.loop.time()
    await world.settle(60)
    assert told(world) == {"text": "49"}
    assert max(late) <= DELAY + 0.05
    assert 8 <= len(late) <= 11


@simulated
async def test_what_is_waited_for_goes_at_once_and_takes_along_what_was_held_back() -> None:
    world = world_of()
    world.parent(spec={"text": "first"})
    await asyncio.sleep(DELAY / 2)
    change(world, latch=True)
    await asyncio.sleep(DELAY / 20)
    assert told(world) == {"text": "first", "latch": True}
    await world.settle(60)
    assert status_writes(world) == 1
    change(world, text="second")
    await asyncio.sleep(DELAY * 0.9)
    assert told(world) == {"text": "first", "latch": True}, "a new delay begins"
    await asyncio.sleep(DELAY * 0.2)
    assert told(world) == {"text": "second", "latch": True}


@simulated
async def test_other_steps_of_the_plan_do_not_wait() -> None:
    world = world_of()
    world.parent(spec={"text": "making", "child": True})
    await asyncio.sleep(DELAY / 20)
    assert world.get(child_key("c")) is not None
    assert told(world) is None
    await asyncio.sleep(DELAY)
    assert told(world) == {"text": "making"}


@simulated
async def test_a_telling_that_failed_is_repeated() -> None:
    world = world_of()
    world.kube.answer("PATCH", "/status", status_response(503, "ServiceUnavailable", "starting"), times=2)
    world.parent(spec={"text": "told at last"})
    await world.settle(60)
    assert told(world) == {"text": "told at last"}


@simulated
async def test_a_worker_that_has_too_much_to_do_does_first_what_is_waited_for() -> None:
    world = world_of(runs_max=1)
    world.parent("informs", spec={"text": "late"})
    await asyncio.sleep(DELAY - 0.05)
    world.kube.gate = asyncio.Event()
    world.parent("busy", spec={"latch": True})
    await asyncio.sleep(0.1)
    world.parent("awaited", spec={"latch": True})
    world.kube.gate.set()
    await world.settle(5)
    assert [request.path.split("/")[-2] for request in world.kube.writes] == ["busy", "awaited", "informs"]
