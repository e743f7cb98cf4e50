"""Whose bootstrap data is to be made, and the settings of ours in its spec."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fleetwake.plan import SecretInputs
from schemas.keys import ClusterKey, ObjectKey
from schemas.sensitive import redacted
from services.reconcilers.bootstrap.host import Json
from services.reconcilers.kubeadm import secrets
from services.reconcilers.kubeadm.documents import ClusterFacts

OBJECT = "object"
"""The entry of a KubeadmConfig among ``SecretInputs.secrets``: its whole JSON as read live, sensitive values included."""


@dataclass(frozen=True, slots=True)
class FetchPoint:
    """Where hosts fetch what is secret: the service's URL, and the Secret whose ``ca.crt`` vouches for it."""

    url: str
    ca: ObjectKey


@dataclass(frozen=True, slots=True)
class Request:
    """Whose bootstrap data to render. ``spec`` is JSON as observed: sensitive values in it are only hashes (see ``live``).

    ``control_plane_version`` is what file templates see, normalised, ``""`` when not known. ``token_counter`` counts the rotations of the bootstrap token;
    ``own_token``: the token is ours, so it is derived anew and not read from the spec. ``fetch`` is None where this installation has no service to fetch from.
    """

    cluster: ClusterKey
    config: ObjectKey
    config_uid: str
    spec: Json
    facts: ClusterFacts
    control_plane_version: str = ""
    token_counter: int = 0
    own_token: bool = False
    fetch: FetchPoint | None = None

    @property
    def ca(self) -> ObjectKey:
        """The key of the cluster CA's Secret."""
        return secrets.secret_key(self.cluster, secrets.Purpose.CA)

    @property
    def live(self) -> tuple[ObjectKey, ...]:
        """The KubeadmConfig itself, where its spec holds sensitive values (contents, tokens, passwords): the rendering then needs the live object."""
        return (self.config,) if redacted(self.spec) else ()

    def live_spec(self, inputs: SecretInputs) -> Json:
        """The spec as it is on the API server where that was asked for, else as observed."""
        live = inputs.secrets.get(self.config, {}).get(OBJECT)
        if live is None:
            return self.spec
        found: Mapping[str, Any] = json.loads(live)
        return found.get("spec") or {}


def settings(spec: Json) -> Json:
    """``spec.fleetwake``: what Cluster API does not have."""
    return spec.get("fleetwake") or {}


def fetches(spec: Json) -> bool:
    """Whether key material is to be fetched by the host."""
    return bool((settings(spec).get("secretTransport") or {}).get("type") == "Fetch")


def is_windows(spec: Json) -> bool:
    """Whether the host runs Windows."""
    return bool(settings(spec).get("operatingSystem") == "windows")
