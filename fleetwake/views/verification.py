"""Whether a partition of results is what its writers wrote: altered, removed and reordered records are found and named. Pure: records in, findings out.

Records come in order of offsets. What must be held is bounded: the state of each chain and the last ``RECENT_MAX`` records.
The chains are explained in docs/audit.md; their shape is ``schemas.chain``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from schemas.chain import MAC, Acknowledged, Head, Link, SealedContent, genuine

RECENT_MAX = 50_000
"""Records of a partition remembered by their offsets: a chain that begins names others that were written to shortly before."""
SOURCE = "ce_source"


class Fault(Enum):
    """What is wrong with a record or a place; the value tells it to people."""

    ALTERED = "altered"
    REMOVED = "removed"
    REORDERED = "reordered"
    UNSEALED = "not sealed"
    FOREIGN_KEY = "sealed with an unknown key"
    SHIFTED = "at another offset"


class Note(Enum):
    """What is no fault, and worth knowing."""

    BEGINS_EARLIER = "begins before the log"
    LATE = "late"
    REPEATED = "repeated"
    UNCONFIRMED = "unconfirmed"
    UNSEALED_BEFORE = "not sealed yet"
    UNCOMPARED = "not compared"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something found. ``offset`` is the record's, or of the record before which something is missing."""

    kind: Fault | Note
    partition: int
    offset: int
    text: str

    @property
    def fault(self) -> bool:
        """Whether the topic is not what its writers wrote."""
        return isinstance(self.kind, Fault)

    def __str__(self) -> str:
        return f"partition {self.partition} offset {self.offset}: {self.kind.value}: {self.text}"


class Message(NamedTuple):
    """A record as it lies in Kafka."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


class _Range(NamedTuple):
    """Numbers of a chain that were not seen, and the offset of the record that told of them."""

    first: int
    last: int
    offset: int


@dataclass(slots=True)
class _Chain:
    """What is known of one chain so far."""

    name: str
    source: str
    first: int
    last: int = 0
    mac: str = ""
    offset: int = 0
    acknowledged: int = 0
    altered: bool = False
    missing: list[_Range] = field(default_factory=list)
    followed_by: str = ""
    late: int = 0


@dataclass(frozen=True, slots=True)
class LogFacts:
    """What is known of the partition beside its records. ``copied``: it is a copy, whose offsets are others than its writers saw."""

    partition: int
    start: int = 0
    copied: bool = False


class Verification:
    """One partition. ``take`` its records in order, then ``finish``; both give findings."""

    def __init__(self, facts: LogFacts, keys: Mapping[str, bytes]) -> None:
        self._facts, self._keys = facts, keys
        self._chains: dict[str, _Chain] = {}
        self._newest: dict[str, str] = {}
        self._recent: OrderedDict[int, Head] = OrderedDict()
        self._next_offset = facts.start
        self._shifted = False
        self._accused: set[int] = set()
        self._unsealed_before = 0
        self.records = self.sealed = 0

    @property
    def chains(self) -> int:
        """How many chains were met."""
        return len(self._chains)

    def _finding(self, kind: Fault | Note, offset: int, text: str) -> Finding:
        return Finding(kind, self._facts.partition, offset, text)

    def take(self, message: Message) -> Iterator[Finding]:
        """Take the next record."""
        self.records += 1
        if message.offset > self._next_offset and not self._facts.copied:
            yield self._finding(Fault.REMOVED, message.offset, f"offsets {self._next_offset} to {message.offset - 1} are not there")
        self._next_offset = message.offset + 1
        headers = dict(message.headers)
        source = headers.get(SOURCE, b"").decode(errors="replace")
        try:
            link = Link.of(headers)
        except ValueError as error:
            self._accused.add(message.offset)
            yield self._finding(Fault.ALTERED, message.offset, str(error))
            return
        if link is None:
            yield from self._unsealed(message.offset, source)
            return
        self.sealed += 1
        true = genuine(self._keys, SealedContent(message.partition, message.key, message.value, message.headers))
        if true is None:
            yield self._finding(Fault.FOREIGN_KEY, message.offset, f"{_called(link)} names a key that is not among those given")
        elif not true:
            self._accused.add(message.offset)
            yield self._finding(Fault.ALTERED, message.offset, f"{_called(link)} by {source}: key, headers or value are not those that were sealed")
        head = Head(link.chain, link.sequence, message.offset, headers.get(MAC, b"").decode(errors="replace"))
        self._remember(head)
        known = self._chains.get(link.chain)
        if true or link.sequence == (1 if known is None else known.last + 1):
            yield from self._place(link, head, source, altered=not true)
        # else: what is not genuine and does not fit says nothing of any chain

    def _remember(self, head: Head) -> None:
        self._recent[head.offset] = head
        if len(self._recent) > RECENT_MAX:
            self._recent.popitem(last=False)

    def _unsealed(self, offset: int, source: str) -> Iterator[Finding]:
        if _service(source) in self._newest:
            yield self._finding(Fault.UNSEALED, offset, f"a record of {source or 'nobody'} stands in no chain, although that service sealed records before it")
        else:
            self._unsealed_before += 1

    # ---- its place in its chain -------------------------------------------------------------------------------------------------------
    def _place(self, link: Link, head: Head, source: str, *, altered: bool) -> Iterator[Finding]:
        chain = self._chains.get(link.chain)
        if chain is None:
            chain = self._chains[link.chain] = _Chain(link.chain, source, link.sequence)
            yield from self._begun(chain, link, head, altered=altered)
        elif link.sequence <= chain.last:
            yield from self._again(chain, link, head)
            return
        elif link.sequence > chain.last + 1:
            chain.missing.append(_Range(chain.last + 1, link.sequence - 1, head.offset))
        elif link.previous != chain.mac and not chain.altered and not altered:
            yield self._finding(Fault.ALTERED, chain.offset, f"number {chain.last} of chain {chain.name} is not the one that number {link.sequence} follows")
        if chain.followed_by:
            chain.late += 1
        chain.last, chain.mac, chain.offset, chain.altered = link.sequence, head.mac, head.offset, altered
        if link.acknowledged is not None:
            chain.acknowledged = max(chain.acknowledged, link.acknowledged.sequence)
            yield from self._at_its_offset(chain, link.acknowledged, head.offset)

    def _begun(self, chain: _Chain, link: Link, head: Head, *, altered: bool) -> Iterator[Finding]:
        """The first record of a chain that is met: it names others, and what came before it in its own chain must have been too old to be here."""
        service = _service(chain.source)
        former = self._chains.get(self._newest.get(service, ""))
        if former is not None:
            former.followed_by = chain.name
        self._newest[service] = chain.name
        for named in () if altered else link.heads:
            yield from self._named(named, head.offset, chain)
        if link.sequence == 1:
            return
        known = link.acknowledged
        before_log = self._facts.copied or (self._facts.start > 0 and (known is None or known.offset < self._facts.start))
        if before_log:
            text = f"chain {chain.name} of {chain.source}: number {link.sequence} is the first that is here; those before it are older than the log"
            yield self._finding(Note.BEGINS_EARLIER, head.offset, text)
        else:
            first = known.sequence if known is not None and self._facts.start > 0 else 1
            chain.missing.append(_Range(first, link.sequence - 1, head.offset))

    def _again(self, chain: _Chain, link: Link, head: Head) -> Iterator[Finding]:
        """A number that is not greater than those before it: one that was missed (so two stand in the wrong order), or one that is there already."""
        for place, gap in enumerate(chain.missing):
            if gap.first <= link.sequence <= gap.last:
                rest = (_Range(gap.first, link.sequence - 1, gap.offset), _Range(link.sequence + 1, gap.last, gap.offset))
                chain.missing[place : place + 1] = [part for part in rest if part.first <= part.last]
                self._accused |= {gap.offset, head.offset}
                text = f"{_called(link)} stands behind number {gap.last + 1}, which came first at offset {gap.offset}"
                yield self._finding(Fault.REORDERED, head.offset, text)
                return
        yield self._finding(Note.REPEATED, head.offset, f"{_called(link)} is there a second time")

    def _at_its_offset(self, chain: _Chain, known: Acknowledged, offset: int) -> Iterator[Finding]:
        """What the writer saw acknowledged must be where it saw it."""
        if self._facts.copied or self._shifted or known.offset < self._facts.start:
            return
        if any(gap.first <= known.sequence <= gap.last for gap in chain.missing):
            # it has not been met yet: what became of it is told by its number
            return
        found = self._recent.get(known.offset)
        if found is not None and known.offset not in self._accused and (found.chain, found.sequence) != (chain.name, known.sequence):
            self._shifted = True
            text = (
                f"number {known.sequence} of chain {chain.name} was acknowledged at offset {known.offset}, where another record is: records before it "
                "were removed or added, or this is a copy of the topic (--copy)"
            )
            yield self._finding(Fault.SHIFTED, offset, text)

    def _named(self, named: Head, offset: int, by: _Chain) -> Iterator[Finding]:
        """A record that the first of another chain names must be there, the same."""
        chain = self._chains.get(named.chain)
        if not self._facts.copied and named.offset < self._facts.start:
            return
        told = f"number {named.sequence} of chain {named.chain}, which chain {by.name} of {by.source} names as the last it saw"
        found = self._recent.get(named.offset) if not self._facts.copied and not self._shifted else None
        if found is not None and (found.chain, found.sequence) == (named.chain, named.sequence):
            if found.mac != named.mac:
                yield self._finding(Fault.ALTERED, named.offset, f"{told}, was another record then")
        elif chain is None or chain.last < named.sequence:
            if self._facts.copied and chain is None:
                yield self._finding(Note.UNCOMPARED, offset, f"{told}, is not in this copy")
            else:
                yield self._finding(Fault.REMOVED, offset, f"{told}, is not there")
                if chain is not None:
                    chain.missing = [gap for gap in chain.missing if gap.first > named.sequence]
        elif chain.last == named.sequence and chain.mac != named.mac:
            yield self._finding(Fault.ALTERED, chain.offset, f"{told}, was another record then")
        elif gap := next((gap for gap in chain.missing if gap.first <= named.sequence <= gap.last), None):
            chain.missing.remove(gap)
            yield self._finding(Fault.REMOVED, gap.offset, f"{told}, is not there")

    # ---- the end ----------------------------------------------------------------------------------------------------------------------
    def finish(self) -> Iterator[Finding]:
        """All records were taken."""
        for chain in self._chains.values():
            yield from self._missing(chain)
            if chain.late:
                text = (
                    f"chain {chain.name} of {chain.source} has {_count(chain.late, 'record')} behind the first of chain {chain.followed_by}: its writer was "
                    "on its way out, or frozen"
                )
                yield self._finding(Note.LATE, chain.offset, text)
        if self._unsealed_before:
            text = f"{_count(self._unsealed_before, 'record')} by versions that sealed nothing, before their service's first chain"
            yield self._finding(Note.UNSEALED_BEFORE, self._facts.start, text)

    def _missing(self, chain: _Chain) -> Iterator[Finding]:
        for gap in chain.missing:
            told_last = min(gap.last, chain.acknowledged)
            if gap.first <= told_last:
                text = (
                    f"{_numbers(gap.first, told_last)} of chain {chain.name} of {chain.source} had been acknowledged and {_is(gap.first, told_last)} not there"
                )
                yield self._finding(Fault.REMOVED, gap.offset, text)
            if told_last < gap.last:
                first = max(gap.first, told_last + 1)
                text = (
                    f"{_numbers(first, gap.last)} of chain {chain.name} of {chain.source} {_is(first, gap.last)} not there, and no record says that the "
                    "brokers had taken it: lost on its way when its writer died, as far as this topic can tell"
                )
                yield self._finding(Note.UNCONFIRMED, gap.offset, text)


def _called(link: Link) -> str:
    return f"number {link.sequence} of chain {link.chain}"


def _service(source: str) -> str:
    """The service of a source ``/fleetwake/<service>/<instance>``."""
    parts = source.split("/")
    return parts[2] if len(parts) > 3 else source


def _numbers(first: int, last: int) -> str:
    return f"number {first}" if first == last else f"numbers {first} to {last}"


def _is(first: int, last: int) -> str:
    return "is" if first == last else "are"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
