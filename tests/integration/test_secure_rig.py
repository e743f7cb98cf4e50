"""Kafka and Redis with TLS, users and ACLs: every service does its whole work there, whoever is not known is told which setting to look at, secrets rotate.

One rig of its own, because nothing of it can be had by reconfiguring a plain one.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import TopicAuthorizationFailedError
from kafka.admin import KafkaAdminClient

from fleetwake.connections.files import TlsFiles
from fleetwake.connections.kafka import Kafka
from fleetwake.connections.kafka_refusal import refusal
from fleetwake.connections.redis import Redis
from fleetwake.errors import UnavailableError
from fleetwake.kube.pki import KeyPair, generate_key, self_signed_ca
from fleetwake.rig import Rig
from fleetwake.rig.kafka_users import password_of
from fleetwake.rig.security import ADMIN, BROKER, IDENTITIES, redis_user, signed, write
from fleetwake.rig.services import client_env, fleetwake_command
from fleetwake.settings import Settings
from fleetwake.stream.bus import Bus
from fleetwake.stream.topics import TopicAdmin
from fleetwake.views.connection import ViewError
from fleetwake.views.fleet import read_fleet
from fleetwake.views.results import read_results
from schemas.access import ACCESS, Access, access_of
from schemas.topics import Topics

pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.apiserver, pytest.mark.redis]
TOPICS = Topics()
EXAMPLE = Path(__file__).parents[2] / "examples" / "small.yaml"
LIMIT_S = 90
STATE_VARIABLE = "FLEETWAKE_SECURE_STATE"
NOW = datetime.now(UTC)
IMPLYING_DESCRIBE = {"Read", "Write"}
"""Source: Kafka 4, AclAuthorizer semantics of StandardAuthorizer: Read, Write, Delete and Alter imply Describe."""


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """All services on servers that let nobody in unknown; a running rig is used, and left running, when the environment names its folder."""
    running = os.environ.get(STATE_VARIABLE)
    found = Rig(Path(running)) if running else Rig.up(tmp_path_factory.mktemp("secure"), workers=1, secure=True, bound_to=os.getpid())
    try:
        yield found
    finally:
        if not running:
            found.down()


@pytest.fixture
def stranger(tmp_path: Path) -> tuple[str, str, str]:
    """CA, certificate and key of another house, for the name of one of ours."""
    ca = self_signed_ca("another", generate_key("ECDSA-P256"), now=NOW)
    pair = signed(ca, "fleetwake-watcher", ("client",), NOW)
    paths = [tmp_path / name for name in ("ca.crt", "tls.crt", "tls.key")]
    for path, content in zip(paths, (ca.cert_pem, pair.cert_pem, pair.key_pem), strict=True):
        write(path, content)
    return str(paths[0]), str(paths[1]), str(paths[2])


def kubectl(rig: Rig, *arguments: str, stdin: str | None = None) -> str:
    endpoints = rig.endpoints()
    command = [endpoints.kubectl, "--kubeconfig", endpoints.kubeconfig, *arguments]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=LIMIT_S + 10, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def fleetwake(rig: Rig, *arguments: str) -> str:
    """Run a command as a user does, who knows the rig's folder and nothing else."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FLEETWAKE_")}
    command = [fleetwake_command(), *arguments, "--state", str(rig.state_dir)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def available(rig: Rig, name: str) -> None:
    """Apply a cluster of one and three, and wait until it is Available."""
    kubectl(rig, "apply", "-f", "-", stdin=re.sub(r"\bsmall\b", name, EXAMPLE.read_text()))
    kubectl(rig, "wait", "--for=condition=Available", f"cluster/{name}", f"--timeout={LIMIT_S}s")


def until(true: Callable[[], bool], what: str, limit_s: float = 30.0) -> None:
    """Wait for what another process does."""
    end = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < end, f"not within {limit_s} s: {what}"
        time.sleep(0.05)


def redis_of(rig: Rig, identity: str) -> Redis:
    return Settings.from_env(rig.endpoints().variables(identity)).redis


# ---- everything works ---------------------------------------------------------------------------------------------------------------------
def test_a_cluster_becomes_available_and_every_view_shows_it(rig: Rig, tmp_path: Path) -> None:
    available(rig, "small")
    assert "small" in fleetwake(rig, "describe", "--fleet")
    assert "Cluster/small" in fleetwake(rig, "trace", "cluster/small")
    assert "Cluster/small" in fleetwake(rig, "audit", "cluster/small")
    assert "no fault" in fleetwake(rig, "audit", "verify")
    assert "records written" in fleetwake(rig, "audit", "trail", "--until-end", "--database", f"sqlite:///{tmp_path / 'trail.db'}")
    assert "1 Cluster on" in fleetwake(rig, "readmodel", "rebuild")


def test_what_is_secret_is_readable_by_the_user_alone(rig: Rig) -> None:
    secrets = [path for path in rig.security.folder.rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in secrets} == {0o600}
    assert {path.name for path in secrets} >= {"password", "tls.key", "ca.key", "keystore.pem", "users.acl"}
    passwords = [rig.security.password(access.service).read_text() for access in IDENTITIES]
    assert len(set(passwords)) == len(passwords)
    told = (rig.state_dir / "rig.json").read_text() + "".join(path.read_text(errors="replace") for path in (rig.state_dir / "logs").iterdir())
    assert not [password for password in passwords if password in told]
    assert not [password for password in passwords if password in rig.security.redis_users.read_text()]


def test_the_status_says_what_a_client_needs(rig: Rig) -> None:
    status = rig.status()
    assert status is not None and status.ready
    assert status.clients.keys() == {access.service for access in IDENTITIES}
    ways = {name: Settings.from_env(variables).kafka.protocol for name, variables in status.clients.items()}
    assert (ways["watcher"], ways["reconcilers"], ways["dev_infrastructure"], ways["views"]) == ("SSL", "SSL", "SASL_SSL", "SASL_SSL")
    shown = fleetwake(rig, "dev", "env", "views")
    assert "export FLEETWAKE_KAFKA_USERNAME=fleetwake-views" in shown and "FLEETWAKE_REDIS_URL=rediss://" in shown


# ---- who is not known is refused ----------------------------------------------------------------------------------------------------------
def refused_kafka(case: str, rig: Rig, stranger: tuple[str, str, str], folder: Path) -> Kafka:
    """A way to reach Kafka that is wrong in one thing."""
    by_certificate, by_password = rig.kafka("reconcilers"), rig.kafka("dev_infrastructure")
    tls, wrong = by_certificate.tls, folder / "password"
    wrong.write_text("not the password")
    port = by_certificate.addresses[0].rpartition(":")[2]
    return {
        "wrong password": replace(by_password, password_file=str(wrong)),
        "unknown user": replace(by_password, username="nobody"),
        "another mechanism": replace(by_password, mechanism="PLAIN"),
        "untrusted CA": replace(by_certificate, tls=replace(tls, ca_file=stranger[0])),
        "untrusted CA, password": replace(by_password, tls=replace(by_password.tls, ca_file=stranger[0])),
        "certificate of another CA": replace(by_certificate, tls=replace(tls, certificate_file=stranger[1], key_file=stranger[2])),
        "no certificate": replace(by_certificate, tls=TlsFiles(tls.variables, tls.ca_file)),
        "wrong host name": replace(by_certificate, bootstrap=f"localhost:{port}"),
        "no TLS": Kafka(by_certificate.bootstrap),
        "no user name": replace(by_certificate, bootstrap=by_password.bootstrap),
        "a user name where none is wanted": replace(by_password, bootstrap=by_certificate.bootstrap, tls=tls),
    }[case]


REFUSED = {
    "wrong password": "refuses user fleetwake-dev-infrastructure .* correct FLEETWAKE_KAFKA_USERNAME and FLEETWAKE_KAFKA_PASSWORD_FILE",
    "unknown user": "refuses user nobody .* correct FLEETWAKE_KAFKA_USERNAME",
    "another mechanism": "does not offer what FLEETWAKE_KAFKA_SASL_MECHANISM says",
    "untrusted CA": "not signed by the CA in FLEETWAKE_KAFKA_CA_FILE",
    "untrusted CA, password": "not signed by the CA in FLEETWAKE_KAFKA_CA_FILE",
    "certificate of another CA": "refuses the client certificate in FLEETWAKE_KAFKA_CERTIFICATE_FILE",
    "no certificate": "asks for a client certificate .* set FLEETWAKE_KAFKA_CERTIFICATE_FILE and FLEETWAKE_KAFKA_KEY_FILE",
    "wrong host name": "for another name .* into FLEETWAKE_KAFKA_BOOTSTRAP",
    "no TLS": "FLEETWAKE_KAFKA_SECURITY_PROTOCOL is PLAINTEXT",
    "no user name": "FLEETWAKE_KAFKA_SECURITY_PROTOCOL is SSL",
    "a user name where none is wanted": "FLEETWAKE_KAFKA_SECURITY_PROTOCOL is SASL_SSL",
}


@pytest.mark.parametrize("case", REFUSED)
async def test_kafka_refuses_and_the_error_names_the_setting(rig: Rig, stranger: tuple[str, str, str], tmp_path: Path, case: str) -> None:
    """Through every library: aiokafka in the services, kafka-python in the admin step and in the views."""
    kafka = refused_kafka(case, rig, stranger, tmp_path)
    with pytest.raises(UnavailableError, match=REFUSED[case]):
        await Bus(kafka, "stranger").start()
    with pytest.raises(UnavailableError, match=REFUSED[case]):
        await asyncio.to_thread(TopicAdmin, kafka)
    with pytest.raises(ViewError, match=REFUSED[case]):
        await asyncio.to_thread(read_results, kafka, TOPICS.results)


@pytest.mark.parametrize("command", ["reconcile", "watch"])
def test_a_service_that_is_refused_ends_and_says_why(rig: Rig, tmp_path: Path, command: str) -> None:
    wrong = tmp_path / "password"
    wrong.write_text("not the password")
    endpoints = rig.endpoints()
    account = {"reconcile": "reconcilers", "watch": "watcher"}[command]
    env = {**os.environ, **client_env(endpoints, "dev_infrastructure", account), "FLEETWAKE_KAFKA_PASSWORD_FILE": str(wrong)}
    env |= {"FLEETWAKE_WEB_PORT": "0", "FLEETWAKE_INSTANCE": "refused", "FLEETWAKE_TOPIC_PREFIX": "refused"}
    done = subprocess.run([fleetwake_command(), command], env=env, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode != 0
    assert "correct FLEETWAKE_KAFKA_USERNAME and FLEETWAKE_KAFKA_PASSWORD_FILE" in done.stderr
    assert "not the password" not in done.stderr


@pytest.mark.parametrize(
    ("case", "told"),
    [
        ("wrong password", "refuses user fleetwake-views .* correct FLEETWAKE_REDIS_USERNAME and FLEETWAKE_REDIS_PASSWORD_FILE"),
        ("nobody", "refuses user default"),
        ("untrusted CA", "not signed by the CA in FLEETWAKE_REDIS_CA_FILE"),
        ("certificate of another CA", "client certificate.* FLEETWAKE_REDIS_CERTIFICATE_FILE"),
        ("no certificate", "client certificate.* FLEETWAKE_REDIS_CERTIFICATE_FILE"),
        ("wrong host name", "for another name .* into FLEETWAKE_REDIS_URL"),
        ("no TLS", "FLEETWAKE_REDIS_URL"),
        ("of no right", "refuses the command to user fleetwake-lag|refuses user fleetwake-lag"),
    ],
)
async def test_redis_refuses_and_the_error_names_the_setting(rig: Rig, stranger: tuple[str, str, str], tmp_path: Path, case: str, told: str) -> None:
    good, wrong = redis_of(rig, "views"), tmp_path / "password"
    wrong.write_text("not the password")
    bad = {
        "wrong password": replace(good, password_file=str(wrong)),
        "nobody": replace(good, username="", password_file=""),
        "untrusted CA": replace(good, tls=replace(good.tls, ca_file=stranger[0])),
        "certificate of another CA": replace(good, tls=replace(good.tls, certificate_file=stranger[1], key_file=stranger[2])),
        "no certificate": replace(good, tls=TlsFiles(good.tls.variables, good.tls.ca_file)),
        "wrong host name": replace(good, url=good.url.replace("127.0.0.1", "localhost")),
        "no TLS": Redis(good.url.replace("rediss://", "redis://")),
        "of no right": redis_of(rig, "lag"),
    }[case]
    with pytest.raises(ViewError, match=told):
        await asyncio.to_thread(read_fleet, bad)
    client = bad.async_client(2.0)
    try:
        with pytest.raises(Exception) as caught:
            await client.smembers("fleetwake:clusters")
        assert re.search(told, bad.told(caught.value))
    finally:
        await client.aclose()


# ---- nobody may do more -------------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("access", ACCESS, ids=lambda access: access.service)
def test_the_broker_allows_each_identity_what_the_table_says_and_no_more(rig: Rig, access: Access) -> None:
    admin = KafkaAdminClient(**rig.kafka(access.service).client())
    try:
        names = [TOPICS.objects, TOPICS.shared, TOPICS.results, TOPICS.deadletter]
        described = admin.describe_topics(names)
    finally:
        admin.close()
    found = {entry["name"]: {_camel(name) for name in entry["authorized_operations"]} for entry in described if entry["error_code"] == 0}
    wanted = {}
    for rule in access.rules(TOPICS.prefix):
        if rule.resource == "topic":
            implied = {"Describe"} if IMPLYING_DESCRIBE.intersection(rule.operations) else set()
            wanted[rule.name] = set(rule.operations) | implied
    assert found == wanted


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


@pytest.mark.parametrize("service", ["dev_infrastructure", "remediation", "reconcilers", "autoscaler_bridge", "audit"])
async def test_nobody_but_those_who_see_them_can_write_objects(rig: Rig, service: str) -> None:
    async with AIOKafkaProducer(**rig.kafka(service).client(), enable_idempotence=service != "audit") as producer:
        for topic in (TOPICS.shared,) if service == "reconcilers" else (TOPICS.objects, TOPICS.shared):
            with pytest.raises(TopicAuthorizationFailedError):
                await producer.send_and_wait(topic, b"{}", key=b"cluster.x-k8s.io/Cluster/default/forged", partition=0)


async def test_what_is_not_allowed_is_told(rig: Rig) -> None:
    bus = Bus(rig.kafka("dev_infrastructure"), "forger")
    await bus.start()
    try:
        with pytest.raises(UnavailableError, match=rf"fleetwake-dev-infrastructure may not .*{re.escape(TOPICS.objects)}.*fleetwake topics access"):
            await bus.produce(TOPICS.objects, b"k", b"{}", [], 0)
    finally:
        await bus.stop()


# ---- rotation -----------------------------------------------------------------------------------------------------------------------------
async def may_write(arguments: dict[str, object], topic: str) -> bool:
    """Whether a client that is made with these arguments can begin to write a topic: whether it sees it at all."""
    async with AIOKafkaProducer(**arguments) as producer:
        try:
            await producer.partitions_for(topic)
        except TopicAuthorizationFailedError:
            return False
        return True


async def test_a_rotated_client_certificate_is_who_the_next_connection_is(rig: Rig, tmp_path: Path) -> None:
    security, kafka = rig.security, rig.kafka("admission")
    certificate, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    for path, source in ((certificate, security.certificate("admission")), (key, security.key("admission"))):
        write(path, source.read_bytes())
    arguments = replace(kafka, tls=replace(kafka.tls, certificate_file=str(certificate), key_file=str(key))).client()
    assert not await may_write(arguments, TOPICS.objects)
    ca = KeyPair(security.ca.read_bytes(), security.ca_key.read_bytes())
    renewed = signed(ca, access_of("watcher").user, ("client",), NOW)
    write(certificate, renewed.cert_pem)
    write(key, renewed.key_pem)
    assert await may_write(arguments, TOPICS.objects)


async def test_a_rotated_scram_password_is_used_by_the_next_connection(rig: Rig, tmp_path: Path) -> None:
    """By aiokafka and by kafka-python, with the very arguments that a client was made with before."""
    access, path = access_of("lag"), tmp_path / "password"
    await asyncio.to_thread(_set_password, rig, access.user, "the first one")
    write(path, b"the first one")
    arguments = replace(rig.kafka("views"), username=access.user, password_file=str(path)).client()
    old = replace(rig.kafka("views"), username=access.user, password_file=str(path))
    await asyncio.to_thread(until, lambda: not refusal(old), "the broker knows the first password")
    assert await may_write(arguments, TOPICS.objects)
    await asyncio.to_thread(_set_password, rig, access.user, "the next one")
    await asyncio.to_thread(until, lambda: "refuses user" in refusal(old), "the old password is refused")
    write(path, b"the next one")
    assert await may_write(arguments, TOPICS.objects)
    admin = await asyncio.to_thread(lambda: KafkaAdminClient(**arguments))
    assert TOPICS.objects in await asyncio.to_thread(admin.list_topics)
    await asyncio.to_thread(admin.close)
    await asyncio.to_thread(_set_password, rig, access.user, rig.security.password(access.service).read_text())


def _set_password(rig: Rig, user: str, password: str) -> None:
    admin = KafkaAdminClient(**rig.kafka().client())
    try:
        assert admin.alter_user_scram_credentials([password_of(user, password)]) == {user: None}
    finally:
        admin.close()


def test_services_go_on_without_redis_and_come_back_with_a_rotated_password(rig: Rig) -> None:
    """Redis' password changes; until the mounted file does, the reconcilers are refused: clusters do not care, views say stale."""
    access, password = access_of("reconcilers"), rig.security.password("reconcilers")
    before = password.read_text()
    with redis_of(rig, ADMIN.service).client(5.0) as admin:
        _, user, _, hashed, *rules = redis_user(access.user, "another", access.redis_rules()).split()
        admin.execute_command("ACL", "SETUSER", user, "reset", "on", hashed, *rules)
        admin.execute_command("CLIENT", "KILL", "USER", user)
        available(rig, "unseen")
        # what is some seconds old and still not there is stale
        until(lambda: "stale since" in (shown := fleetwake(rig, "describe", "--fleet")) and "unseen" not in shown, "the view says that it is behind")
        write(password, b"another")
        until(lambda: "stale since" not in (shown := fleetwake(rig, "describe", "--fleet")) and "unseen" in shown, "the view has caught up")
        log = (rig.state_dir / "logs" / "reconcilers-0.log").read_text()
        assert "FLEETWAKE_REDIS_PASSWORD_FILE" in log and before not in log and "another" not in re.findall(r'"message": ?"([^"]*)"', log)


def test_the_brokers_certificate_is_for_this_address_alone(rig: Rig) -> None:
    """What the test of the wrong host name rests on."""
    from cryptography import x509

    found = x509.load_pem_x509_certificate(rig.security.certificate(BROKER).read_bytes())
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == ["127.0.0.1"]
