"""Chains as their writer makes them: places given in the order of the partition, whatever runs side by side; a record of unknown fate ends its chain."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable

import pytest

from fleetwake.errors import UnavailableError
from fleetwake.shell.chains import Chains, Heads
from fleetwake.sim.bus import SimBus, SimBusPort
from fleetwake.sim.faults import Fate, Faults, Rates
from fleetwake.sim.loop import SimLoop
from fleetwake.views.verification import Fault, Finding, LogFacts, Message, Note, Verification
from schemas.chain import HEADS_MAX, Link, key_id
from tests.shell.shell_world import simulated

KEY = b"k" * 32
TOPIC = "t.results"
SOURCE = ("ce_source", b"/fleetwake/reconcilers/w0")


class World:
    """A bus in memory, the writers on it, and what verify says of a partition."""

    def __init__(self, rates: Rates | None = None, seed: int = 1) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, SimLoop)
        self.loop = loop
        self.faults = Faults(random.Random(seed), rates or Rates())
        self.bus = SimBus(loop, self.faults)
        self.refused = 0

    def writer(self, name: str) -> Chains:
        """Another life of a writer."""
        return Chains(SimBusPort(self.bus, self.loop.process(name)), name, lambda: KEY)

    async def put(self, chains: Chains, number: int, partition: int = 0) -> None:
        """Produce a record; one whose answer is lost is counted."""
        try:
            await chains.produce(TOPIC, b"default/demo", b'{"n":%d}' % number, [("ce_id", b"%d" % number), SOURCE], partition)
        except UnavailableError:
            self.refused += 1

    async def put_all(self, chains: Chains, numbers: Iterable[int], partition: int = 0) -> None:
        """Produce records side by side."""
        await asyncio.gather(*(self.put(chains, number, partition) for number in numbers))

    def messages(self, partition: int = 0) -> list[Message]:
        """What the partition holds."""
        return [Message(partition, one.offset, one.key, one.value, list(one.headers)) for one in self.bus.log(TOPIC, partition).messages]

    def links(self, partition: int = 0) -> list[Link]:
        """The places of its records."""
        return [link for message in self.messages(partition) if (link := Link.of(dict(message.headers))) is not None]

    def heads(self, partition: int = 0) -> Heads:
        """What a worker finds at assignment."""
        found = Heads()
        for message in self.messages(partition):
            found.take(message.offset, dict(message.headers))
        return found

    def found(self, partition: int = 0) -> list[Finding]:
        """What verify says."""
        verification = Verification(LogFacts(partition), {key_id(KEY): KEY})
        findings = [finding for message in self.messages(partition) for finding in verification.take(message)]
        return [*findings, *verification.finish()]


@simulated
async def test_records_put_side_by_side_are_numbered_in_the_order_of_the_partition() -> None:
    world = World(Rates(slow=0.3))
    chains = world.writer("life")
    await asyncio.gather(world.put_all(chains, range(50)), world.put_all(chains, range(50, 80), partition=1))
    for partition, count in ((0, 50), (1, 30)):
        links = world.links(partition)
        assert [link.sequence for link in links] == list(range(1, count + 1))
        assert len({link.chain for link in links}) == 1
        assert world.found(partition) == []
    assert world.links(0)[0].chain != world.links(1)[0].chain


@simulated
async def test_a_record_says_which_before_it_had_been_acknowledged() -> None:
    world = World()
    chains = world.writer("life")
    for number in range(3):
        await world.put(chains, number)
    assert [link.acknowledged for link in world.links()] == [None, (1, 0), (2, 1)]


@simulated
async def test_a_new_life_names_the_last_record_of_the_one_before() -> None:
    world = World()
    await world.put_all(world.writer("first"), range(3))
    second = world.writer("second")
    second.begin(0, (0, 3), world.heads().newest())
    await world.put_all(second, range(3, 5))
    link = world.links()[3]
    assert (link.chain, link.sequence, link.looked) == ("second.1", 1, (0, 3))
    assert [(head.chain, head.sequence, head.offset) for head in link.heads] == [("first.1", 3, 2)]
    assert world.found() == []


@simulated
async def test_heads_are_named_until_a_record_with_them_is_known_to_be_there() -> None:
    world = World()
    await world.put(world.writer("first"), 0)
    second = world.writer("second")
    second.begin(0, (0, 1), world.heads().newest())
    await world.put_all(second, range(1, 4))
    await world.put(second, 4)
    assert [bool(link.heads) for link in world.links()] == [False, True, True, True, False]


@simulated
async def test_only_the_newest_chains_are_named() -> None:
    world = World()
    for life in range(HEADS_MAX + 3):
        await world.put(world.writer(f"life{life}"), life)
    newest = world.heads().newest()
    assert [head.chain for head in newest] == [f"life{life}.1" for life in range(HEADS_MAX + 2, 2, -1)]


@pytest.mark.parametrize("fate", [Fate.LOST, Fate.UNANSWERED], ids=lambda fate: fate.value)
def test_a_record_of_unknown_fate_ends_its_chain_honestly(fate: Fate) -> None:
    @simulated
    async def run() -> None:
        world = World()
        chains = world.writer("life")
        await world.put(chains, 0)
        chosen = iter([fate])
        world.faults.record = lambda: next(chosen, Fate.FINE)  # type: ignore[method-assign]
        await world.put_all(chains, range(1, 4))
        await world.put_all(chains, range(4, 6))
        assert world.refused == 1
        first, *_, last = world.links()
        assert (first.chain, last.chain) == ("life.1", "life.2")
        begun = next(link for link in world.links() if link.chain == "life.2")
        assert [(head.chain, head.sequence) for head in begun.heads] == [("life.1", 1)]
        assert {finding.kind for finding in world.found()} <= {Note.UNCONFIRMED, Note.LATE}

    run()


@simulated
async def test_a_record_that_got_no_place_takes_no_number() -> None:
    world = World()
    process = world.loop.process("life")
    port = SimBusPort(world.bus, process)
    chains = Chains(port, "life", lambda: KEY)
    await world.put(chains, 0)
    taken = port.enqueue

    async def refuse(*_: object) -> asyncio.Future[int]:
        raise UnavailableError("too large", operation="produce")

    port.enqueue = refuse  # type: ignore[method-assign]
    await world.put(chains, 1)
    port.enqueue = taken  # type: ignore[method-assign]
    await world.put(chains, 2)
    assert world.refused == 1
    assert [(link.chain, link.sequence) for link in world.links()] == [("life.1", 1), ("life.1", 2)]
    assert world.found() == []


@simulated
async def test_a_run_that_is_cut_does_not_break_the_chain() -> None:
    """The record of a run that ends at its limit while it waits for the acknowledgement is in Kafka all the same."""
    world = World()
    chains = world.writer("life")
    cut = asyncio.ensure_future(world.put(chains, 0))
    await asyncio.sleep(0)
    cut.cancel()
    await asyncio.gather(cut, return_exceptions=True)
    await asyncio.sleep(1.0)
    await world.put(chains, 1)
    assert [(link.sequence, link.acknowledged) for link in world.links()] == [(1, None), (2, (1, 0))]
    assert world.found() == []


@simulated
async def test_a_frozen_owner_that_appends_late_is_told_apart_from_tampering() -> None:
    world = World()
    frozen = world.writer("frozen")
    await world.put_all(frozen, range(3))
    heir = world.writer("heir")
    heir.begin(0, (0, 3), world.heads().newest())
    await world.put(heir, 3)
    await world.put(frozen, 4)
    await world.put(heir, 5)
    assert [finding.kind for finding in world.found()] == [Note.LATE]
    # and the owner that gets the partition back begins anew, naming both
    frozen.begin(0, (0, 6), world.heads().newest())
    await world.put(frozen, 6)
    assert {head.chain for head in world.links()[-1].heads} == {"frozen.1", "heir.1"}
    assert [finding.kind for finding in world.found()] == [Note.LATE]


@simulated
async def test_without_a_key_nothing_is_sealed() -> None:
    world = World()
    chains = Chains(SimBusPort(world.bus, world.loop.process("life")), "life", bytes)
    await world.put(chains, 0)
    assert world.links() == []


@pytest.mark.parametrize("seed", range(20))
def test_whatever_a_bus_does_to_records_no_writer_is_taken_for_a_forger(seed: int) -> None:
    @simulated
    async def run() -> None:
        world = World(Rates(bus_lost=0.05, bus_unanswered=0.05, slow=0.3), seed)
        chooser = random.Random(seed)
        number = 0
        for life in range(6):
            chains = world.writer(f"life{life}")
            messages = world.messages()
            chains.begin(0, (0, len(messages)), world.heads().newest())
            for _ in range(chooser.randint(1, 5)):
                count = chooser.randint(1, 6)
                await world.put_all(chains, range(number, number + count))
                number += count
        assert [finding for finding in world.found() if isinstance(finding.kind, Fault)] == []
        assert world.refused

    run()
