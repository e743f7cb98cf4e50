"""All settings of all services, each with its environment variable: ``FLEETWAKE_<FIELD IN CAPITALS>``.

One model, so that one page documents everything (``fleetwake settings``, docs/settings.md) and a misspelt variable is an error instead of a silent default.
Other variables with the prefix are left alone: Kubernetes itself sets some (``FLEETWAKE_ADMISSION_SERVICE_HOST``).

Secrets come from files and from nowhere else: an environment is shown by ``kubectl describe``, /proc and crash reports, and cannot be rotated under a process.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import socket
from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fleetwake.connections.files import TlsFiles
from fleetwake.connections.kafka import Kafka, SaslMechanism, SecurityProtocol
from fleetwake.connections.otlp import Otlp
from fleetwake.connections.redis import Redis
from fleetwake.errors import SettingsError
from schemas.topics import PARTITIONS_DEFAULT, Topics

__all__ = ["ENV_PREFIX", "GROUPS", "Settings", "SettingsError"]

ENV_PREFIX = "FLEETWAKE_"
LIKENESS_OF_A_MISSPELLING = 0.85
WATCHER_LEASE = "fleetwake-watcher"

GROUPS: tuple[tuple[str, str], ...] = (
    ("API server", "kubeconfig"),
    ("Kafka", "kafka_bootstrap"),
    ("Redis", "redis_url"),
    ("Process", "web_bind"),
    ("Topics and groups", "topic_prefix"),
    ("Scope", "namespace"),
    ("Traces and logs", "otlp_endpoint"),
    ("Folders", "config_dir"),
    ("Watcher", "lease_seconds"),
    ("Upkeep", "drift_seconds"),
    ("Development provider", "dev_host"),
    ("Bootstrap data", "bootstrap_data_url"),
    ("Display", "process_title"),
    ("Audit trail", "trail_database"),
    ("Admission", "webhook_bind"),
)
"""Headings of the settings' list, each with the first field below it, in the order of the fields."""


class Settings(BaseModel):
    """What an operator may choose."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, hide_input_in_errors=True)

    kubeconfig: str = ""
    """Kubeconfig file of the management API server; empty: KUBECONFIG, ~/.kube/config, or the pod's service account."""
    kafka_bootstrap: str = Field(default="127.0.0.1:9092", min_length=1)
    """Bootstrap servers of Kafka, comma separated."""
    kafka_security_protocol: SecurityProtocol = "PLAINTEXT"
    """How to speak to Kafka: with TLS (SSL, SASL_SSL) or without; with a user name (SASL_...) or without. SSL with a client certificate says who we are."""
    kafka_sasl_mechanism: SaslMechanism = "SCRAM-SHA-512"
    """How the password is proven, with SASL. PLAIN sends it, so it asks for SASL_SSL."""
    kafka_username: str = ""
    """User name, with SASL."""
    kafka_password_file: str = ""
    """File that holds the password, with SASL. Read again for each connection with SCRAM; with PLAIN at the start only."""
    kafka_ca_file: str = ""
    """File with the CA certificates (PEM) that brokers' certificates must be signed by; empty: the system's. The host name is always checked."""
    kafka_certificate_file: str = ""
    """File with the client certificate (PEM, chain included), for brokers that ask for one. Read again for each connection when it has changed."""
    kafka_key_file: str = ""
    """File with the private key (PEM, not encrypted) of that certificate."""
    redis_url: str = "redis://127.0.0.1:6379/0"
    """Redis for the fleet at a glance and causes of writes; rediss:// for TLS. A user name or password in it is refused. Empty: none."""
    redis_username: str = ""
    """User name for Redis' ACL; empty: Redis' default user."""
    redis_password_file: str = ""
    """File that holds the password for Redis. Read again for each connection."""
    redis_ca_file: str = ""
    """File with the CA certificates (PEM) that Redis' certificate must be signed by, with rediss://; empty: the system's. The host name is always checked."""
    redis_certificate_file: str = ""
    """File with the client certificate (PEM), for a Redis that asks for one. Read again for each connection when it has changed."""
    redis_key_file: str = ""
    """File with the private key (PEM, not encrypted) of that certificate."""
    web_bind: str = "0.0.0.0"
    """Address that /healthz, /readyz and /metrics listen on."""
    web_port: int = Field(default=8080, ge=0, le=65535)
    """Port of the same; 0 picks a free one."""
    instance: str = Field(default_factory=socket.gethostname, json_schema_extra={"default": "the host's name"})
    """Name of this process among its likes: static Kafka membership, Lease holder. Unique and stable over restarts."""
    topic_prefix: str = Field(default="capi", min_length=1)
    """First part of every topic's name and of consumer groups."""
    partitions: int = Field(default=PARTITIONS_DEFAULT, ge=1, le=1000)
    """Partitions of the clustered topics: the most workers of a service that can share the work. Cannot change later."""
    replication: int = Field(default=-1, ge=-1)
    """Replication factor of topics created; -1: the broker's default."""
    session_seconds: int = Field(default=6, ge=6, le=60)
    """How long a silent worker keeps its partitions. Longer than its restart takes, nothing moves when it is restarted; when it is lost, they wait as long."""
    namespace: str = ""
    """Only objects of this namespace; empty: all."""
    watch_filter: str = ""
    """Only objects with this value of the label cluster.x-k8s.io/watch-filter, their own or their Cluster's; empty: all."""
    system_namespace: str = "fleetwake-system"
    """Namespace of our own Lease and Secrets."""
    sync_machine_labels: str = ""
    """Regular expressions, comma separated, of labels that Nodes get from their Machines besides node-role.kubernetes.io and Cluster API's own domains."""
    sync_machine_annotations: str = ""
    """The same for annotations."""
    cluster_topology: bool = False
    """Whether ClusterClasses and Clusters' topologies are reconciled, and judged by admission (Cluster API's feature gate ClusterTopology)."""
    bootstrap_token_ttl_seconds: int = Field(default=900, ge=30, le=86400)
    """How long a bootstrap token lives from its making or last renewal (upstream: --bootstrap-token-ttl). A third of it is how often one is looked at."""
    otlp_endpoint: str = ""
    """OTLP/HTTP endpoint for traces; empty: no export."""
    otlp_headers_file: str = ""
    """File with headers for that endpoint, one `Name: value` a line, such as Authorization. Read again for each request."""
    otlp_ca_file: str = ""
    """File with the CA certificates (PEM) of an https:// endpoint; empty: the system's. The host name is always checked."""
    otlp_certificate_file: str = ""
    """File with the client certificate (PEM), for an endpoint that asks for one. Read again for each connection."""
    otlp_key_file: str = ""
    """File with the private key (PEM, not encrypted) of that certificate."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """Least severe level that is logged."""
    log_dir: str = ""
    """Folder of a second copy of the log lines, <instance>.log, of bounded size, for a collector to read; empty: standard error alone."""
    config_dir: str = ""
    """Folder of the command line's own state and caches; empty: ~/.config/fleetwake."""
    data_dir: str = ""
    """Folder of what a service keeps over restarts (emulated clusters); empty: none is kept."""
    lease_seconds: float = Field(default=5.0, gt=0)
    """How long the watcher's Lease holds without renewal: the longest wait for a takeover after a crash."""
    lease_renew_deadline_seconds: float = Field(default=3.0, gt=0)
    """A leader that could not renew for this long stops producing. Less than lease_seconds."""
    lease_retry_seconds: float = Field(default=1.0, gt=0)
    """Pause between renewals, and between a standby's attempts."""
    drift_seconds: float = Field(default=600.0, gt=0)
    """Pause between two drift checks."""
    dev_host: str = "127.0.0.1"
    """Address that emulated API servers listen on, and the host of their endpoints."""
    dev_port_first: int = Field(default=20000, ge=1, le=65535)
    """First port for emulated API servers; keep the range below the one for outgoing connections."""
    dev_port_last: int = Field(default=30000, ge=1, le=65535)
    """Last port for emulated API servers: the range bounds how many clusters there can be; behind a load balancer each control plane host takes one more."""
    dev_shards: int = Field(default=1, ge=1)
    """How many processes of the development infrastructure provider share the clusters."""
    dev_shard: int = Field(default=0, ge=0)
    """Which of them this one is, from 0."""
    bootstrap_data_url: str = Field(default="", pattern=r"^(https://[^/\s]+)?$")
    """Where hosts reach the service for fetched bootstrap data, as in https://bootstrap.example.com:9443; empty: nothing is served."""
    bootstrap_data_bind: str = "0.0.0.0"
    """Address that the same service listens on."""
    bootstrap_data_port: int = Field(default=9443, ge=0, le=65535)
    """Port of the same; 0 picks a free one."""
    process_title: bool = True
    """Whether the process shows itself under its service's name (ps, top)."""
    trail_database: str = "sqlite:///fleetwake-trail.db"
    """Database of the audit trail: sqlite:///<file> (four slashes for an absolute path) or postgresql://<user>@<host>/<database>."""
    trail_database_password_file: str = ""
    """File with the password of the audit trail's PostgreSQL user; empty: none."""
    trail_partitions: str = Field(default="", pattern=r"^(\d+(-\d+)?(,\d+(-\d+)?)*)?$")
    """Partitions of results that this consumer of the audit trail reads, such as 0-11,20; empty: all. No two of one database may share any."""
    webhook_bind: str = "0.0.0.0"
    """Address that the admission webhooks listen on."""
    webhook_port: int = Field(default=9443, ge=0, le=65535)
    """Port of the same; 0 picks a free one."""
    webhook_url: str = Field(default="", pattern=r"^(https://[^/]+)?$")
    """https://<host>:<port> by which API servers outside the cluster reach the webhooks; empty: by the Service."""
    webhook_service: str = Field(default="fleetwake-admission", min_length=1)
    """Service, in the system namespace, by which the API server reaches the webhooks; also the name of their configurations and of their CA's Secret."""
    webhook_certificate_file: str = ""
    """File with the webhooks' certificate (PEM), which somebody else renews and tells the API server of; empty: one signed by our own CA."""
    webhook_key_file: str = ""
    """File with the private key (PEM, not encrypted) of that certificate. Both are read again when they change."""
    webhook_ca_from: str = Field(default="", pattern=r"^([^/]+/[^/]+)?$")
    """cert-manager's Certificate, namespace/name, whose CA definitions are to believe with older versions; empty: admission tells them of its own."""
    served_versions: str = Field(default="", pattern=r"^(v1beta2|v1beta1|v1alpha4|v1alpha1)?(,(v1beta2|v1beta1|v1alpha4|v1alpha1))*$")
    """API versions served beside v1beta2, comma separated, as in v1beta1,v1alpha4; v1beta2 alone: none, after there were others; empty: there never were."""
    autoscaler_bind: str = "0.0.0.0"
    """Address that the bridge to cluster-autoscaler listens on."""
    autoscaler_port: int = Field(default=9444, ge=0, le=65535)
    """Port of the same; 0 picks a free one."""
    autoscaler_service: str = Field(default="fleetwake-autoscaler-bridge", min_length=1)
    """Secret, in the system namespace, with the CA of the bridge's own certificates; also the Service that cluster-autoscalers reach it by."""
    autoscaler_host: str = ""
    """Host name or address by which cluster-autoscalers reach the bridge, for its own certificate; empty: that of the Service."""
    autoscaler_certificate_file: str = ""
    """File with the bridge's certificate (PEM), which somebody else renews; empty: one signed by our own CA."""
    autoscaler_key_file: str = ""
    """File with the private key (PEM, not encrypted) of that certificate."""
    autoscaler_ca_file: str = ""
    """File with the CA certificates (PEM) that client certificates of cluster-autoscalers must be signed by, where that certificate is somebody else's."""

    @property
    def topics(self) -> Topics:
        """The topics under the prefix."""
        return Topics(self.topic_prefix)

    @property
    def watcher_lease(self) -> str:
        """The Lease that watchers of the same topics and scope compete for; a hash tells other topics and scopes apart."""
        scope = "\0".join((self.topic_prefix, self.namespace, self.watch_filter))
        return WATCHER_LEASE if scope == "capi\0\0" else f"{WATCHER_LEASE}-{hashlib.sha256(scope.encode()).hexdigest()[:8]}"

    @property
    def kafka(self) -> Kafka:
        """How clients reach Kafka."""
        tls = TlsFiles(f"{ENV_PREFIX}KAFKA", self.kafka_ca_file, self.kafka_certificate_file, self.kafka_key_file)
        who = (self.kafka_username, self.kafka_password_file)
        return Kafka(self.kafka_bootstrap, self.kafka_security_protocol, self.kafka_sasl_mechanism, *who, tls)

    @property
    def redis(self) -> Redis:
        """How clients reach Redis."""
        tls = TlsFiles(f"{ENV_PREFIX}REDIS", self.redis_ca_file, self.redis_certificate_file, self.redis_key_file)
        return Redis(self.redis_url, self.redis_username, self.redis_password_file, tls)

    @property
    def otlp(self) -> Otlp:
        """How spans leave."""
        tls = TlsFiles(f"{ENV_PREFIX}OTLP", self.otlp_ca_file, self.otlp_certificate_file, self.otlp_key_file)
        return Otlp(self.otlp_endpoint, self.otlp_headers_file, tls)

    @property
    def webhook_files(self) -> TlsFiles:
        """The webhooks' certificate where somebody else renews it."""
        return TlsFiles(f"{ENV_PREFIX}WEBHOOK", "", self.webhook_certificate_file, self.webhook_key_file)

    @property
    def autoscaler_files(self) -> TlsFiles:
        """The bridge's certificate, and whom it believes, where somebody else renews them."""
        return TlsFiles(f"{ENV_PREFIX}AUTOSCALER", self.autoscaler_ca_file, self.autoscaler_certificate_file, self.autoscaler_key_file)

    @classmethod
    def from_env(cls, environment: Mapping[str, str] | None = None, **overrides: object) -> Settings:
        """Read the environment; ``overrides`` that are not None win (command line flags).

        Raises:
            SettingsError: a variable is misspelt, its value is refused, it contradicts another, or the file it names cannot be used.
        """
        environment = os.environ if environment is None else environment
        given: dict[str, object] = {}
        for name, value in environment.items():
            field = name.removeprefix(ENV_PREFIX).lower() if name.startswith(ENV_PREFIX) else ""
            if field in cls.model_fields:
                given[field] = value
            elif f"{field}_file" in cls.model_fields:
                # its value is never shown
                raise SettingsError(
                    f"{name} is no setting: secrets come from files; write it into a file and set {name}_FILE to its path", operation="settings"
                )
            elif meant := difflib.get_close_matches(field, cls.model_fields, n=1, cutoff=LIKENESS_OF_A_MISSPELLING):
                raise SettingsError(f"{name} is no setting; did you mean {ENV_PREFIX}{meant[0].upper()}?", operation="settings")
        given.update({name: value for name, value in overrides.items() if value is not None})
        try:
            settings = cls.model_validate(given)
        except ValidationError as error:
            found = "; ".join(f"{ENV_PREFIX}{str(part['loc'][0]).upper()}: {part['msg']}" for part in error.errors(include_input=False))
            raise SettingsError(found, operation="settings") from error
        for connection in (settings.kafka, settings.redis, settings.otlp, settings.webhook_files, settings.autoscaler_files):
            connection.check()
        return settings
