"""The demonstration itself: apply, watch the tree turn green, and add up what the books say."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import yaml
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from fleetwake.kube import config
from fleetwake.kube.client import ApiClient
from fleetwake.rig import Rig
from fleetwake.settings import Settings
from fleetwake.tracing.receiver import Receiver
from fleetwake.views import figures, tree
from fleetwake.views.connection import IDENTITY
from fleetwake.views.objects import Watched
from fleetwake.views.results import read_results
from fleetwake.views.runs import IntentView, RunView, intents, join
from fleetwake.views.waterfall import waterfall
from schemas.keys import ClusterKey

NAMESPACE = "default"
QUIET_SECONDS = 1.5
QUIET_LIMIT_SECONDS = 20.0
WATERFALL_ROWS_MAX = 45
REDRAWS_PER_SECOND = 10


@dataclass(slots=True)
class Outcome:
    """The figures, and what went wrong if anything did."""

    figures: dict[str, Any] = field(default_factory=dict)
    error: str = ""


def clusters_of(manifest: Path) -> list[ClusterKey]:
    """The Clusters that a manifest makes.

    Raises:
        ValueError: it makes none.
    """
    found = [document for document in _documents(manifest) if document.get("kind") == "Cluster"]
    if not found:
        raise ValueError(f"{manifest} has no Cluster")
    return [ClusterKey(document["metadata"].get("namespace", NAMESPACE), document["metadata"]["name"]) for document in found]


def _documents(manifest: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(manifest.read_text()) if document]


def _kinds_of(manifest: Path) -> dict[str, str]:
    """Kinds that the Clusters of a manifest refer to, with their groups."""
    kinds = {}
    for document in _documents(manifest):
        if document.get("kind") == "Cluster":
            for name in ("infrastructureRef", "controlPlaneRef"):
                reference = (document.get("spec") or {}).get(name)
                if reference:
                    kinds[reference["kind"]] = reference["apiGroup"]
    return kinds


class Demonstration:
    """One run on a rig that is up."""

    def __init__(self, rig: Rig, out: Console, receiver: Receiver, manifest: Path, limit_seconds: float) -> None:
        self._rig, self._out, self._receiver, self._manifest, self._limit_seconds = rig, out, receiver, manifest, limit_seconds
        self._endpoints = rig.endpoints()
        self._clusters = clusters_of(manifest)
        self._began = 0.0
        self._available: dict[ClusterKey, float] = {}
        self._complete: dict[ClusterKey, float] = {}

    async def run(self) -> Outcome:
        """Apply, follow, sum up."""
        cpu_before, started = self._cpu(), datetime.now(UTC)
        self._began = time.monotonic()
        async with ApiClient(config.load(self._endpoints.kubeconfig), service="demo") as client:
            watched = Watched(client, self._clusters[0].namespace, _kinds_of(self._manifest))
            following = asyncio.create_task(watched.run())
            try:
                await asyncio.wait_for(watched.ready(), 10)
                cpu_before, started = self._cpu(), datetime.now(UTC)
                self._began = time.monotonic()
                error = await self._apply() or await self._follow(watched)
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
        await asyncio.to_thread(self._receiver.wait_quiet, QUIET_SECONDS, QUIET_LIMIT_SECONDS)
        cpu = {name: round(spent - cpu_before.get(name, 0.0), 2) for name, spent in self._cpu().items()}
        outcome = await asyncio.to_thread(self._sum_up, started)
        outcome.figures["cpu_s"] = cpu
        outcome.error = error or outcome.error
        return outcome

    async def _apply(self) -> str:
        """Apply the manifest as a user does; returns what went wrong."""
        self._out.print(f"[bold]$ kubectl apply -f {self._manifest}[/]", soft_wrap=True)
        command = (self._endpoints.kubectl, "--kubeconfig", self._endpoints.kubeconfig, "apply", "-n", NAMESPACE, "-f", str(self._manifest))
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
        output, _ = await process.communicate()
        self._out.print(output.decode().rstrip(), style="dim", markup=False, soft_wrap=True)
        return f"kubectl apply ended with {process.returncode}" if process.returncode else ""

    async def _follow(self, watched: Watched) -> str:
        """Show the tree until every cluster is Available and complete; returns what went wrong."""
        with Live(self._view(watched), console=self._out, auto_refresh=False, transient=False) as live:
            try:
                async with asyncio.timeout(self._limit_seconds):
                    while not self._done(watched):
                        await self._next_change(watched)
                        live.update(self._view(watched), refresh=self._out.is_terminal)
            except TimeoutError:
                waiting = [cluster for cluster in self._clusters if cluster not in self._complete]
                return f"not Available and complete within {self._limit_seconds:g} s: {'; '.join(_why(watched, cluster) for cluster in waiting)}"
            finally:
                live.update(self._view(watched), refresh=True)
        return ""

    @staticmethod
    async def _next_change(watched: Watched) -> None:
        """Return after the next change, or after a moment: ages go on."""
        try:
            async with asyncio.timeout(1.0):
                await watched.change()
        except TimeoutError:
            return

    def _done(self, watched: Watched) -> bool:
        for cluster in self._clusters:
            state = watched.get("Cluster", cluster.name)
            if state is None or tree.condition(state, "Available").status != "True":
                continue
            spent = time.monotonic() - self._began
            self._available.setdefault(cluster, spent)
            if _whole(state):
                self._complete.setdefault(cluster, spent)
        return len(self._complete) == len(self._clusters)

    def _view(self, watched: Watched) -> RenderableType:
        now, parts = datetime.now(UTC), []
        objects = watched.objects
        for cluster in self._clusters:
            root = tree.build(objects, cluster.name)
            parts.append(tree.render(root, now, self._out.width) if root is not None else Text(f"Cluster/{cluster.name}: not there yet", style="dim"))
        status = f"{time.monotonic() - self._began:.1f} s"
        return Group("", *parts, Text(f"{status}  {watched.interrupted}", style="dim"))

    def _cpu(self) -> dict[str, float]:
        """CPU seconds, user and system, of every process of the rig and its descendants."""
        status = self._rig.status()
        spent = {}
        for process in status.processes if status is not None else ():
            if process.pid is not None:
                try:
                    times = psutil.Process(process.pid).cpu_times()
                except psutil.NoSuchProcess:
                    continue
                spent[process.name] = times.user + times.system + times.children_user + times.children_system
        return spent

    # ---- the books ------------------------------------------------------------------------------------------------------------------------
    def _sum_up(self, started: datetime) -> Outcome:
        settings = Settings.from_env()
        runs = join(read_results(self._rig.kafka(IDENTITY), settings.topics.results, started))
        names = {str(cluster) for cluster in self._clusters}
        mine = [run for run in runs if run.record.cluster in names]
        found = [intent for intent in intents(mine) if intent.runs]
        writes = figures.our_writes(Path(self._endpoints.audit_log), started)
        missing = self._show(found, figures.recorded(writes, runs)[1])
        numbers = self._figures(writes, runs, mine, _opening(found, self._clusters))
        self._print_sums(numbers)
        return Outcome(numbers, missing)

    def _figures(self, writes: Sequence[figures.Write], runs: Sequence[RunView], mine: Sequence[RunView], traces: frozenset[str]) -> dict[str, Any]:
        summaries = self._receiver.summaries()
        complete = len(self._complete) == len(self._clusters)
        return {
            "complete": complete,
            "clusters": len(self._clusters),
            "time_to_available_s": round(max(self._available.values()), 3) if len(self._available) == len(self._clusters) else None,
            "time_to_complete_s": round(max(self._complete.values()), 3) if complete else None,
            "api_writes": len(writes),
            "api_writes_refused": sum(write.code >= 400 for write in writes),
            "api_writes_by_resource": figures.by_resource(writes),
            "runs": len(runs),
            "runs_not_done": sum(run.outcome != "done" for run in runs),
            "traces": len(summaries),
            "spans": sum(summary.spans for summary in summaries),
            "orphan_spans": sum(summary.orphans for summary in summaries),
            "write_coverage": figures.share(len(figures.recorded(writes, runs)[0]), len(writes)),
            "trace_coverage": figures.share(len(figures.traced(mine, traces)[0]), len(mine)),
        }

    def _show(self, found: Sequence[IntentView], without: Sequence[figures.Write]) -> str:
        for intent in found[: len(self._clusters)]:
            self._out.print("", waterfall(intent, steps=False, rows_max=WATERFALL_ROWS_MAX))
        if not found:
            return "the results topic has no run of the cluster"
        return f"{len(without)} writes have no record: {'; '.join(str(write) for write in without[:3])}" if without else ""

    def _print_sums(self, numbers: Mapping[str, Any]) -> None:
        available = numbers["time_to_available_s"]
        text = Text("\n")
        if available is not None:
            text.append(f"Available after {available:.2f} s", style="bold green")
            if numbers["time_to_complete_s"] is not None:
                text.append(f", complete after {numbers['time_to_complete_s']:.2f} s")
        else:
            text.append("not Available", style="bold red")
        text.append(f" · {numbers['api_writes']} writes, {numbers['write_coverage']:.0%} of them with a record")
        text.append(f" · {numbers['spans']} spans, {numbers['orphan_spans']} without their parent · {numbers['trace_coverage']:.0%} of the runs in its trace")
        self._out.print(text, soft_wrap=True)


def _opening(found: Sequence[IntentView], clusters: Sequence[ClusterKey]) -> frozenset[str]:
    """The trace of the apply, one per cluster: the first intent of each."""
    first: dict[str, str] = {}
    for intent in found:
        first.setdefault(intent.runs[0].record.cluster, intent.trace)
    return frozenset(first.values())


def _whole(state: Mapping[str, Any]) -> bool:
    """Whether every Machine that was asked for is available and up to date."""
    parts = [(state.get("status") or {}).get(role) or {} for role in ("controlPlane", "workers")]
    if not parts[0]:
        return False
    return all(
        part.get("desiredReplicas", 0) == part.get(name, 0) for part in parts for name in ("replicas", "readyReplicas", "availableReplicas", "upToDateReplicas")
    )


def _why(watched: Watched, cluster: ClusterKey) -> str:
    state = watched.get("Cluster", cluster.name)
    if state is None:
        return f"Cluster {cluster.name} was never seen"
    available = tree.condition(state, "Available")
    return f"Cluster {cluster.name} is Available={available.status or 'not reported'} ({available.reason}): {' '.join(available.message.split())}"
