"""A worker that its group has forgotten is found out, and nobody else is taken for one."""

from __future__ import annotations

from dataclasses import dataclass

from fleetwake.shell.membership import CHECKS_MAX, REJOINS_MAX, FormerAssignment, MembershipWatch


@dataclass
class Group:
    """What the worker sees of its group and its broker."""

    fenced: bool = False
    answers: bool = True

    def watch(self) -> MembershipWatch:
        return MembershipWatch(lambda: self.fenced, self.asked)

    async def asked(self) -> bool:
        return self.answers


async def test_a_worker_whose_group_is_silent_while_the_broker_answers_is_forgotten_after_a_minute() -> None:
    watch = Group(fenced=True).watch()
    assert [await watch.forgotten() for _ in range(CHECKS_MAX)] == [False] * (CHECKS_MAX - 1) + [True]


async def test_a_broker_that_is_away_is_waited_for() -> None:
    watch = Group(fenced=True, answers=False).watch()
    assert not any([await watch.forgotten() for _ in range(3 * CHECKS_MAX)])


async def test_one_confirmation_begins_the_count_anew() -> None:
    group = Group(fenced=True)
    watch = group.watch()
    for _ in range(3):
        assert not any([await watch.forgotten() for _ in range(CHECKS_MAX - 1)])
        group.fenced = False
        assert not await watch.forgotten()
        group.fenced = True


def test_an_assignment_of_more_partitions_than_there_are_is_asked_for_again_and_then_ends_the_worker() -> None:
    asked: list[float] = []
    ended: list[BaseException] = []
    former = FormerAssignment(7, asked.append, ended.append)
    assert former.take({1, 6}) == {1, 6} and not asked and not former.asking
    for _ in range(2):
        # one assignment that is right begins the count anew
        assert former.take(set(range(7))) == set(range(7)) and not former.asking
        asked.clear()
        for number in range(REJOINS_MAX):
            assert former.take({6, 7, 23}) == {6}
            assert len(asked) == number + 1 and not ended and former.asking
    former.take({6, 7, 23})
    assert [str(error) for error in ended] == [
        "take part in the group: the group assigns partitions up to 23 of objects, which has 7 here; set FLEETWAKE_PARTITIONS=24 if the topic has that many"
    ]
