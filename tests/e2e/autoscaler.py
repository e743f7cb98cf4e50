"""A client that asks the bridge what cluster-autoscaler's externalgrpc provider asks, with a certificate from the command that issues them."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from grpclib.client import Channel

from fleetwake.rig.services import client_env, fleetwake_command
from services.autoscaler_bridge.externalgrpc_pb import externalgrpc_pb2 as pb
from services.autoscaler_bridge.externalgrpc_pb.externalgrpc_grpc import CloudProviderStub
from tests.e2e.fleet import Fleet

BRIDGE = "autoscaler_bridge-0"
COMMAND_LIMIT_S = 60
CALL_LIMIT_S = 10.0
LOOPS_LIMIT_S = 10.0


def certificates(fleet: Fleet, cluster: str, folder: Path) -> Path:
    """Have the certificate of a cluster's autoscaler issued, as an operator would; returns its folder."""
    state = fleet.rig.state()
    assert state is not None
    command = [fleetwake_command(), "autoscaler", "certificate", cluster, "--out", str(folder)]
    command += ["--address", f"127.0.0.1:{state.process(BRIDGE).ports['grpc']}"]
    env = {"PATH": "/usr/bin:/bin", **client_env(fleet.rig.endpoints(), "topics")}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=COMMAND_LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@dataclass(frozen=True)
class Autoscaler:
    """A client as its ``--cloud-config`` says; the methods are those of the provider, in its order of a loop."""

    folder: Path

    @property
    def _config(self) -> dict[str, str]:
        return dict(yaml.safe_load((self.folder / "cloud-config.yaml").read_text()))

    def call(self, method: str, message: Any) -> Any:
        """One call on a connection of its own. Raises: GRPCError, OSError, ssl.SSLError."""
        return asyncio.run(self._call(method, message))

    async def _call(self, method: str, message: Any) -> Any:
        config = self._config
        context = ssl.create_default_context(cafile=config["cacert"])
        if config.get("cert"):
            context.load_cert_chain(config["cert"], config["key"])
        context.set_alpn_protocols(["h2"])
        host, _, port = config["address"].rpartition(":")
        async with Channel(host, int(port), ssl=context) as channel:
            return await getattr(CloudProviderStub(channel), method)(message, timeout=CALL_LIMIT_S)

    def groups(self) -> dict[str, tuple[int, int]]:
        """Refresh, then the bounds of every group by its id."""
        self.call("Refresh", pb.RefreshRequest())
        return {group.id: (group.minSize, group.maxSize) for group in self.call("NodeGroups", pb.NodeGroupsRequest()).nodeGroups}

    def size(self, group: str) -> int:
        """The target size."""
        return int(self.call("NodeGroupTargetSize", pb.NodeGroupTargetSizeRequest(id=group)).targetSize)

    def nodes(self, group: str) -> dict[str, str]:
        """The state of every instance by its id."""
        found = self.call("NodeGroupNodes", pb.NodeGroupNodesRequest(id=group)).instances
        return {one.id: pb.InstanceStatus.InstanceState.Name(one.status.instanceState) for one in found}

    def until(self, what: Callable[[], bool], limit_s: float = LOOPS_LIMIT_S) -> None:
        """Ask again, as a cluster-autoscaler does in its next loop, until it is so: the bridge hears of the world by events of its own."""
        end = time.monotonic() + limit_s
        while not what():
            assert time.monotonic() < end, f"not so after {limit_s} s of asking"
            self.call("Refresh", pb.RefreshRequest())

    def template(self, group: str) -> bytes:
        """The bytes of the Node that one more would be."""
        return bytes(self.call("NodeGroupTemplateNodeInfo", pb.NodeGroupTemplateNodeInfoRequest(id=group)).nodeBytes)

    def group_of(self, provider_id: str, name: str = "") -> str:
        """The id of a Node's group; empty where it has none."""
        node = pb.ExternalGrpcNode(providerID=provider_id, name=name)
        return str(self.call("NodeGroupForNode", pb.NodeGroupForNodeRequest(node=node)).nodeGroup.id)

    def increase(self, group: str, delta: int) -> None:
        """More."""
        self.call("NodeGroupIncreaseSize", pb.NodeGroupIncreaseSizeRequest(id=group, delta=delta))

    def decrease(self, group: str, delta: int) -> None:
        """Fewer that are no Nodes yet; ``delta`` is negative."""
        self.call("NodeGroupDecreaseTargetSize", pb.NodeGroupDecreaseTargetSizeRequest(id=group, delta=delta))

    def delete(self, group: str, provider_ids: Iterable[str]) -> None:
        """These go."""
        nodes = [pb.ExternalGrpcNode(providerID=one) for one in provider_ids]
        self.call("NodeGroupDeleteNodes", pb.NodeGroupDeleteNodesRequest(id=group, nodes=nodes))
