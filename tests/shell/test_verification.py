"""What ``fleetwake audit verify`` finds: each thing that may be done to a partition of results, by what it leaves."""

from __future__ import annotations

import random

import pytest

from fleetwake.views.verification import Fault, Finding, Message, Note
from schemas import chain
from schemas.chain import SealedContent, mac
from tests.shell.sealed_records import KEY, Partition, Writer


def partition(lives: int = 3, each: int = 5) -> Partition:
    """A partition that two services wrote to, one of them in several lives."""
    found = Partition(base=0)
    provider = Writer(found, "provider", "dev_infrastructure")
    before: Writer | None = None
    for life in range(lives):
        writer = Writer(found, f"life{life}")
        writer.heads = (before.head,) if before is not None and before.head is not None else ()
        for _ in range(each):
            writer.write()
            provider.write()
        before = writer
    return found


def faults(findings: list[Finding]) -> list[tuple[Fault, int]]:
    """Kind and offset of what is wrong."""
    return [(finding.kind, finding.offset) for finding in findings if isinstance(finding.kind, Fault)]


def offset_of(found: Partition, name: str, number: int) -> int:
    """Where a record of a chain is."""
    wanted = {chain.CHAIN: name.encode(), chain.SEQUENCE: b"%d" % number}
    return next(one.offset for one in found.messages if wanted.items() <= dict(one.headers).items())


def test_what_was_written_is_found_whole() -> None:
    assert partition().verify() == []


@pytest.mark.parametrize("where", ["value", "key", "source", "sequence", "previous hash", "hash"])
def test_a_flipped_byte_is_found_where_it_is(where: str) -> None:
    found = partition()
    place = offset_of(found, "life1", 3)
    message = found.messages[place]
    names = {"source": "ce_source", "sequence": chain.SEQUENCE, "previous hash": chain.PREVIOUS, "hash": chain.MAC}
    if where in names:
        headers = [(name, flipped(value) if name == names[where] else value) for name, value in message.headers]
        found.messages[place] = message._replace(headers=headers)
    else:
        found.messages[place] = message._replace(**{where: flipped(getattr(message, where))})
    told = faults(found.verify())
    assert (Fault.ALTERED, place) in told
    # nothing else is accused, but for the number that the altered record no longer stands for
    assert set(told) <= {(Fault.ALTERED, place), (Fault.REMOVED, offset_of(found, "life1", 4))}


def flipped(value: bytes) -> bytes:
    """One bit of the last byte."""
    return value[:-1] + bytes([value[-1] ^ 1])


def test_any_flipped_bit_of_any_record_is_found() -> None:
    chooser = random.Random(7)
    for _ in range(40):
        found = partition()
        place = chooser.randrange(len(found.messages))
        message = found.messages[place]
        assert message.value is not None
        at = chooser.randrange(len(message.value))
        value = bytearray(message.value)
        value[at] ^= 1 << chooser.randrange(8)
        found.messages[place] = message._replace(value=bytes(value))
        assert (Fault.ALTERED, place) in faults(found.verify())


@pytest.mark.parametrize("number", [1, 3, 5])
def test_a_missing_row_is_found_by_its_hole_and_by_its_number(number: int) -> None:
    found = partition()
    place = offset_of(found, "life1", number)
    del found.messages[place]
    told = found.verify()
    assert (Fault.REMOVED, place + 1) in faults(told)
    assert any(f"number {number} of chain life1" in finding.text for finding in told)


def test_a_row_taken_out_and_the_rest_moved_up_is_found_too() -> None:
    """As a topic made anew from what was read, less one record: no hole is left."""
    found = partition()
    place = offset_of(found, "life1", 3)
    found.messages = [one._replace(offset=offset) for offset, one in enumerate(found.messages[:place] + found.messages[place + 1 :])]
    told = found.verify()
    assert {finding.kind for finding in told} == {Fault.REMOVED, Fault.SHIFTED}
    assert [finding.kind for finding in found.verify(copied=True)] == [Fault.REMOVED]
    assert "number 3 of chain life1" in found.verify(copied=True)[0].text


@pytest.mark.parametrize("apart", [2, 4], ids=["neighbours of a chain", "further apart"])
def test_a_swapped_pair_is_found(apart: int) -> None:
    found = partition()
    place = offset_of(found, "life1", 2)
    one, two = found.messages[place], found.messages[place + apart]
    found.messages[place], found.messages[place + apart] = two._replace(offset=place), one._replace(offset=place + apart)
    told = found.verify()
    assert (Fault.REORDERED, place + apart) in faults(told)
    assert {kind for kind, _ in faults(told)} == {Fault.REORDERED}


def test_a_swapped_pair_of_two_chains_is_found_by_the_offsets_their_writers_saw() -> None:
    found = partition()
    place = offset_of(found, "life1", 3)
    one, two = found.messages[place], found.messages[place + 1]
    found.messages[place], found.messages[place + 1] = two._replace(offset=place), one._replace(offset=place + 1)
    assert {kind for kind, _ in faults(found.verify())} == {Fault.SHIFTED}


@pytest.mark.parametrize("count", [1, 3])
def test_the_end_of_a_chain_cannot_be_cut_once_another_has_begun(count: int) -> None:
    found = partition()
    gone = {offset_of(found, "life1", number) for number in range(6 - count, 6)}
    found.messages = [one._replace(offset=offset) for offset, one in enumerate(one for one in found.messages if one.offset not in gone)]
    told = found.verify(copied=True)
    assert faults(told) == [(Fault.REMOVED, offset_of(found, "life2", 1))]
    assert "number 5 of chain life1, which chain life2" in told[0].text


def test_a_whole_chain_cannot_be_taken_out_once_another_names_it() -> None:
    found = partition()
    found.messages = [one for one in found.messages if dict(one.headers)[chain.CHAIN] != b"life1"]
    assert any("number 5 of chain life1" in finding.text for finding in found.verify() if finding.fault)


def test_a_record_made_by_somebody_without_the_key_is_found() -> None:
    found = partition()
    found.append(b"{}", [("ce_id", b"forged"), ("ce_source", b"/fleetwake/reconcilers/w0")])
    Writer(found, "life9", key=b"x" * 32).write()
    assert faults(found.verify()) == [(Fault.UNSEALED, len(found.messages) - 2), (Fault.FOREIGN_KEY, len(found.messages) - 1)]


def test_a_record_put_in_place_of_another_with_the_key_is_found_by_what_follows_it() -> None:
    found = partition()
    place = offset_of(found, "life1", 3)
    message = found.messages[place]
    forged = message._replace(value=b'{"text":"forged"}')
    seal = mac(KEY, SealedContent(0, forged.key, forged.value, forged.headers)).encode()
    found.messages[place] = forged._replace(headers=[(name, seal if name == chain.MAC else value) for name, value in forged.headers])
    assert faults(found.verify()) == [(Fault.ALTERED, place)]


def test_a_record_that_is_there_twice_is_no_fault() -> None:
    found = partition()
    again = found.messages[offset_of(found, "life2", 3)]
    found.messages.append(again._replace(offset=found.end))
    assert [finding.kind for finding in found.verify()] == [Note.REPEATED]


@pytest.mark.parametrize("start", range(1, 30))
def test_retention_may_cut_anywhere(start: int) -> None:
    findings = partition().verify(start)
    assert {finding.kind for finding in findings} <= {Note.BEGINS_EARLIER}
    begun = {finding.text.split()[1] for finding in findings}
    assert begun <= {"life0", "life1", "life2", "provider"}


def test_what_is_removed_behind_the_cut_is_still_found() -> None:
    found = partition()
    start = offset_of(found, "life1", 2)
    gone = {offset_of(found, "life1", 3), offset_of(found, "life1", 4)}
    found.messages = [one for one in found.messages if one.offset not in gone]
    assert {kind for kind, _ in faults(found.verify(start))} == {Fault.REMOVED}
    # also where the first record of a chain that is left is behind what was removed
    start = offset_of(found, "life1", 2)
    gone = {offset_of(found, "life1", 2)}
    found.messages = [one for one in found.messages if one.offset not in gone]
    assert any("number" in finding.text and "life1" in finding.text for finding in found.verify(start) if finding.fault)


def test_records_of_versions_that_sealed_nothing_are_told_of_and_no_fault() -> None:
    found = Partition()
    for number in range(3):
        found.append(b"{}", [("ce_id", b"%d" % number), ("ce_source", b"/fleetwake/reconcilers/w0")])
    Writer(found, "life").write(count=2)
    findings = found.verify()
    assert [finding.kind for finding in findings] == [Note.UNSEALED_BEFORE]
    assert "3 records" in findings[0].text


def test_a_header_that_cannot_be_read_is_an_alteration() -> None:
    found = partition()
    message = found.messages[4]
    found.messages[4] = message._replace(headers=[(name, b"many" if name == chain.SEQUENCE else value) for name, value in message.headers])
    assert (Fault.ALTERED, 4) in faults(found.verify())


def test_a_finding_names_partition_and_offset() -> None:
    found = Partition(number=5)
    Writer(found, "life").write(count=2)
    found.messages[1] = Message(5, 1, b"default/demo", b"{}", found.messages[1].headers)
    assert str(found.verify()[0]).startswith("partition 5 offset 1: altered: number 2 of chain life by /fleetwake/reconcilers/w0")
