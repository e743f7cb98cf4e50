"""What the kinds of this service see of the emulation: frozen values, offered as ``view.local("clusters")`` by ``<namespace>/<name>`` of the Cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from schemas.api.meta import Frozen

LOCAL = "clusters"
VM, NODE, ETCD, API_SERVER = "vm", "node", "etcd", "apiServer"
"""The stages of a machine's start, in order; the last two are a control plane's."""


class Faults(Frozen):
    """What a host, or a cluster, is told to suffer (``services.dev_infrastructure.kinds.faults``). Empty texts, False and 0 are nothing."""

    fail_bootstrap: str = ""
    node_not_ready: str = ""
    api_server_down: bool = False
    etcd_alarm: str = ""
    slow_seconds: float = 0.0
    partition: bool = False


NO_FAULTS = Faults()


@dataclass(frozen=True, slots=True)
class MachineState:
    """An emulated machine. ``done`` says when each stage was reached; ``failure`` why its bootstrap went no further with the data ``failed_data``.

    ``failed_at`` is set for a failure that may pass by itself: a later attempt can succeed with the same data. ``faults`` are those it suffers.
    """

    requested: datetime
    done: Mapping[str, datetime] = field(default_factory=dict)
    failure: str = ""
    failed_data: str = ""
    failed_at: datetime | None = None
    faults: Faults = NO_FAULTS


@dataclass(frozen=True, slots=True)
class ClusterState:
    """An emulated cluster: its reserved endpoint (``port`` 0: none, ``failure`` says why) and its machines by the uid of their DevMachine.

    ``balancer`` is the kind of load balancer at the endpoint ("": none), ``balancer_failure`` why it does not run.
    """

    uid: str
    host: str
    port: int
    failure: str = ""
    machines: Mapping[str, MachineState] = field(default_factory=dict)
    faults: Faults = NO_FAULTS
    balancer: str = ""
    balancer_failure: str = ""


class ClusterArguments(Frozen):
    """Arguments of the action ``ensure_cluster``. ``cluster`` is the Cluster's key; ``host`` and ``port`` an endpoint already promised, ``balancer`` the kind
    of load balancer at it ("": none)."""

    cluster: str
    name: str
    uid: str
    host: str = ""
    port: int = 0
    balancer: str = ""
    faults: Faults = NO_FAULTS


class MachineArguments(Frozen):
    """Arguments of the action ``ensure_machine``: the stages to reach now. ``again``: it ran before and what ran was lost, so nothing is joined anew.

    ``data`` names the bootstrap data (a hash), so that a failure is not repeated with the same data. ``windows`` tells what the host runs.
    """

    cluster: str
    name: str
    uid: str
    stages: tuple[str, ...]
    machine: str
    control_plane: bool
    version: str
    provider_id: str
    address: str
    zone: str
    secret: str
    data: str
    again: bool = False
    windows: bool = False
    faults: Faults = NO_FAULTS
