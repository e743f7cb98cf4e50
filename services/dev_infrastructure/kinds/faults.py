"""How emulated hosts and clusters are told to fail: annotations, so that anybody who has kubectl can.

On a DevMachine (or its Machine, or in the metadata of the templates of either) they befall one host, on a DevCluster a whole cluster. Taking the annotation
away ends the fault. A value that means nothing counts as the default: a fault must never be misspelt into a healthy host.

Source: workload.md §4 (knobs for chaos); docs/dev-provider.md is made for people from what stands here.
"""

from __future__ import annotations

from collections.abc import Mapping

from schemas.api.infrastructure.v1beta2.dev_machine import InMemoryMachineBackend, Provisioning
from services.dev_infrastructure.kinds.startup import go_duration
from services.dev_infrastructure.kinds.state import API_SERVER, ETCD, NODE, VM, Faults

PREFIX = "dev.fleetwake.io/"
FAIL_BOOTSTRAP = PREFIX + "fail-bootstrap"
"""The host gets no further than the stage named: ``vm``, ``node`` (the default: kubeadm fails, no sentinel is written), ``etcd``, ``apiServer``."""
NODE_NOT_READY = PREFIX + "node-not-ready"
"""The kubelet says that the Node is not Ready; with the value ``Unknown`` it says nothing any more."""
API_SERVER_DOWN = PREFIX + "api-server-down"
"""The host's API server crashes as often as it is started; a cluster without another one is not reachable."""
ETCD_ALARM = PREFIX + "etcd-alarm"
"""The host's etcd member raises an alarm: ``NOSPACE`` (the default) or ``CORRUPT``."""
SLOW = PREFIX + "slow"
"""Each stage of the host's start takes so much longer (a Go duration, ``30s`` by default); on a DevCluster every request is answered so much later."""
PARTITION = PREFIX + "partition"
"""The network to the host is cut: kubelet, etcd and API server are silent; on a DevCluster that to the whole cluster."""

STAGES = (VM, NODE, ETCD, API_SERVER)
ALARMS = ("NOSPACE", "CORRUPT")
SLOW_DEFAULT_SECONDS = 30.0


def faults(*annotations: Mapping[str, str]) -> Faults:
    """The faults that the annotations ask for; of a key that several carry the first counts."""
    found = {key: value for one in reversed(annotations) for key, value in one.items() if key.startswith(PREFIX)}
    return Faults(
        fail_bootstrap=_one_of(found.get(FAIL_BOOTSTRAP), STAGES, NODE),
        node_not_ready=_one_of(found.get(NODE_NOT_READY), ("False", "Unknown"), "False"),
        api_server_down=API_SERVER_DOWN in found,
        etcd_alarm=_one_of(found.get(ETCD_ALARM), ALARMS, ALARMS[0]),
        slow_seconds=_seconds(found.get(SLOW)),
        partition=PARTITION in found,
    )


def _one_of(value: str | None, known: tuple[str, ...], default: str) -> str:
    return "" if value is None else value if value in known else default


def _seconds(value: str | None) -> float:
    if value is None:
        return 0.0
    try:
        return go_duration(value).total_seconds() or SLOW_DEFAULT_SECONDS
    except ValueError:
        return SLOW_DEFAULT_SECONDS


def slowed(backend: InMemoryMachineBackend, seconds: float) -> InMemoryMachineBackend:
    """The backend with every stage of the start so much longer.

    Raises:
        ValueError: a setting is malformed.
    """
    if not seconds:
        return backend
    changed = {}
    for name in ("vm", "node", "etcd", "api_server"):
        part = getattr(backend, name)
        wanted = part.provisioning
        duration = (go_duration(wanted.startup_duration).total_seconds() if wanted is not None else 0.0) + seconds
        provisioning = Provisioning(startup_duration=f"{duration:.3f}s", startup_jitter=wanted.startup_jitter if wanted is not None else None)
        changed[name] = part.model_copy(update={"provisioning": provisioning})
    return backend.model_copy(update=changed)
