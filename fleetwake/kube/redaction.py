"""The key that redaction hashes are made with: one Secret for the whole installation, created by the watcher when absent."""

from __future__ import annotations

import asyncio
import base64
import secrets

import orjson

from fleetwake.errors import AlreadyExistsError, DecodeError, NotFoundError
from fleetwake.kube.client import ApiClient, raise_for, resource_path

REDACTION_SECRET = "fleetwake-redaction"
KEY_FIELD = "key"
KEY_BYTES = 32
AWAIT_SECONDS_MAX = 60.0
AWAIT_POLL_SECONDS = 0.2


async def redaction_key(client: ApiClient, namespace: str, *, create: bool = False) -> bytes:
    """Read the key; with ``create`` also make the Secret (and its namespace) when absent.

    Raises:
        NotFoundError: there is none and ``create`` was not asked.
        DecodeError: the Secret is there but holds no key.
    """
    path = resource_path("v1", "secrets", namespace, REDACTION_SECRET)
    answer = await client.request("GET", path)
    if answer.status == 404 and create:
        await _create(client, namespace)
        answer = await client.request("GET", path)
    raise_for(answer, f"get Secret {namespace}/{REDACTION_SECRET}")
    key = base64.b64decode((answer.json().get("data") or {}).get(KEY_FIELD, ""))
    if len(key) < KEY_BYTES:
        raise DecodeError(f"Secret {namespace}/{REDACTION_SECRET} has no field {KEY_FIELD!r} of {KEY_BYTES} bytes; delete it to have a new one made")
    return key


async def awaited_redaction_key(client: ApiClient, namespace: str) -> bytes:
    """Read the key, and wait for it while the watcher, started at the same moment, has not made it yet.

    Raises:
        NotFoundError: there is none after ``AWAIT_SECONDS_MAX``: no watcher runs.
        DecodeError: the Secret is there but holds no key.
    """
    end = asyncio.get_running_loop().time() + AWAIT_SECONDS_MAX
    while True:
        try:
            return await redaction_key(client, namespace)
        except NotFoundError:
            if asyncio.get_running_loop().time() > end:
                raise
        await asyncio.sleep(AWAIT_POLL_SECONDS)


async def _create(client: ApiClient, namespace: str) -> None:
    await ensure_namespace(client, namespace)
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": REDACTION_SECRET, "namespace": namespace},
        "data": {KEY_FIELD: base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()},
    }
    answer = await client.request("POST", resource_path("v1", "secrets", namespace), body=orjson.dumps(body))
    try:
        raise_for(answer, f"create Secret {namespace}/{REDACTION_SECRET}")
    except AlreadyExistsError:  # the other watcher was first: its key counts
        return


async def ensure_namespace(client: ApiClient, namespace: str) -> None:
    """Create the namespace if it is absent."""
    answer = await client.request("GET", resource_path("v1", "namespaces", "", namespace))
    if answer.status != 404:
        raise_for(answer, f"get Namespace {namespace}")
        return
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    answer = await client.request("POST", resource_path("v1", "namespaces"), body=orjson.dumps(body))
    if answer.status != 409:
        raise_for(answer, f"create Namespace {namespace}")
