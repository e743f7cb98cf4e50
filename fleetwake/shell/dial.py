"""Dialling a workload cluster: its kubeconfig Secret read, a client of its own, watches, looks, and etcd through its pods.

No key material stays behind: kubeconfig bytes live in the client's TLS context, the etcd client certificate in memory. Source: workload.md §1, §2.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from fleetwake.errors import FleetwakeError, ForbiddenError, NotConnectedError, NotFoundError, UnavailableError
from fleetwake.kube import config, pki
from fleetwake.kube.answers import body_of, error_of
from fleetwake.kube.client import Answered, ApiClient, untold
from fleetwake.kube.discovery import Resource as KubeResource
from fleetwake.kube.etcd import EtcdClient, EtcdError, EtcdTls
from fleetwake.kube.port_forward import ApiAccess, PodPort, peer_certificate
from fleetwake.kube.reflector import Changed, Interrupted, Listed, Page, Reflector, Resumed, Selection
from fleetwake.plan import EtcdMoveLeader, EtcdRemoveMember
from fleetwake.shell.bodies import decode_secret
from fleetwake.shell.ports import Clock, KubePort, Request, Response
from fleetwake.shell.resources import CORE, Resources
from fleetwake.shell.secret_bytes import SecretBytes
from fleetwake.shell.workload import WorkloadEvent
from schemas.api.registry import KINDS
from schemas.keys import ClusterKey, GroupKind, ObjectKey

CONNECT_TIMEOUT_SECONDS = 5.0
TRYING_SECONDS, TRYING_MAX = 60.0, 512
"""How long, and for how many clusters, a kubeconfig that was read is kept between calls that nobody answers."""
ETCD_CALL_LIMIT = timedelta(seconds=15)
ETCD_CHANGE_WAIT = timedelta(seconds=10)
"""When a change of etcd's membership or leader that failed is tried again, unless something wakes its control plane before."""
PODS_PAGE = 100
ETCD_CLIENT_NAME = "apiserver-etcd-client"
API_SERVER_PORT = 6443
"""Where an API server's pod listens unless a look names another port."""


def _selection(group_kind: GroupKind, namespace: str = "", label: str = "", field: str = "") -> Selection:
    found = CORE[group_kind]
    resource = KubeResource(group_kind.group, group_kind.kind, found.plural, found.api_version.rpartition("/")[2], found.namespaced)
    return Selection(resource, namespace, label, field)


SELECTIONS: Mapping[str, Selection] = {
    "nodes": _selection(GroupKind("", "Node")),
    "pods": _selection(GroupKind("", "Pod"), "kube-system", "tier=control-plane"),
    "kubeadm-config": _selection(GroupKind("", "ConfigMap"), "kube-system", field="metadata.name=kubeadm-config"),
}


async def send_over(client: ApiClient, request: Request, audit_id: str = "") -> Response:
    """Send one request of the shell over a client; ``audit_id`` names it in the API server's audit log."""
    answer = await client.request(
        request.method,
        request.path,
        query=request.query,
        body=request.body,
        content_type=request.content_type,
        accept=request.accept,
        audit_id=audit_id,
        traceparent=request.traceparent,
        timeout_seconds=request.timeout_seconds,
        leaving=request.leaving,
    )
    return Response(answer.status, answer.body, {name.lower(): value for name, value in answer.headers.items()})


class Dialer:
    """Makes connected ``RemoteApi`` objects."""

    def __init__(self, management: KubePort, clock: Clock, secrets: SecretBytes, answered: Answered = untold) -> None:
        self._management, self._clock, self._secrets, self._answered = management, clock, secrets, answered
        self._trying: dict[ClusterKey, tuple[float, bytes, config.ApiConfig]] = {}

    def now(self) -> datetime:
        """The time, for the validity of certificates."""
        return self._clock.now()

    async def secret(self, cluster: ClusterKey, purpose: str) -> Mapping[str, bytes]:
        """The bytes of ``<cluster>-<purpose>``: what the API server said within seconds, else read live.

        Raises:
            NotFoundError: there is no such Secret.
        """
        key = ObjectKey("", "Secret", cluster.namespace, f"{cluster.name}-{purpose}")
        kept = self._secrets.find(key)
        if kept is not None:
            return kept
        path = f"/api/v1/namespaces/{key.namespace}/secrets/{key.name}"
        response = await self._management.send(Request("GET", path))
        error = error_of(response, f"get Secret {cluster.namespace}/{cluster.name}-{purpose}")
        if error is not None:
            raise error
        state = body_of(response)
        self._secrets.keep(key, state)
        return decode_secret(state)

    async def dial(self, cluster: ClusterKey) -> RemoteApi:
        """Connect and ask the server one question.

        Raises:
            FleetwakeError: no kubeconfig, no connection, or the credentials are refused.
        """
        data = (await self.secret(cluster, "kubeconfig")).get("value", b"")
        _, tried, read = self._trying.pop(cluster, (0.0, b"", None))
        api = read if read is not None and tried == data else config.from_kubeconfig(data)
        client = ApiClient(api, service="reconcilers", answered=self._answered)
        try:
            response = await client.request("GET", "/version", timeout_seconds=CONNECT_TIMEOUT_SECONDS)
            error = error_of(Response(response.status, response.body), f"connect to {cluster}")
            if error is not None:
                raise error
        except ForbiddenError:
            # rotated, perhaps: what was kept is not tried twice
            self._secrets.drop(ObjectKey("", "Secret", cluster.namespace, f"{cluster.name}-kubeconfig"))
            await client.close()
            raise
        except UnavailableError:
            # a cluster that is coming up is dialled many times with the same kubeconfig; reading it costs more than the call
            self._remember(cluster, data, api)
            await client.close()
            raise
        except BaseException:
            await client.close()
            raise
        return RemoteApi(cluster, client, self)

    def _remember(self, cluster: ClusterKey, data: bytes, api: config.ApiConfig) -> None:
        now = self._clock.boot()
        self._trying[cluster] = (now + TRYING_SECONDS, data, api)
        while (oldest := next(iter(self._trying.items())))[1][0] <= now or len(self._trying) > TRYING_MAX:
            del self._trying[oldest[0]]


class RemoteApi:
    """``fleetwake.shell.workload.WorkloadApi`` over the network."""

    def __init__(self, cluster: ClusterKey, client: ApiClient, dialer: Dialer) -> None:
        self._cluster, self._client, self._dialer = cluster, client, dialer
        self._resources = Resources(KINDS)
        self._etcd_tls: EtcdTls | None = None
        self._etcd: tuple[str, EtcdClient] | None = None
        self._etcd_turn = asyncio.Lock()
        self._closed = False

    async def close(self) -> None:
        """Let go of every connection, and of one to etcd that is just being made."""
        self._closed = True
        await self._drop_etcd()
        await self._client.close()

    async def request(self, request: Request) -> Response:
        """Send a request."""
        return await send_over(self._client, request)

    async def watch(self, selection: str) -> AsyncIterator[WorkloadEvent]:
        """Follow a selection for ever."""
        reflector = Reflector(self._client, SELECTIONS[selection])
        names: set[str] = set()
        async for event in reflector.events():
            match event:
                case Page(items=items, first=first):
                    if first:
                        names.clear()
                    for item in items:
                        names.add(item["metadata"]["name"])
                        yield WorkloadEvent("changed", _slim(item))
                case Listed():
                    yield WorkloadEvent("listed", keep=frozenset(names))
                case Changed(type=kind, object=state):
                    yield WorkloadEvent("deleted" if kind == "DELETED" else "changed", _slim(state))
                case Interrupted():
                    yield WorkloadEvent("lost")
                case Resumed():
                    yield WorkloadEvent("resumed")

    async def look(self, query: str, via: tuple[str, ...]) -> Any:
        """Read what a ``Look`` asks for."""
        what, _, rest = query.partition("/")
        match what:
            case "etcd":
                return await self._look_etcd(via)
            case "pods":
                return await self._list("/api/v1/pods", {"fieldSelector": f"spec.nodeName={rest}"})
            case "namespaces":
                return await self._list("/api/v1/namespaces", {})
            case "volumes":
                return await self._look_volumes(rest)
            case "certificate":
                return await self._look_certificate(rest)
            case "get":
                return await self._look_object(rest)
            case _:
                raise NotFoundError(f"no look is called {query!r}", operation="look")

    async def _list(self, path: str, query: Mapping[str, str]) -> list[Any]:
        items: list[Any] = []
        page = {**query, "limit": str(PODS_PAGE)}
        while True:
            body = await self._get(path, page)
            items += body.get("items") or []
            token = (body.get("metadata") or {}).get("continue")
            if not token:
                return items
            page["continue"] = token

    async def _get(self, path: str, query: Mapping[str, str]) -> dict[str, Any]:
        response = await self.request(Request("GET", path, query))
        error = error_of(response, f"get {path}")
        if error is not None:
            raise error
        return body_of(response)

    async def _look_volumes(self, node: str) -> Any:
        attachments, volumes, claims_pods = await asyncio.gather(
            self._list("/apis/storage.k8s.io/v1/volumeattachments", {}),
            self._list("/api/v1/persistentvolumes", {}),
            self._list("/api/v1/pods", {"fieldSelector": f"spec.nodeName={node}"}),
        )
        return {"attachments": [a for a in attachments if (a.get("spec") or {}).get("nodeName") == node], "volumes": volumes, "pods": claims_pods}

    async def _look_object(self, rest: str) -> Any:
        group, version, kind, namespace, name = rest.split("/", 4)
        api_version = f"{group}/{version}" if group else version
        path = self._resources.path(ObjectKey(group, kind, namespace, name), api_version)
        response = await self.request(Request("GET", path))
        error = error_of(response, f"get {path}")
        if isinstance(error, NotFoundError):
            return None
        if error is not None:
            raise error
        state = body_of(response)
        if kind == "Secret" and not group:
            # decisions read that it is there and what its annotations say; its bytes have no business in a worker's memory
            state["data"] = dict.fromkeys(state.get("data") or {}, "")
        return state

    async def _look_certificate(self, rest: str) -> Any:
        node, _, port = rest.partition(":")
        ca = await self._dialer.secret(self._cluster, "ca")
        context = ssl.create_default_context(cadata=ca["tls.crt"].decode())
        context.check_hostname = False
        der = await peer_certificate(self._access(), PodPort("kube-system", f"kube-apiserver-{node}", int(port or API_SERVER_PORT)), context)
        pem = ssl.DER_cert_to_PEM_cert(der).encode()
        return {"notAfter": pki.certificate_expiry(pem).isoformat()}

    # ---- etcd -------------------------------------------------------------------------------------------------------------------------
    def _access(self) -> ApiAccess:
        return ApiAccess(self._client.session, self._client.config.server)

    async def _tls(self) -> EtcdTls:
        if self._etcd_tls is None:
            data = await self._dialer.secret(self._cluster, "etcd")
            ca = pki.KeyPair(data["tls.crt"], data["tls.key"])
            key = pki.generate_key("ECDSA-P256")
            pair = pki.sign_certificate(ca, pki.CertificateSpec(ETCD_CLIENT_NAME, usages=("client",)), key, now=self._dialer.now())
            self._etcd_tls = EtcdTls(ca.cert_pem, pair.cert_pem, pair.key_pem)
        return self._etcd_tls

    async def _drop_etcd(self) -> None:
        if self._etcd is not None:
            _, client = self._etcd
            self._etcd = None
            await client.__aexit__(None, None, None)

    async def _member(self, node: str) -> EtcdClient:
        """The open client of a member's pod; one at a time is kept."""
        if self._etcd is not None and self._etcd[0] == node:
            return self._etcd[1]
        await self._drop_etcd()
        tls = await self._tls()
        if self._closed:
            raise NotConnectedError("the connection was closed", operation=f"etcd of {self._cluster}")
        client = EtcdClient.through(self._access(), pod=f"etcd-{node}", tls=tls, timeout=ETCD_CALL_LIMIT)
        await client.__aenter__()
        if self._closed:
            # closed while this one was being made: nobody would ever close it
            await client.__aexit__(None, None, None)
            raise NotConnectedError("the connection was closed", operation=f"etcd of {self._cluster}")
        self._etcd = (node, client)
        return client

    async def _ask(self, via: tuple[str, ...], question: Any) -> tuple[str, Any]:
        """Ask the members on ``via`` in turn until one answers."""
        failure: FleetwakeError = NotConnectedError("no control-plane node to ask", operation=f"etcd of {self._cluster}")
        async with self._etcd_turn:
            for node in via:
                for _ in range(2):  # a kept client may have lost its connection: the second try is a new one
                    kept = self._etcd is not None and self._etcd[0] == node
                    try:
                        return node, await question(await self._member(node))
                    except FleetwakeError as error:
                        failure = error
                        await self._drop_etcd()
                        if not kept:
                            break
        raise failure

    async def _look_etcd(self, via: tuple[str, ...]) -> Any:
        async def question(etcd: EtcdClient) -> Any:
            members, alarms, status = await asyncio.gather(etcd.members(), etcd.alarms(), etcd.status())
            return {
                "members": [{"id": member.id, "name": member.name, "isLearner": member.is_learner} for member in members],
                "alarms": [{"memberID": alarm.member_id, "alarm": alarm.type} for alarm in alarms],
                "leader": status.leader_id,
            }

        node, answer = await self._ask(via, question)
        return {**answer, "via": node}

    async def remove_member(self, step: EtcdRemoveMember) -> None:
        """Remove an etcd member; one that is gone already is success."""

        async def question(etcd: EtcdClient) -> None:
            if any(member.id == step.member_id for member in await etcd.members()):
                await etcd.remove_member(step.member_id)

        await self._change(step.via, question)

    async def move_leader(self, step: EtcdMoveLeader) -> None:
        """Move etcd's leadership, asked of the leader; nothing to do when it has moved."""
        *first, last = (step.to_member_id, *step.others)

        async def question(etcd: EtcdClient) -> None:
            status = await etcd.status()
            if status.leader_id in (*first, last):
                return
            if status.leader_id != status.member_id:
                raise UnavailableError(f"the leader is no longer on {step.leader}", operation="move etcd leader")
            for heir in first:
                with suppress(EtcdError):
                    await etcd.move_leader(heir)
                    return
            await etcd.move_leader(last)

        await self._change((step.leader,), question)

    async def _change(self, via: tuple[str, ...], question: Any) -> None:
        try:
            await self._ask(via, question)
        except EtcdError as error:
            # what etcd refuses now it refuses a moment later too: a member is away, and nobody has told yet
            error.after = ETCD_CHANGE_WAIT
            raise


def _slim(state: dict[str, Any]) -> dict[str, Any]:
    """Without managedFields, and a Node without its image list: what no decision reads does not fill the memory."""
    state.get("metadata", {}).pop("managedFields", None)
    if state.get("kind") == "Node":
        state.get("status", {}).pop("images", None)
    return state
