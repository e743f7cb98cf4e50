"""How fleetwake's own services are run beside the servers, and what has to be done before they start."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from fleetwake.rig.ports import first_emulated_port, free_ports
from fleetwake.rig.records import Endpoints, HttpProbe, Options, Process
from fleetwake.settings import ENV_PREFIX, Settings

START_LIMIT_S = 90.0
LOCALHOST = "127.0.0.1"
FIRST_PORT = "FLEETWAKE_DEV_PORT_FIRST"
STOP_LIMIT_S = 15.0


@dataclass(frozen=True)
class Service:
    """One service: its folder under ``services/``, the command that runs it, the account it acts under."""

    name: str
    command: str
    account: str


WATCHER = Service("watcher", "watch", "watcher")
RECONCILERS = Service("reconcilers", "reconcile", "reconcilers")
REMEDIATION = Service("remediation", "remediate", "remediation")
ADMISSION = Service("admission", "admit", "admission")
AUTOSCALER_BRIDGE = Service("autoscaler_bridge", "bridge", "autoscaler-bridge")
DEV_INFRASTRUCTURE = Service("dev_infrastructure", "dev-infrastructure", "dev-infrastructure")

# Run once, side by side, before any service starts, under an account of their own as an installation's Job runs them.
PREPARATIONS: tuple[tuple[str, ...], ...] = (("schemas", "apply"), ("topics", "create"), ("secrets", "keys"))
PREPARING = "prepare"
"""Their account at the API server."""
PREPARING_IDENTITY = "topics"
"""Whom they are to Kafka."""


ADMITTING = f"{ADMISSION.name}-0"
VERSIONS_ENV = ("FLEETWAKE_SERVED_VERSIONS", "FLEETWAKE_WEBHOOK_URL")
"""What admission is told of served versions, and whoever applies the definitions too."""


def fleetwake_command() -> str:
    """The ``fleetwake`` command of the virtual environment that this process runs in."""
    return str(Path(sys.executable).parent / "fleetwake")


def client_env(endpoints: Endpoints, identity: str, account: str | None = None) -> dict[str, str]:
    """The environment in which a fleetwake command finds the rig's servers: the API server as ``account``, or as admin; all else as ``identity``."""
    # what the surrounding shell says of another Kafka or Redis, or of another identity, must not be mixed into it
    plain = {ENV_PREFIX + name.upper(): str(field.default) for name, field in Settings.model_fields.items() if name.startswith(("kafka_", "redis_"))}
    return {"FLEETWAKE_KUBECONFIG": f"{endpoints.kubeconfig}-{account}" if account else endpoints.kubeconfig, **plain, **endpoints.variables(identity)}


def service_processes(endpoints: Endpoints, folder: Path, options: Options) -> tuple[Process, ...]:
    """Describe the processes of all services: as many reconcilers as asked for, and one of each other."""
    alone = ((service, 0) for service in (REMEDIATION, ADMISSION, AUTOSCALER_BRIDGE, DEV_INFRASTRUCTURE))
    instances = [(WATCHER, 0), *((RECONCILERS, number) for number in range(options.workers)), *alone]
    handing_out, *ports = free_ports(len(instances) + 1)
    processes = (_process(service, number, port, (endpoints, folder)) for (service, number), port in zip(instances, ports, strict=True))
    return tuple(_admitting(_serving_bootstrap_data(process, handing_out), options) for process in processes)


def _admitting(process: Process, options: Options) -> Process:
    """Admission as it converts between the versions that the rig serves."""
    if process.name != ADMITTING:
        return process
    return process.model_copy(update={"env": {**process.env, "FLEETWAKE_SERVED_VERSIONS": options.served_versions}})


def _serving_bootstrap_data(process: Process, port: int) -> Process:
    """A reconciler that hands out bootstrap data: hosts know one URL, which is the first worker's; others listen where nobody asks."""
    if not process.name.startswith(f"{RECONCILERS.name}-"):
        return process
    own = port if process.name == f"{RECONCILERS.name}-0" else 0
    env = {
        "FLEETWAKE_BOOTSTRAP_DATA_URL": f"https://127.0.0.1:{port}",
        "FLEETWAKE_BOOTSTRAP_DATA_BIND": "127.0.0.1",
        "FLEETWAKE_BOOTSTRAP_DATA_PORT": str(own),
    }
    return process.model_copy(update={"env": {**process.env, **env}})


def _process(service: Service, number: int, port: int, where: tuple[Endpoints, Path]) -> Process:
    endpoints, folder = where
    instance = f"{service.name}-{number}"
    # settings are shared by all, as a mounted ConfigMap would be; what a service keeps on disk is its own
    config, data = folder / "config", folder / "data" / instance
    for needed in (config, data):
        needed.mkdir(parents=True, exist_ok=True)
    env = {
        "FLEETWAKE_WEB_PORT": str(port),
        "FLEETWAKE_INSTANCE": instance,
        "FLEETWAKE_CONFIG_DIR": str(config),
        # all that there is: its rights are applied with the others (fleetwake.rig.access)
        "FLEETWAKE_CLUSTER_TOPOLOGY": "true",
        "FLEETWAKE_DATA_DIR": str(data),
    }
    ports = {"web": port}
    if service is ADMISSION:
        (ports["webhook"],) = free_ports(1)
        env |= {"FLEETWAKE_WEBHOOK_BIND": LOCALHOST, "FLEETWAKE_WEBHOOK_PORT": str(ports["webhook"])}
        # it runs beside the API server, not in a cluster: no Service leads to it
        env["FLEETWAKE_WEBHOOK_URL"] = f"https://{LOCALHOST}:{ports['webhook']}"
    if service is AUTOSCALER_BRIDGE:
        (ports["grpc"],) = free_ports(1)
        env |= {"FLEETWAKE_AUTOSCALER_BIND": LOCALHOST, "FLEETWAKE_AUTOSCALER_PORT": str(ports["grpc"]), "FLEETWAKE_AUTOSCALER_HOST": LOCALHOST}
    if service is DEV_INFRASTRUCTURE and FIRST_PORT not in os.environ:
        env[FIRST_PORT] = str(first_emulated_port())
    return Process(
        name=instance,
        role="service",
        cmd=(fleetwake_command(), service.command),
        env={**client_env(endpoints, service.name, service.account), **env},
        ports=ports,
        log=str(folder / "logs" / f"{instance}.log"),
        probe=HttpProbe(url=f"http://127.0.0.1:{port}/readyz"),
        start_limit_s=START_LIMIT_S,
        stop_limit_s=STOP_LIMIT_S,
    )
