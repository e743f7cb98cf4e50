"""The external strategy that a MachineDeployment names: which server, how it is asked, what it has answered so far.

The annotation names a handler of an ExtensionConfig, ``<handler>.<ExtensionConfig>``, as Cluster API names the handlers of runtime hooks. A user of a
namespace so picks a strategy; which servers are called, by which certificate authority, is for who may write ExtensionConfigs, which have no namespace.

Source: kinds.md §12 (client configuration, timeout, failure policy); docs/rollouts.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

from fleetwake.kind import View
from schemas import rollout_strategy
from schemas.api.core.v1beta2.machine_deployment import MachineDeployment
from schemas.api.runtime.v1beta2.extension_config import ClientConfig, ExtensionConfig
from schemas.keys import ObjectKey

STRATEGY = "fleetwake.io/upgrade-strategy"
"""Annotation of a MachineDeployment: the strategy that plans its rollouts, ``<handler>.<ExtensionConfig>``."""
TIMEOUT_SETTING, FAILURE_POLICY_SETTING = "timeoutSeconds", "failurePolicy"
"""Settings of the ExtensionConfig that hold as long as no discovery has told them of the handler."""
TIMEOUT_SECONDS, TIMEOUT_SECONDS_MAX = 10, 30
NAMESPACE_NAME = "kubernetes.io/metadata.name"
"""The one label that every namespace has: the only one that is known without reading namespaces."""
ANSWERS = "rollout-strategies"
"""What ``view.local`` calls the answers."""

_NAME = re.compile(r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?)\.([a-z0-9]([-a-z0-9.]*[a-z0-9])?)$")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of the last call: the body of an answer, or why there is none. ``failures`` counts calls in a row that brought none."""

    digest: str
    at: datetime
    body: Any = None
    error: str = ""
    failures: int = 0


@dataclass(frozen=True, slots=True)
class Told:
    """What is known of a MachineDeployment's strategy: the last answer, and the digest of the question under way."""

    answer: Answer | None = None
    asking: str = ""


Answers: TypeAlias = Callable[[ObjectKey], Told]


@dataclass(frozen=True, slots=True)
class Extension:
    """A strategy that can be asked, or (``problem``, with its ``reason``) why it cannot."""

    name: str
    url: str = ""
    ca_bundle: str = ""
    timeout_seconds: int = TIMEOUT_SECONDS
    ignores_failures: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)
    told: Told = Told()
    reason: str = ""
    problem: str = ""


def extension(view: View, deployment: MachineDeployment) -> Extension | None:
    """The external strategy of a MachineDeployment, None when it names none."""
    name = deployment.metadata.annotations.get(STRATEGY, "")
    if not name:
        return None
    match = _NAME.match(name)
    if match is None:
        return Extension(name, reason="InvalidName", problem=f"annotation {STRATEGY} must be <handler>.<ExtensionConfig>, it is {name!r}")
    handler, config_name = match[1], match[3]
    config = view.get(ExtensionConfig, "", config_name)
    if config is None or config.metadata.deleting:
        return Extension(name, reason="StrategyNotFound", problem=f"ExtensionConfig {config_name} does not exist")
    refused = _refuses(config, deployment.namespace)
    if refused:
        return Extension(name, reason="NamespaceNotSelected", problem=f"ExtensionConfig {config_name} {refused}")
    answers: Answers | None = view.local(ANSWERS)
    key = ObjectKey(deployment.GROUP, deployment.KIND, deployment.namespace, deployment.name)
    timeout, ignores = _handling(config, name)
    return Extension(
        name,
        url=f"{_base(config.spec.client_config)}{rollout_strategy.PATH}/{handler}",
        ca_bundle=config.spec.client_config.ca_bundle or "",
        timeout_seconds=timeout,
        ignores_failures=ignores,
        settings=config.spec.settings,
        told=answers(key) if answers is not None else Told(),
    )


def config_of(strategy: str) -> str:
    """The name of the ExtensionConfig in a strategy's name, ``""`` for a malformed one."""
    match = _NAME.match(strategy)
    return match[3] if match is not None else ""


def _refuses(config: ExtensionConfig, namespace: str) -> str:
    """Why the ExtensionConfig does not serve a namespace; a selector that cannot be judged serves none."""
    selector = config.spec.namespace_selector
    if selector is None or selector.empty:
        return ""
    others = {*selector.match_labels, *(one.key for one in selector.match_expressions)} - {NAMESPACE_NAME}
    if others:
        return f"selects namespaces by {', '.join(sorted(others))}; for upgrade strategies only {NAMESPACE_NAME} is known"
    return "" if selector.matches({NAMESPACE_NAME: namespace}) else f"does not select namespace {namespace}"


def _base(client: ClientConfig) -> str:
    if client.url:
        return client.url.rstrip("/")
    service = client.service
    if service is None:
        return ""
    path = (service.path or "").strip("/")
    return f"https://{service.name}.{service.namespace}.svc:{service.port or 443}" + (f"/{path}" if path else "")


def _handling(config: ExtensionConfig, name: str) -> tuple[int, bool]:
    """The longest time of a call, and whether one that fails is ignored: as discovered, else as the settings say."""
    found = next((one for one in config.status.handlers if one.name == name and one.request_hook.hook == rollout_strategy.HOOK), None)
    timeout, policy = config.spec.settings.get(TIMEOUT_SETTING, ""), config.spec.settings.get(FAILURE_POLICY_SETTING, "")
    seconds = int(timeout) if timeout.isdecimal() and int(timeout) else TIMEOUT_SECONDS
    if found is not None:
        seconds, policy = found.timeout_seconds or TIMEOUT_SECONDS, found.failure_policy or "Fail"
    return min(seconds, TIMEOUT_SECONDS_MAX), policy == "Ignore"
