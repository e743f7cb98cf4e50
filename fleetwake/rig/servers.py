"""How each server of the rig is run: command, folder, ports, probe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fleetwake.rig.binaries import KubeBinaries, kube_binaries
from fleetwake.rig.kafka import KafkaDistribution, NodePorts, kafka_distribution
from fleetwake.rig.ports import free_ports
from fleetwake.rig.progress import Progress
from fleetwake.rig.records import ApiserverProbe, Endpoints, KafkaProbe, Process, RedisProbe
from fleetwake.rig.security import ADDRESS, ADMIN, Security
from fleetwake.rig.toolchain import find_redis

APISERVER_START_LIMIT_S = 60.0
APISERVER_STOP_LIMIT_S = 5.0
KAFKA_START_LIMIT_S = 90.0
# Combined nodes that stop together wait for a controller that is gone; their data is not needed any more.
KAFKA_STOP_LIMIT_S = 6.0
REDIS_START_LIMIT_S = 15.0
REDIS_STOP_LIMIT_S = 5.0


@dataclass(frozen=True)
class Programs:
    """Everything that has to be on the machine before a rig can start."""

    kube: KubeBinaries
    kafka: KafkaDistribution
    redis_server: Path


def programs(progress: Progress) -> Programs:
    """Find, install or build every program; quick when the cache has them.

    Raises:
        RigError: something is missing that only the user can install; the message says how.
    """
    # those that may ask the user to install something come first, the build of minutes last
    redis_server = find_redis(progress)
    kafka = kafka_distribution(progress)
    return Programs(kube=kube_binaries(progress), kafka=kafka, redis_server=redis_server)


def server_processes(found: Programs, folder: Path, brokers: int, security: Security | None = None) -> tuple[Endpoints, tuple[Process, ...]]:
    """Lay out the servers' folders under ``folder`` and describe their processes, none of them started; with ``security`` they let in only whom they know."""
    ports = free_ports(4 + 3 * brokers)
    apiserver = _apiserver(found, folder, (ports[0], ports[1], ports[2]))
    redis = _redis(found, folder, ports[3], security)
    nodes = {node: NodePorts(*ports[4 + 3 * node : 7 + 3 * node]) for node in range(brokers)}
    kafka = tuple(_broker(found, folder, (node, nodes), security) for node in nodes)
    bootstrap = ",".join(f"{ADDRESS}:{node.client}" for node in nodes.values())
    by_password = ",".join(f"{ADDRESS}:{node.password}" for node in nodes.values())
    redis_url = f"{'rediss' if security is not None else 'redis'}://{ADDRESS}:{ports[3]}/0"
    endpoints = Endpoints(
        kubeconfig=str(folder / "kubeconfig"),
        kubectl=str(found.kube.kubectl),
        bootstrap_servers=bootstrap,
        redis_url=redis_url,
        audit_log=str(folder / "audit.log"),
        clients=security.clients(bootstrap, by_password, redis_url) if security is not None else {},
    )
    return endpoints, (apiserver, *kafka, redis)


def _apiserver(found: Programs, folder: Path, ports: tuple[int, int, int]) -> Process:
    port, etcd, peer = ports
    command = (str(found.kube.apiserver), "--dir", str(folder), "--port", str(port), "--etcd-port", str(etcd), "--peer-port", str(peer))
    return Process(
        name="apiserver",
        role="server",
        cmd=command,
        ports={"api": port, "etcd": etcd, "peer": peer},
        log=_log(folder, "apiserver"),
        probe=ApiserverProbe(folder=str(folder), port=port),
        start_limit_s=APISERVER_START_LIMIT_S,
        stop_limit_s=APISERVER_STOP_LIMIT_S,
    )


def _broker(found: Programs, folder: Path, place: tuple[int, dict[int, NodePorts]], security: Security | None) -> Process:
    node, nodes = place
    name, ports = f"kafka-{node}", nodes[node]
    return Process(
        name=name,
        role="server",
        cmd=found.kafka.lay_out(folder / name, node, nodes, security),
        ports={"client": ports.client, "controller": ports.controller, **({"client-by-password": ports.password} if security is not None else {})},
        log=_log(folder, name),
        probe=KafkaProbe(port=ports.client, tls=security.tls(ADMIN.service) if security is not None else None),
        start_limit_s=KAFKA_START_LIMIT_S,
        stop_limit_s=KAFKA_STOP_LIMIT_S,
    )


def _redis(found: Programs, folder: Path, port: int, security: Security | None) -> Process:
    data = folder / "redis"
    data.mkdir(parents=True, exist_ok=True)
    # nothing is kept on disk: whatever is in Redis can be had again from Kafka, and tests rely on that; a title of its own would be
    # written over the environment, and with it over the mark by which `down` knows its processes
    options = ("--bind", ADDRESS, "--dir", str(data), "--save", "", "--appendonly", "no", "--set-proc-title", "no")
    listening = ("--port", str(port)) if security is None else _redis_security(port, security)
    return Process(
        name="redis",
        role="server",
        cmd=(str(found.redis_server), *options, *listening),
        ports={"redis": port},
        log=_log(folder, "redis"),
        probe=RedisProbe(port=port, tls=security.tls(ADMIN.service) if security is not None else None),
        start_limit_s=REDIS_START_LIMIT_S,
        stop_limit_s=REDIS_STOP_LIMIT_S,
    )


def _redis_security(port: int, security: Security) -> tuple[str, ...]:
    tls = security.tls("redis")
    files = ("--tls-cert-file", tls.certificate_file, "--tls-key-file", tls.key_file, "--tls-ca-cert-file", tls.ca_file)
    return ("--port", "0", "--tls-port", str(port), *files, "--tls-auth-clients", "yes", "--aclfile", str(security.redis_users))


def _log(folder: Path, name: str) -> str:
    return str(folder / "logs" / f"{name}.log")
