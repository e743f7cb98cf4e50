"""The cloud provider that cluster-autoscaler asks over gRPC (``--cloud-provider=externalgrpc``), for the groups of the asker's own cluster and no others.

What is read is read from the cache, so Refresh has nothing to do. What changes a size goes through the group's run (``services.autoscaler_bridge.requests``),
which is answered when it is written.

Source: kubernetes/autoscaler, cluster-autoscaler/cloudprovider/externalgrpc (2026-08): which calls it makes, that it caches a group's template for ever, and
that it waits 5 s for an answer unless told otherwise.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.server import Stream

from fleetwake.errors import FleetwakeError
from fleetwake.shell.ports import Clock
from schemas.keys import ClusterKey, ObjectKey
from services.autoscaler_bridge.externalgrpc_pb import externalgrpc_pb2 as pb
from services.autoscaler_bridge.externalgrpc_pb.externalgrpc_grpc import CloudProviderBase
from services.autoscaler_bridge.groups import Groups, id_of, key_of_id
from services.autoscaler_bridge.identities import cluster_of
from services.autoscaler_bridge.kinds.node_group.bounds import Bounds
from services.autoscaler_bridge.kinds.node_group.capacity import host_template
from services.autoscaler_bridge.kinds.node_group.instances import instances
from services.autoscaler_bridge.kinds.node_group.observed import Observed
from services.autoscaler_bridge.kinds.node_group.reconcile import served
from services.autoscaler_bridge.kinds.node_group.wanted import Wanted
from services.autoscaler_bridge.kinds.options import options
from services.autoscaler_bridge.metrics import BridgeMetrics
from services.autoscaler_bridge.node_bytes import node_bytes
from services.autoscaler_bridge.options_answer import options_answer
from services.autoscaler_bridge.requests import Requests
from services.autoscaler_bridge.writers import WriterBook

log = logging.getLogger(__name__)
ANSWER_SECONDS = 4.5
"""The longest that a change of size is waited for: cluster-autoscaler gives up after 5 s, and is told more when it is answered before."""

GPU_LABEL = "cluster-api/accelerator"
"""The label of Nodes with accelerators, as the clusterapi provider has it."""

OTHER_ERROR_CLASS = 99
STATES = {"running": pb.InstanceStatus.instanceRunning, "creating": pb.InstanceStatus.instanceCreating, "deleting": pb.InstanceStatus.instanceDeleting}

Method = Callable[[ClusterKey, Any], Awaitable[Any]]


class Provider(CloudProviderBase):  # type: ignore[misc]
    """See the module."""

    def __init__(self, groups: Groups, requests: Requests, writers: WriterBook, clock: Clock, metrics: BridgeMetrics) -> None:
        self._groups, self._requests, self._writers, self._clock, self._metrics = groups, requests, writers, clock, metrics

    # ---- who asks ---------------------------------------------------------------------------------------------------------------------
    async def _serve(self, stream: Stream[Any, Any], name: str, method: Method) -> None:
        code, began = Status.UNKNOWN, time.perf_counter()
        try:
            cluster = self._asker(stream)
            message = await stream.recv_message()
            if message is None:
                raise GRPCError(Status.INVALID_ARGUMENT, "the request has no message")
            await stream.send_message(await method(cluster, message))
            code = Status.OK
        except GRPCError as error:
            code = error.status
            raise
        except FleetwakeError as error:
            code = Status.UNAVAILABLE
            raise GRPCError(code, str(error)) from error
        finally:
            self._metrics.requests.labels(name, code.name).inc()
            self._metrics.seconds.labels(name).observe(time.perf_counter() - began)

    def _asker(self, stream: Stream[Any, Any]) -> ClusterKey:
        cluster = cluster_of(stream.peer.cert())
        if cluster is None:
            raise GRPCError(Status.PERMISSION_DENIED, "the client certificate names no cluster: issue one with `fleetwake autoscaler certificate`")
        lacking = self._groups.lacking(cluster)
        if lacking:
            raise GRPCError(Status.UNAVAILABLE, lacking)
        if not self._groups.exists(cluster):
            raise GRPCError(Status.NOT_FOUND, f"there is no Cluster {cluster}")
        return cluster

    def _group(self, cluster: ClusterKey, text: str) -> tuple[ObjectKey, Observed, Bounds]:
        key = key_of_id(text)
        found = self._groups.read(cluster, key) if key is not None else None
        bounds = served(found) if found is not None else None
        if key is None or found is None or bounds is None:
            # another cluster's group is no more there than one that does not exist
            raise GRPCError(Status.NOT_FOUND, f"{text} is no node group of {cluster}")
        return key, found, bounds

    # ---- what there is ----------------------------------------------------------------------------------------------------------------
    async def NodeGroups(self, stream: Stream[Any, Any]) -> None:
        """All groups that are served."""
        await self._serve(stream, "NodeGroups", self._node_groups)

    async def _node_groups(self, cluster: ClusterKey, message: Any) -> Any:
        return pb.NodeGroupsResponse(nodeGroups=[_described(found, bounds) for found, bounds in self._groups.of_cluster(cluster)])

    async def NodeGroupForNode(self, stream: Stream[Any, Any]) -> None:
        """The group of a Node; an empty one where cluster-autoscaler is to leave the Node alone."""
        await self._serve(stream, "NodeGroupForNode", self._node_group_for_node)

    async def _node_group_for_node(self, cluster: ClusterKey, message: Any) -> Any:
        machine = self._groups.machine(cluster, message.node.providerID, message.node.name)
        key = self._groups.of_machine(machine) if machine is not None else None
        found = self._groups.read(cluster, key) if key is not None else None
        bounds = served(found) if found is not None else None
        described = _described(found, bounds) if found is not None and bounds is not None else pb.NodeGroup()
        return pb.NodeGroupForNodeResponse(nodeGroup=described)

    async def NodeGroupTargetSize(self, stream: Stream[Any, Any]) -> None:
        """``spec.replicas``."""
        await self._serve(stream, "NodeGroupTargetSize", self._target_size)

    async def _target_size(self, cluster: ClusterKey, message: Any) -> Any:
        _, found, _ = self._group(cluster, message.id)
        return pb.NodeGroupTargetSizeResponse(targetSize=found.obj.spec.replicas or 0)

    async def NodeGroupNodes(self, stream: Stream[Any, Any]) -> None:
        """The hosts, those included that are no Nodes yet."""
        await self._serve(stream, "NodeGroupNodes", self._nodes)

    async def _nodes(self, cluster: ClusterKey, message: Any) -> Any:
        _, found, _ = self._group(cluster, message.id)
        answer = pb.NodeGroupNodesResponse()
        for one in instances(found):
            added = answer.instances.add(id=one.id)
            added.status.instanceState = STATES[one.state]
            if one.error:
                added.status.errorInfo.errorCode, added.status.errorInfo.errorMessage = one.error, one.message
                added.status.errorInfo.instanceErrorClass = OTHER_ERROR_CLASS
        return answer

    async def NodeGroupTemplateNodeInfo(self, stream: Stream[Any, Any]) -> None:
        """The Node that one more host would be."""
        await self._serve(stream, "NodeGroupTemplateNodeInfo", self._template)

    async def _template(self, cluster: ClusterKey, message: Any) -> Any:
        key, found, _ = self._group(cluster, message.id)
        host = host_template(found)
        if not host.known:
            raise GRPCError(Status.UNIMPLEMENTED, f"nothing tells cpu and memory of a host of {message.id}; its Nodes do")
        return pb.NodeGroupTemplateNodeInfoResponse(nodeBytes=node_bytes(f"{key.name}-template", host, self._clock.now()))

    async def NodeGroupGetOptions(self, stream: Stream[Any, Any]) -> None:
        """The asker's defaults, but for what the group's annotations say; nothing where they say nothing."""
        await self._serve(stream, "NodeGroupGetOptions", self._options)

    async def _options(self, cluster: ClusterKey, message: Any) -> Any:
        _, found, _ = self._group(cluster, message.id)
        own = options(found.obj.metadata.annotations)
        for name in own.unreadable:
            log.warning("%s: option %s cannot be read; the default holds", message.id, name)
        return options_answer(message.defaults, own)

    # ---- what shall be ----------------------------------------------------------------------------------------------------------------
    async def NodeGroupIncreaseSize(self, stream: Stream[Any, Any]) -> None:
        """More hosts."""
        await self._serve(stream, "NodeGroupIncreaseSize", self._increase)

    async def _increase(self, cluster: ClusterKey, message: Any) -> Any:
        await self._ask(cluster, message.id, Wanted(0, "increase", str(cluster), amount=max(message.delta, 0)))
        return pb.NodeGroupIncreaseSizeResponse()

    async def NodeGroupDecreaseTargetSize(self, stream: Stream[Any, Any]) -> None:
        """Fewer hosts to come; those that are Nodes stay."""
        await self._serve(stream, "NodeGroupDecreaseTargetSize", self._decrease)

    async def _decrease(self, cluster: ClusterKey, message: Any) -> Any:
        await self._ask(cluster, message.id, Wanted(0, "decrease", str(cluster), amount=max(-message.delta, 0)))
        return pb.NodeGroupDecreaseTargetSizeResponse()

    async def NodeGroupDeleteNodes(self, stream: Stream[Any, Any]) -> None:
        """These hosts go, and the group shrinks by them."""
        await self._serve(stream, "NodeGroupDeleteNodes", self._delete_nodes)

    async def _delete_nodes(self, cluster: ClusterKey, message: Any) -> Any:
        key, _, _ = self._group(cluster, message.id)
        names = []
        for node in message.nodes:
            machine = self._groups.machine(cluster, node.providerID, node.name)
            if machine is None or self._groups.of_machine(machine) != key:
                raise GRPCError(Status.FAILED_PRECONDITION, f"no Machine of {message.id} stands behind Node {node.name or node.providerID}")
            names.append(machine.name)
        await self._ask(cluster, message.id, Wanted(0, "remove", str(cluster), machines=tuple(names)))
        return pb.NodeGroupDeleteNodesResponse()

    async def _ask(self, cluster: ClusterKey, text: str, wanted: Wanted) -> None:
        began = time.perf_counter()
        key, _, _ = self._group(cluster, text)
        await self._writers.look(key)
        answer = await self._requests.ask(key, wanted, max(ANSWER_SECONDS - (time.perf_counter() - began), 0))
        if answer.code != "OK":
            raise GRPCError(Status[answer.code], answer.message)

    # ---- the rest of the protocol -----------------------------------------------------------------------------------------------------
    async def Refresh(self, stream: Stream[Any, Any]) -> None:
        """Nothing: the cache follows the events by itself."""
        await self._serve(stream, "Refresh", _answering(pb.RefreshResponse))

    async def Cleanup(self, stream: Stream[Any, Any]) -> None:
        """Nothing is kept for an asker."""
        await self._serve(stream, "Cleanup", _answering(pb.CleanupResponse))

    async def GPULabel(self, stream: Stream[Any, Any]) -> None:
        """The label of Nodes with accelerators."""
        await self._serve(stream, "GPULabel", _answering(lambda: pb.GPULabelResponse(label=GPU_LABEL)))

    async def GetAvailableGPUTypes(self, stream: Stream[Any, Any]) -> None:
        """None are known, as with the clusterapi provider."""
        await self._serve(stream, "GetAvailableGPUTypes", _answering(pb.GetAvailableGPUTypesResponse))

    async def PricingNodePrice(self, stream: Stream[Any, Any]) -> None:
        """Prices are nothing that Cluster API knows of."""
        await self._serve(stream, "PricingNodePrice", _unimplemented)

    async def PricingPodPrice(self, stream: Stream[Any, Any]) -> None:
        """Likewise."""
        await self._serve(stream, "PricingPodPrice", _unimplemented)


def _described(found: Observed, bounds: Bounds) -> Any:
    key = found.key
    debug = f"{id_of(key)} (min: {bounds.least}, max: {bounds.most}, replicas: {found.obj.spec.replicas})"
    return pb.NodeGroup(id=id_of(key), minSize=bounds.least, maxSize=bounds.most, debug=debug)


def _answering(make: Callable[[], Any]) -> Method:
    async def answer(cluster: ClusterKey, message: Any) -> Any:
        return make()

    return answer


async def _unimplemented(cluster: ClusterKey, message: Any) -> Any:
    raise GRPCError(Status.UNIMPLEMENTED, "prices are not known")
