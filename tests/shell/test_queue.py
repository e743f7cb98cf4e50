"""The queue of a kind: merged wake-ups, two priorities, one run per key, offsets held until the run."""

from __future__ import annotations

import pytest

from fleetwake.shell.ports import Cause
from fleetwake.shell.queue import AGEING_SHARE, CAUSES_MAX, KeyedQueue, Token
from schemas.keys import ObjectKey


class Queue(KeyedQueue):
    """A queue that counts its signals, on a clock by hand."""

    def __init__(self) -> None:
        self.now, self.signals = 0.0, 0
        super().__init__("Machine", lambda: self.now, self._count)

    def _count(self) -> None:
        self.signals += 1

    def taken(self) -> str | None:
        """The name of the next key."""
        found = self.next()
        return found[0].name if found is not None else None


def key(name: str) -> ObjectKey:
    return ObjectKey("g", "Machine", "default", name)


@pytest.fixture
def queue() -> Queue:
    return Queue()


def test_wakeups_of_one_key_become_one_run(queue: Queue) -> None:
    for number in range(3):
        queue.add(key("a"), Cause(change=f"c{number}"))
    assert (len(queue), queue.adds, queue.signals) == (1, 3, 3)
    found = queue.next()
    assert found is not None
    assert [cause.change for cause in found[1].causes] == ["c0", "c1", "c2"]
    assert queue.next() is None


def test_causes_are_bounded_and_counted(queue: Queue) -> None:
    for number in range(CAUSES_MAX + 10):
        queue.add(key("a"), Cause(change=str(number)))
    found = queue.next()
    assert found is not None
    assert (len(found[1].causes), found[1].cause_count, found[1].causes[0].change) == (CAUSES_MAX, CAUSES_MAX + 10, "0")


def test_a_key_never_runs_twice_at_once(queue: Queue) -> None:
    queue.add(key("a"))
    assert queue.taken() == "a"
    queue.add(key("a"))
    queue.add(key("b"))
    assert [queue.taken(), queue.taken()] == ["b", None]
    queue.finished(key("a"))
    assert queue.taken() == "a", "what came during the run is run after it"
    queue.finished(key("a"))
    assert queue.taken() is None


def test_a_change_overtakes_the_replay(queue: Queue) -> None:
    for name in "abc":
        queue.add(key(name), patient=True)
    queue.add(key("c"))
    queue.add(key("z"))
    assert queue.depths() == (2, 2)
    assert [queue.taken() for _ in range(5)] == ["c", "z", "a", "b", None]


def test_ageing_keeps_the_replay_going(queue: Queue) -> None:
    queue.add(key("old"), patient=True)
    for number in range(3 * AGEING_SHARE):
        queue.add(key(f"new{number}"))
    order = [queue.taken() for _ in range(3 * AGEING_SHARE + 1)]
    assert order.index("old") == AGEING_SHARE


def test_a_patient_wakeup_does_not_slow_an_urgent_one(queue: Queue) -> None:
    queue.add(key("a"), received=5.0)
    queue.add(key("a"), patient=True)
    found = queue.next()
    assert found is not None and not found[1].patient and found[1].received == 5.0


def test_the_record_is_done_when_every_wakeup_of_it_has_run(queue: Queue) -> None:
    done: list[str] = []
    token = Token(lambda: done.append("acknowledged"))
    queue.add(key("a"), token=token)
    queue.add(key("b"), token=token)
    token.release()
    for _ in range(2):
        assert not done
        found = queue.next()
        assert found is not None
        for held in found[1].tokens:
            held.release()
    assert done == ["acknowledged"]


def test_a_record_that_concerns_nobody_is_done_at_once() -> None:
    done: list[str] = []
    Token(lambda: done.append("acknowledged")).release()
    assert done == ["acknowledged"]


def test_keys_of_a_lost_partition_are_forgotten(queue: Queue) -> None:
    queue.add(key("a"))
    queue.add(key("b"), patient=True)
    queue.forget([key("a"), key("b"), key("never seen")])
    assert len(queue) == 0 and queue.taken() is None
    queue.add(key("a"))
    assert queue.taken() == "a"


def test_forgotten_while_running(queue: Queue) -> None:
    queue.add(key("a"))
    queue.taken()
    queue.add(key("a"))
    queue.forget([key("a")])
    queue.finished(key("a"))
    assert queue.taken() is None


def test_the_longest_wait(queue: Queue) -> None:
    assert queue.oldest_wait() == 0.0
    queue.add(key("a"))
    queue.now = 3.0
    queue.add(key("b"))
    queue.now = 5.0
    assert queue.oldest_wait() == 5.0
    queue.taken()
    assert queue.oldest_wait() == 2.0
