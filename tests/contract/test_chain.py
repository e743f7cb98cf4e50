"""The seal of a result: what it covers, what its headers say, and that examples carry one that holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from schemas import chain, topics_page
from schemas.chain import Acknowledged, Head, Link, SealedContent, genuine, key_id, sealed
from schemas.examples import DEADLETTER, EXAMPLE_KEY, EXAMPLES, OBJECT, PARTITION
from schemas.records import Headers, ObjectRecord
from schemas.results import RESULT_TYPES
from schemas.topics import ACCESS, Topics

KEY = b"k" * 32
HEADERS: Headers = [("ce_id", b"p/done"), ("ce_type", b"dev.fleetwake.run.done")]
CONTENT = SealedContent(3, b"default/demo", b'{"planId":"p"}', HEADERS)
LINK = Link("life.1", 2, "aa", Acknowledged(1, 41), (5, 40), (Head("other.1", 9, 39, "bb"), Head("a:b/c.2", 1, 2, "cc")))


def of(headers: Headers, **changed: Any) -> SealedContent:
    """What was sealed, or something like it."""
    return CONTENT._replace(headers=headers, **changed)


def test_a_link_is_read_back_as_it_was_written() -> None:
    headers, mac = sealed(KEY, CONTENT, LINK)
    assert Link.of(dict(headers)) == LINK
    assert dict(headers)[chain.MAC].decode() == mac


def test_a_record_without_a_chain_has_no_link_and_a_torn_one_says_so() -> None:
    assert Link.of(dict(HEADERS)) is None
    headers, _ = sealed(KEY, CONTENT, LINK)
    with pytest.raises(ValueError, match=chain.SEQUENCE):
        Link.of({name: value for name, value in headers if name != chain.SEQUENCE})
    with pytest.raises(ValueError, match="malformed"):
        Link.of(dict(headers) | {chain.HEADS: b"nonsense"})


def test_attribute_names_are_those_cloudevents_allows() -> None:
    headers, _ = sealed(KEY, CONTENT, LINK)
    names = [name.removeprefix("ce_") for name, _ in headers if name.startswith("ce_chain")]
    assert len(names) == 8
    assert all(name.isalnum() and name == name.lower() and len(name) <= 20 for name in names)


@pytest.mark.parametrize(
    "changed",
    [
        {"value": b'{"planId":"q"}'},
        {"value": None},
        {"key": b"default/demp"},
        {"key": None},
        {"partition": 4},
    ],
    ids=["a byte of the value", "no value", "a byte of the key", "no key", "another partition"],
)
def test_what_is_changed_is_not_genuine(changed: dict[str, Any]) -> None:
    headers, _ = sealed(KEY, CONTENT, LINK)
    keys = {key_id(KEY): KEY}
    assert genuine(keys, of(headers)) is True
    assert genuine(keys, of(headers, **changed)) is False


def test_every_header_is_covered_and_their_order_is_not() -> None:
    headers, _ = sealed(KEY, CONTENT, LINK)
    keys = {key_id(KEY): KEY}
    assert genuine(keys, of(headers[::-1])) is True
    for place, (name, value) in enumerate(headers):
        if name != chain.KEY_ID:
            assert genuine(keys, of([*headers[:place], (name, value + b"0"), *headers[place + 1 :]])) is False, name
            assert genuine(keys, of([*headers[:place], *headers[place + 1 :]])) is False, name
    assert genuine(keys, of([*headers, ("added", b"")])) is False


def test_nothing_can_be_moved_from_one_part_into_another() -> None:
    """Lengths are part of what is hashed: key ``ab`` and value ``c`` are not key ``a`` and value ``bc``."""
    _, one = sealed(KEY, SealedContent(0, b"ab", b"c", ()), LINK)
    _, two = sealed(KEY, SealedContent(0, b"a", b"bc", ()), LINK)
    assert one != two


def test_another_key_is_not_known_and_a_former_one_still_holds() -> None:
    headers, _ = sealed(KEY, CONTENT, LINK)
    other = b"o" * 32
    assert genuine({key_id(other): other}, of(headers)) is None
    assert genuine({key_id(other): other, key_id(KEY): KEY}, of(headers)) is True
    assert KEY.hex() not in key_id(KEY)


def test_examples_can_be_read_and_their_seals_hold() -> None:
    for model in RESULT_TYPES:
        example = EXAMPLES[model.TYPE]
        assert model.model_validate(orjson.loads(example.text)) == model.model_validate(example.json)
        content = SealedContent(PARTITION, example.key.encode(), example.text.encode(), example.headers)
        assert genuine({key_id(EXAMPLE_KEY): EXAMPLE_KEY}, content) is True
    record = EXAMPLES[OBJECT]
    assert ObjectRecord.decode(record.key.encode(), record.text.encode(), record.headers).key.kind == "MachineSet"
    assert EXAMPLES[DEADLETTER].json is None


def test_the_page_of_the_topics_is_what_the_code_says() -> None:
    page = Path(__file__).parents[2] / "docs" / "topics.md"
    assert page.read_text() == topics_page.rendered(), "run `fleetwake schemas generate`"


def test_every_topic_has_its_writers_and_readers() -> None:
    names = {getattr(Topics(), name) for name in ACCESS}
    assert names == {spec.name for spec in Topics().specs()}
    services = {path.name for path in (Path(__file__).parents[2] / "services").iterdir() if path.is_dir()}
    told = {service for access in ACCESS.values() for service in (*access.writes, *access.reads)}
    assert told - {"command line"} <= services
