"""Acknowledgements of one partition: in offset order, each behind the runs of its record, never for a partition that left."""

from __future__ import annotations

from itertools import permutations
from types import SimpleNamespace

import pytest

from fleetwake.shell.intake import Tracker
from fleetwake.shell.queue import Token


def tracked(acknowledged: list[int], count: int = 4) -> tuple[Tracker, list[Token]]:
    tracker = Tracker()
    return tracker, [tracker.token(SimpleNamespace(ack=lambda offset=offset: acknowledged.append(offset))) for offset in range(count)]


@pytest.mark.parametrize("order", list(permutations(range(4))), ids=str)
def test_whatever_order_runs_end_in_no_offset_passes_one_in_flight(order: tuple[int, ...]) -> None:
    acknowledged: list[int] = []
    _, tokens = tracked(acknowledged)
    ended: set[int] = set()
    for offset in order:
        tokens[offset].release()
        ended.add(offset)
        in_flight = set(range(4)) - ended
        assert acknowledged == list(range(min(in_flight, default=4)))


def test_a_record_waits_for_every_key_it_woke() -> None:
    acknowledged: list[int] = []
    _, (token, *_) = tracked(acknowledged)
    token.take()
    token.release()
    assert not acknowledged
    token.release()
    assert acknowledged == [0]


def test_nothing_is_acknowledged_in_a_generation_that_is_over() -> None:
    acknowledged: list[int] = []
    tracker, tokens = tracked(acknowledged)
    tokens[0].release()
    tracker.alive = False
    for token in tokens[1:]:
        token.release()
    assert acknowledged == [0]
