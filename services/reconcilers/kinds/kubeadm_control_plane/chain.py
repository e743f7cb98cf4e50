"""The chain of remediations: which Machine is being replaced (an annotation of the control plane), and which one a Machine replaced (of the Machine).

The control plane's annotation is written before the Machine is deleted, and the Machine made next carries it on; so a retry knows that it is one, and
a crash at any point leaves a remediation that is gone on with.

Source: kinds.md §8.6; Cluster API v1.14 (names of the annotations and of the fields in them).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from fleetwake import labels
from fleetwake.conditions import is_false, is_true, wire_time
from fleetwake.patches import MetadataChange, metadata_patch, target
from fleetwake.plan import Step
from schemas.api.core.v1beta2 import Machine
from services.reconcilers.kinds.kubeadm_control_plane.observed import Member, Observed
from services.reconcilers.kinds.kubeadm_control_plane.up_to_date import outdated
from services.reconcilers.kinds.machine_set.members import HEALTH_CHECK_SUCCEEDED, OWNER_REMEDIATED, to_be_remediated
from services.reconcilers.kinds.machine_set.remediate import forget


@dataclass(frozen=True, slots=True)
class Remediation:
    """One remediation: of which Machine, when (None: nobody knows), and its number in a row of retries."""

    machine: str
    at: datetime | None
    retry_count: int

    def text(self) -> str:
        """As the annotations hold it."""
        return json.dumps(
            {"machine": self.machine, "timestamp": wire_time(self.at) if self.at else None, "retryCount": self.retry_count}, separators=(",", ":")
        )


def parse(text: str | None) -> Remediation | None:
    """What an annotation says; None when there is none, or it is none of ours."""
    if not text:
        return None
    try:
        value: Any = json.loads(text)
        at = datetime.fromisoformat(value["timestamp"]) if value.get("timestamp") else None
        found = Remediation(str(value["machine"]), at, int(value.get("retryCount") or 0))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return found if at is None or at.tzinfo is not None else None


def remediation_for(machine: Machine) -> Remediation | None:
    """Which remediation a Machine was made for."""
    return parse(machine.metadata.annotations.get(labels.REMEDIATION_FOR))


def under_way(observed: Observed) -> Remediation | None:
    """The remediation that has begun and whose replacement is not there yet."""
    return parse(observed.kcp.metadata.annotations.get(labels.REMEDIATION_IN_PROGRESS))


def last(observed: Observed) -> Remediation | None:
    """The remediation under way, else the latest that a Machine tells of."""
    current = under_way(observed)
    if current is not None:
        return current
    known = [found for member in observed.members if (found := remediation_for(member.machine)) is not None and found.at is not None]
    return max(known, key=lambda found: (found.at, found.machine), default=None)


# --- steps -------------------------------------------------------------------------------------------------------------------------------------


def begin(observed: Observed, remediation: Remediation) -> tuple[Step, ...]:
    """Note a remediation before its Machine is deleted."""
    return _annotated(observed, remediation.text(), f"Machine {remediation.machine} is remediated")


def replaced(observed: Observed) -> tuple[Step, ...]:
    """The replacement is made, and tells of its remediation itself."""
    return _annotated(observed, None, "the replacement of the remediated Machine is made")


def clean_up(observed: Observed) -> tuple[Step, ...]:
    """Take away what is left of remediations: verdicts on Machines that are healthy again, and the note of one that has ended."""
    steps = tuple(step for member in observed.living if (step := forget(member.machine)) is not None)
    return (*steps, *(_annotated(observed, None, "the remediation has ended") if _ended(observed) else ()))


def recovered(member: Member) -> bool:
    """Whether a Machine that was handed over is healthy again."""
    conditions = member.machine.status.conditions
    return not member.deleting and is_true(conditions, HEALTH_CHECK_SUCCEEDED) and is_false(conditions, OWNER_REMEDIATED)


def _ended(observed: Observed) -> bool:
    """Whether the note of a remediation is of no use any more: its replacement is there, its Machine recovered, or nothing is missing."""
    noted = observed.kcp.metadata.annotations.get(labels.REMEDIATION_IN_PROGRESS)
    if noted is None:
        return False
    current = parse(noted)
    if current is None or any(remediation_for(member.machine) == current for member in observed.members):
        return True
    member = observed.member(current.machine)
    if member is not None:
        return not member.deleting and not to_be_remediated(member.machine)
    created = (member.machine.metadata.creation_timestamp for member in observed.members)
    newer = any(current.at is not None and one is not None and one > current.at for one in created)
    missing = len(observed.members) < observed.replicas or any(outdated(observed, member) for member in observed.members)
    return newer or not missing


def _annotated(observed: Observed, value: str | None, reason: str) -> tuple[Step, ...]:
    kcp = observed.kcp
    if kcp.metadata.annotations.get(labels.REMEDIATION_IN_PROGRESS) == value:
        return ()
    step = metadata_patch(target(kcp), MetadataChange(annotations={labels.REMEDIATION_IN_PROGRESS: value}), reason)
    return (replace(step, resource_version=kcp.metadata.resource_version),) if step is not None else ()
