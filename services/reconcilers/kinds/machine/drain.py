"""Draining the Node of a Machine that goes: rounds of looking at its Pods, evicting the first in order, and telling who still stays.

A round: look at the Pods (``Look pods/<node>``, and what decides about them: namespaces, DaemonSets), evict those whose turn it is (each outcome
comes as the look ``eviction/<namespace>/<pod>``), tell what is left; the next round starts DRAIN_RETRY after the look. Disruption budgets are the
API server's to respect.

Source: kinds.md §2 (delete flow c, drain algorithm), §18; Cluster API v1.14 drain (message format: other controllers read it).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from fleetwake import labels
from fleetwake.conditions import get, wire_time
from fleetwake.plan import Evict, Look, Patch, Step
from schemas.keys import ObjectKey
from services.reconcilers.kinds.machine.drain_rules import DAEMON_SET_LOOK, Pod, Treatment, applying, daemon_sets, node_pods, pod_name, treat
from services.reconcilers.kinds.machine.node_metadata import node_key
from services.reconcilers.kinds.machine.observed import Node, Observed

DRAIN_RETRY = timedelta(seconds=20)
EVICTION_ANSWERS = timedelta(seconds=1)
"""When to look at the answers to the evictions of a run: they are there when the run has ended."""
EVICTIONS_MAX = 100
FAILURES_SHOWN_MAX = 5
PODS_SHOWN_MAX = 3
UNREACHABLE_GRACE_SECONDS = 1

BUDGET = "annot evict pod as it would violate the pod's disruption budget."
TERMINATING_NAMESPACE = "Cannot evict pod from terminating namespace: unable to create eviction (kube-controller-manager should set deletionTimestamp)"


@dataclass(frozen=True, slots=True)
class Stage:
    """What a stage of the deletion asks for: ``done``, or steps, a message and when to look again. ``guarded``: it reaches into the workload cluster."""

    done: bool
    message: str = ""
    steps: tuple[Step, ...] = ()
    wait: timedelta | None = None
    guarded: bool = False


DONE = Stage(done=True)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the API server answered an eviction: HTTP status and message."""

    status: int
    message: str


@dataclass(frozen=True, slots=True)
class Progress:
    """The Pods that still stand in the way, by what keeps them. ``failed`` maps a message to those that met it."""

    terminating: tuple[Pod, ...]
    failed: Mapping[str, tuple[Pod, ...]]
    completing: tuple[Pod, ...]
    evict_later: tuple[Pod, ...]
    complete_later: tuple[Pod, ...]

    @property
    def done(self) -> bool:
        """Whether nothing stands in the way any more."""
        return not (self.terminating or self.failed or self.completing or self.evict_later or self.complete_later)


def drain(observed: Observed, node: Node | None, started: datetime) -> Stage:
    """Decide the next step of draining; done when the Node is gone or holds nothing to wait for."""
    workload = observed.workload
    if node is None and workload.watch_synced and workload.connected:
        return DONE
    name = observed.node_name
    before = _told(observed, started)
    if node is None or not workload.connected:
        return Stage(False, before)
    steps: list[Step] = [*_cordon(observed, node)]
    look = workload.looks.get(f"pods/{name}")
    rules = applying(observed.drain_rules, observed.machine, observed.cluster) if observed.cluster is not None else ()
    if look is None or observed.at - look.at >= DRAIN_RETRY:
        steps.append(Look(observed.cluster_key, f"pods/{name}", "draining needs the pods of the node"))
        if any(one.namespace_selector for rule in rules for one in rule.spec.pods):
            steps.append(Look(observed.cluster_key, "namespaces", "a drain rule selects namespaces"))
        return Stage(False, before, tuple(steps), DRAIN_RETRY)
    wait = look.at + DRAIN_RETRY - observed.at
    if look.error:
        return Stage(False, f"Error draining Node: {look.error}", tuple(steps), wait)
    unknown = _unknown_daemon_sets(observed, look.value, started)
    if unknown:
        steps.extend(Look(observed.cluster_key, query, "pods of a daemon set stay while it exists") for query in unknown)
        return Stage(False, before, tuple(steps), wait)
    treatments = treatments_of(observed, look.value, node)
    outcomes = _outcomes(observed, treatments, look.at)
    now = [one for one in first_in_order(treatments) if one.behavior == "Drain" and not one.terminating]
    asked = [one for one in now if pod_name(one.pod) not in outcomes]
    if asked:
        grace = UNREACHABLE_GRACE_SECONDS if unreachable(node) else None
        steps.extend(_evict(observed, one.pod, grace) for one in asked[:EVICTIONS_MAX])
        return Stage(False, before, tuple(steps), EVICTION_ANSWERS, guarded=True)
    progress = _progress(treatments, outcomes)
    if progress.done:
        return Stage(True, steps=tuple(steps))
    return Stage(False, message(progress, started), tuple(steps), wait)


def _unknown_daemon_sets(observed: Observed, pods: Any, started: datetime) -> list[str]:
    """Looks still needed to know which DaemonSets exist; one since the drain began is enough."""
    queries = (DAEMON_SET_LOOK + name for name in daemon_sets(pods or ()))
    known = observed.workload.looks
    return [query for query in queries if query not in known or known[query].at < started]


def treatments_of(observed: Observed, pods: Any, node: Node) -> tuple[Treatment, ...]:
    """What draining does with each of the Pods that a look at the Node found."""
    rules = applying(observed.drain_rules, observed.machine, observed.cluster) if observed.cluster is not None else ()
    return treat(node_pods(pods, observed.workload.looks), rules, at=observed.at, unreachable=unreachable(node))


def unreachable(node: Node) -> bool:
    """Whether the Node's kubelet cannot be reached."""
    return any(taint.get("key") == labels.UNREACHABLE_TAINT for taint in node.get("spec", {}).get("taints") or ())


def _told(observed: Observed, started: datetime) -> str:
    """What the condition says while a round is under way: as before, so that it changes once a round."""
    stored = get(observed.machine.status.conditions, "Deleting")
    if stored is not None and stored.reason == "DrainingNode" and stored.message:
        return stored.message
    return f"Drain not completed yet (started at {wire_time(started)}):"


def _cordon(observed: Observed, node: Node) -> Iterable[Patch]:
    if not node.get("spec", {}).get("unschedulable"):
        meta = node["metadata"]
        body = {"spec": {"unschedulable": True}}
        yield Patch(node_key(observed, meta["name"]), "v1", meta.get("uid", ""), body, "no pod shall be placed on a node that goes", strategic=True)


def _evict(observed: Observed, pod: Pod, grace: int | None) -> Evict:
    meta = pod["metadata"]
    key = ObjectKey("", "Pod", meta.get("namespace", ""), meta["name"], str(observed.cluster_key))
    return Evict(key, _uid(pod), "the node is being drained", grace)


def _uid(pod: Pod) -> str:
    return str(pod["metadata"].get("uid", ""))


def _outcomes(observed: Observed, treatments: Sequence[Treatment], since: datetime) -> dict[str, Outcome]:
    """The answers to evictions of this round, by the Pod's name."""
    outcomes = {}
    for one in treatments:
        name = pod_name(one.pod)
        look = observed.workload.looks.get(f"eviction/{name}")
        if look is not None and look.at >= since and isinstance(look.value, Mapping):
            outcomes[name] = Outcome(int(look.value["status"]), str(look.value.get("message", "")))
    return outcomes


def first_in_order(treatments: Sequence[Treatment]) -> tuple[Treatment, ...]:
    """The Pods of the lowest order still present, those that terminate included."""
    present = [one for one in treatments if one.behavior != "Skip"]
    lowest = min((one.order for one in present), default=0)
    return tuple(one for one in present if one.order == lowest)


def _progress(treatments: Sequence[Treatment], outcomes: Mapping[str, Outcome]) -> Progress:
    first = {id(one) for one in first_in_order(treatments)}
    terminating: list[Pod] = []
    completing: list[Pod] = []
    evict_later: list[Pod] = []
    complete_later: list[Pod] = []
    failed: dict[str, list[Pod]] = {}
    for one in treatments:
        if one.behavior == "Skip":
            continue
        if one.behavior == "WaitCompleted":
            (completing if id(one) in first else complete_later).append(one.pod)
        elif one.terminating:
            terminating.append(one.pod)
        elif id(one) not in first:
            evict_later.append(one.pod)
        else:
            outcome = outcomes[pod_name(one.pod)]
            if outcome.status < 300:
                terminating.append(one.pod)
            elif outcome.status != 404:
                failed.setdefault(_failure(outcome), []).append(one.pod)
    grouped = {text: tuple(pods) for text, pods in failed.items()}
    return Progress(tuple(terminating), grouped, tuple(completing), tuple(evict_later), tuple(complete_later))


def _failure(outcome: Outcome) -> str:
    if outcome.status == 403 and "being terminated" in outcome.message:
        return TERMINATING_NAMESPACE
    return outcome.message


def message(progress: Progress, started: datetime) -> str:
    """Who still stays, a line per reason."""
    lines = [f"Drain not completed yet (started at {wire_time(started)}):"]
    if progress.terminating:
        lines.append(f"* {_pods(progress.terminating)}: deletionTimestamp set, but still not removed from the Node")
    texts = sorted(progress.failed)
    for text in texts[:FAILURES_SHOWN_MAX]:
        shown = text.replace("C" + BUDGET, "c" + BUDGET)
        told = shown if shown.startswith("c" + BUDGET) else f"failed to evict Pod, {shown}"
        lines.append(f"* {_pods(progress.failed[text])}: {told}")
    others = sum(len(progress.failed[text]) for text in texts[FAILURES_SHOWN_MAX:])
    if others:
        lines.append(f"* {others} {'Pod' if others == 1 else 'Pods'} with other issues")
    if progress.completing:
        lines.append(f"* {_pods(progress.completing)}: waiting for completion")
    if progress.evict_later:
        lines.append(f"After above Pods have been removed from the Node, the following Pods will be evicted: {_names(progress.evict_later)}")
    if progress.complete_later:
        lines.append(
            "After above Pods have been removed from the Node, waiting for the following Pods to complete without eviction: " + _names(progress.complete_later)
        )
    return "\n".join(lines)


def _pods(pods: Sequence[Pod]) -> str:
    return f"{'Pod' if len(pods) == 1 else 'Pods'} {_names(pods)}"


def _names(pods: Sequence[Pod]) -> str:
    more = [f"... ({len(pods) - PODS_SHOWN_MAX} more)"] if len(pods) > PODS_SHOWN_MAX else []
    return ", ".join([*(pod_name(pod) for pod in pods[:PODS_SHOWN_MAX]), *more])
