"""The access table: least privilege, whole, and the same in code, docs and table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from fleetwake.cli.access import page_part
from schemas.access import ACCESS, Access, TopicRole, access_of, group_of
from schemas.topics import Topics

ROOT = Path(__file__).parents[2]
SERVICES = sorted(path.name for path in (ROOT / "services").iterdir() if (path / "__init__.py").exists())
GENERATED = ("<!-- made by `fleetwake topics access --markdown` -->\n", "<!-- end of what is made -->\n")
CHART: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "k8s" / "chart" / "values.yaml").read_text())["kafka"]["access"]
WRITERS = {"reconcilers", "remediation", "autoscaler_bridge", "dev_infrastructure"}


def may(access: Access, operation: str) -> set[TopicRole]:
    """The topics on which an identity may do something."""
    return {topic.role for topic in access.topics if operation in topic.operations}


def test_every_service_and_only_what_exists_has_an_entry() -> None:
    names = [access.service for access in ACCESS]
    assert len(names) == len(set(names)) == len({access.user for access in ACCESS})
    assert set(SERVICES) <= set(names)


def test_only_those_who_see_objects_write_them() -> None:
    assert [access.service for access in ACCESS if TopicRole.OBJECTS in may(access, "Write")] == ["watcher", "reconcilers"]
    assert [access.service for access in ACCESS if TopicRole.SHARED in may(access, "Write")] == ["watcher"]


def test_every_service_that_writes_to_the_api_server_writes_results_and_dead_letters() -> None:
    assert {access.service for access in ACCESS if may(access, "Write") >= {TopicRole.RESULTS, TopicRole.DEADLETTER}} == WRITERS
    assert {access.service for access in ACCESS if "IdempotentWrite" in access.cluster} == {*WRITERS, "watcher"}


@pytest.mark.parametrize("access", ACCESS, ids=lambda access: access.service)
def test_nobody_may_change_or_delete_topics_and_only_one_step_creates_them(access: Access) -> None:
    operations = {operation for rule in access.rules("p") for operation in rule.operations}
    assert not operations & {"All", "Delete", "Alter", "AlterConfigs", "ClusterAction"}
    assert ("Create" in operations) == (access.service == "topics")


@pytest.mark.parametrize("access", ACCESS, ids=lambda access: access.service)
def test_rules_name_what_the_prefix_says(access: Access) -> None:
    topics = Topics("fleet7")
    names = {topics.objects, topics.shared, topics.results, topics.deadletter}
    rules = access.rules("fleet7")
    assert {rule.name for rule in rules if rule.resource == "topic"} <= names
    assert all(rule.name.startswith("fleet7-") for rule in rules if rule.resource == "group")
    assert all(not rule.prefixed for rule in rules if rule.resource != "group")


def test_groups_are_those_that_the_services_join() -> None:
    for service in sorted(WRITERS - {"dev_infrastructure"}):
        (group,) = access_of(service).groups
        assert group_of(service, "capi") == group.name("capi") and not group.prefixed
    (group,) = access_of("dev_infrastructure").groups
    assert group_of("dev_infrastructure", "capi", 3).startswith(group.name("capi")) and group.prefixed


@pytest.mark.parametrize("user", CHART, ids=str)
def test_the_chart_grants_the_same(user: str) -> None:
    """An installation's KafkaUsers are made of the chart's values, which name topics and groups without the prefix."""
    rules = access_of(user.replace("-", "_")).rules("p")
    found = {
        f"{kind}s": {rule.name.removeprefix(f"p{mark}"): list(rule.operations) for rule in rules if rule.resource == kind}
        for kind, mark in (("topic", "."), ("group", "-"))
    }
    cluster = [operation for rule in rules if rule.resource == "cluster" for operation in rule.operations]
    granted = {**{part: named for part, named in found.items() if named}, **({"cluster": cluster} if cluster else {})}
    assert CHART[user] == granted
    assert all(rule.prefixed == rule.name.endswith("-") for rule in rules if rule.resource == "group"), "the chart knows beginnings of names by their end"


def test_redis_rules_are_for_our_keys_only_and_never_dangerous() -> None:
    for access in ACCESS:
        rules = access.redis_rules()
        if rules:
            assert [rule for rule in rules if rule.startswith("~")] == ["~fleetwake:*"]
            assert rules[-1] == "-@dangerous" and "-@all" in rules and "resetchannels" in rules


def test_the_table_in_the_docs_is_this_one() -> None:
    page = (ROOT / "docs" / "security" / "transport.md").read_text()
    begin, end = (page.index(mark) for mark in GENERATED)
    assert page[begin + len(GENERATED[0]) : end] == page_part(), "run: fleetwake topics access --markdown, and put it there"
