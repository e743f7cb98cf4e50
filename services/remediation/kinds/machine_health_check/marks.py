"""What is written on Machines: whether they are healthy, and who is to remediate those that are not.

HealthCheckSucceeded is this controller's alone. OwnerRemediated and ExternallyRemediated are only begun here, under a field manager of their own: whoever
remediates goes on from there, and a later verdict must neither repeat nor take away what they say.

Source: kinds.md §5 steps 5 and 6, §0.2 (conditions by type); Cluster API v1.14 MachineHealthCheck (reasons and messages).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from fleetwake.cloning import Clone, clone
from fleetwake.conditions import FALSE, ConditionValue, get, is_true, merge
from fleetwake.failing import explained
from fleetwake.patches import STATUS, api_version_of, key_of, owner_reference, owner_wire
from fleetwake.plan import Apply, Create, Delete, Event, Step, Together
from schemas.api.core.v1beta2.machine import Machine
from schemas.keys import ObjectKey
from services.remediation.kinds.machine_health_check.observed import Observed, request_kind, targeted
from services.remediation.kinds.machine_health_check.targets import Verdict, judge

MANAGER = "capi-machinehealthcheck"
HAND_OVER_MANAGER = "capi-machinehealthcheck-remediation"
OWNER_REMEDIATED, EXTERNALLY_REMEDIATED = "OwnerRemediated", "ExternallyRemediated"
WAITING = "WaitingForRemediation"
TEMPLATE_NOT_FOUND, CREATION_FAILED = "RemediationTemplateNotFound", "RemediationRequestCreationFailed"
MARKED_UNHEALTHY = "MachineMarkedUnhealthy"


def marks(observed: Observed, verdicts: Sequence[Verdict], *, allowed: bool) -> tuple[Step, ...]:
    """The writes on Machines that the verdicts ask for; ``allowed``: those that are unhealthy may be remediated."""
    branches = tuple(tuple(_of_machine(observed, verdict, allowed=allowed)) for verdict in verdicts)
    found = tuple(branch for branch in branches if branch)
    return (Together(found, reason=f"health of the Machines of MachineHealthCheck {observed.check.name}"),) if found else ()


def _of_machine(observed: Observed, verdict: Verdict, *, allowed: bool) -> Iterator[Step]:
    machine, value = verdict.machine, _agreed(observed, verdict)
    if value is None:
        return
    told = _told(observed, machine, value)
    if told is not None:
        yield told
    if verdict.unhealthy and allowed:
        yield from _hand_over(observed, machine)
    elif verdict.healthy:
        yield from _withdraw(observed, machine)
    if told is not None and verdict.unhealthy:
        check = observed.check
        text = f"Machine {machine.namespace}/{machine.name} has been marked as unhealthy by {check.namespace}/{check.name}"
        yield Event(key_of(machine), api_version_of(machine), machine.metadata.uid, MARKED_UNHEALTHY, text)


def _agreed(observed: Observed, verdict: Verdict) -> ConditionValue | None:
    """What the Machine is told: of several checks that target it the first, by name, that finds it unhealthy; else what this one finds.

    All of them come to the same, or they would overwrite each other for ever.
    """
    found = {observed.check.name: verdict.value}
    for other in observed.others:
        if targeted(other, verdict.machine.metadata.labels, verdict.machine.metadata.annotations):
            found[other.name] = judge(replace(observed, check=other), verdict.machine).value
    bad = (value for _, value in sorted(found.items()) if value is not None and value.status == FALSE)
    return next(bad, verdict.value)


def _told(observed: Observed, machine: Machine, value: ConditionValue) -> Apply | None:
    """The write of HealthCheckSucceeded, None when it says so already. A first True changes nothing for anybody."""
    stored = get(machine.status.conditions, value.type)
    if stored is not None and (stored.status, stored.reason, stored.message) == (value.status, value.reason, value.message):
        return None
    reason = value.message.replace("\n  *", "") or "the Machine is healthy"
    informs = stored.status == value.status if stored is not None else value.status != FALSE
    return _apply(observed, machine, value, MANAGER, f"MachineHealthCheck {observed.check.name}: {reason}", informs=informs)


def _apply(observed: Observed, machine: Machine, value: ConditionValue, manager: str, reason: str, *, informs: bool = False) -> Apply:
    return Apply(
        key=key_of(machine),
        api_version=api_version_of(machine),
        uid=machine.metadata.uid,
        body={STATUS: {"conditions": merge(machine.status.conditions, (value,), machine.metadata.generation, observed.at)}},
        reason=reason,
        manager=manager,
        subresource=STATUS,
        informs=informs,
    )


def _hand_over(observed: Observed, machine: Machine) -> Iterator[Step]:
    """Ask for the remediation: of the owner, or of whoever answers the requests that are made from the template."""
    if observed.check.spec.remediation.template_ref is not None:
        yield from _request(observed, machine)
        return
    stored = get(machine.status.conditions, OWNER_REMEDIATED)
    if not machine.metadata.deleting and (stored is None or stored.status != FALSE):
        value = ConditionValue(OWNER_REMEDIATED, FALSE, WAITING, "Waiting for remediation")
        yield _apply(observed, machine, value, HAND_OVER_MANAGER, f"MachineHealthCheck {observed.check.name} asks the Machine's owner to remediate it")


def request_key(observed: Observed, machine: Machine) -> ObjectKey | None:
    """The key of a Machine's external remediation request: it is called as the Machine."""
    kind = request_kind(observed.check, observed.template)
    return ObjectKey(kind.group, kind.kind, machine.namespace, machine.name) if kind is not None else None


def _request(observed: Observed, machine: Machine) -> Iterator[Step]:
    stored = get(machine.status.conditions, EXTERNALLY_REMEDIATED)
    waiting = ConditionValue(EXTERNALLY_REMEDIATED, FALSE, WAITING)
    if machine.name in observed.requests:
        if stored is None or stored.reason in (TEMPLATE_NOT_FOUND, CREATION_FAILED):
            yield _apply(observed, machine, waiting, HAND_OVER_MANAGER, "the external remediation was requested")
        return
    refused = _refused(observed, machine)
    if refused is not None:
        if stored is None or (stored.reason, stored.message) != (refused.reason, refused.message):
            yield _apply(observed, machine, refused, HAND_OVER_MANAGER, "the external remediation cannot be requested")
        return
    template = observed.template
    assert template is not None  # else it was refused
    wanted = Clone(machine.name, machine.spec.cluster_name, owners=(owner_wire(owner_reference(machine)),))
    yield Create(clone(template, wanted), f"MachineHealthCheck {observed.check.name} asks for the external remediation of an unhealthy Machine")
    if is_true(machine.status.conditions, EXTERNALLY_REMEDIATED):
        # what was remediated once is unhealthy again
        yield _apply(observed, machine, waiting, HAND_OVER_MANAGER, "the external remediation was requested")


def _refused(observed: Observed, machine: Machine) -> ConditionValue | None:
    """Why no request can be made; None when it can."""
    ref, failure = observed.check.spec.remediation.template_ref, observed.failure
    if observed.template is None and ref is not None:
        text = f"Error retrieving remediation template {ref.kind} {machine.namespace}/{ref.name}"
        remedy = f"create it or correct spec.remediation.templateRef of MachineHealthCheck {observed.check.name}"
        if not observed.template_readable:
            remedy = f"no CustomResourceDefinition of {ref.kind}.{ref.group} carries a label of a supported contract: install or label it"
        return ConditionValue(EXTERNALLY_REMEDIATED, FALSE, TEMPLATE_NOT_FOUND, f"{text}: {remedy}")
    if failure is not None and failure.operation == f"create {request_key(observed, machine)}":
        return ConditionValue(EXTERNALLY_REMEDIATED, FALSE, CREATION_FAILED, explained(failure))
    return None


def _withdraw(observed: Observed, machine: Machine) -> Iterator[Step]:
    """A Machine that is healthy needs no request any more."""
    request = observed.requests.get(machine.name)
    if request is not None and not request.metadata.deleting:
        yield Delete(request.key, request.api_version, request.metadata.uid, "the Machine is healthy again")
