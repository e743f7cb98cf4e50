"""A deterministic event loop with virtual time, and processes that can be frozen and killed on it.

Nothing waits: when no callback is ready, time jumps to the next timer. Every callback belongs to the process in whose context it was made, so that a
process can be stopped as SIGSTOP stops one (its callbacks wait, the world goes on) or killed as SIGKILL kills one (none of its effects leaves it any more).
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

T = TypeVar("T")
START = datetime(2026, 1, 1, tzinfo=UTC)
"""The wall clock's time when a simulation begins."""

CALLBACKS_MAX = 3_000_000
"""Callbacks one simulation may run: more is a livelock."""


class StalledError(Exception):
    """Nothing is ready and no timer is set: whatever the simulation waits for will never come."""


class LivelockError(Exception):
    """The simulation runs and runs without an end."""


class Process:
    """Something that can be frozen and killed: a worker, the watcher."""

    def __init__(self, loop: SimLoop, name: str) -> None:
        self.loop, self.name = loop, name
        self.alive, self.stopped = True, False
        self.context = contextvars.copy_context()
        self.context.run(_PROCESS.set, self)
        self.tasks: set[asyncio.Task[Any]] = set()
        self.parked: deque[asyncio.Handle] = deque()
        self.failure: BaseException | None = None

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run a coroutine as part of the process. Its failure is remembered: a process has no business to end by itself."""
        task = self.loop.create_task(work, context=self.context)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        if self.alive and not task.cancelled() and task.exception() is not None and self.failure is None:
            self.failure = task.exception()

    def post(self, callback: Callable[..., object], *args: Any) -> None:
        """Call something inside the process, when it runs."""
        if self.alive:
            self.loop.call_soon(callback, *args, context=self.context)

    def freeze(self) -> None:
        """Stop: nothing of the process runs until ``thaw``."""
        self.stopped = True

    def thaw(self) -> None:
        """Go on: what waited runs now, in order."""
        self.stopped = False
        parked, self.parked = self.parked, deque()
        for handle in parked:
            self.loop.ready(handle)

    def kill(self) -> None:
        """End without any chance to clean up: ports refuse a dead process, so whatever its tasks still do stays inside of it."""
        self.alive, self.stopped = False, False
        self.parked.clear()
        for task in list(self.tasks):
            task.cancel()

    def check(self) -> None:
        """For ports: end a dead process' attempt to have an effect."""
        if not self.alive:
            raise asyncio.CancelledError(f"{self.name} is dead")


_PROCESS: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)


def current_process() -> Process | None:
    """The process whose code is running; None for the world itself."""
    return _PROCESS.get()


class _NoSelector:
    """There is no IO to select."""

    def select(self, timeout: float | None) -> list[Any]:
        return []


class SimTask(asyncio.Task[Any]):
    """A task with a place of its own in every set: the order in which sets of tasks are walked must not hang on addresses."""

    number = 0

    def __hash__(self) -> int:
        return self.number


class SimLoop(asyncio.BaseEventLoop):
    """See the module."""

    # what asyncio's own loop keeps and its stubs leave out
    _ready: deque[asyncio.Handle]
    _scheduled: list[Any]
    _timer_cancelled_count: int
    _stopping: bool

    def __init__(self) -> None:
        super().__init__()
        self._tasks_made = 0
        self._selector = _NoSelector()
        self._virtual = 0.0
        self._count = 0
        self._clock_resolution = 1e-9
        self.set_task_factory(self._make_task)
        self.errors: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.errors.append(context))

    def time(self) -> float:
        """Virtual seconds since the simulation began."""
        return self._virtual

    def ready(self, handle: asyncio.Handle) -> None:
        """Put a handle on the ready queue."""
        self._ready.append(handle)

    def process(self, name: str) -> Process:
        """Make a process."""
        return Process(self, name)

    def in_world(self, callback: Callable[..., object], *args: Any, after: float = 0.0) -> asyncio.TimerHandle:
        """Call something outside of every process, after some virtual seconds: a network or a server at work."""
        return self.call_later(after, callback, *args, context=_WORLD.copy())

    def _make_task(self, loop: Any, work: Any, context: contextvars.Context | None = None, **options: Any) -> asyncio.Task[Any]:
        self._tasks_made += 1
        SimTask.number = self._tasks_made  # the constructor already hashes the task
        task = SimTask(work, loop=loop, context=context, **options)
        task.number = self._tasks_made
        process = context.get(_PROCESS) if context is not None else _PROCESS.get()
        if process is not None:
            process.tasks.add(task)
            task.add_done_callback(process.tasks.discard)
        return task

    def _run_once(self) -> None:
        scheduled, ready = self._scheduled, self._ready
        while scheduled and scheduled[0]._cancelled:
            self._timer_cancelled_count -= 1
            heapq.heappop(scheduled)._scheduled = False
        if not ready and not self._stopping:
            if not scheduled:
                raise StalledError("nothing is ready and no timer is set")
            self._virtual = max(self._virtual, scheduled[0]._when)
        while scheduled and scheduled[0]._when <= self._virtual:
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            if not handle._cancelled:
                ready.append(handle)
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            process = handle._context.get(_PROCESS)  # type: ignore[attr-defined]
            if process is not None and process.stopped:
                process.parked.append(handle)
                continue
            self._count += 1
            handle._run()
        if self._count > CALLBACKS_MAX:
            raise LivelockError(f"more than {CALLBACKS_MAX} callbacks by {self._virtual:.3f} s")

    def _process_events(self, event_list: list[Any]) -> None:
        """There is no IO."""

    def _write_to_self(self) -> None:
        """Nobody sleeps."""


_WORLD = contextvars.Context()


class SimClock:
    """``fleetwake.shell.ports.Clock`` in virtual time. ``skew`` moves the wall clock alone, as a time service does."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop
        self.skew = timedelta(0)

    def now(self) -> datetime:
        """The wall clock, UTC."""
        return START + timedelta(seconds=self._loop.time()) + self.skew

    def boot(self) -> float:
        """Virtual seconds since boot; a frozen process' clock goes on."""
        return 1000.0 + self._loop.time()


@contextmanager
def simulation() -> Generator[SimLoop, None, None]:
    """A fresh loop; at the end everything on it is cancelled and it is closed."""
    loop = SimLoop()
    before = events._get_running_loop()
    try:
        yield loop
    finally:
        events._set_running_loop(before)
        left = [task for task in asyncio.all_tasks(loop) if not task.done()]
        for task in left:
            task.cancel()
        if left:
            with suppress(StalledError):  # tasks of a process that was left frozen never see their end
                loop.run_until_complete(asyncio.wait(left))
        loop.close()
