"""``fleetwake lag``: what a group lacks, and how it is shown."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fleetwake.views.lag import Group, Partition, as_json, overview, render
from tests.shell.view_records import text_of

READ = (Partition(0, "w-0", 10, 10), Partition(1, "w-1", 7, 12), Partition(2, "w-0", 3, 3))
GROUP = Group("capi-reconcilers", "Stable", READ)
NOBODY = Group("capi-remediation", "Empty", tuple(replace(one, owner="") for one in READ))


def test_a_group_at_work_lacks_nothing_however_far_it_is_behind() -> None:
    assert GROUP.lag == 5 and GROUP.members == ("w-0", "w-1") and GROUP.wrong == ()


@pytest.mark.parametrize(
    ("group", "says"),
    [
        pytest.param(NOBODY, "no worker is in group capi-remediation", id="nobody"),
        pytest.param(replace(GROUP, state="PreparingRebalance"), "is PreparingRebalance", id="sharing out"),
        pytest.param(replace(GROUP, partitions=(READ[0], replace(READ[1], owner=""))), "partitions 1 are nobody's", id="one without a worker"),
    ],
)
def test_what_a_group_lacks_is_said(group: Group, says: str) -> None:
    (told,) = group.wrong
    assert says in told


def test_only_what_lags_has_a_row_unless_all_are_asked_for() -> None:
    lines = text_of(render((GROUP, NOBODY), all_partitions=False)).splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["capi-reconcilers", "3", "in", "all", "w-0,", "w-1", "5"],
        ["1", "w-1", "7", "12", "5"],
        ["capi-remediation", "3", "in", "all", "nobody", "5"],
        ["1", "nobody", "7", "12", "5"],
    ]
    assert len(text_of(render((GROUP,), all_partitions=True)).splitlines()) == 1 + 1 + len(READ)
    assert text_of(overview((GROUP,))).splitlines()[1].split() == ["capi-reconcilers", "w-0,", "w-1", "5", "0", "5", "0"]


def test_programs_are_told_the_same() -> None:
    (told,) = as_json((GROUP,))
    assert told["lag"] == 5 and told["partitions"][1] == {"partition": 1, "worker": "w-1", "acknowledged": 7, "end": 12, "lag": 5}
