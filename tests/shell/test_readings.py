"""What a worker measures: true numbers under the names that dashboards know, asked for at the moment of the scrape."""

from __future__ import annotations

import asyncio

from fleetwake.plan import Plan
from fleetwake.shell.readings import read_connections
from fleetwake.shell.workload import PROBE_FAILURES_MAX, PROBE_SECONDS
from fleetwake.sim.apiserver import PatchType
from tests.shell.shell_world import GROUP, NAMESPACE, ShellWorld, Tuning, child_key, kind_of, parent_key, simulated, status_response
from tests.shell.test_runner import one_child, status
from tests.shell.test_workload import Near


def read(world: ShellWorld, name: str, /, **labels: str) -> float:
    """The value of one series, 0 when it is not there."""
    return world.worker.metrics.registry.get_sample_value(name, labels) or 0.0


def of_parent(world: ShellWorld, name: str, /, **labels: str) -> float:
    """The value of a queue's or controller's series of Parent."""
    by = {"name": "Parent", "controller": "Parent"} if name.startswith("workqueue") else {"controller": "Parent"}
    return read(world, name, **by, **labels)


class TestQueues:
    @simulated
    async def test_depth_and_ages_are_those_of_the_moment(self) -> None:
        world = ShellWorld(kind_of(one_child), tuning=Tuning(options={"runs_max": 2}))
        world.own_all()
        world.kube.gate = asyncio.Event()
        for number in range(5):
            world.parent(f"p{number}")
        world.worker.queues["Parent"].queue.add(parent_key("late"), patient=True)
        await world.settle(3)
        assert of_parent(world, "workqueue_depth", priority="0") == 3
        assert of_parent(world, "workqueue_depth", priority="-100") == 1
        assert of_parent(world, "controller_runtime_active_workers") == 2
        assert of_parent(world, "controller_runtime_max_concurrent_reconciles") == 2
        assert 2.9 < of_parent(world, "workqueue_longest_running_processor_seconds") <= 3
        assert 5.8 < of_parent(world, "workqueue_unfinished_work_seconds") <= 6
        assert 2.9 < of_parent(world, "fleetwake_queue_oldest_wait_seconds") <= 3.1
        assert of_parent(world, "workqueue_adds_total") >= 6
        world.kube.gate.set()
        await world.settle(5)
        assert of_parent(world, "workqueue_depth", priority="0") == of_parent(world, "workqueue_longest_running_processor_seconds") == 0

    @simulated
    async def test_times_of_runs_and_waits_are_true(self) -> None:
        world = ShellWorld(kind_of(one_child), tuning=Tuning(options={"runs_max": 1}))
        world.own_all()
        world.kube.gate = asyncio.Event()
        world.parent("a")
        world.parent("b")
        await world.settle(4)
        world.kube.gate.set()
        await world.settle(5)
        assert of_parent(world, "controller_runtime_reconcile_time_seconds_sum") >= 3.9
        assert of_parent(world, "workqueue_queue_duration_seconds_sum") >= 3.9
        assert read(world, "fleetwake_write_seconds_sum", verb="create") >= 3.9
        assert of_parent(world, "controller_runtime_reconcile_time_seconds_count") == of_parent(world, "workqueue_queue_duration_seconds_count")

    @simulated
    async def test_partitions_are_told_by_state(self) -> None:
        world = ShellWorld(kind_of(one_child))
        world.worker.assign(range(4))
        assert read(world, "fleetwake_partitions", state="replaying") == 4
        world.worker.replay_finished(0, 0)
        world.worker.replay_finished(1, 0)
        assert read(world, "fleetwake_partitions", state="ready") == 2
        world.worker.revoke()
        assert read(world, "fleetwake_partitions", state="revoked") == 2


class TestOutcomes:
    @simulated
    async def test_refused_writes_are_counted_by_status_and_controller(self) -> None:
        world = ShellWorld(kind_of(one_child))
        world.own_all()
        world.kube.answer("POST", "children", status_response(403, "Forbidden", "exceeded quota"), times=1)
        assert of_parent(world, "fleetwake_writes_refused_total", code="403") == 0
        world.parent()
        await world.settle(1)
        assert of_parent(world, "fleetwake_writes_refused_total", code="403") == 1
        assert read(world, "fleetwake_writes_total", verb="create", kind="Child", code="403") == 1
        assert of_parent(world, "controller_runtime_terminal_reconcile_errors_total") == 1
        await world.settle(100)
        assert read(world, "fleetwake_writes_total", verb="create", kind="Child", code="201") >= 1

    @simulated
    async def test_a_cache_that_was_behind_is_told_by_kind(self) -> None:
        world = ShellWorld(kind_of(one_child))
        world.own_all()
        world.worker.revoke()
        world.parent()
        world.deaf = True
        world.api.patch(f"parents.{GROUP}", (NAMESPACE, "p"), {"spec": {"n": 2}}, PatchType.MERGE)
        world.worker.unverified.add(("Parent", parent_key("p")))
        for number in list(world.worker.partitions):
            world.worker.resume(number)
        await world.settle(2)
        assert read(world, "capi_reconcile_stale_cache_skips_total", controller="Parent", cached_kind="Parent") >= 1

    @simulated
    async def test_results_are_controller_runtimes(self) -> None:
        world = ShellWorld(kind_of(lambda seen: Plan() if seen.parent.status else Plan((status(seen, ok=True),))))
        world.own_all()
        world.parent()
        await world.settle(1)
        for name in ("controller_runtime_reconcile_total", "capi_reconcile_total"):
            assert of_parent(world, name, result="success") >= 1
            assert of_parent(world, name, result="error") == 0
        assert world.get(child_key("c")) is None


class TestConnections:
    @simulated
    async def test_a_workload_cluster_is_up_then_not_then_forgotten(self) -> None:
        near = Near()
        world = ShellWorld(kind_of(one_child))
        read_connections(world.worker, near.connections)
        labels = {"cluster_name": "demo", "cluster_namespace": "default"}
        assert world.worker.metrics.registry.get_sample_value("capi_cluster_cache_connection_up", labels) is None
        await near.connected()
        assert read(world, "capi_cluster_cache_connection_up", **labels) == read(world, "capi_cluster_cache_healthcheck", **labels) == 1
        near.far.gone = True
        await asyncio.sleep(PROBE_FAILURES_MAX * (PROBE_SECONDS + 0.1) + 2)
        assert world.worker.metrics.registry.get_sample_value("capi_cluster_cache_connection_up", labels) == 0
        assert world.worker.metrics.registry.get_sample_value("capi_cluster_cache_healthcheck", labels) == 0
        assert read(world, "capi_cluster_cache_healthchecks_total", **labels, status="error") >= PROBE_FAILURES_MAX
        assert read(world, "capi_cluster_cache_healthchecks_total", **labels, status="success") >= 1
        await near.connections.close()
        assert world.worker.metrics.registry.get_sample_value("capi_cluster_cache_connection_up", labels) is None
