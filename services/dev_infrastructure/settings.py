"""Settings that only the development provider has, beside those of every service."""

from __future__ import annotations

from pydantic import Field

from fleetwake.settings import Settings


class DevSettings(Settings):
    """What an operator may choose about emulated clusters."""

    dev_host: str = "127.0.0.1"
    """Address that emulated API servers listen on, and the host of their endpoints."""
    dev_port_first: int = Field(default=20000, ge=1, le=65535)
    """First port for emulated API servers; keep the range below the one for outgoing connections."""
    dev_port_last: int = Field(default=30000, ge=1, le=65535)
    """Last port for emulated API servers: the range bounds how many clusters there can be."""
    dev_shards: int = Field(default=1, ge=1)
    """How many processes of this service share the clusters."""
    dev_shard: int = Field(default=0, ge=0)
    """Which of them this one is, from 0."""
