"""The answer to a question for a group's options.

cluster-autoscaler takes an answer with options as the whole of them: those that the protocol has no field for are 0 then, among them (since 1.35) the time
that a Node may take to start. Nodes that have just come up would count as broken, and a few of them end all scaling. So a group that says nothing for itself
is answered without options, and cluster-autoscaler's own hold.

Source: kubernetes/autoscaler 1.31 to 1.36, externalgrpc's node group (no options: its own), clusterstate (Nodes that are not ready).
"""

from __future__ import annotations

from typing import Any

from google.protobuf.duration_pb2 import Duration

from services.autoscaler_bridge.externalgrpc_pb import externalgrpc_pb2 as pb
from services.autoscaler_bridge.kinds.options import Options


def options_answer(defaults: Any, own: Options) -> Any:
    """The asker's defaults (``NodeGroupAutoscalingOptions``), but for what a group says for itself; without options where it says nothing."""
    if not own.said:
        return pb.NodeGroupAutoscalingOptionsResponse()
    answer = pb.NodeGroupAutoscalingOptions()
    answer.CopyFrom(defaults)
    if own.utilization is not None:
        answer.scaleDownUtilizationThreshold = own.utilization
    if own.gpu_utilization is not None:
        answer.scaleDownGpuUtilizationThreshold = own.gpu_utilization
    durations = (
        ("scaleDownUnneededDuration", own.unneeded),
        ("scaleDownUnreadyDuration", own.unready),
        ("MaxNodeProvisionDuration", own.provision),
    )
    for name, value in durations:
        if value is not None:
            duration = Duration()
            duration.FromTimedelta(value)
            getattr(answer, name).CopyFrom(duration)
    return pb.NodeGroupAutoscalingOptionsResponse(nodeGroupAutoscalingOptions=answer)
