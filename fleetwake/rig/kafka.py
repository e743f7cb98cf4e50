"""Kafka without containers: the jars from Maven, a class-data archive for a quick start, formatted log folders, a node's properties."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from fleetwake.rig.cache import SOURCES, artifact, digest
from fleetwake.rig.commands import follow
from fleetwake.rig.errors import RigError
from fleetwake.rig.ports import free_ports
from fleetwake.rig.probes import kafka_answers, wait_until
from fleetwake.rig.progress import Progress
from fleetwake.rig.security import ADDRESS, ADMIN, BROKER, Security
from fleetwake.rig.toolchain import find_java, find_maven, java_major

CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qk"
BROKERS_MAX = 3
# Objects reach 1.5 MB and topics allow 4 MiB; the broker's own limit leaves room for a batch around such a record.
MESSAGE_BYTES_MAX = 8 * 1024 * 1024
HEAP_MB = 256
JVM_OPTIONS = ("-XX:+UseSerialGC", "-XX:MaxMetaspaceSize=128m", "-Xss512k", "-Xshare:auto", "-Djava.awt.headless=true", f"-Xms{HEAP_MB}m", f"-Xmx{HEAP_MB}m")
START_LIMIT_S = 60.0
STOP_LIMIT_S = 30.0
LOG_TAIL_CHARS = 2000

PROPERTIES = """\
process.roles=broker,controller
node.id={node}
controller.quorum.voters={voters}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs={logs}
num.partitions=4
default.replication.factor={replicas}
min.insync.replicas={in_sync}
offsets.topic.replication.factor={replicas}
offsets.topic.num.partitions=5
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={in_sync}
transaction.state.log.num.partitions=5
share.coordinator.state.topic.replication.factor={replicas}
share.coordinator.state.topic.min.isr={in_sync}
share.coordinator.state.topic.num.partitions=3
message.max.bytes={message_bytes}
replica.fetch.max.bytes={message_bytes}
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
log.cleaner.dedupe.buffer.size=4194304
log.segment.bytes=67108864
num.network.threads=2
num.io.threads=2
log.cleaner.threads=1
background.threads=2
broker.heartbeat.interval.ms=1000
broker.session.timeout.ms=6000
"""
# Written behind the others, whose values they replace: no listener without TLS, clients known by certificate or password, nothing allowed that no ACL allows.
# Every listener but SASL_SSL asks for a certificate, the controllers' as well.
SECURE_PROPERTIES = """\
listeners=SSL://{address}:{port},SASL_SSL://{address}:{password_port},CONTROLLER://{address}:{controller_port}
advertised.listeners=SSL://{address}:{port},SASL_SSL://{address}:{password_port}
listener.security.protocol.map=CONTROLLER:SSL,SSL:SSL,SASL_SSL:SASL_SSL
inter.broker.listener.name=SSL
ssl.keystore.type=PEM
ssl.keystore.location={keystore}
ssl.truststore.type=PEM
ssl.truststore.location={truststore}
ssl.client.auth=required
ssl.principal.mapping.rules=RULE:^CN=([^,]+).*$/$1/,DEFAULT
listener.name.sasl_ssl.ssl.client.auth=none
listener.name.sasl_ssl.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=false
super.users=User:{admin};User:{broker}
"""


class NodePorts(NamedTuple):
    """The ports of one node: for clients, for controllers, and for clients that authenticate by password (secure rigs)."""

    client: int
    controller: int
    password: int = 0


@dataclass(frozen=True)
class KafkaDistribution:
    """What a broker is started from: the Java command with its options, and one formatted folder per node id."""

    command: tuple[str, ...]
    formatted: Path

    def lay_out(self, folder: Path, node: int, ports: Mapping[int, NodePorts], security: Security | None = None) -> tuple[str, ...]:
        """Write a node's folder (kept if it holds data) and return the command that runs it.

        Args:
            folder: where the node's data and properties live.
            node: the node's id, 0 to 2.
            ports: those of every node of the cluster, by id.
            security: where keys and certificates are, on a secure rig.
        """
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "data" / "meta.properties").exists():
            shutil.copytree(self.formatted / f"node-{node}", folder / "data", dirs_exist_ok=True)
        properties = folder / "server.properties"
        properties.write_text(server_properties(folder / "data", node, ports) + (secure_properties(ports[node], security) if security is not None else ""))
        return (*self.command, "kafka.Kafka", str(properties))


def server_properties(logs: Path, node: int, ports: Mapping[int, NodePorts]) -> str:
    """The properties of one combined broker and controller."""
    replicas = min(len(ports), BROKERS_MAX)
    return PROPERTIES.format(
        node=node,
        voters=",".join(f"{other}@127.0.0.1:{there.controller}" for other, there in sorted(ports.items())),
        port=ports[node].client,
        controller_port=ports[node].controller,
        logs=logs,
        replicas=replicas,
        in_sync=max(1, replicas - 1),
        message_bytes=MESSAGE_BYTES_MAX,
    )


def secure_properties(ports: NodePorts, security: Security) -> str:
    """What makes a node of a secure rig of one of a plain one."""
    return SECURE_PROPERTIES.format(
        address=ADDRESS,
        port=ports.client,
        password_port=ports.password,
        controller_port=ports.controller,
        keystore=security.broker_keystore,
        truststore=security.ca,
        admin=ADMIN.user,
        broker=BROKER,
    )


def kafka_distribution(progress: Progress) -> KafkaDistribution:
    """Kafka's jars and what makes it start quickly, made when the cache has none.

    Raises:
        RigError: Java, Maven or a jar cannot be had, or a jar is not the one pinned in ``rig/kafka/jars.sha256``.
    """
    java = find_java(progress)
    pom, pins = SOURCES / "kafka" / "pom.xml", SOURCES / "kafka" / "jars.sha256"
    logging = SOURCES / "kafka" / "log4j2.properties"
    jars = artifact(f"kafka-{digest(pom, pins, logging)}", lambda folder: _fetch_jars(folder, (pom, pins, logging), progress), progress)
    class_path = ":".join(str(jar) for jar in sorted(jars.glob("*.jar")))
    base = (str(java), *JVM_OPTIONS, f"-Dlog4j2.configurationFile=file:{jars / logging.name}", "-cp", class_path)
    release = java.resolve().parents[1] / "release"
    # an archive fits one build of Java, one class path and one set of options
    name = f"kafka-ready-{digest(str(java_major(java)), release.read_text() if release.exists() else str(java.resolve()), *base, PROPERTIES)}"
    ready = artifact(name, lambda folder: _prepare(folder, base, progress), progress)
    archive = ready / "classes.jsa"
    quicker = (f"-XX:SharedArchiveFile={archive}",) if archive.exists() else ()
    return KafkaDistribution(command=(base[0], *quicker, *base[1:]), formatted=ready)


def _fetch_jars(folder: Path, sources: tuple[Path, Path, Path], progress: Progress) -> None:
    pom, pins, logging = sources
    maven = find_maven(progress)
    progress.step("fetching Kafka's jars")
    project = folder / "pom.xml"
    shutil.copyfile(pom, project)
    shutil.copyfile(logging, folder / logging.name)
    command = [str(maven), "-B", "-f", str(project), "dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={folder}"]
    follow(command, progress, lambda line: line)
    wanted = {name: pinned for pinned, name in (line.split() for line in pins.read_text().splitlines())}
    found = {jar.name: hashlib.sha256(jar.read_bytes()).hexdigest() for jar in folder.glob("*.jar")}
    if found != wanted:
        differing = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
        raise RigError(f"Kafka's jars differ from rig/kafka/jars.sha256: {', '.join(differing)}")
    progress.done(f"{len(found)} jars fetched")


def _prepare(folder: Path, base: tuple[str, ...], progress: Progress) -> None:
    """Format a folder per node id, then run a broker once to record the classes it loads."""
    progress.step("preparing Kafka for quick starts")
    ports = {node: NodePorts(free, controller) for node, (free, controller) in enumerate(zip(free_ports(3), free_ports(3), strict=True))}
    for node in range(BROKERS_MAX):
        properties = folder / "format.properties"
        properties.write_text(server_properties(folder / f"node-{node}", node, ports))
        follow([*base, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(properties)], progress, lambda line: line)
    training = folder / "training"
    shutil.copytree(folder / "node-0", training)
    properties.write_text(server_properties(training, 0, {0: ports[0]}))
    command = [base[0], f"-XX:ArchiveClassesAtExit={folder / 'classes.jsa'}", *base[1:], "kafka.Kafka", str(properties)]
    with (folder / "training.log").open("wb") as log:
        broker = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: broker.poll() is not None or kafka_answers(ports[0].client), START_LIMIT_S, "the Kafka that is run once to prepare quick starts")
        if broker.poll() is not None:
            raise RigError("Kafka ended as it started:\n" + (folder / "training.log").read_text()[-LOG_TAIL_CHARS:])
    finally:
        broker.terminate()
        try:
            broker.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            broker.kill()
            broker.wait()
    shutil.rmtree(training)
    progress.done("Kafka prepared" if (folder / "classes.jsa").exists() else "Kafka prepared, without an archive of its classes: this Java can make none")
