"""Keys that all services of an installation share: a Secret each, made by the watcher when absent, awaited by services that start beside it."""

from __future__ import annotations

import asyncio
import base64
import binascii
import secrets
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from fleetwake.errors import AlreadyExistsError, DecodeError, NotFoundError
from fleetwake.kube.client import ApiClient, raise_for, resource_path

KEY_FIELD = "key"
KEY_BYTES = 32
AWAIT_SECONDS_MAX = 60.0
AWAIT_POLL_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class SharedKeys:
    """The key in use, and every key of the Secret by its field: former ones are kept there under other names to read what they made."""

    current: bytes
    all: Mapping[str, bytes]


async def shared_keys(client: ApiClient, namespace: str, name: str, *, create: bool = False) -> SharedKeys:
    """Read the keys; with ``create`` also make the Secret (and its namespace) when absent.

    Raises:
        NotFoundError: there is none and ``create`` was not asked.
        DecodeError: the Secret is there but holds no key.
    """
    path = resource_path("v1", "secrets", namespace, name)
    answer = await client.request("GET", path)
    if answer.status == 404 and create:
        await _create(client, namespace, name)
        answer = await client.request("GET", path)
    raise_for(answer, f"get Secret {namespace}/{name}")
    found: dict[str, bytes] = {}
    for field, text in (answer.json().get("data") or {}).items():
        try:
            found[field] = base64.b64decode(text)
        except binascii.Error:
            continue
    if len(found.get(KEY_FIELD, b"")) < KEY_BYTES:
        raise DecodeError(f"Secret {namespace}/{name} has no field {KEY_FIELD!r} of {KEY_BYTES} bytes; delete it to have a new one made")
    return SharedKeys(found[KEY_FIELD], {field: key for field, key in found.items() if len(key) >= KEY_BYTES})


async def awaited_shared_keys(client: ApiClient, namespace: str, name: str) -> SharedKeys:
    """Read the keys, and wait for them while the watcher, started at the same moment, has not made them yet.

    Raises:
        NotFoundError: there are none after ``AWAIT_SECONDS_MAX``: no watcher runs.
        DecodeError: the Secret is there but holds no key.
    """
    end = asyncio.get_running_loop().time() + AWAIT_SECONDS_MAX
    while True:
        try:
            return await shared_keys(client, namespace, name)
        except NotFoundError:
            if asyncio.get_running_loop().time() > end:
                raise
        await asyncio.sleep(AWAIT_POLL_SECONDS)


async def _create(client: ApiClient, namespace: str, name: str) -> None:
    await ensure_namespace(client, namespace)
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "data": {KEY_FIELD: base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()},
    }
    answer = await client.request("POST", resource_path("v1", "secrets", namespace), body=orjson.dumps(body))
    try:
        raise_for(answer, f"create Secret {namespace}/{name}")
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
