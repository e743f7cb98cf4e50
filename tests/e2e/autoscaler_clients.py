"""The program ``autoscaler-clients`` (rig/tools), which asks with the Go libraries that cluster-autoscaler is built on, as tests call it."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import any_pb2, descriptor_pb2, duration_pb2, timestamp_pb2

from fleetwake.rig.progress import Progress
from fleetwake.rig.tools import tool
from services.autoscaler_bridge.externalgrpc_pb import externalgrpc_pb2

LIMIT_S = 90


class Refused(AssertionError):
    """The program's question failed, with what it said."""


@cache
def _program() -> str:
    return str(tool("autoscaler-clients", Progress()))


def ask(*arguments: str) -> Any:
    """Run the program; its answer. Raises: Refused."""
    done = subprocess.run([_program(), *arguments], capture_output=True, text=True, timeout=LIMIT_S, check=False)
    if done.returncode != 0:
        raise Refused(f"autoscaler-clients {arguments[0]}: {done.stderr}")
    return json.loads(done.stdout)


@dataclass(frozen=True)
class GoBridge:
    """The bridge, asked by grpc-go as a ``--cloud-config`` says; ``folder`` is where its certificate was issued to."""

    folder: Path

    def call(self, method: str, **message: Any) -> dict[str, Any]:
        """One call; fields by their names in JSON. Raises: Refused, with the gRPC status in it."""
        protocol = self.folder / "externalgrpc.descriptors"
        if not protocol.exists():
            files = (any_pb2, duration_pb2, timestamp_pb2, externalgrpc_pb2)
            found = descriptor_pb2.FileDescriptorSet()
            for one in files:
                one.DESCRIPTOR.CopyToProto(found.file.add())
            protocol.write_bytes(found.SerializeToString())
        return dict(ask("call", str(self.folder / "cloud-config.yaml"), str(protocol), method, json.dumps(message)))

    def bounds(self) -> dict[str, tuple[int, int]]:
        """Refresh, then the bounds of every group by its id."""
        self.call("Refresh")
        return {one["id"]: (one.get("minSize", 0), one.get("maxSize", 0)) for one in self.call("NodeGroups").get("nodeGroups", ())}

    def templates(self) -> dict[str, str]:
        """The bytes of the Node that one more would be, as text, by the id of its group."""
        return {group: self.call("NodeGroupTemplateNodeInfo", id=group)["nodeBytes"] for group in self.bounds()}
