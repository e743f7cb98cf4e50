"""The chains of one worker: every record of results gets its place and its seal in the order in which the records are put into their partition.

Runs go side by side, so place and seal are given under a lock that is held only until the producer has the record in its order; acknowledgements are
awaited outside of it. A record whose fate is not known ends its chain: what comes next begins another that names the last one known to be there.
What the seals prove: docs/audit.md. Their shape: ``schemas.chain``.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence

from fleetwake.shell.ports import BusPort
from schemas.chain import HEADS_MAX, Acknowledged, Head, Link, SealedContent, sealed
from schemas.records import Headers


class Heads:
    """The newest record of each chain, as read from a partition in order of offsets. What cannot be read is left out: it is for ``verify`` to tell."""

    def __init__(self) -> None:
        self._found: OrderedDict[str, Head] = OrderedDict()

    def take(self, offset: int, headers: Mapping[str, bytes]) -> None:
        """Take the next record."""
        try:
            link = Link.of(headers)
        except ValueError:
            return
        if link is not None:
            self._found[link.chain] = Head(link.chain, link.sequence, offset, headers.get("ce_chainmac", b"").decode(errors="replace"))
            self._found.move_to_end(link.chain)

    def newest(self) -> tuple[Head, ...]:
        """The chains that were written to last, the newest first."""
        return tuple(list(reversed(self._found.values()))[:HEADS_MAX])


class _Sent:
    """A record on its way. ``offset`` is set once it is acknowledged."""

    __slots__ = ("mac", "offset", "sequence")

    def __init__(self, sequence: int, mac: str) -> None:
        self.sequence, self.mac = sequence, mac
        self.offset: int | None = None


class Chain:
    """One chain as its writer keeps it: what was sent and not acknowledged, and the newest record up to which everything is."""

    def __init__(self, name: str, looked: tuple[int, int] | None, heads: Sequence[Head]) -> None:
        self.name, self.looked, self.heads = name, looked, tuple(heads)
        self.head: Head | None = None
        self._sequence, self._mac = 0, ""
        self._sent: deque[_Sent] = deque()

    def next(self) -> Link:
        """The place of the next record."""
        first = self.head is None
        acknowledged = None if self.head is None else Acknowledged(self.head.sequence, self.head.offset)
        return Link(self.name, self._sequence + 1, self._mac, acknowledged, self.looked if first else None, self.heads if first else ())

    def sent(self, link: Link, mac: str) -> _Sent:
        """The record is in the producer's order."""
        self._sequence, self._mac = link.sequence, mac
        one = _Sent(link.sequence, mac)
        self._sent.append(one)
        return one

    def acknowledged(self, one: _Sent, offset: int) -> None:
        """The brokers have taken it."""
        one.offset = offset
        while self._sent and (offset_of_first := self._sent[0].offset) is not None:
            done = self._sent.popleft()
            self.head = Head(self.name, done.sequence, offset_of_first, done.mac)

    def named_by_next(self) -> tuple[Head, ...]:
        """What the chain that follows this one names: its last known record, or, where none is known, what it was to name itself."""
        return (self.head,) if self.head is not None else self.heads


class Chains:
    """The chains of one worker by partition. ``incarnation`` is unique to this life of the process; without a key nothing is sealed."""

    def __init__(self, bus: BusPort, incarnation: str, key: Callable[[], bytes]) -> None:
        self._bus, self._incarnation, self._key = bus, incarnation, key
        self._chains: dict[int, Chain] = {}
        self._locks: dict[int, asyncio.Lock] = {}
        self._count = 0

    def begin(self, partition: int, looked: tuple[int, int], heads: Sequence[Head]) -> None:
        """The partition was assigned (again): a new chain begins there, which names the chains found in the offsets looked at."""
        self._chains[partition] = self._new(looked, heads)

    def _new(self, looked: tuple[int, int] | None, heads: Sequence[Head]) -> Chain:
        self._count += 1
        return Chain(f"{self._incarnation}.{self._count}", looked, heads[:HEADS_MAX])

    async def produce(self, topic: str, key: bytes, value: bytes, headers: Headers, partition: int) -> None:
        """Seal a record, produce it, and return once it is acknowledged.

        Raises:
            UnavailableError: the broker did not take it in time; it may still arrive.
        """
        secret = self._key()
        if not secret:
            await self._bus.produce(topic, key, value, headers, partition)
            return
        async with self._locks.setdefault(partition, asyncio.Lock()):
            chain = self._chains.get(partition)
            if chain is None:
                chain = self._chains[partition] = self._new(None, ())
            link = chain.next()
            with_seal, mac = sealed(secret, SealedContent(partition, key, value, headers), link)
            # raises only when the record got no place: then the chain has not moved either
            taken = await self._bus.enqueue(topic, key, value, with_seal, partition)
            one = chain.sent(link, mac)

        def answered(answer: asyncio.Future[int]) -> None:
            if answer.cancelled() or answer.exception() is not None:
                self._close(partition, chain)
            else:
                chain.acknowledged(one, answer.result())

        taken.add_done_callback(answered)
        # a run that is cut at its limit does not call its record back: it is sent, and its answer is heard
        await asyncio.shield(taken)

    def _close(self, partition: int, chain: Chain) -> None:
        """Nobody knows whether a record of the chain arrived: the next one begins a chain that can be told from here."""
        if self._chains.get(partition) is chain:
            known = chain.named_by_next()
            self._chains[partition] = self._new(chain.looked if chain.head is None else None, known)
