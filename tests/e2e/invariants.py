"""What must hold at every instant of a history, whatever was killed meanwhile.

Sources: Cluster API v1.14 MachineDeployment rolling update (replicas + maxSurge, replicas - maxUnavailable; Machines being deleted do not
count), MachineSet (as many Machines as asked), KubeadmControlPlane (one Machine at a time).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tests.e2e.recorder import Name, Object, Seen, condition, controller
from tests.status_rules import StatusHistory

SURGE_DEFAULT, UNAVAILABLE_DEFAULT = 1, 0
PHASE_IN_FLIGHT_S, PHASE_LATE_S = 5.0, 60.0
"""A phase may be derived from a state that is so old when it is stored; and stand for so long, as when whoever tells it is being restarted."""
DECIDED_S = 10.0
"""A MachineSet that was lowered carries that out within this time: what fails meanwhile was not known to who lowered it."""
IN_FLIGHT_S = 2.0
"""A Machine may still be created for a number of replicas that was lowered this short a time before: the request was on its way."""


@dataclass
class Asked:
    """The numbers of replicas that one object was asked for, newest last, with the times until which older ones held."""

    now: int = 0
    before: list[tuple[int, float]] = field(default_factory=list)

    def change(self, replicas: int, at: float) -> None:
        """Take a new number."""
        if replicas != self.now:
            self.before.append((self.now, at))
            self.now = replicas

    def greatest(self, at: float) -> int:
        """The greatest number that may have been read by a request that arrives at ``at``."""
        return max([self.now, *(replicas for replicas, until in self.before if at - until <= IN_FLIGHT_S)])


class History:
    """Replays the events of one namespace and notes what breaks a rule."""

    def __init__(self, unseen: Sequence[tuple[int, int]] = (), *, statuses: bool = True) -> None:
        self.violations: list[str] = []
        self._unseen, self._judges_statuses = unseen, statuses
        self._objects: dict[Name, Object] = {}
        self._asked: dict[Name, Asked] = {}
        self._full: set[Name] = set()
        self._statuses = StatusHistory(PHASE_IN_FLIGHT_S, PHASE_LATE_S)

    def take(self, seen: Seen) -> None:
        """Take the next event."""
        before = self._objects.get(seen.name)
        if seen.deleted:
            self._objects.pop(seen.name, None)
        else:
            self._objects[seen.name] = seen.object
        if seen.name.kind in ("MachineDeployment", "MachineSet", "KubeadmControlPlane") and not seen.deleted:
            asked = self._asked.setdefault(seen.name, Asked())
            replicas = int(seen.object["spec"].get("replicas", 1))
            if replicas != asked.now:
                self._full.discard(seen.name)
            asked.change(replicas, seen.at)
        if any(first <= seen.version <= last for first, last in self._unseen):
            self._full.clear()
            return
        if self._judges_statuses and not seen.deleted:
            self._status(seen, before)
        if seen.name.kind == "Machine":
            self._machine(seen, before)
        if seen.name.kind in ("Machine", "MachineDeployment"):
            self._available(seen)

    def _status(self, seen: Seen, before: Object | None) -> None:
        kind = {"kind": seen.name.kind}  # which items of a list do not say
        for what in self._statuses.take({**seen.object, **kind}, {**before, **kind} if before is not None else None, seen.at):
            self._note(seen, what)

    def _machine(self, seen: Seen, before: Object | None) -> None:
        kind, name = controller(seen.object)
        owner = Name(kind, seen.name.namespace, name)
        born = not seen.deleted and before is None
        dying = not seen.deleted and before is not None and _deleting(seen.object) and not _deleting(before)
        if kind == "MachineSet" and born:
            self._machine_set(seen, owner)
        if kind == "KubeadmControlPlane" and (born or dying):
            self._control_plane(seen, owner, "created" if born else "deleted")

    def _machine_set(self, seen: Seen, owner: Name) -> None:
        living = self._living([owner])
        allowed = self._asked.get(owner, Asked()).greatest(seen.at)
        if len(living) > allowed:
            self._note(seen, f"{owner.name} has {len(living)} Machines, asked for {allowed}")
        deployment = self._deployment_of(owner)
        if deployment is None or deployment not in self._objects:
            return
        surge = _budget(self._objects[deployment], "maxSurge", SURGE_DEFAULT)
        total = self._living(self._sets_of(deployment))
        limit = self._asked[deployment].greatest(seen.at) + surge
        if len(total) > limit:
            self._note(seen, f"{deployment.name} has {len(total)} Machines, at most {limit} are allowed")

    def _control_plane(self, seen: Seen, owner: Name, what: str) -> None:
        control_plane = self._objects.get(owner)
        if control_plane is None or _deleting(control_plane):
            return
        others = [machine for machine in self._owned([owner]) if machine is not seen.object]
        moving = [machine["metadata"]["name"] for machine in others if _deleting(machine) or not (machine.get("status") or {}).get("nodeRef")]
        if moving:
            self._note(seen, f"a control plane Machine is {what} while {', '.join(moving)} comes or goes")
        if len(others) + 1 > self._asked[owner].greatest(seen.at) + 1:
            self._note(seen, f"{owner.name} has {len(others) + 1} Machines")

    def _available(self, seen: Seen) -> None:
        """A MachineDeployment that once had all of its replicas available never has fewer than its budget allows while it rolls."""
        for deployment, value in list(self._objects.items()):
            if deployment.kind != "MachineDeployment" or _deleting(value):
                continue
            replicas = self._asked[deployment].now
            living = self._living(self._sets_of(deployment))
            available = sum(condition(machine, "Available") == "True" for machine in living)
            if available >= replicas:
                self._full.add(deployment)
            elif deployment in self._full:
                least = replicas - _budget(value, "maxUnavailable", UNAVAILABLE_DEFAULT)
                if available < least:
                    others = "; ".join(f"{machine['metadata']['name']}: {_why(machine)}" for machine in living if condition(machine, "Available") != "True")
                    self._note(seen, f"{deployment.name} has {available} Machines available, at least {least} are due ({others})")
                    self._full.discard(deployment)

    def _living(self, owners: Iterable[Name]) -> list[Object]:
        return [machine for machine in self._owned(owners) if not _deleting(machine)]

    def _owned(self, owners: Iterable[Name]) -> list[Object]:
        wanted = {(owner.kind, owner.name) for owner in owners}
        return [value for name, value in self._objects.items() if name.kind == "Machine" and controller(value) in wanted]

    def _sets_of(self, deployment: Name) -> list[Name]:
        return [name for name, value in self._objects.items() if name.kind == "MachineSet" and controller(value) == (deployment.kind, deployment.name)]

    def _deployment_of(self, machine_set: Name) -> Name | None:
        kind, name = controller(self._objects[machine_set]) if machine_set in self._objects else ("", "")
        return Name(kind, machine_set.namespace, name) if kind == "MachineDeployment" else None

    def _note(self, seen: Seen, what: str) -> None:
        self.violations.append(f"at version {seen.version} ({seen.name.kind} {seen.name.name}): {what}")


class HistoryOfFailures(History):
    """The same while Nodes fail: what is available is not ours alone to say, so what is held to the budget is what we take away.

    A Machine that was available for a while may only be deleted when so many others were, as its MachineSet was lowered, that the budget is kept; a Node may
    have failed, or come back, since then.
    """

    def __init__(self, unseen: Sequence[tuple[int, int]] = ()) -> None:
        super().__init__(unseen)
        self.taken = 0
        """Machines that were deleted while they were available."""
        self._since: dict[Name, float] = {}
        self._until: dict[Name, float] = {}
        self._lowered: dict[Name, float] = {}

    def take(self, seen: Seen) -> None:
        """Take the next event."""
        before = self._objects.get(seen.name)
        super().take(seen)
        if seen.name.kind == "MachineSet" and before is not None and seen.object["spec"].get("replicas", 1) < before["spec"].get("replicas", 1):
            self._lowered[seen.name] = seen.at
        if seen.name.kind != "Machine":
            return
        if not seen.deleted and before is not None and _deleting(seen.object) and not _deleting(before):
            self._deleted(seen)
        if condition(seen.object, "Available") == "True" and not seen.deleted:
            self._since.setdefault(seen.name, seen.at)
        elif self._since.pop(seen.name, None) is not None:
            self._until[seen.name] = seen.at

    def _available(self, seen: Seen) -> None:
        """Nothing holds at every instant here."""

    def _deleted(self, seen: Seen) -> None:
        kind, name = controller(seen.object)
        machine_set = Name(kind, seen.name.namespace, name)
        deployment = self._deployment_of(machine_set)
        value = self._objects.get(deployment) if deployment is not None else None
        if deployment is None or value is None or _deleting(value):
            return
        if seen.at - self._since.get(seen.name, seen.at) <= IN_FLIGHT_S:
            return
        self.taken += 1
        others = [self._name(machine, seen.name.namespace) for machine in self._living(self._sets_of(deployment))]
        decided = min(max(self._lowered.get(machine_set, seen.at), seen.at - DECIDED_S), seen.at) - IN_FLIGHT_S
        available = sum(name in self._since or self._until.get(name, decided - 1) >= decided for name in others)
        least = self._asked[deployment].now - _budget(value, "maxUnavailable", UNAVAILABLE_DEFAULT)
        if available < least:
            self._note(seen, f"{deployment.name} takes it while {available} others were available as that was decided, at least {least} are due")

    @staticmethod
    def _name(machine: Object, namespace: str) -> Name:
        return Name("Machine", namespace, str(machine["metadata"]["name"]))


def violations(events: Iterable[Seen], unseen: Sequence[tuple[int, int]] = (), *, statuses: bool = True) -> list[str]:
    """What broke a rule in the history of one namespace, outside the intervals of versions that were not fully seen.

    ``statuses``: whether what is told is judged too. Where workers and servers are killed or frozen it may rest for long on what was known before.
    """
    history = History(unseen, statuses=statuses)
    for seen in events:
        history.take(seen)
    return history.violations


def _deleting(value: Object) -> bool:
    return "deletionTimestamp" in value["metadata"]


def _budget(deployment: Object, name: str, default: int) -> int:
    rollout = (deployment["spec"].get("rollout") or {}).get("strategy") or {}
    value = (rollout.get("rollingUpdate") or {}).get(name, default)
    return int(value)


def _why(machine: Object) -> str:
    """What its conditions say of why it is not available; nothing when it never was Ready."""
    told = (one for one in (machine.get("status") or {}).get("conditions") or () if one["type"] in ("Ready", "Available") and one["status"] != "True")
    return ", ".join(f"{one['type']} {one['status']} {one.get('reason', '')} {one.get('message', '')!r}" for one in told)
