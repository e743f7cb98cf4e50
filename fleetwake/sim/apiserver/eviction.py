"""The eviction subresource of pods, with disruption budgets counted as their controller would.

Source: policy/v1 Eviction and PodDisruptionBudget, Kubernetes 1.36; ../domain of drains: 429 with cause DisruptionBudget, 403 in a
terminating namespace, else a graceful delete.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .requests import DeleteOptions, WriteOptions
from .selectors import match_labels
from .status import ApiStatusError, cause, forbidden, too_many_requests
from .store import Entry, Key, Scope

if TYPE_CHECKING:
    from .server import ApiServer

JsonDict = dict[str, Any]
BUDGETS = "poddisruptionbudgets.policy"
_UNGUARDED_PHASES = ("Pending", "Succeeded", "Failed")


def evict(server: ApiServer, namespace: str, name: str, eviction: Mapping[str, Any]) -> JsonDict:
    """Evict a pod if its budget allows it; ``eviction`` is a policy/v1 Eviction.

    Raises: ApiStatusError 404, 429 with cause DisruptionBudget, 403 with cause NamespaceTerminating, 409 on a precondition, 500 when
    several budgets select the pod.
    """
    pod = server.entry(server.definition("pods"), namespace, name)
    options = _delete_options(eviction.get("deleteOptions") or {})
    space = server.store.get(Key("namespaces", "", namespace))
    if space is not None and "deletionTimestamp" in space.obj["metadata"]:
        text = f"unable to create new content in namespace {namespace} because it is being terminated"
        raise forbidden("", "pods", name, text, [cause("NamespaceTerminating", f"namespace {namespace} is being terminated", "metadata.namespace")])
    guarded = pod.obj.get("status", {}).get("phase") not in _UNGUARDED_PHASES and "deletionTimestamp" not in pod.obj["metadata"]
    if guarded:
        _spend_budget(server, pod, dry_run=options.dry_run)
    server.delete("pods", namespace, name, options)
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


def _delete_options(options: Mapping[str, Any]) -> DeleteOptions:
    return DeleteOptions(
        propagation=options.get("propagationPolicy") or "",
        preconditions=options.get("preconditions") or {},
        grace_seconds=options.get("gracePeriodSeconds"),
        dry_run="All" in (options.get("dryRun") or ()),
    )


def _spend_budget(server: ApiServer, pod: Entry, *, dry_run: bool) -> None:
    labels = pod.obj["metadata"].get("labels") or {}
    budgets = [
        entry for entry in server.store.entries(Scope(BUDGETS, pod.key.namespace)) if match_labels(entry.obj.get("spec", {}).get("selector") or {}, labels)
    ]
    if not budgets:
        return
    if len(budgets) > 1:
        raise ApiStatusError(500, "InternalError", "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.")
    budget = budgets[0]
    status = budget_status(server, budget)
    if not _is_ready(pod.obj) and status["currentHealthy"] >= status["desiredHealthy"] > 0:
        return
    if status["disruptionsAllowed"] <= 0:
        text = (
            f"The disruption budget {budget.key.name} needs {status['desiredHealthy']} healthy pods and has {status['currentHealthy']} currently"
            if status["currentHealthy"] <= status["desiredHealthy"]
            else f"The disruption budget {budget.key.name} does not allow evicting pods currently"
        )
        raise too_many_requests("Cannot evict pod as it would violate the pod's disruption budget.", [cause("DisruptionBudget", text)])
    if not dry_run:
        spent = {**budget.obj, "status": {**status, "disruptionsAllowed": status["disruptionsAllowed"] - 1}}
        server.replace(budget, spent, WriteOptions(field_manager="kube-apiserver", subresource="status"))


def budget_status(server: ApiServer, budget: Entry) -> JsonDict:
    """Return the status a disruption controller would write for a budget now."""
    spec = budget.obj.get("spec", {})
    selector = spec.get("selector") or {}
    pods = [
        entry.obj for entry in server.store.entries(Scope("pods", budget.key.namespace)) if match_labels(selector, entry.obj["metadata"].get("labels") or {})
    ]
    expected = len([pod for pod in pods if pod.get("status", {}).get("phase") not in ("Succeeded", "Failed")])
    healthy = len([pod for pod in pods if "deletionTimestamp" not in pod["metadata"] and _is_ready(pod)])
    if spec.get("maxUnavailable") is not None:
        desired = max(0, expected - _amount(spec["maxUnavailable"], expected))
    else:
        desired = _amount(spec.get("minAvailable", 1), expected)
    return {
        "observedGeneration": budget.obj["metadata"].get("generation", 0),
        "currentHealthy": healthy,
        "desiredHealthy": desired,
        "disruptionsAllowed": max(0, healthy - desired),
        "expectedPods": expected,
    }


def _amount(value: Any, total: int) -> int:
    if isinstance(value, str) and value.endswith("%"):
        return math.ceil(int(value[:-1]) * total / 100)
    return int(value)


def _is_ready(pod: Mapping[str, Any]) -> bool:
    return any(c.get("type") == "Ready" and c.get("status") == "True" for c in pod.get("status", {}).get("conditions", ()))
