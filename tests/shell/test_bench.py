"""What the benchmarks compute from what they read: order statistics, the audit log, joins. The measuring itself needs a rig."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import orjson
import pytest

from bench import md_rollout, node_flaps
from bench.audit import AuditLog, Requests, count
from bench.create import Order, Report, Round, as_json
from bench.failover import gaps
from bench.fleet import available, manifests
from bench.observed_worker import Start, read_starts
from bench.processes import Reading, between, part_of
from bench.rigs import metric_of
from bench.rollout import next_version, rolled_out
from bench.statistics import Spread, percentile, span
from bench.steady import Appended, Change, join
from bench.tracing import Order as TracingOrder
from bench.tracing import Report as TracingReport
from bench.tracing import Sample, differences, render

RECONCILERS = "system:serviceaccount:fleetwake-system:fleetwake-reconcilers"
MACHINE = "cluster.x-k8s.io/Machine/default/"


def event(verb: str, resource: str, code: int = 200, **more: str) -> bytes:
    """A line of the audit log."""
    target = {"resource": resource, **({"subresource": more["subresource"]} if "subresource" in more else {})}
    user = {"username": more.get("user", RECONCILERS)}
    return orjson.dumps({"stage": more.get("stage", "ResponseComplete"), "verb": verb, "user": user, "objectRef": target, "responseStatus": {"code": code}})


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([], 0.5, 0.0), ([7.0], 0.99, 7.0), ([3.0, 1.0, 2.0], 0.5, 2.0), ([1.0, 2.0, 3.0, 4.0], 0.5, 2.0), (list(range(1, 101)), 0.99, 99), ([1, 2], 1.0, 2)],
)
def test_a_percentile_is_one_of_the_values(values: list[float], share: float, expected: float) -> None:
    assert percentile(values, share) == expected


def test_a_spread_says_how_many_values_it_rests_on() -> None:
    spread = Spread.of([0.1, 0.2, 0.30004])

    assert (spread.count, spread.p50, spread.max) == (3, 0.2, 0.3)
    assert str(spread) == "p50 0.2, p95 0.3, p99 0.3, max 0.3 (n=3)"
    assert span([2.0, 1.0, 4.0]) == "2.00 (1.00-4.00, n=3)"
    assert span([]) == "-"


def test_requests_of_ours_are_counted_by_what_came_of_them() -> None:
    lines = [
        event("patch", "machines", subresource="status"),
        event("create", "secrets", 201),
        event("patch", "machines", 409),
        event("get", "secrets"),
        event("get", "secrets", 404),
    ]

    found = count(lines)

    assert found.writes == {"reconcilers patch machines/status": 1, "reconcilers create secrets": 1}
    assert found.refused == {"reconcilers patch machines 409": 1}
    assert found.reads == {"reconcilers get secrets": 2}
    assert (found.conflicts, found.total) == (1, 5)


def test_requests_of_others_leases_events_and_open_watches_are_left_aside() -> None:
    lines = [
        event("create", "machines", user="admin"),
        event("update", "leases"),
        event("create", "events"),
        event("watch", "machines", stage="ResponseStarted"),
        event("patch", "machines")[:-20],
    ]

    assert count(lines).total == 0


def test_the_audit_log_is_read_line_by_line_as_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    path.write_bytes(b"old\n")
    log = AuditLog(str(path))
    log.skip()

    with path.open("ab") as file:
        file.write(b"one\ntw")
    assert log.lines() == [b"one"]
    with path.open("ab") as file:
        file.write(b"o\n")
    assert log.lines() == [b"two"]
    assert log.lines() == []


def test_usage_is_summed_over_the_instances_of_a_service() -> None:
    before = Reading(10.0, {"reconcilers-0": 1.0, "apiserver": 5.0}, own=0.5, machine=100.0)
    after = Reading(12.0, {"reconcilers-0": 1.5, "reconcilers-1": 0.25, "apiserver": 6.0}, own=0.6, machine=103.0)

    usage = between(before, after)

    assert usage.cpu == {"reconcilers": 0.75, "apiserver": 1.0}
    assert usage.total == 1.75
    assert usage.others == pytest.approx(3.0 - 1.75 - 0.1)


@pytest.mark.parametrize(
    ("name", "part"), [("reconcilers-0", "reconcilers"), ("kafka-12", "kafka"), ("apiserver", "apiserver"), ("dev_infrastructure-0", "dev_infrastructure")]
)
def test_a_process_belongs_to_the_part_without_its_number(name: str, part: str) -> None:
    assert part_of(name) == part


def test_a_cluster_is_applied_as_a_user_would_write_it() -> None:
    made = manifests("demo", workers=3)

    assert [item["kind"] for item in made] == [
        "Cluster",
        "DevCluster",
        "KubeadmControlPlane",
        "DevMachineTemplate",
        "DevMachineTemplate",
        "KubeadmConfigTemplate",
        "MachineDeployment",
    ]
    assert made[-1]["spec"]["replicas"] == 3
    assert len(manifests("demo", workers=0)) == 4


def test_available_is_the_condition_and_nothing_else() -> None:
    assert not available({})
    assert not available({"status": {"conditions": [{"type": "Available", "status": "Unknown"}, {"type": "Ready", "status": "True"}]}})
    assert available({"status": {"conditions": [{"type": "Available", "status": "True"}]}})


def test_changes_are_joined_by_version_and_by_the_moment_of_the_watch_line() -> None:
    changes = [Change("a", 1, 0.0, 0.010), Change("b", 2, 1.0, 1.010), Change("c", 3, 2.0, 2.010)]
    records = [Appended("a", 1, 0.012, 0.013), Appended("b", 2, 1.012, 1.020)]
    starts = [Start(0.020, 0.012, 4, f"{MACHINE}a"), Start(9.0, 1.012, 4, "cluster.x-k8s.io/MachineSet/default/x")]

    hops = join(changes, records, starts)

    assert (hops.changes, hops.joined, hops.merged) == (3, 2, 1)
    assert hops.watch_to_start.max == pytest.approx(8.0)
    assert hops.watch_to_kafka.max == pytest.approx(8.0)
    assert hops.answer_to_start.p50 == pytest.approx(10.0)


def test_notes_of_starts_survive_a_kill_in_the_middle_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "starts"
    start = Start(1.25, 0.5, 3, f"{MACHINE}a")
    path.write_bytes(start.line() + start.line()[:9])

    assert read_starts(path) == [start]
    assert read_starts(tmp_path / "none") == []


def test_the_gap_of_a_killed_worker_ends_with_the_first_run_on_its_partitions() -> None:
    starts = [
        Start(9.0, 8.9, 1, "k"),
        Start(9.5, 9.4, 2, "k"),
        Start(11.5, 11.0, 3, "other"),
        Start(13.0, 0.0, 1, "k"),
        Start(14.0, 13.9, 2, "k"),
        Start(15.0, 14.9, 1, "k"),
    ]

    found = gaps(starts, owned={1, 2, 7}, killed=10.0, until=20.0)

    assert found == {"first": 3.0, "all_partitions": 4.0, "others": 0.5}


def test_a_metric_is_summed_over_its_labels_and_not_over_its_namesakes() -> None:
    page = b'# HELP a_total x\na_total{k="1"} 2.0\na_total{k="2"} 3.0\na_total_more 7.0\n'

    assert metric_of(page, "a_total") == 5.0


def test_tracing_is_judged_pair_by_pair_against_its_own_off() -> None:
    def sample(on: bool, reconcilers: float, seconds: float) -> Sample:
        return Sample(on, {"reconcilers": reconcilers, "apiserver": 10.0}, seconds, seconds, 500 if on else 0, 0.0)

    pairs = [(sample(True, 11.0, 2.0), sample(False, 10.0, 2.0)), (sample(True, 10.0, 3.0), sample(False, 10.0, 2.0))]

    assert differences(pairs, "ours") == [10.0, 0.0]
    assert differences(pairs, "total") == [5.0, 0.0]
    assert differences(pairs, "latency_s") == [0.0, 50.0]
    text = render(TracingReport(TracingOrder(2, 10, 3, 1), pairs))
    assert "spans per cluster: on 50, off 0" in text
    assert text.endswith("met")


def test_a_report_is_plain_json() -> None:
    usage = between(Reading(0.0, {"apiserver": 1.0}, 0.0, 0.0), Reading(1.0, {"apiserver": 2.0}, 0.0, 1.0))
    requests = Requests(writes=Counter({"reconcilers create secrets": 9}))
    made = Round(1.0, [], Spread.of([1.0]), usage, usage, requests, 0, (0.0, 0.0, 0.0))
    plain = orjson.loads(orjson.dumps(as_json(Report(Order(1, 3, 1), {}, {}, [made], [made]))))
    assert plain["created"][0]["requests"]["writes"] == {"reconcilers create secrets": 9}
    assert plain["deleted"][0]["settled"]["cpu"] == {"apiserver": 1.0}


def test_a_machine_deployment_is_rolled_out_when_every_machine_is_of_the_new_version() -> None:
    status = {"replicas": 3, "availableReplicas": 3, "upToDateReplicas": 3, "observedGeneration": 2, "versions": [{"version": "v1.34.1", "replicas": 3}]}
    state = {"metadata": {"generation": 2}, "spec": {"replicas": 3, "template": {"spec": {"version": "v1.34.1"}}}, "status": status}

    assert md_rollout.rolled_out(state, "v1.34.1")
    mixed = [{"version": "v1.34.0", "replicas": 1}, {"version": "v1.34.1", "replicas": 2}]
    for change in ({"replicas": 4}, {"upToDateReplicas": 1}, {"observedGeneration": 1}, {"versions": mixed}):
        assert not md_rollout.rolled_out({**state, "status": {**status, **change}}, "v1.34.1")


def test_the_least_of_a_rollout_counts_its_steps() -> None:
    order = md_rollout.Order(clusters=20, replicas=10, max_surge=3, reconcilers=1)
    assert order.least == 15 + (6 + 7) / 10
    deployment = md_rollout.clusters_of("c", order)[-1]
    assert deployment["spec"]["rollout"]["strategy"]["rollingUpdate"] == {"maxSurge": 3, "maxUnavailable": 0}


def test_a_control_plane_is_rolled_out_when_every_machine_is_of_the_new_version() -> None:
    version = next_version(1)
    status = {"replicas": 3, "availableReplicas": 3, "upToDateReplicas": 3, "observedGeneration": 2, "version": version}
    plane = {"metadata": {"generation": 2}, "spec": {"replicas": 3, "version": version}, "status": status}

    assert (next_version(0), version) == ("v1.34.1", "v1.34.2")
    assert rolled_out(plane, version)
    assert not rolled_out(plane, next_version(2))
    for change in ({"replicas": 4}, {"availableReplicas": 2}, {"upToDateReplicas": 1}, {"observedGeneration": 1}, {"version": next_version(0)}):
        assert not rolled_out({**plane, "status": {**status, **change}}, version)


def test_a_node_counts_as_seen_from_when_its_machine_first_told_it() -> None:
    def machine(status: str, version: str) -> dict[str, object]:
        conditions = [{"type": "Ready", "status": "True"}, {"type": "NodeReady", "status": status}]
        return {"metadata": {"name": "m", "resourceVersion": version}, "spec": {"clusterName": "c"}, "status": {"conditions": conditions}}

    told = node_flaps.Told()
    assert told.since("m", "True") is None
    for at, status in ((1.0, "True"), (2.0, "True"), (3.0, "False"), (4.0, "False")):
        told.take(machine(status, str(at)), at)
    assert (told.since("m", "False"), told.since("m", "True"), told.cluster_of) == (3.0, None, {"m": "c"})


def test_flaps_are_told_with_what_they_cost() -> None:
    usage = between(Reading(0.0, {"reconcilers-0": 1.0}, 0.0, 0.0), Reading(2.0, {"reconcilers-0": 2.0}, 0.0, 1.0))
    requests, spread = Requests(writes=Counter({"reconcilers patch machines/status": 6})), Spread.of([20.0, 40.0, 30.0], 1)
    order = node_flaps.Order(5, 1, 1.0, 3.0, 1)
    report = node_flaps.Report(order, 6, ["m True"], spread, spread, spread, requests, usage, usage, {"reconcilers-0": 146.0}, {"reconcilers-0": 150.0})
    plain = orjson.loads(orjson.dumps(node_flaps.as_json(report)))
    assert (plain["writes_per_flap"], plain["requests"]["writes"], plain["not_ready"]["p99"]) == (2.0, {"reconcilers patch machines/status": 6}, 40.0)
    text = node_flaps.render(report)
    assert "turns NotReady  p50 30, p95 40, p99 40, max 40 (n=3)" in text and "never seen within 30 s: 1 m True" in text
    assert "reconcilers 50.0%" in text and "reconcilers-0 146 (150)" in text
