"""Carrying a plan out: each step becomes one fenced request, its answer goes into the cache at once and wakes its dependents.

After a failed step the rest is skipped, except applies on ``status`` (they tell what was observed). Branches of a ``Together`` run side by side.
A repeated step is harmless: creates collide on derived names, applies and patches carry the uid, deletes carry preconditions.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, assert_never

from fleetwake.errors import AlreadyExistsError, ConflictError, FencedError, FleetwakeError, NotFoundError, ThrottledError, UnavailableError
from fleetwake.kind import Change, Workload
from fleetwake.kube.answers import body_of, error_of, message_with_causes
from fleetwake.plan import (
    Apply,
    Create,
    Delete,
    EtcdMoveLeader,
    EtcdRemoveMember,
    Event,
    Evict,
    Local,
    Look,
    Patch,
    Step,
    SyncMetadata,
    Together,
    UidOf,
    flatten,
)
from fleetwake.shell import bodies
from fleetwake.shell.cache import SHARED_PARTITION, Cache
from fleetwake.shell.in_flight import InFlight
from fleetwake.shell.ports import APPLY_PATCH, JSON, MERGE_PATCH, STRATEGIC_PATCH, Cause, Ports, Request, Response, RunTrace
from fleetwake.shell.resources import Resources
from fleetwake.shell.secret_bytes import SecretBytes
from fleetwake.shell.view import SECRET
from schemas.keys import ClusterKey, ObjectKey
from schemas.placement import shared
from schemas.records import Version

PLAN_NAMESPACE = uuid.UUID("6f1c0f0e-5b0e-5d6c-9a57-0d1f5a2b7c11")
BRANCHES_MAX = 16
"""Branches of one Together carried out at a time."""


class Workloads(Protocol):
    """Workload clusters as the shell uses them (``fleetwake.shell.workload``)."""

    def state(self, cluster: ClusterKey) -> Workload:
        """The cluster's state, frozen."""
        ...

    async def send(self, request: Request) -> Response:
        """Send a request to the cluster named in it.

        Raises:
            NotConnectedError: there is no connection.
        """
        ...

    def look(self, cluster: ClusterKey, query: str, via: tuple[str, ...], wake: Callable[[], None]) -> None:
        """Start (or join) a read; the answer is stored and ``wake`` called."""
        ...

    def answered(self, cluster: ClusterKey, key: ObjectKey, state: Mapping[str, Any] | None) -> None:
        """Take the answer of a write of ours into the cluster's state (None: deleted)."""
        ...

    def evicted(self, cluster: ClusterKey, key: ObjectKey, status: int, message: str) -> None:
        """Remember the answer of an eviction (200 accepted, 429 forbidden by a budget, 404 gone)."""
        ...

    async def etcd_remove_member(self, step: EtcdRemoveMember) -> None:
        """Remove an etcd member; removing one that is gone is success."""
        ...

    async def etcd_move_leader(self, step: EtcdMoveLeader) -> None:
        """Move etcd's leadership."""
        ...


@dataclass(slots=True)
class Outcome:
    """What became of one step. ``changes`` maps a field path to its value before and after; ``error`` is empty on success."""

    index: int
    verb: str
    target: str
    reason: str
    audit_id: str = ""
    status: int = 0
    error: str = ""
    skipped: bool = False
    changes: Mapping[str, tuple[Any, Any]] = field(default_factory=dict)
    resource_version: str = ""


@dataclass(slots=True)
class RunContext:
    """One run of one key: where it belongs, its identity for Audit-IDs, its span and what its steps came to."""

    key: ObjectKey
    manager: str
    plan_id: str
    cluster: ClusterKey | None
    partition: int
    trace: RunTrace
    wake: Callable[[], None]
    open: Callable[[], bool]
    kept: Callable[[], bool] = lambda: True
    sources: tuple[ObjectKey, ...] = ()
    outcomes: list[Outcome] = field(default_factory=list)
    failures: list[BaseException] = field(default_factory=list)
    _by_step: dict[int, Outcome] = field(default_factory=dict)

    def plan(self, steps: Iterable[Step]) -> None:
        """Open the record of every step, in the plan's order; the Audit-ID of each is derived from the plan's id and its number."""
        for index, step in enumerate(flatten(steps), 1):
            verb, target, reason = bodies.describe(step)
            audit_id = str(uuid.uuid5(PLAN_NAMESPACE, f"{self.plan_id}/{index}"))
            outcome = Outcome(index, verb, target, reason, audit_id, skipped=True)
            self.outcomes.append(outcome)
            self._by_step[id(step)] = outcome

    def outcome(self, step: Step) -> Outcome:
        """The record of a step that is now carried out."""
        outcome = self._by_step[id(step)]
        outcome.skipped = False
        return outcome


LocalHandler = Callable[[Mapping[str, Any]], Awaitable[None]]


def _unmeasured(verb: str, seconds: float) -> None:
    return


@dataclass(frozen=True, slots=True)
class Hands:
    """What carrying out needs besides the plan."""

    ports: Ports
    cache: Cache
    resources: Resources
    workloads: Workloads
    fenced: Callable[[], bool]
    changed: Callable[[Change, Cause], None]
    redact: Callable[[dict[str, Any]], dict[str, Any]]
    known: Callable[[Mapping[str, Any]], Mapping[str, str]]
    epoch: Callable[[], int]
    actions: Mapping[str, LocalHandler]
    secrets: SecretBytes
    in_flight: InFlight = field(default_factory=InFlight)
    sent: Callable[[str, float], None] = _unmeasured
    """Told of each write that was answered: its verb, and the seconds that took."""


class CarryOut:
    """See the module."""

    def __init__(self, hands: Hands) -> None:
        self._hands = hands

    async def all(self, run: RunContext, steps: Iterable[Step]) -> None:
        """Carry out a sequence. Failures are collected in ``run.failures``; a FencedError ends everything at once."""
        failed = False
        for step in steps:
            if isinstance(step, Together):
                before = len(run.failures)
                await self._together(run, step)
                failed = failed or len(run.failures) > before
                continue
            if failed and not (isinstance(step, Apply) and step.subresource == "status" and not step.follows):
                continue
            outcome = run.outcome(step)
            try:
                await self._one(run, step, outcome)
            except BaseException as error:
                outcome.error = str(error) or type(error).__name__
                run.failures.append(error)
                if isinstance(error, FencedError) or not isinstance(error, FleetwakeError | LookupError | ValueError):
                    # fenced, cut at the limit, or a bug: nothing more is sent, and the record says where it ended
                    raise
                failed = True

    async def _together(self, run: RunContext, step: Together) -> None:
        limit = asyncio.Semaphore(BRANCHES_MAX)

        async def branch(steps: tuple[Step, ...]) -> None:
            async with limit:
                await self.all(run, steps)

        ended = await asyncio.gather(*(branch(steps) for steps in step.branches), return_exceptions=True)
        for error in ended:
            # only when all have ended: a branch that went on alone would work beside the key's next run
            if error is not None:
                raise error

    async def _one(self, run: RunContext, step: Step, outcome: Outcome) -> None:
        match step:
            case Create():
                await self._create(run, step, outcome)
            case Apply():
                body = bodies.apply_body(step)
                query = {"fieldManager": step.manager or run.manager, "force": "true"}
                await self._write(run, outcome, step.key, "PATCH", APPLY_PATCH, body, query=query, api_version=step.api_version, sub=step.subresource)
            case Patch():
                body = bodies.patch_body(step)
                kind = STRATEGIC_PATCH if step.strategic else MERGE_PATCH
                query = {"fieldManager": run.manager}
                await self._write(run, outcome, step.key, "PATCH", kind, body, query=query, api_version=step.api_version, sub=step.subresource)
            case SyncMetadata():
                await self._sync_metadata(run, step, outcome)
            case Delete():
                await self._delete(run, step, outcome)
            case Evict():
                await self._evict(run, step, outcome)
            case EtcdRemoveMember():
                self._fence(run)
                await self._hands.workloads.etcd_remove_member(step)
            case EtcdMoveLeader():
                self._fence(run)
                await self._hands.workloads.etcd_move_leader(step)
            case Look():
                self._hands.workloads.look(step.cluster, step.query, step.via, run.wake)
            case Event():
                await self._event(run, step, outcome)
            case Local():
                await self._hands.actions[step.action](step.arguments)
            case Together():
                await self._together(run, step)
            case _:
                assert_never(step)

    def _fence(self, run: RunContext | None = None) -> None:
        if self._hands.fenced() or (run is not None and not run.open()):
            raise FencedError("the last successful group heartbeat is too old: another worker may own this partition", operation="send")

    async def _send(self, run: RunContext, outcome: Outcome, request: Request) -> Response:
        self._fence(run)
        audit_id = outcome.audit_id if request.method != "GET" else ""
        with run.trace.step(outcome.verb, outcome.target, audit_id) as traceparent:
            prepared = Request(
                request.method,
                request.path,
                request.query,
                request.body,
                request.content_type,
                request.accept,
                audit_id,
                traceparent,
                request.timeout_seconds,
                request.cluster,
                # between here and the wire lie a connection to wait for and turns of the event loop, in any of which this process may be frozen
                None if request.method == "GET" else partial(self._fence, run),
            )
            port = self._hands.workloads if request.cluster else self._hands.ports.kube
            if request.method == "GET":
                response = await port.send(prepared)
            else:
                began = self._hands.ports.clock.boot()
                with self._hands.in_flight.one():
                    response = await port.send(prepared)
                self._hands.sent(outcome.verb, self._hands.ports.clock.boot() - began)
        outcome.status = response.status
        return response

    async def _write(  # noqa: PLR0913 -- one private seam for every write: what, where, how
        self,
        run: RunContext,
        outcome: Outcome,
        key: ObjectKey,
        method: str,
        content_type: str,
        body: Mapping[str, Any],
        *,
        query: Mapping[str, str],
        api_version: str = "",
        sub: str = "",
        collection: bool = False,
    ) -> dict[str, Any]:
        data = await bodies.encode(body, self._uid, self._hands.ports, self.read_secret)
        if bodies.REDACTED in data:
            data = bodies.restored(data, await self._live_values(run))
        path = self._hands.resources.path(key, api_version, sub, collection)
        # the watch line often overtakes the answer: what the write changed is told from before it was sent
        held = self._hands.cache.get(key)
        response = await self._send(run, outcome, Request(method, path, query, data, content_type, cluster=key.cluster))
        error = error_of(response, f"{outcome.verb} {outcome.target}")
        if error is not None:
            raise error
        state = body_of(response)
        self.take(run, key, state, outcome, held.state if held else None)
        return state

    async def _create(self, run: RunContext, step: Create, outcome: Outcome) -> None:
        manager = step.manager or run.manager
        owner_uid = self._uid(step.owner_uid.key) if isinstance(step.owner_uid, UidOf) else step.owner_uid
        if step.apply:
            query = {"fieldManager": manager, "force": "true"}
            state = await self._write(run, outcome, step.key, "PATCH", APPLY_PATCH, step.body, query=query, api_version=str(step.body["apiVersion"]))
            self._accept(step, state, owner_uid)
            return
        query = {"fieldManager": manager}
        try:
            await self._write(run, outcome, step.key, "POST", JSON, step.body, query=query, api_version=str(step.body["apiVersion"]), collection=True)
        except AlreadyExistsError:
            state = await self.read_live(run, step.key, str(step.body["apiVersion"]), outcome)
            self._accept(step, state, owner_uid)

    @staticmethod
    def _accept(step: Create, state: Mapping[str, Any], owner_uid: str) -> None:
        """A name that was taken counts as created only if its holder is ours and not on its way out."""
        meta = state.get("metadata", {})
        if meta.get("deletionTimestamp"):
            raise ConflictError("the name is held by an object that is being deleted; waiting for it to go", operation=f"create {step.key}")
        controller = next((ref["uid"] for ref in meta.get("ownerReferences", ()) if ref.get("controller")), "")
        if owner_uid and controller != owner_uid:
            raise ConflictError(f"the name is held by an object of another controller ({controller or 'none'})", operation=f"create {step.key}")

    async def _sync_metadata(self, run: RunContext, step: SyncMetadata, outcome: Outcome) -> None:
        state = await self.read_live(run, step.key, step.api_version, outcome, keep_managers=True)
        if state.get("metadata", {}).get("uid") != step.uid:
            raise ConflictError("the object was replaced", operation=f"sync metadata of {step.key}")
        patch = bodies.metadata_patch(step, state, step.manager or run.manager)
        if patch is not None:
            query = {"fieldManager": step.manager or run.manager}
            await self._write(run, outcome, step.key, "PATCH", MERGE_PATCH, patch, query=query, api_version=step.api_version)
        else:
            # what was read is no write: nothing of this step is in the audit log
            outcome.status = 0

    async def _delete(self, run: RunContext, step: Delete, outcome: Outcome) -> None:
        preconditions = {"uid": step.uid} | ({"resourceVersion": step.resource_version} if step.resource_version else {})
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions, "propagationPolicy": step.propagation}
        try:
            await self._write(run, outcome, step.key, "DELETE", JSON, body, query={}, api_version=step.api_version)
        except NotFoundError:
            self.gone(run, step.key, step.uid)

    async def _evict(self, run: RunContext, step: Evict, outcome: Outcome) -> None:
        options: dict[str, Any] = {"preconditions": {"uid": step.uid}}
        if step.grace_seconds is not None:
            options["gracePeriodSeconds"] = step.grace_seconds
        meta = {"name": step.key.name, "namespace": step.key.namespace}
        body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": meta, "deleteOptions": options}
        data = await bodies.encode(body, self._uid, self._hands.ports, self.read_secret)
        path = self._hands.resources.path(step.key, "v1", "eviction")
        response = await self._send(run, outcome, Request("POST", path, {}, data, cluster=step.key.cluster))
        error = error_of(response, f"evict {step.key}")
        if error is not None and not isinstance(error, NotFoundError | ThrottledError) and response.status not in (403, 409):
            raise error
        status = 200 if error is None else response.status
        self._hands.workloads.evicted(ClusterKey.parse(step.key.cluster), step.key, status, message_with_causes(response) if error else "")

    async def _event(self, run: RunContext, step: Event, outcome: Outcome) -> None:
        body = bodies.event_body(step, self._hands.ports.clock.now(), run.manager)
        path = f"/api/v1/namespaces/{body['metadata']['namespace']}/events"
        data = await bodies.encode(body, self._uid, self._hands.ports, self.read_secret)
        try:
            await self._send(run, outcome, Request("POST", path, {"fieldManager": run.manager}, data))
        except UnavailableError as error:
            outcome.error = str(error)  # best effort: an Event never fails a run

    async def read_live(self, run: RunContext, key: ObjectKey, api_version: str, outcome: Outcome, keep_managers: bool = False) -> dict[str, Any]:
        """GET an object from its API server and take it into the cache."""
        response = await self._send(run, outcome, Request("GET", self._hands.resources.path(key, api_version), cluster=key.cluster))
        error = error_of(response, f"get {key}")
        if error is not None:
            raise error
        state = body_of(response)
        managers = state.get("metadata", {}).get("managedFields")
        self.take(run, key, state, None)
        if keep_managers:
            state["metadata"]["managedFields"] = managers
        return state

    async def _live_values(self, run: RunContext) -> dict[str, str]:
        """The values behind the hashes in what this run read: templates and kubeadm configurations hold sensitive fields that the cache has only hashes of."""
        known: dict[str, str] = {}
        for key in run.sources:
            response = await self._hands.ports.kube.send(Request("GET", self._hands.resources.path(key)))
            if error_of(response, f"get {key}") is None:
                known |= self._hands.known(body_of(response))
        return known

    async def read_secret(self, key: ObjectKey) -> Mapping[str, bytes] | None:
        """The decoded data of a Secret: what the API server said within seconds (``SecretBytes``), else read live; None when it does not exist. Never logged.

        Of an object of another kind: ``{"object": <its JSON>}``, sensitive fields included.
        """
        self._fence()
        kept = self._hands.secrets.find(key)
        if kept is not None:
            return kept
        response = await self._hands.ports.kube.send(Request("GET", self._hands.resources.path(key), cluster=key.cluster))
        error = error_of(response, f"get {key}")
        if isinstance(error, NotFoundError):
            return None
        if error is not None:
            raise error
        if key.group_kind != SECRET:
            return {"object": response.body}
        state = body_of(response)
        self._hands.secrets.keep(key, state)
        return bodies.decode_secret(state)

    def _uid(self, key: ObjectKey) -> str:
        entry = self._hands.cache.get(key)
        if entry is None or not entry.uid:
            raise ConflictError("its uid is not known: the object was not created", operation=f"refer to {key}")
        return entry.uid

    def take(self, run: RunContext, key: ObjectKey, state: dict[str, Any], outcome: Outcome | None, before: Mapping[str, Any] | None = None) -> None:
        """Take an answer into the cache (or the workload's state) and wake what depends on it; tell the outcome what changed since ``before``."""
        if key.cluster:
            removed = state.get("kind") == "Status"
            self._hands.workloads.answered(ClusterKey.parse(key.cluster), key, None if removed else state)
            return
        if state.get("kind") == "Status":
            self.gone(run, key, str((state.get("details") or {}).get("uid", "")))
            return
        meta = state["metadata"]
        meta.pop("managedFields", None)
        version = Version(self._hands.epoch(), int(meta["resourceVersion"]))
        if outcome is not None:
            outcome.resource_version = meta["resourceVersion"]
        if meta.get("deletionTimestamp") and not meta.get("finalizers"):
            self.gone(run, key, meta["uid"], version)
            return
        held = self._hands.cache.get(key)
        self._hands.secrets.keep(key, state)
        state = self._hands.redact(state)
        if outcome is not None:
            outcome.changes = bodies.difference(before, state)
        cluster, partition = (held.cluster, held.partition) if held else (str(run.cluster or ""), run.partition)
        if shared(key, state):
            # read live before the shared topic told of it: it belongs to no partition, whoever's run met it first
            cluster, partition = "", SHARED_PARTITION
        elif not run.kept():
            # the partition left while the answer was on its way: in this cache the object would stay for ever, whatever becomes of it
            return
        change = self._hands.cache.upsert(key, version, state, cluster, partition)
        if change is not None:
            self._hands.changed(change, self._cause(run, state))

    def gone(self, run: RunContext, key: ObjectKey, uid: str, version: Version | None = None) -> None:
        """An object is known to be gone."""
        held = self._hands.cache.get(key)
        self._hands.secrets.drop(key)
        change = self._hands.cache.remove(key, version or (held.version if held else Version(self._hands.epoch(), 0)), uid)
        if change is not None:
            self._hands.changed(change, self._cause(run, change.before or {}))

    def _cause(self, run: RunContext, state: Mapping[str, Any]) -> Cause:
        meta = state.get("metadata", {})
        return self._hands.ports.tracing.wrote(str(meta.get("uid", "")), str(meta.get("resourceVersion", "")), run.trace.traceparent, run.cluster)
