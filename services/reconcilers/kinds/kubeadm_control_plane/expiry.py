"""When the certificates of a control plane Machine end: read once from its API server, noted on its KubeadmConfig.

The Machine's controller takes it from there into the Machine's status, where ``rollout.before`` looks.

Source: kinds.md §8.1 step 17, §2 step 5; Cluster API v1.14 (annotation on the KubeadmConfig, only if missing).
"""

from __future__ import annotations

from datetime import datetime, timedelta

from fleetwake import labels
from fleetwake.conditions import is_true, wire_time
from fleetwake.kind import Looked
from fleetwake.patches import MetadataChange, metadata_patch, target
from fleetwake.plan import Look, Step, soonest
from schemas.api.bootstrap.v1beta2 import KubeadmConfig
from services.reconcilers.kinds.kubeadm_control_plane.health import Health
from services.reconcilers.kinds.kubeadm_control_plane.observed import Member, Observed

RETRY = timedelta(minutes=1)


def note_expiry(observed: Observed, health: Health) -> tuple[tuple[Step, ...], timedelta | None]:
    """The looks and notes that are missing, and when to try a failed look again."""
    steps: list[Step] = []
    wait: timedelta | None = None
    for member in observed.living if health.readable else ():
        if not member.node or member.config is None or member.config.annotated(labels.CERTIFICATES_EXPIRY):
            continue
        query = f"certificate/{member.node}{_port(member.config)}"
        looked = observed.workload.looks.get(query)
        expiry = _expiry(looked)
        if expiry is not None:
            steps.extend(_note(member, expiry))
        elif looked is not None and observed.at - looked.at < RETRY:
            wait = soonest(wait, looked.at + RETRY - observed.at)
        elif is_true(health.conditions[member.name], "APIServerPodHealthy"):
            steps.append(Look(observed.cluster_key, query, "when the Machine's certificates end is not known", (member.node,)))
    return tuple(steps), wait


def _port(config: KubeadmConfig) -> str:
    """Where the API server of the Machine listens, as the look takes it; ``""`` for the usual port."""
    spec = config.spec
    join = spec.join_configuration.control_plane
    port = spec.init_configuration.local_api_endpoint.bind_port or (join.local_api_endpoint.bind_port if join is not None else None)
    return f":{port}" if port else ""


def _expiry(looked: Looked | None) -> datetime | None:
    if looked is None or looked.error or not isinstance(looked.value, dict):
        return None
    try:
        return datetime.fromisoformat(str(looked.value.get("notAfter", "")))
    except ValueError:
        return None


def _note(member: Member, expiry: datetime) -> tuple[Step, ...]:
    assert member.config is not None
    step = metadata_patch(target(member.config), MetadataChange(annotations={labels.CERTIFICATES_EXPIRY: wire_time(expiry)}), "the certificates' end is known")
    return (step,) if step is not None else ()
