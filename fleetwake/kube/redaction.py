"""The key that redaction hashes are made with: one Secret for the whole installation, created by the watcher when absent."""

from __future__ import annotations

from fleetwake.kube.client import ApiClient
from fleetwake.kube.key_secret import awaited_shared_keys, shared_keys

REDACTION_SECRET = "fleetwake-redaction"


async def redaction_key(client: ApiClient, namespace: str, *, create: bool = False) -> bytes:
    """Read the key; with ``create`` also make the Secret (and its namespace) when absent.

    Raises:
        NotFoundError: there is none and ``create`` was not asked.
        DecodeError: the Secret is there but holds no key.
    """
    return (await shared_keys(client, namespace, REDACTION_SECRET, create=create)).current


async def awaited_redaction_key(client: ApiClient, namespace: str) -> bytes:
    """Read the key, and wait for it while the watcher, started at the same moment, has not made it yet.

    Raises:
        NotFoundError: there is none after a minute: no watcher runs.
        DecodeError: the Secret is there but holds no key.
    """
    return (await awaited_shared_keys(client, namespace, REDACTION_SECRET)).current
