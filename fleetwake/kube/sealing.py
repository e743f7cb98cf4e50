"""The key that results are sealed with (``schemas.chain``): a Secret of its own, created by the watcher when absent.

Who can read it can make records that pass for ours: give it to the services that write results and to whoever verifies, to nobody else.
A new key is set in the field ``key``; the former one stays under another name, so that what it sealed can still be verified.
"""

from __future__ import annotations

from collections.abc import Mapping

from fleetwake.kube.client import ApiClient
from fleetwake.kube.key_secret import awaited_shared_keys, shared_keys
from schemas.chain import key_id

SEALING_SECRET = "fleetwake-audit"


async def sealing_key(client: ApiClient, namespace: str, *, create: bool = False) -> bytes:
    """Read the key in use; with ``create`` also make the Secret (and its namespace) when absent.

    Raises:
        NotFoundError: there is none and ``create`` was not asked.
        DecodeError: the Secret is there but holds no key.
    """
    return (await shared_keys(client, namespace, SEALING_SECRET, create=create)).current


async def awaited_sealing_key(client: ApiClient, namespace: str) -> bytes:
    """Read the key in use, and wait for it while the watcher, started at the same moment, has not made it yet.

    Raises:
        NotFoundError: there is none after a minute: no watcher runs, or one of a version that seals nothing.
        DecodeError: the Secret is there but holds no key.
    """
    return (await awaited_shared_keys(client, namespace, SEALING_SECRET)).current


async def verifying_keys(client: ApiClient, namespace: str) -> Mapping[str, bytes]:
    """Every key of the Secret, by its id: the one in use and the former ones.

    Raises:
        NotFoundError: there is no such Secret.
        ForbiddenError: this account may not read it.
    """
    return {key_id(key): key for key in (await shared_keys(client, namespace, SEALING_SECRET)).all.values()}
