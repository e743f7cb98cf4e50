"""No client of Kafka, Redis or the trace backend is made past ``fleetwake.connections``: it could be one without TLS, or with a password of its own."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.source_tree import sources, tree

HOME = "fleetwake/connections/"
KAFKA_CLIENTS = frozenset(
    {"AIOKafkaConsumer", "AIOKafkaProducer", "AIOKafkaClient", "AIOKafkaAdminClient", "KafkaConsumer", "KafkaProducer", "KafkaAdminClient"}
)
OTHERS_ONLY_AT_HOME = frozenset({"OTLPSpanExporter", "from_url", "ConnectionPool", "StrictRedis", "create_conn", "SSLContext", "create_ssl_context"})
ARGUMENTS = frozenset(
    {
        "bootstrap_servers",
        "security_protocol",
        "ssl_context",
        "ssl_cafile",
        "sasl_mechanism",
        "sasl_plain_username",
        "sasl_plain_password",
        "broker_credentials",
    }
)
OF_KUBERNETES = frozenset(
    {
        "fleetwake/kube/etcd.py",
        "fleetwake/sim/etcd.py",
        "services/dev_infrastructure/emulation/serving.py",
        "fleetwake/kube/certificates.py",
        "services/admission/server.py",
    }
)
"""Kubernetes APIs, webhooks and etcd, whose certificates come from Secrets."""
OF_HOSTS = frozenset({"services/reconcilers/bootstrap_data/server.py"})
"""Serves hosts that fetch their bootstrap data, with a certificate from a Secret."""
TLS = frozenset({"SSLContext", "ssl_context"})
PATHS = sources("fleetwake", "schemas", "services", "bench")


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Every call in a file with the last part of what is called."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id if isinstance(node.func, ast.Name) else ""
            yield name, node


def spread(call: ast.Call) -> set[str]:
    """The methods whose result is spread into a call: ``client`` of ``f(**kafka.client())``."""
    return {
        keyword.value.func.attr
        for keyword in call.keywords
        if keyword.arg is None and isinstance(keyword.value, ast.Call) and isinstance(keyword.value.func, ast.Attribute)
    }


def faults(path: Path) -> Iterator[str]:
    """What a file does past the connections."""
    for name, call in calls(path):
        where = f"{path}:{call.lineno}"
        if name in KAFKA_CLIENTS and "client" not in spread(call):
            yield f"{where}: {name} without **kafka.client()"
        if name == "App" and isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) == "faust" and "faust" not in spread(call):
            yield f"{where}: faust.App without **kafka.faust()"
        if str(path).startswith(HOME):
            continue
        allowed = TLS if str(path) in OF_KUBERNETES | OF_HOSTS else frozenset()
        if name in OTHERS_ONLY_AT_HOME - allowed:
            yield f"{where}: {name} belongs into {HOME}"
        if name != "Endpoints" and (given := {str(keyword.arg) for keyword in call.keywords} & (ARGUMENTS - allowed)):
            yield f"{where}: {', '.join(sorted(given))} is said in {HOME} only"


def test_every_client_is_told_by_the_connections() -> None:
    found = [fault for path in PATHS for fault in faults(path)]
    assert not found, "\n".join(found)


def test_libraries_that_connect_are_not_subclassed_elsewhere() -> None:
    """A subclass could bring arguments of its own."""
    found = [
        f"{path}:{node.lineno} {node.name}"
        for path in PATHS
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef)
        and any(ast.unparse(base).rpartition(".")[2] in KAFKA_CLIENTS | {"SSLConnection"} for base in node.bases)
        and not str(path).startswith(HOME)
    ]
    assert not found, "\n".join(found)


def test_there_are_clients_to_look_at() -> None:
    found = [name for path in PATHS for name, _ in calls(path) if name in KAFKA_CLIENTS]
    assert len(found) >= 8 and {"AIOKafkaConsumer", "AIOKafkaProducer", "KafkaConsumer", "KafkaAdminClient"} <= set(found)


@pytest.mark.parametrize(
    "text",
    [
        "KafkaConsumer(bootstrap_servers='x')",
        "aiokafka.AIOKafkaProducer(client_id='x')",
        "faust.App('x', broker='kafka://x')",
        "redis.Redis.from_url('redis://x')",
        "f(sasl_plain_password='x')",
    ],
)
def test_a_client_past_them_would_be_found(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.architecture.test_connections.tree", lambda path: ast.parse(text))
    assert list(faults(Path("fleetwake/somewhere.py")))
