"""One rig with all services for this tier, watched by the real Prometheus and the real kube-state-metrics; its traces come to a receiver in this process."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.prometheus.durations import Durations
from deploy.prometheus.rules import rule_file
from fleetwake.rig import Rig
from fleetwake.tracing.receiver import Receiver
from tests.e2e.api import Api
from tests.e2e.fleet import Fleet
from tests.e2e.recorder import Recorder
from tests.observability.prometheus import Alertmanager, Prometheus, Target
from tests.observability.state_metrics import KubeStateMetrics, prepare_account

SHORTENED = 360
"""Half an hour becomes 5 s: the same rules, their durations divided."""
SERVICES = {
    "watcher-0": "watcher",
    "reconcilers-0": "reconcilers",
    "reconcilers-1": "reconcilers",
    "remediation-0": "remediation",
    "admission-0": "admission",
    "autoscaler_bridge-0": "autoscaler_bridge",
    "dev_infrastructure-0": "dev-infrastructure",
}
ENDPOINT = "FLEETWAKE_OTLP_ENDPOINT"


class ClosingReceiver(Receiver):
    """One that, when it stops, also closes the connections that clients keep open: a collector that is gone."""

    def __init__(self) -> None:
        super().__init__()
        self._open: list[socket.socket] = []
        accept = self._server.get_request

        def accepted() -> tuple[socket.socket, object]:
            found, address = accept()
            self._open.append(found)
            return found, address

        self._server.get_request = accepted  # type: ignore[method-assign,assignment]

    def stop(self) -> None:
        """Stop, once."""
        if self._thread.is_alive():
            super().stop()
            for connection in self._open:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


@dataclass
class Watched:
    """The system and those who watch it."""

    fleet: Fleet
    receiver: Receiver
    states: KubeStateMetrics
    prometheus: Prometheus
    alertmanager: Alertmanager

    @property
    def logs(self) -> Path:
        """The folder of the services' logs."""
        return Path(self.fleet.rig.endpoints().audit_log).parent / "logs"


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """Up, scraped once a second, nothing applied yet."""
    folder = tmp_path_factory.mktemp("watched")
    alertmanager, before = Alertmanager(), os.environ.get(ENDPOINT)
    with ClosingReceiver() as receiver:
        # services take their environment from whoever starts them
        os.environ[ENDPOINT] = receiver.endpoint
        rig = Rig.up(folder / "rig", workers=2, bound_to=os.getpid())
        recorder = None
        try:
            api = Api(rig.endpoints().kubeconfig)
            recorder = Recorder(api)
            fleet = Fleet(rig, api, recorder)
            states = KubeStateMetrics(rig, folder / "states", prepare_account(fleet.kubectl))
            rules = rule_file(Durations(SHORTENED))
            prometheus = Prometheus(rig, folder / "prometheus", [*_targets(rig), Target("kube-state-metrics", states.address)], rules, alertmanager)
            yield Watched(fleet, receiver, states, prometheus, alertmanager)
        finally:
            if recorder is not None:
                recorder.stop()
            rig.down()
            alertmanager.close()
            os.environ.pop(ENDPOINT)
            if before is not None:
                os.environ[ENDPOINT] = before


def _targets(rig: Rig) -> list[Target]:
    state = rig.state()
    assert state is not None
    return [Target(service, f"127.0.0.1:{state.process(name).ports['web']}") for name, service in SERVICES.items()]
