"""One run of one key: observe, decide, verify where harm is possible, say what is planned, carry out, say what was done.

Everything a run may raise ends here and is judged by ``policy``. A run releases the wake-ups that came before its observation whether it succeeded or not:
what failed is repeated from memory, and after a crash from the replay.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from fleetwake.errors import ConflictError, DecodeError, FencedError, FleetwakeError, RetryableError, TerminalError
from fleetwake.kind import Change, Failure, Unread
from fleetwake.kube.answers import body_of
from fleetwake.plan import Apply, Plan, soonest
from fleetwake.shell.carry_out import CarryOut, RunContext
from fleetwake.shell.metrics import ERROR, REQUEUE_AFTER, SUCCESS, observe
from fleetwake.shell.policy import Verdict, policy
from fleetwake.shell.ports import METADATA_ONLY, Request
from fleetwake.shell.queue import Wakeup
from fleetwake.shell.spacing import HeldBack
from fleetwake.shell.timers import Timers
from fleetwake.shell.verify import Verifier
from fleetwake.shell.view import SECRET, CacheView, Surroundings, unreadable
from fleetwake.tracing.current import CURRENT, CurrentRun
from schemas.keys import ClusterKey, ObjectKey
from schemas.results import Planned
from schemas.sensitive import SENSITIVE

if TYPE_CHECKING:
    from fleetwake.shell.worker import KindQueue, Partition, Worker

log = logging.getLogger(__name__)
OBSERVATIONS_MAX = 5
"""Times one run observes again because the live reads differed; then it backs off."""


REFUSED_ONCE_WAIT = timedelta(seconds=2)
"""The wait after the first refusal of a kind; the same refusal again waits as the policy says."""


class KeyState:
    """What the worker remembers of a key between runs, for each of its reconcilers."""

    __slots__ = ("attempts", "blocked", "failure", "held_back", "retrying", "unread", "verify")

    def __init__(self) -> None:
        self.attempts = 0
        self.verify = self.blocked = False
        self.failure: Failure | None = None
        self.unread: Failure | None = None
        self.held_back = HeldBack()
        self.retrying: asyncio.TimerHandle | None = None


class Runner:
    """See the module."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._carry_out = CarryOut(worker.hands)
        self._verifier = Verifier(worker.hands, self._carry_out)
        self._states: dict[tuple[str, ObjectKey], KeyState] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._telling: set[asyncio.Task[None]] = set()
        self.timers = Timers(self._due)
        self.draining = False

    @property
    def running(self) -> int:
        """Runs under way."""
        return len(self._tasks)

    @property
    def free(self) -> int:
        """Runs that may still start."""
        return 0 if self.draining else self._worker.options.runs_max - len(self._tasks)

    def _due(self, kind: str, key: ObjectKey) -> None:
        state = self._states.get((kind, key))
        # a worker that has more to do than it can does first what somebody waits for
        told_only = state is not None and state.held_back.due(self._worker.ports.clock.boot())
        self._worker.queues[kind].queue.add(key, patient=told_only)

    def start(self, entry: KindQueue, key: ObjectKey, wakeup: Wakeup, partition: Partition) -> None:
        """Run a key in a task of its own."""
        task = asyncio.get_running_loop().create_task(self._guarded(entry, key, wakeup, partition))
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._worker.options.fatal(task.exception() or RuntimeError("run ended"))
        self._worker.pump_all()

    async def drain(self, seconds: float) -> None:
        """Start nothing more and wait for the runs under way, at most ``seconds``."""
        self.draining = True
        self.timers.clear()
        for open_tasks in (self._tasks, self._telling):
            if open_tasks:
                await asyncio.wait(set(open_tasks), timeout=seconds)

    def forget(self, entry: KindQueue, key: ObjectKey) -> None:
        """Drop what is remembered of a key."""
        state = self._states.pop((entry.kind.name, key), None)
        if state is not None and state.retrying is not None:
            state.retrying.cancel()
        self.timers.set(entry.kind.name, key, None)

    def lift(self, entry: KindQueue, key: ObjectKey, change: Change) -> None:
        """A change of more than status, of the object itself or of one that wakes it, lifts the block that a terminal failure put on it."""
        state = self._states.get((entry.kind.name, key))
        if state is not None and state.blocked and _beyond_status(change):
            state.blocked, state.failure = False, None

    async def _guarded(self, entry: KindQueue, key: ObjectKey, wakeup: Wakeup, partition: Partition) -> None:
        worker, measured = self._worker, entry.measured
        clock = worker.ports.clock
        current = self._begin(key, wakeup)
        started, began = clock.boot(), clock.now().timestamp()
        result = ERROR
        try:
            async with asyncio.timeout(worker.options.run_seconds_max):
                requeue = await self._run(entry, key, wakeup, partition)
            result = REQUEUE_AFTER if requeue else SUCCESS
        except TimeoutError:
            measured.timeouts.inc()
            self._judge(entry, key, ConflictError(f"the run took longer than {worker.options.run_seconds_max} s", operation=f"reconcile {key}"))
        except Exception as error:
            self._judge(entry, key, error)
        finally:
            for token in wakeup.tokens:
                token.release()
            entry.queue.finished(key)
            current.ended = True
            # only now: whether the run made a span is known, and with it what the measurements of its start are an example of
            trace = current.exemplar
            measured.reconciles[result].inc()
            observe(measured.seconds, clock.boot() - started, trace)
            observe(measured.queue_seconds, started - wakeup.added, trace)
            if wakeup.received:
                observe(measured.intake_to_reconcile, started - wakeup.taken, trace)
                observe(measured.event_to_reconcile, began - wakeup.received, trace)

    def _begin(self, key: ObjectKey, wakeup: Wakeup) -> CurrentRun:
        """Say to whatever this task and its own do that it belongs to a run of the key."""
        held = self._worker.cache.get(key)
        cluster = ClusterKey.parse(held.cluster) if held is not None and held.cluster else None
        current = CurrentRun(key, cluster, lambda: self._worker.ports.tracing.continues(cluster, wakeup.causes))
        CURRENT.set(current)
        return current

    def _judge(self, entry: KindQueue, key: ObjectKey, error: BaseException) -> Verdict:
        worker, measured = self._worker, entry.measured
        state = self._states.setdefault((entry.kind.name, key), KeyState())
        state.attempts += 1
        verdict = policy(error, key, state.attempts)
        measured.errors.inc()
        if verdict.fatal:
            worker.options.fatal(error)
            return verdict
        state.verify = state.verify or verdict.verify
        if verdict.terminal and isinstance(error, TerminalError):
            measured.terminal_errors.inc()
            shown = Failure(error.operation, error.message, getattr(error, "causes", ()))
            again = state.failure != shown
            state.failure, state.blocked = shown, True
            log.warning("reconcile failed for good: %s", error)
            if verdict.retry_after is not None:
                # a refusal is often over at once (an API server that starts answers 403 until it has read its roles): the first repeat is early
                self._retry(entry, key, state, min(verdict.retry_after, REFUSED_ONCE_WAIT) if again else verdict.retry_after)
            if again:
                entry.queue.add(key)
            return verdict
        if not isinstance(error, FleetwakeError):
            measured.panics.inc()
            log.error("reconcile ended by a bug: %r", error, exc_info=error)
        elif not isinstance(error, ConflictError):
            log.log(logging.INFO if state.attempts < 3 else logging.WARNING, "reconcile failed: %s", error)
        if verdict.retry_after is not None:
            self._retry(entry, key, state, verdict.retry_after)
        return verdict

    def _retry(self, entry: KindQueue, key: ObjectKey, state: KeyState, after: timedelta) -> None:
        if state.retrying is not None:
            state.retrying.cancel()
        entry.measured.retries.inc()
        state.retrying = asyncio.get_running_loop().call_later(after.total_seconds(), self._again, entry, key, state)

    @staticmethod
    def _again(entry: KindQueue, key: ObjectKey, state: KeyState) -> None:
        state.retrying, state.blocked = None, False
        entry.queue.add(key)

    async def _run(self, entry: KindQueue, key: ObjectKey, wakeup: Wakeup, partition: Partition) -> bool:
        worker, kind = self._worker, entry.kind
        held = worker.cache.get(key)
        if held is None:
            self.forget(entry, key)
            return False
        state = self._states.setdefault((entry.kind.name, key), KeyState())
        started = worker.ports.clock.now()
        cluster = ClusterKey.parse(held.cluster) if held.cluster else None
        plan, view = self._decide(entry, key, state)
        if plan is None:
            self.forget(entry, key)
            return False
        if state.blocked:
            plan = Plan(tuple(step for step in plan.steps if isinstance(step, Apply) and step.subresource == "status"), plan.requeue_after)
        self.timers.set(kind.name, key, plan.requeue_after)
        if not plan.steps:
            state.attempts = 0
            worker.metrics.empty.labels(kind.name).inc()
            if state.failure is not None and not state.blocked:
                # kinds hold back while a failure is shown: with nothing left to show, only an observation without it goes on
                state.failure = None
                entry.queue.add(key)
            return plan.requeue_after is not None
        plan, wait = self._split(kind.name, key, state, plan)
        if not plan.steps:
            return True
        with worker.ports.tracing.run(kind.name, key, cluster, wakeup.causes, started) as trace:
            run = RunContext(
                key, kind.manager, "", cluster, partition.number, trace, lambda: entry.queue.add(key), lambda: partition.ready, lambda: not partition.dead
            )
            if plan.writes and self._must_verify(entry, key, state, plan):
                plan, view = await self._verified(entry, run, state, view)
                if plan is not None:
                    plan, wait = self._split(kind.name, key, state, plan)
            if plan is not None and plan.steps:
                try:
                    await self._act(run, plan, view, wakeup, started)
                    self._succeeded(entry, key)
                finally:
                    self._count(entry, run)
        if wait is None:
            state.held_back.told()
        return wait is not None or (plan is not None and plan.requeue_after is not None)

    def _split(self, name: str, key: ObjectKey, state: KeyState, plan: Plan) -> tuple[Plan, timedelta | None]:
        """What of a plan is carried out now, and how long the rest waits; the key then runs again."""
        now, wait = state.held_back.split(plan, self._worker.ports.clock.boot())
        if wait is not None:
            self.timers.set(name, key, soonest(wait, plan.requeue_after))
        return now, wait

    def _decide(self, entry: KindQueue, key: ObjectKey, state: KeyState) -> tuple[Plan | None, CacheView]:
        worker = self._worker
        around = Surroundings(worker.workloads.state, state.failure, worker.options.locals)
        view = CacheView(key, worker.cache, worker.resources, worker.ports.clock.now(), around)
        try:
            observed: Any = entry.kind.observe(view, key)
        except (DecodeError, ValidationError) as error:
            unread = error if isinstance(error, DecodeError) else unreadable(key, error)
            return self._unread(entry, key, state, unread), view
        state.unread = None
        return (entry.kind.reconcile(observed) if observed is not None else None), view

    def _unread(self, entry: KindQueue, key: ObjectKey, state: KeyState, error: DecodeError) -> Plan:
        """What a kind does about an observation that cannot be read; told to the log and the metrics once."""
        worker, held = self._worker, self._worker.cache.get(key)
        if entry.kind.unreadable is None or held is None:
            raise error
        failure = Failure(error.operation, error.message)
        if state.unread != failure:
            entry.measured.terminal_errors.inc()
            log.warning("reconcile failed for good: %s", error)
        state.unread = failure
        return entry.kind.unreadable(Unread(key, worker.ports.clock.now(), held.state, failure))

    def _must_verify(self, entry: KindQueue, key: ObjectKey, state: KeyState, plan: Plan) -> bool:
        return state.verify or plan.rests_on_absence or plan.guarded or (entry.kind.name, key) in self._worker.unverified

    async def _verified(self, entry: KindQueue, run: RunContext, state: KeyState, view: CacheView) -> tuple[Plan | None, CacheView]:
        worker = self._worker
        for _ in range(OBSERVATIONS_MAX):
            same = await self._verifier.confirm(run, view)
            worker.metrics.verified.labels(entry.kind.name, "same" if same else "differed").inc()
            plan, fresh = self._decide(entry, run.key, state)
            for kind in () if same else _stale(view, fresh):
                worker.metrics.stale.labels(entry.kind.name, kind).inc()
            if plan is None or not plan.writes:
                state.verify = False
                return plan, fresh
            if same and fresh.reads == view.reads:
                state.verify = False
                worker.unverified.discard((entry.kind.name, run.key))
                return plan, fresh
            view = fresh
        raise ConflictError("what it was decided from keeps changing", operation=f"verify {run.key}")

    async def _act(self, run: RunContext, plan: Plan, view: CacheView, wakeup: Wakeup, started: datetime) -> None:
        worker = self._worker
        run.plan_id = worker.results.plan_id(run.key)
        run.sources = tuple(key for key in view.reads if key.group_kind in SENSITIVE and key.group_kind != SECRET)
        run.plan(plan.steps)
        if plan.recorded:
            await worker.results.planned(run, wakeup.causes, wakeup.cause_count, view.reads)
        try:
            await self._carry_out.all(run, plan.steps)
        finally:
            if plan.recorded:
                self._tell(worker.results.done(run, wakeup.causes, started, plan))
        if run.failures:
            raise next((failure for failure in run.failures if isinstance(failure, FencedError)), run.failures[0])

    def _succeeded(self, entry: KindQueue, key: ObjectKey) -> None:
        state = self._states.get((entry.kind.name, key))
        if state is None:
            return
        state.attempts = 0
        if state.failure is not None and not state.blocked:
            # what failed has now succeeded: observe once more, without the failure
            state.failure = None
            entry.queue.add(key)

    def _count(self, entry: KindQueue, run: RunContext) -> None:
        for outcome in run.outcomes:
            if outcome.status and not outcome.skipped:
                code = str(outcome.status)
                self._worker.metrics.writes.labels(outcome.verb, ObjectKey.parse(outcome.target).kind, code).inc()
                if code in entry.measured.refused:
                    entry.measured.refused[code].inc()

    def _tell(self, done: Coroutine[Any, Any, None]) -> None:
        """Produce ``done`` beside the next run: nobody waits for its acknowledgement, and a lost one is closed as recovered by the next owner."""
        task = asyncio.get_running_loop().create_task(done)
        self._telling.add(task)
        task.add_done_callback(self._told)

    def _told(self, task: asyncio.Task[None]) -> None:
        self._telling.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.warning("a done record was not acknowledged: %s", task.exception())

    async def recover(self, left: Planned, partition: int) -> None:
        """Close a run that a dead owner left open, after a look at its object; its next observation then decides anew."""
        worker = self._worker
        key = ObjectKey.parse(left.key)
        found, version = "unknown", ""
        if worker.resources.find(key.group_kind) is not None:
            try:
                response = await worker.ports.kube.send(Request("GET", worker.resources.path(key), accept=METADATA_ONLY))
            except RetryableError:
                response = None
            if response is not None and response.status in (200, 404):
                found = "present" if response.status == 200 else "absent"
                version = str(body_of(response).get("metadata", {}).get("resourceVersion", ""))
        await worker.results.recovered(left, partition, found, version)
        worker.wake(key)


def _stale(before: CacheView, after: CacheView) -> set[str]:
    """The kinds of which the cache held something else than the API server."""
    objects = {key.kind for key in before.reads.keys() | after.reads.keys() if before.reads.get(key) != after.reads.get(key)}
    held = {(read.ref, read.namespace, read.cluster): read.found for read in before.lists}
    return objects | {read.ref.kind for read in after.lists if held.get((read.ref, read.namespace, read.cluster)) != read.found}


def _beyond_status(change: Change) -> bool:
    """Whether anything but status, resourceVersion and managedFields differs."""
    if change.before is None or change.after is None or change.differs("spec"):
        return True
    names = ("labels", "annotations", "finalizers", "ownerReferences", "deletionTimestamp", "generation")
    return any(change.differs("metadata", name) for name in names)
