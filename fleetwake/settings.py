"""All settings of all services, each with its environment variable: ``FLEETWAKE_<FIELD IN CAPITALS>``.

One model, so that one page documents everything and a misspelt variable is an error instead of a silent default. Other variables with the
prefix are left alone: Kubernetes itself sets some (``FLEETWAKE_ADMISSION_SERVICE_HOST``).
"""

from __future__ import annotations

import difflib
import os
import socket
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fleetwake.errors import TerminalError
from schemas.topics import PARTITIONS_DEFAULT, Topics

ENV_PREFIX = "FLEETWAKE_"
LIKENESS_OF_A_MISSPELLING = 0.85


class SettingsError(TerminalError):
    """A setting is unknown or has no meaning; the message names the variable."""


class Settings(BaseModel):
    """What an operator may choose."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kubeconfig: str = ""
    """Kubeconfig file of the management API server; empty: KUBECONFIG, ~/.kube/config, or the pod's service account."""
    kafka_bootstrap: str = "127.0.0.1:9092"
    """Bootstrap servers of Kafka, comma separated."""
    redis_url: str = "redis://127.0.0.1:6379/0"
    """Redis for the fleet at a glance and causes of writes."""
    web_bind: str = "0.0.0.0"
    """Address that /healthz, /readyz and /metrics listen on."""
    web_port: int = Field(default=8080, ge=0, le=65535)
    """Port of the same; 0 picks a free one."""
    instance: str = Field(default_factory=socket.gethostname)
    """Name of this process among its likes: static Kafka membership, Lease holder. Unique and stable over restarts."""
    topic_prefix: str = Field(default="capi", min_length=1)
    """First part of every topic's name and of consumer groups."""
    partitions: int = Field(default=PARTITIONS_DEFAULT, ge=1, le=1000)
    """Partitions of the clustered topics: the most workers of a service that can share the work. Cannot change later."""
    replication: int = Field(default=-1, ge=-1)
    """Replication factor of topics created; -1: the broker's default."""
    namespace: str = ""
    """Only objects of this namespace; empty: all."""
    watch_filter: str = ""
    """Only objects with this value of the label cluster.x-k8s.io/watch-filter, their own or their Cluster's; empty: all."""
    system_namespace: str = "fleetwake-system"
    """Namespace of our own Lease and Secrets."""
    otlp_endpoint: str = ""
    """OTLP/HTTP endpoint for traces; empty: no export."""
    log_level: str = Field(default="INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$")
    """Least severe level that is logged."""
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
    """Last port for emulated API servers: the range bounds how many clusters there can be."""
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

    @property
    def topics(self) -> Topics:
        """The topics under the prefix."""
        return Topics(self.topic_prefix)

    @classmethod
    def from_env(cls, environment: Mapping[str, str] | None = None, **overrides: object) -> Settings:
        """Read the environment; ``overrides`` that are not None win (command line flags).

        Raises:
            SettingsError: a variable is misspelt or its value is refused.
        """
        environment = os.environ if environment is None else environment
        given: dict[str, object] = {}
        for name, value in environment.items():
            field = name.removeprefix(ENV_PREFIX).lower() if name.startswith(ENV_PREFIX) else ""
            if field in cls.model_fields:
                given[field] = value
            elif meant := difflib.get_close_matches(field, cls.model_fields, n=1, cutoff=LIKENESS_OF_A_MISSPELLING):
                raise SettingsError(f"{name} is no setting; did you mean {ENV_PREFIX}{meant[0].upper()}?", operation="settings")
        given.update({name: value for name, value in overrides.items() if value is not None})
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            found = "; ".join(f"{ENV_PREFIX}{str(part['loc'][0]).upper()}: {part['msg']}" for part in error.errors())
            raise SettingsError(found, operation="settings") from error
