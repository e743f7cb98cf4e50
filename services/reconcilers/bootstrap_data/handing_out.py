"""Handing out bootstrap data: look, judge, render, mark as used, then answer; each step before the next, and a record of it in the audit trail.

The truth of "used once" is an annotation on the bootstrap Secret, written with the resourceVersion that was judged: of two requests with one token the API
server lets one win. Redis remembers used tokens only to refuse replays without asking the API server. A host whose answer is lost has lost its data: it is
refused the second time, fails to bootstrap and is replaced.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from fleetwake import labels
from fleetwake.conditions import wire_time
from fleetwake.errors import ConflictError, FleetwakeError, NotFoundError, RetryableError, UnavailableError
from fleetwake.kind import Workload
from fleetwake.kube.answers import body_of, error_of
from fleetwake.plan import Patch, Plan, SecretInputs
from fleetwake.shell.bodies import decode_secret
from fleetwake.shell.cache import Cache
from fleetwake.shell.carry_out import Outcome, RunContext
from fleetwake.shell.ports import MERGE_PATCH, Cause, Ports, Request
from fleetwake.shell.resources import Resources
from fleetwake.shell.results import Results
from fleetwake.shell.view import CacheView, Surroundings
from fleetwake.stream.partition import partition_of
from schemas.api.bootstrap.v1beta2 import KubeadmConfig
from schemas.keys import ClusterKey, ObjectKey
from schemas.records import Version
from services.reconcilers.bootstrap import composition, transports
from services.reconcilers.bootstrap.host import Role
from services.reconcilers.bootstrap.request import FetchPoint
from services.reconcilers.bootstrap_data import access
from services.reconcilers.bootstrap_data.access import Verdict
from services.reconcilers.kinds.kubeadm_config.observed import FETCH_POINT, Observed, observe

log = logging.getLogger(__name__)
KIND = "BootstrapData"
"""The kind of these runs in traces."""
ROUNDS_MAX = 6
"""Rounds of reading until an observation reads nothing new; it takes three."""


class SpentTokens(Protocol):
    """A memory of used tokens that may forget."""

    async def cluster_of(self, token_hash: str) -> str:
        """The cluster whose data the token opened, "" if it is not remembered."""
        ...

    async def remember(self, token_hash: str, cluster: str) -> None:
        """Remember a used token."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """Where this worker is: its results, its partitions, the service's own address."""

    ports: Ports
    resources: Resources
    results: Results
    spent: SpentTokens
    point: FetchPoint
    partitions: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What a host is told."""

    status: int
    body: bytes = b""


class HandingOut:
    """See the module."""

    def __init__(self, place: Place) -> None:
        self._place = place

    async def answer(self, key: ObjectKey, authorization: str, remote: str) -> Answer:
        """Answer the request of ``remote`` for the data of a KubeadmConfig.

        Raises:
            UnavailableError: something it needs does not answer; the token is as good as before, unless it was marked as used already.
        """
        token = access.presented(authorization)
        if not token:
            return Answer(401)
        spent = await self._place.spent.cluster_of(transports.token_hash(token))
        if spent:
            await self._refused(key, ClusterKey.parse(spent), remote, Verdict.USED)
            return Answer(Verdict.USED.status)
        secret = await self._get(ObjectKey("", "Secret", key.namespace, key.name))
        if secret is None or secret.get("type") != labels.SECRET_TYPE:
            log.warning("bootstrap data of %s/%s was asked for by %s: there is none", key.namespace, key.name, remote)
            return Answer(Verdict.WRONG.status)
        cluster = ClusterKey(key.namespace, str((secret["metadata"].get("labels") or {}).get(labels.CLUSTER_NAME, "")))
        verdict = access.judge(secret, token, self._place.ports.clock.now())
        if verdict is not Verdict.GRANTED:
            await self._refused(key, cluster, remote, verdict)
            return Answer(verdict.status)
        data = await self._render(key, secret)
        if not await self._claimed(key, cluster, secret, remote):
            await self._refused(key, cluster, remote, Verdict.USED)
            return Answer(Verdict.USED.status)
        await self._place.spent.remember(transports.token_hash(token), str(cluster))
        return Answer(200, data)

    # ---- reading ----------------------------------------------------------------------------------------------------------------------
    async def _get(self, key: ObjectKey) -> dict[str, Any] | None:
        response = await self._place.ports.kube.send(Request("GET", self._place.resources.path(key)))
        error = error_of(response, f"get {key}")
        if isinstance(error, NotFoundError):
            return None
        if error is not None:
            raise error
        return body_of(response)

    async def _observed(self, key: ObjectKey) -> Observed | None:
        """What the KubeadmConfig's own decision would observe, read live, sensitive values included: nothing of it outlives the request."""
        clock, cache = self._place.ports.clock, Cache(self._place.ports.clock.boot)
        around = Surroundings(lambda cluster: Workload(), None, {FETCH_POINT: self._place.point})
        known: set[ObjectKey] = set()
        found: Observed | None = None
        for _ in range(ROUNDS_MAX):
            view = CacheView(key, cache, self._place.resources, clock.now(), around)
            found = observe(view, key)
            missing = [one for one in view.reads if one not in known]
            if not missing:
                return found
            for one in missing:
                known.add(one)
                # a kind whose definition nobody has seen here cannot be read; its absence is what the decision then observes
                state = await self._get(one) if self._place.resources.find(one.group_kind) is not None else None
                if state is not None:
                    cache.upsert(one, Version(0, int(state["metadata"]["resourceVersion"])), state, "", 0)
        return found

    async def _render(self, key: ObjectKey, secret: Mapping[str, Any]) -> bytes:
        observed = await self._observed(key)
        if observed is None:
            raise UnavailableError("its KubeadmConfig, Machine or Cluster is gone", operation=f"render the bootstrap data of {key}")
        role = Role[(secret["metadata"].get("annotations") or {}).get(transports.ROLE, Role.JOIN_WORKER.name)]
        computed = composition.fetched(observed.request, role)
        secrets: dict[ObjectKey, Mapping[str, bytes]] = {}
        for one in computed.secrets:
            state = await self._get(one)
            if state is not None:
                secrets[one] = decode_secret(state) if one.kind == "Secret" else {"object": orjson.dumps(state)}
        try:
            data: bytes = computed.render(SecretInputs(secrets, (), self._place.ports.clock.now()))
        except FleetwakeError as error:
            raise UnavailableError(str(error), operation=f"render the bootstrap data of {key}") from None
        return data

    # ---- marking and telling ----------------------------------------------------------------------------------------------------------
    async def _claimed(self, key: ObjectKey, cluster: ClusterKey, secret: Mapping[str, Any], remote: str) -> bool:
        """Mark the token as used; False when somebody else did so since it was judged."""
        place, meta = self._place, secret["metadata"]
        target = ObjectKey("", "Secret", key.namespace, key.name)
        now = place.ports.clock.now()
        note = {transports.FETCHED_AT: wire_time(now), transports.FETCHED_BY: remote}
        body = {"metadata": {"uid": meta["uid"], "resourceVersion": meta["resourceVersion"], "annotations": note}}
        step = Patch(target, "v1", meta["uid"], body, f"fetched by {remote}")
        with place.ports.tracing.run(KIND, key, cluster, (), now) as trace:
            run = self._run(key, cluster, trace)
            run.plan((step,))
            (outcome,) = run.outcomes
            cause = Cause(change=f"a host at {remote} fetches its bootstrap data")
            await place.results.planned(run, [cause], 1, {target: Version(0, int(meta["resourceVersion"]))})
            outcome.skipped = False
            try:
                with trace.step(outcome.verb, outcome.target) as traceparent:
                    await self._mark(target, body, outcome, traceparent)
            except FleetwakeError as error:
                outcome.error = str(error)
                run.failures.append(error)
            await place.results.done(run, [cause], now, Plan((step,)))
        for failure in run.failures:
            if isinstance(failure, ConflictError):
                return False
            raise failure
        return True

    async def _mark(self, target: ObjectKey, body: Mapping[str, Any], outcome: Outcome, traceparent: str) -> None:
        request = Request(
            "PATCH",
            self._place.resources.path(target),
            {"fieldManager": "bootstrap-data"},
            orjson.dumps(body),
            MERGE_PATCH,
            audit_id=outcome.audit_id,
            traceparent=traceparent,
        )
        response = await self._place.ports.kube.send(request)
        outcome.status = response.status
        error = error_of(response, f"mark {target} as fetched")
        if isinstance(error, NotFoundError):
            raise ConflictError("the bootstrap Secret is gone", operation=f"mark {target} as fetched")
        if error is not None:
            raise error
        outcome.resource_version = str(body_of(response)["metadata"]["resourceVersion"])

    async def _refused(self, key: ObjectKey, cluster: ClusterKey, remote: str, verdict: Verdict) -> None:
        """Tell a refusal, as a step on the Secret that was not sent: so it is in the Secret's history. A broker that does not answer delays no refusal."""
        log.warning("bootstrap data of %s/%s is refused to %s: %s", key.namespace, key.name, remote, verdict.value)
        place, now = self._place, self._place.ports.clock.now()
        with place.ports.tracing.run(KIND, key, cluster, (), now) as trace:
            run = self._run(key, cluster, trace)
            run.plan((Patch(ObjectKey("", "Secret", key.namespace, key.name), "v1", "", {}, f"refused to {remote}"),))
            run.outcomes[0].error = verdict.value
            run.failures.append(RetryableError(f"bootstrap data is refused to {remote}: {verdict.value}"))
            with suppress(UnavailableError):
                await place.results.done(run, [Cause(change=f"a host at {remote} asks for bootstrap data")], now, Plan())

    def _run(self, key: ObjectKey, cluster: ClusterKey, trace: Any) -> RunContext:
        return RunContext(
            key=key,
            manager="bootstrap-data",
            plan_id=self._place.results.plan_id(key),
            cluster=cluster,
            partition=partition_of(str(cluster), self._place.partitions),
            trace=trace,
            wake=lambda: None,
            open=lambda: True,
        )


def config_key(namespace: str, name: str) -> ObjectKey:
    """The KubeadmConfig whose data a path names."""
    return ObjectKey(KubeadmConfig.GROUP, KubeadmConfig.KIND, namespace, name)
