"""The alerts as Prometheus' rule file and as a PrometheusRule for the Prometheus operator, rendered from one source."""

from __future__ import annotations

from typing import Any

import yaml

from deploy.prometheus.alerts import Alert, alerts
from deploy.prometheus.durations import AS_INSTALLED, Durations

HEADER = "# Generated from deploy/prometheus/alerts.py by `make dashboards`. Do not edit.\n"
RUNBOOKS = "docs/runbooks"
"""Where the runbooks are in the source tree; an installation that serves them replaces it by their address."""
GROUP = "fleetwake"

Json = dict[str, Any]


def groups(durations: Durations = AS_INSTALLED) -> list[Json]:
    """The rule groups."""
    return [{"name": GROUP, "rules": [_rule(alert) for alert in alerts(durations)]}]


def rule_file(durations: Durations = AS_INSTALLED) -> str:
    """The text of the rule file."""
    return HEADER + _text({"groups": groups(durations)})


def rendered() -> dict[str, str]:
    """The generated files, relative to the project's root."""
    manifest = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "fleetwake", "labels": {"app.kubernetes.io/name": "fleetwake", "app.kubernetes.io/component": "monitoring"}},
        "spec": {"groups": groups()},
    }
    return {"deploy/prometheus/rules.yaml": rule_file(), "deploy/k8s/monitoring/prometheus-rule.yaml": HEADER + _text(manifest)}


def _rule(alert: Alert) -> Json:
    annotations = {"summary": alert.summary, "description": alert.description, "runbook_url": f"{RUNBOOKS}/{alert.runbook}"}
    return {"alert": alert.alert, "expr": alert.expr, "for": alert.hold, "labels": {"severity": alert.severity}, "annotations": annotations}


def _text(document: Json) -> str:
    return yaml.safe_dump(document, sort_keys=False, width=200, allow_unicode=True)
