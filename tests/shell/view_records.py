"""Results as services of ours leave them, for the views: an apply that becomes a Cluster, and a run that fails, is cut off and is recovered."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType

from fleetwake.tracing.context import SpanId
from schemas.keys import ObjectKey
from schemas.results import CauseRecord, Done, Planned, Recovered, Run, StepRecord, StepResult

BEGIN = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
INTENT = SpanId.derive("apply")
LATER = SpanId.derive("scale")
APPLIED = "ADDED Cluster default/demo @100 by kubectl"
SCALED = "MODIFIED MachineDeployment default/workers @200 by kubectl"

CLUSTER = ObjectKey("cluster.x-k8s.io", "Cluster", "default", "demo")
DEPLOYMENT = ObjectKey("cluster.x-k8s.io", "MachineDeployment", "default", "workers")
MACHINE = ObjectKey("cluster.x-k8s.io", "Machine", "default", "workers-abcde")
DEV_MACHINE = ObjectKey("infrastructure.cluster.x-k8s.io", "DevMachine", "default", "workers-abcde")
NODE = ObjectKey("", "Node", "", "workers-abcde", "default/demo")

READY = {
    "status.conditions.[Ready].status": ("False", "True"),
    "status.conditions.[Ready].reason": ("NotReady", "Ready"),
    "status.conditions.[Ready].lastTransitionTime": ("2026-01-01T12:00:00Z", "2026-01-01T12:00:02Z"),
    "status.conditions.[Ready].message": ("Waiting", ""),
}
BORN = {"status": (None, {"phase": "Provisioning", "conditions": [{"type": "Ready", "status": "False", "reason": "NotReady", "message": "Waiting"}]})}


def at(milliseconds: float) -> datetime:
    """An instant after BEGIN."""
    return BEGIN + timedelta(milliseconds=milliseconds)


def step(index: int, verb: str, key: ObjectKey, reason: str, **result: Any) -> StepResult:
    """A step as carried out."""
    return StepResult(
        index=index, verb=verb, target=str(key), reason=reason, audit_id=f"audit-{key.name}-{verb}-{index}", **{"outcome": "done", "status": 200, **result}
    )


def run(name: str, key: ObjectKey, times: tuple[float, float], *steps: StepResult, cause: str = "", intent: SpanId = INTENT, **changed: Any) -> list[Run]:
    """Both records of a run that began and ended at ``times`` (milliseconds after BEGIN)."""
    service = changed.pop("service", "reconcilers")
    identity = {
        "plan_id": name, "service": service, "instance": f"{service}-0", "kind": key.kind, "key": str(key), "cluster": "default/demo",
        "trace": intent.child().traceparent(), "intent": intent.trace,
    }  # fmt: skip
    planned = Planned(
        **identity,
        at=at(times[0] + 1),
        cause=CauseRecord(change=cause, traceparent=intent.traceparent(), causes=1),
        observed={str(key): "100"},
        steps=tuple(StepRecord(**{field: getattr(item, field) for field in StepRecord.model_fields}) for item in steps),
    )
    done = Done(**identity, at=at(times[1]), outcome=changed.pop("outcome", "done"), steps=steps, duration_ms=times[1] - times[0], **changed)
    return [planned, done]


def records() -> list[Run]:
    """The apply (three runs, a wait between), a run that failed, one that nobody closed, one that the next owner closed; then a change by a user."""
    finalizer = step(0, "patch", CLUSTER, "the cluster is ours to clean up", changes={"metadata.finalizers": (None, ["cluster.cluster.x-k8s.io"])})
    told = step(1, "apply status", CLUSTER, "status tells what was observed", changes=BORN)
    made = step(0, "create", MACHINE, "0 Machines exist, 1 is wanted", status=201)
    host = step(1, "create", DEV_MACHINE, "Machine workers-abcde needs its DevMachine", outcome="failed", status=422, error="spec.backend: Required value")
    after = step(2, "apply status", DEPLOYMENT, "status tells what was observed", outcome="skipped", status=0)
    ready = step(0, "apply status", CLUSTER, "status tells what was observed", changes=READY)
    scaled = step(0, "delete", MACHINE, "1 Machine exists, 0 are wanted")
    cut, closed = run("p5", MACHINE, (2100, 2110), step(0, "patch", NODE, "the Node shows its Machine")), run("p6", MACHINE, (2120, 2130), made)
    return [
        *run("p1", CLUSTER, (0, 40), finalizer, told, cause=APPLIED),
        *run("p2", DEPLOYMENT, (30, 80), made, host, after, outcome="failed", error="spec.backend: Required value"),
        *run("p3", DEV_MACHINE, (90, 95), step(0, "apply status", DEV_MACHINE, "the host runs"), service="dev_infrastructure", cause="ADDED DevMachine"),
        *run("p4", CLUSTER, (2000, 2050), ready),
        cut[0],
        closed[0],
        Recovered(**{name: getattr(closed[0], name) for name in Run.model_fields}, at=at(9000), found="present", resource_version="150"),
        *run("p7", DEPLOYMENT, (600_000, 600_200), scaled, cause=SCALED, intent=LATER),
    ]


def text_of(view: RenderableType, width: int = 150) -> str:
    """What a terminal of ``width`` columns without colours shows, trailing blanks removed."""
    out = io.StringIO()
    Console(file=out, width=width, color_system=None, highlight=False, legacy_windows=False).print(view)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def golden(name: str, text: str) -> None:
    """Compare with the file of that name under ``views``; a file that does not exist is written, and the test fails until it has been looked at."""
    path = Path(__file__).parent / "views" / f"{name}.txt"
    if not path.exists():
        path.write_text(text)
        raise AssertionError(f"{path} was written: look at it")
    assert text == path.read_text()
