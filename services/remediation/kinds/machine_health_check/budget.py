"""How many Machines may be unhealthy for remediation to go on.

A target that is not known to be healthy counts as unhealthy here, whatever keeps it from being judged: a cluster of which nothing is known is no
cluster to begin deleting in.

Source: kinds.md §5 step 5; Cluster API v1.14 MachineHealthCheck (messages of RemediationAllowed).
"""

from __future__ import annotations

from dataclasses import dataclass

from fleetwake.amount import scaled
from fleetwake.conditions import FALSE, TRUE, UNKNOWN, ConditionValue
from schemas.api.core.v1beta2.shared import RemediationTriggerIf

REMEDIATION_ALLOWED, TOO_MANY_UNHEALTHY = "RemediationAllowed", "TooManyUnhealthy"
INVALID = "InvalidConfiguration"
EVERYTHING = "100%"


@dataclass(frozen=True, slots=True)
class Budget:
    """Whether remediation may go on, how many more Machines may become unhealthy until it may not, and how that is told."""

    allowed: bool
    left: int
    value: ConditionValue


def budget(trigger: RemediationTriggerIf, expected: int, healthy: int, unhealthy: int) -> Budget:
    """Decide for ``expected`` targets of which ``healthy`` are known to be healthy and ``unhealthy`` known not to be."""
    count = expected - healthy
    if trigger.unhealthy_in_range:
        least, most = _range(trigger.unhealthy_in_range)
        if most < least:
            text = f"spec.remediation.triggerIf.unhealthyInRange {trigger.unhealthy_in_range} ends before it begins: correct it"
            return Budget(False, 0, ConditionValue(REMEDIATION_ALLOWED, UNKNOWN, INVALID, text))
        limit = f"does not fall within the range (total: {expected}, unhealthy: {unhealthy}, unhealthyRange: {trigger.unhealthy_in_range})"
        allowed = least <= count <= most
    else:
        wanted = trigger.unhealthy_less_than_or_equal_to
        wanted = EVERYTHING if wanted is None else wanted
        most = scaled(wanted, expected, up=False)
        limit = f"exceeds maxUnhealthy (total: {expected}, unhealthy: {unhealthy}, maxUnhealthy: {wanted})"
        allowed = count <= most
    if allowed:
        return Budget(True, most - count, ConditionValue(REMEDIATION_ALLOWED, TRUE, REMEDIATION_ALLOWED))
    text = f"Remediation is not allowed, the number of not started or unhealthy machines {limit}"
    return Budget(False, 0, ConditionValue(REMEDIATION_ALLOWED, FALSE, TOO_MANY_UNHEALTHY, text))


def _range(text: str) -> tuple[int, int]:
    """The ends of ``[a-b]``; the schema admits nothing else."""
    least, _, most = text.strip("[]").partition("-")
    return int(least), int(most)
