"""Evictions: what the API server answers is remembered for the drain, the budget that forbids one by its name."""

from __future__ import annotations

from typing import Any

import pytest

from fleetwake.plan import Evict, Plan
from fleetwake.shell.ports import Request, Response
from fleetwake.shell.workload import NoWorkloads
from schemas.keys import ClusterKey, ObjectKey
from tests.shell.shell_world import CLUSTER, Seen, ShellWorld, Tuning, kind_of, simulated, status_response

POD = ObjectKey("", "Pod", "default", "web", CLUSTER)
REFUSED = "Cannot evict pod as it would violate the pod's disruption budget."
BUDGET = "The disruption budget web needs 2 healthy pods and has 2 currently"
CAUSES = [{"reason": "DisruptionBudget", "message": BUDGET}]


class Remembering(NoWorkloads):
    """Connections to a cluster that gives one answer; they remember nothing but evictions."""

    def __init__(self, answer: Response) -> None:
        self.answer = answer
        self.answers: list[tuple[ObjectKey, int, str]] = []

    async def send(self, request: Request) -> Response:
        """Answer."""
        assert (request.method, request.path) == ("POST", "/api/v1/namespaces/default/pods/web/eviction")
        return self.answer

    def evicted(self, cluster: ClusterKey, key: ObjectKey, status: int, message: str) -> None:
        """Remember."""
        self.answers.append((key, status, message))


@pytest.mark.parametrize(
    ("answer", "status", "message"),
    [
        pytest.param(
            status_response(429, "TooManyRequests", REFUSED, causes=[{"reason": "DisruptionBudget", "message": BUDGET}]),
            429,
            f"{REFUSED} {BUDGET}",
            id="budget",
        ),
        pytest.param(status_response(429, "TooManyRequests", "slow down"), 429, "slow down", id="throttled"),
        pytest.param(status_response(404, "NotFound", "pods web not found"), 404, "pods web not found", id="gone"),
        pytest.param(status_response(201, "", "ok"), 200, "", id="evicted"),
    ],
)
def test_an_answer_is_remembered_with_its_causes(answer: Response, status: int, message: str) -> None:
    @simulated
    async def run() -> None:
        def reconcile(seen: Seen) -> Plan:
            return Plan() if workloads.answers else Plan((Evict(POD, "u-web", "drain"),))

        workloads: Any = Remembering(answer)
        world = ShellWorld(kind_of(reconcile), tuning=Tuning(workloads=workloads))
        world.own_all()
        world.parent()
        await world.settle()
        assert workloads.answers == [(POD, status, message)]

    run()
