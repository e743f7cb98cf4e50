"""The two webhook configurations: what the API server asks about, and what it does when nobody answers. Pure.

An update is asked about only when it could break a rule: writes of status and scale never (they are other resources; ``replicas`` is the definition's own
rule), of labels, finalizers and owners alone never, of an object that is going never. So a fleet whose admission is down goes on reporting, and ends.
Source: contracts.md §11; Kubernetes "Dynamic Admission Control" (matchConditions, 1.30 and later).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from services.admission.catalog import MUTATING, VALIDATING
from services.admission.rules.rule import Admission

API_VERSION = "admissionregistration.k8s.io/v1"
MUTATING_KIND, VALIDATING_KIND = "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"
TIMEOUT_SECONDS: Mapping[str, int] = {"Fail": 10, "Ignore": 2}
"""Who is let through anyhow is not made to wait for somebody who hangs."""


@dataclass(frozen=True)
class Address:
    """Where the API server finds the webhooks: a URL, or else the Service, which names the configurations and the CA's Secret as well."""

    service: str
    namespace: str
    url: str = ""
    port: int = 443
    only: str = ""
    """The one namespace whose objects are asked about; empty: all."""

    @property
    def host(self) -> str:
        """The name that the serving certificate must have."""
        if self.url:
            return urlsplit(self.url).hostname or ""
        return f"{self.service}.{self.namespace}.svc"

    def client_config(self, path: str, ca_bundle: bytes) -> dict[str, Any]:
        """The ``clientConfig`` of one webhook; without a bundle somebody else fills it in."""
        if self.url:
            config: dict[str, Any] = {"url": self.url + path}
        else:
            config = {"service": {"namespace": self.namespace, "name": self.service, "path": path, "port": self.port}}
        return config | ({"caBundle": base64.b64encode(ca_bundle).decode()} if ca_bundle else {})


def configurations(address: Address, ca_bundle: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Both configurations, whole."""
    mutating = [_webhook("default", one, address.client_config(path, ca_bundle), one.default.lacking if one.default else "") for path, one in MUTATING.items()]
    validating = [_webhook("validation", one, address.client_config(path, ca_bundle), one.concerns) for path, one in VALIDATING.items()]
    for webhook in (*mutating, *validating) if address.only else ():
        webhook["namespaceSelector"] = {"matchLabels": {"kubernetes.io/metadata.name": address.only}}
    for webhook in mutating:
        # what another webhook changes afterwards was not seen by these defaults; they are the same when filled in twice
        webhook["reinvocationPolicy"] = "IfNeeded"
    return _configuration(MUTATING_KIND, address, mutating), _configuration(VALIDATING_KIND, address, validating)


def _configuration(kind: str, address: Address, webhooks: list[dict[str, Any]]) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": address.service}, "webhooks": webhooks}


def _webhook(does: str, admission: Admission[Any], client_config: dict[str, Any], needed: str) -> dict[str, Any]:
    model = admission.model
    return {
        "name": f"{does}.{model.KIND.lower()}.{model.GROUP}",
        "clientConfig": client_config,
        "rules": [
            {
                "apiGroups": [model.GROUP],
                "apiVersions": [model.VERSION],
                "operations": ["CREATE", "UPDATE", *(["DELETE"] if does == "validation" and admission.deletion else ())],
                "resources": [model.PLURAL],
                "scope": "Cluster" if model.SCOPE == "Cluster" else "Namespaced",
            }
        ],
        "matchConditions": match_conditions(admission, needed, deletes=does == "validation" and bool(admission.deletion)),
        "matchPolicy": "Equivalent",
        "failurePolicy": admission.policy,
        "sideEffects": "None",
        "timeoutSeconds": TIMEOUT_SECONDS[admission.policy],
        "admissionReviewVersions": ["v1"],
    }


def match_conditions(admission: Admission[Any], needed: str, *, deletes: bool = False) -> list[dict[str, str]]:
    """When the API server asks at all, as CEL; ``needed`` is the kind's own condition. ``deletes``: also about deletes, which come without an object."""
    changed = ["request.operation == 'CREATE'", "has(object.spec) != has(oldObject.spec)", "has(object.spec) && object.spec != oldObject.spec"]
    for annotation in admission.annotations:
        new, old = (
            f"(has({where}.metadata.annotations) && '{annotation}' in {where}.metadata.annotations ? {where}.metadata.annotations['{annotation}'] : '')"
            for where in ("object", "oldObject")
        )
        changed.append(f"{new} != {old}")
    conditions = [("stays", "!has(object.metadata.deletionTimestamp)"), ("changes", " || ".join(f"({one})" for one in changed))]
    if needed:
        conditions.append(("concerns", needed))
    always = "request.operation == 'DELETE' || " if deletes else ""
    return [{"name": name, "expression": f"{always}({expression})" if always else expression} for name, expression in conditions]
