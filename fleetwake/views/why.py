"""Why an object came, why it went: from the last decision on it back to the change that began it. Pure: runs (and the API server's log) in, a story out.

A decision of ours is a step of a run; its reason tells what it was decided from, and the run's object who wanted it so. What made that object want it is
the last thing that happened to it before: a step of another of ours, which leads further back, or a change of somebody else's, which is the root. A root is
too what was asked over the network: a step of the autoscaler bridge names cluster-autoscaler's request in its reason, and nothing is behind it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum

from fleetwake.tracing.intents import is_ours
from fleetwake.views.api_audit import COLLECTOR, NAMESPACE_CONTROLLER, ApiAudit, Request, Seen
from fleetwake.views.runs import IntentView, RunView, intents
from schemas.keys import GroupKind, ObjectKey
from schemas.results import StepRecord, StepResult

DEPTH_MAX = 16
CHANGE = re.compile(
    r"(?P<type>ADDED|MODIFIED|DELETING|DELETED) (?P<kind>\S+) (?:(?P<namespace>[^/\s]+)/)?(?P<name>\S+) @(?P<version>\d+)(?: by (?P<manager>.+))?"
)
OWN_DELETE_WITHIN = timedelta(seconds=60)
"""A deletion noticed within this time behind a delete of ours is that delete's."""
REPLICAS = "spec.replicas"
FIRST_REVISION = "no MachineSet exists yet"
REMEDIATION = "a health check"
OTHER_REVISION = "of another revision"
"""How a pool's infrastructure tells of hosts that it replaces because the pool asks for others now."""
BRIDGE, AUTOSCALER = "autoscaler_bridge", "cluster-autoscaler of "
"""Whose runs write what a cluster-autoscaler asks for, and how the reasons of those writes begin."""
POOL = "MachinePool"
FINISHED = ("is gone", "is left")
"""How reasons of the steps end that let an object go."""

Place = tuple[str, str, str]
"""Kind, namespace and name: all that a change in words names."""


class Verdict(Enum):
    """What kind of story it is."""

    ROLLOUT = "rollout"
    SCALE_DOWN = "scale down"
    SCALE_UP = "scale up"
    DELETED_BY_HAND = "deleted by hand"
    OWNER_DELETED = "owner deleted"
    REMEDIATION = "remediation"
    CREATED = "created"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Decision:
    """A step of ours, and the run it was part of."""

    run: RunView
    step: StepRecord

    @property
    def at(self) -> datetime:
        """When the run began: what it was decided from is not later."""
        return self.run.started

    @property
    def owner(self) -> ObjectKey:
        """The object that the run was for: it wanted this."""
        return ObjectKey.parse(self.run.record.key)

    @property
    def target(self) -> ObjectKey:
        """The object that was written."""
        return ObjectKey.parse(self.step.target)

    @property
    def changes(self) -> Mapping[str, tuple[object, object]]:
        """What it changed, where that is known."""
        return self.step.changes if isinstance(self.step, StepResult) else {}

    @property
    def for_autoscaler(self) -> bool:
        """Whether a cluster-autoscaler asked for it, through the bridge."""
        return self.run.record.service == BRIDGE and self.step.reason.startswith(AUTOSCALER)


@dataclass(frozen=True, slots=True)
class Asked:
    """A change of somebody else's, when a run of ours noticed it, and the request behind it where the API server's log is there."""

    seen: Seen
    request: Request | None = None

    @property
    def at(self) -> datetime:
        """When it was made, as far as is known."""
        return self.request.at if self.request is not None else self.seen.noticed

    @property
    def place(self) -> Place:
        """What was changed."""
        return self.seen.kind, self.seen.namespace, self.seen.name


Because = Decision | Asked


@dataclass(frozen=True, slots=True)
class Story:
    """What became of an object: why it was made, why it went, what took its place. A chain leads from the last decision back to its root."""

    key: ObjectKey
    made: tuple[Because, ...] = ()
    gone: tuple[Because, ...] = ()
    finished: datetime | None = None
    replaced_by: ObjectKey | None = None
    replacement: Decision | None = None
    replaces: ObjectKey | None = None
    verdict: Verdict = Verdict.UNKNOWN
    touched: tuple[Decision, ...] = field(default=())

    @property
    def chain(self) -> tuple[Because, ...]:
        """The chain that answers the question: why it went, else why it is there."""
        return self.gone or self.made

    @property
    def root(self) -> Asked | None:
        """The change that began it."""
        last = self.chain[-1] if self.chain else None
        return last if isinstance(last, Asked) else None

    @property
    def autoscaled(self) -> Decision | None:
        """The write of the bridge that began it, where a cluster-autoscaler did."""
        last = self.chain[-1] if self.chain else None
        return last if isinstance(last, Decision) and last.for_autoscaler else None


def place_of(key: ObjectKey) -> Place:
    """The place of an object."""
    return key.kind, key.namespace, key.name


class Past:
    """All runs, by what they wrote and by what woke them."""

    def __init__(self, runs: Iterable[RunView], audit: ApiAudit | None = None) -> None:
        self._audit = audit
        self._steps: dict[str, list[Decision]] = {}
        self._foreign: dict[Place, list[Seen]] = {}
        self._made_by: dict[str, list[Decision]] = {}
        self._hosts: dict[tuple[str, str], Decision] = {}
        self._asked: dict[ObjectKey, list[Asked]] = {}
        self._written: set[tuple[str, str]] = set()
        self._losses: dict[tuple[ObjectKey, GroupKind], list[tuple[datetime, ObjectKey]]] = {}
        known = sorted(runs, key=lambda run: run.started)
        self._intents: Mapping[str, IntentView] = {intent.trace: intent for intent in intents(known)}
        for run in known:
            self._take(run)

    def _take(self, run: RunView) -> None:
        for step in run.steps:
            if isinstance(step, StepResult) and step.resource_version:
                self._written.add((step.target, step.resource_version))
            if step.audit_id and getattr(step, "outcome", "done") == "done" and not step.verb.endswith("status"):
                decision = Decision(run, step)
                self._steps.setdefault(step.target, []).append(decision)
                if step.verb == "create":
                    self._made_by.setdefault(run.record.key, []).append(decision)
                    if _of_pool_infrastructure(decision.owner):
                        self._hosts[decision.target.namespace, decision.target.name] = decision
        if run.planned is not None:
            for text in (run.planned.cause.change, *run.planned.cause.also):
                seen = read_change(text, run.started)
                if seen is not None:
                    self._foreign.setdefault((seen.kind, seen.namespace, seen.name), []).append(seen)

    def steps(self, key: ObjectKey) -> list[Decision]:
        """The writes on an object that are not known to have failed, status aside, oldest first."""
        return self._steps.get(str(key), [])

    def made_by(self, owner: ObjectKey, kind: str) -> list[Decision]:
        """The objects of a kind that runs of an object made, oldest first."""
        return [one for one in self._made_by.get(str(owner), []) if one.target.kind == kind]

    def creation(self, key: ObjectKey) -> Decision | None:
        """The step that made an object."""
        return next((one for one in self.steps(key) if one.step.verb == "create"), None)

    def asked(self, key: ObjectKey) -> list[Asked]:
        """The changes of others on an object, oldest first. A deletion that we sent is none, whoever wrote the object last."""
        known = self._asked.get(key)
        if known is not None:
            return known
        deletes = [one.at for one in self.steps(key) if one.step.verb == "delete"]
        found: list[Asked] = []
        versions: set[str] = set()
        for seen in self._foreign.get(place_of(key), []):
            ours = any(timedelta(0) <= seen.noticed - at <= OWN_DELETE_WITHIN for at in deletes) if seen.type == "DELETING" else is_ours(seen.manager)
            # field managers have times of whole seconds: of two writes within one, the record may name the other's
            ours |= (str(key), seen.version) in self._written
            if seen.version in versions or ours or (seen.type != "DELETING" and not seen.manager):
                continue
            versions.add(seen.version)
            found.append(Asked(seen, self._audit.of(seen) if self._audit is not None else None))
        self._asked[key] = found
        return found

    def _last_asked(self, key: ObjectKey, before: datetime) -> Asked | None:
        """The last change of others on an object that was noticed by then."""
        return next((one for one in reversed(self.asked(key)) if one.seen.noticed <= before), None)

    def _last_wish(self, key: ObjectKey, before: datetime) -> Because | None:
        """The same, or what a cluster-autoscaler asked of the object later."""
        asked = self._last_asked(key, before)
        scaled = next((one for one in reversed(self.steps(key)) if one.for_autoscaler and one.at <= before), None)
        return scaled if scaled is not None and (asked is None or asked.seen.noticed < scaled.at) else asked

    def _wishers(self, owner: ObjectKey) -> tuple[ObjectKey, ...]:
        """The objects whose changes an object acts upon: itself, and of a pool's infrastructure the pool that has taken it for its own.

        The last of them wants whatever there is: that the infrastructure was created is no wish for hosts, only what is changed of it later.
        """
        if not _of_pool_infrastructure(owner):
            return (owner,)
        return (owner, *dict.fromkeys(one.owner for one in self.steps(owner) if one.owner.kind == POOL))

    def opening(self, run: RunView) -> Asked | None:
        """The change that opened the intent of a run: what is left when nothing nearer is known."""
        intent = self._intents.get(run.intent)
        seen = read_change(intent.change, intent.started) if intent is not None else None
        if seen is None or (is_ours(seen.manager) and seen.type != "DELETING"):
            return None
        return Asked(seen, self._audit.of(seen) if self._audit is not None else None)

    def keys(self, kind: str) -> Iterator[ObjectKey]:
        """Objects of a kind that runs were for."""
        for text in self._made_by:
            key = ObjectKey.parse(text)
            if key.kind == kind:
                yield key

    # ---- why an object went -----------------------------------------------------------------------------------------------------------
    def deletion(self, key: ObjectKey) -> tuple[Because, ...]:
        """From the delete of an object back to its root; empty when it was not deleted."""
        own = next((one for one in self.steps(key) if one.step.verb == "delete"), None)
        asked = next((one for one in self.asked(key) if one.seen.type == "DELETING"), None)
        if asked is not None and (own is None or asked.seen.noticed < own.at):
            return (asked, *self._behind(key, asked))
        return (own, *self.back(own)) if own is not None else ()

    def _behind(self, key: ObjectKey, asked: Asked) -> tuple[Because, ...]:
        """What is behind a delete that Kubernetes itself sent."""
        user = asked.request.user if asked.request is not None else ""
        made = self.creation(key)
        if user == COLLECTOR and made is not None and made.owner != key:
            return self.deletion(made.owner)
        if user == NAMESPACE_CONTROLLER and self._audit is not None:
            seen = Seen("DELETING", "Namespace", "", key.namespace, "", "", asked.seen.noticed)
            request = self._audit.of(seen)
            return (Asked(seen, request),) if request is not None else ()
        return ()

    # ---- why an object is -------------------------------------------------------------------------------------------------------------
    def making(self, key: ObjectKey) -> tuple[Because, ...]:
        """From the creation of an object back to its root; empty when no record tells of it."""
        made = self.creation(key)
        if made is not None:
            replaced = self.predecessor(made)
            return (made, *(self.deletion(replaced) if replaced is not None else self._behind_host(made)))
        added = next((one for one in self.asked(key) if one.seen.type == "ADDED"), None)
        return (added,) if added is not None else ()

    def _behind_host(self, made: Decision) -> tuple[Because, ...]:
        """What led to a creation; to that of a pool's Machine, the infrastructure's making of its host did."""
        host = self._host_of(made)
        return (host, *self.back(host)) if host is not None else self.back(made)

    def _host_of(self, made: Decision) -> Decision | None:
        """The creation of the host that a pool's Machine was made for: it has the same name."""
        return self._hosts.get((made.target.namespace, made.target.name)) if made.owner.kind == POOL else None

    def back(self, decision: Decision, depth: int = 0) -> tuple[Because, ...]:
        """What led to a decision, nearest first, down to a change of somebody else's, or a request of a cluster-autoscaler's, where one is known."""
        if decision.for_autoscaler:
            return ()
        wishers, revision = self._wishers(decision.owner), self._revision(decision)
        before = revision.at if revision is not None else decision.at
        steps = [one for key in wishers for one in self.steps(key) if (one.owner not in wishers or one.for_autoscaler) and one.at <= before and _moves(one)]
        changes = [one for key in wishers if (one := self._last_asked(key, before)) is not None and (key == wishers[-1] or one.seen.type != "ADDED")]
        step, change = max(steps, key=lambda one: one.at, default=None), max(changes, key=lambda one: one.seen.noticed, default=None)
        lead: tuple[Because, ...] = (revision,) if revision is not None and revision.step is not decision.step else ()
        if change is not None and (step is None or change.seen.noticed >= step.at):
            return (*lead, change)
        if step is not None and depth < DEPTH_MAX:
            return (*lead, step, *self.back(step, depth + 1))
        opening = self.opening(decision.run)
        return (*lead, *((opening,) if opening is not None else ()))

    def _revision(self, decision: Decision) -> Decision | None:
        """The new revision of a MachineDeployment for whose sake it moves its MachineSets; None when the decision is no part of a rollout."""
        if decision.owner.kind != "MachineDeployment" or decision.target.kind != "MachineSet" or decision.step.verb == "delete":
            return None
        revisions = [one for one in self.made_by(decision.owner, "MachineSet") if one.at <= decision.at]
        latest = revisions[-1] if revisions else None
        if latest is None or FIRST_REVISION in latest.step.reason:
            return None
        # the newest revision also grows and shrinks for a later wish, which is no rollout
        same_wish = self._last_wish(decision.owner, latest.at) == self._last_wish(decision.owner, decision.at)
        return latest if latest.target != decision.target or same_wish else None

    # ---- what took whose place --------------------------------------------------------------------------------------------------------
    def owner_of(self, key: ObjectKey) -> ObjectKey | None:
        """What made an object, or, where that is no longer known, what its name comes from."""
        made = self.creation(key)
        if made is not None:
            return made.owner
        named = [owner for kind in ("MachineSet", "KubeadmControlPlane", POOL) for owner in self.keys(kind) if key.name.startswith(f"{owner.name}-")]
        return max(named, key=lambda owner: len(owner.name), default=None)

    def _lost(self, owner: ObjectKey, like: ObjectKey) -> list[tuple[datetime, ObjectKey]]:
        """When which objects of an owner, of the kind of ``like``, were deleted for another reason than its own wish for fewer; oldest first."""
        known = self._losses.get((owner, like.group_kind))
        if known is not None:
            return known
        names = {one.target for one in self.made_by(owner, like.kind)}
        for kind, namespace, name in self._foreign:
            if (kind, namespace) == (like.kind, owner.namespace) and name.startswith(f"{owner.name}-"):
                names.add(ObjectKey(like.group, kind, namespace, name))
        lost: list[tuple[datetime, ObjectKey]] = []
        for key in names:
            chain = self.deletion(key)
            if chain and (isinstance(chain[0], Asked) or chain[0].step.reason.startswith(REMEDIATION)):
                lost.append((chain[0].seen.noticed if isinstance(chain[0], Asked) else chain[0].at, key))
        self._losses[owner, like.group_kind] = sorted(lost)
        return self._losses[owner, like.group_kind]

    def predecessor(self, made: Decision) -> ObjectKey | None:
        """The object whose loss a creation made good: the owner wanted no more than before, it had lost one."""
        grown = [one.at for one in self.steps(made.owner) if one.at <= made.at and _moves(one)]
        since = grown[-1] if grown else None
        lost = [(at, key) for at, key in self._lost(made.owner, made.target) if at <= made.at and (since is None or at >= since)]
        first = lost[0][0] if lost else made.at
        siblings = [one.target for one in self.made_by(made.owner, made.target.kind) if one.at >= first]
        number = siblings.index(made.target) if made.target in siblings else len(lost)
        return lost[number][1] if number < len(lost) else None

    def successor(self, key: ObjectKey, gone: tuple[Because, ...]) -> ObjectKey | None:
        """What took the place of an object that went."""
        owner = self.owner_of(key)
        revision = next((one for one in gone if isinstance(one, Decision) and one.step.verb == "create" and one.target.kind == "MachineSet"), None)
        if revision is not None:
            return self._of_revision(key, revision)
        if owner is None:
            return None
        first = gone[0]
        if owner.kind == POOL and isinstance(first, Decision) and OTHER_REVISION in first.step.reason:
            return self._of_pool(key, owner, first, gone[-1])
        return next((one.target for one in self.made_by(owner, key.kind) if self.predecessor(one) == key), None)

    def _of_revision(self, key: ObjectKey, revision: Decision) -> ObjectKey | None:
        """In a rollout the first that went makes room for, or gives way to, the first that came."""
        went = sorted(
            (one.at, one.target.name)
            for steps in self._steps.values()
            for one in steps
            if one.step.verb == "delete" and one.target.kind == key.kind and one.at >= revision.at and revision in self.back(one)
        )
        came = [one.target for one in self.made_by(revision.target, key.kind)]
        number = next((place for place, (_, name) in enumerate(went) if name == key.name), len(came))
        return came[number] if number < len(came) else None

    def _of_pool(self, key: ObjectKey, pool: ObjectKey, gone: Decision, wish: Because) -> ObjectKey | None:
        """The same of a pool, whose infrastructure made new hosts for the same wish."""
        deletes = (one for steps in self._steps.values() for one in steps if one.step.verb == "delete" and one.owner == gone.owner)
        went = sorted((one.at, one.target.name) for one in deletes if OTHER_REVISION in one.step.reason and self.back(one)[-1:] == (wish,))
        hosts = ((one, self._host_of(one)) for one in self.made_by(pool, key.kind))
        came = [one.target for one, host in hosts if host is not None and OTHER_REVISION in host.step.reason and self.back(host)[-1:] == (wish,)]
        number = next((place for place, (_, name) in enumerate(went) if name == key.name), len(came))
        return came[number] if number < len(came) else None


def _moves(decision: Decision) -> bool:
    """Whether a write on an object changes how many there shall be, or that it shall be at all."""
    return decision.step.verb in ("create", "delete") or not isinstance(decision.step, StepResult) or REPLICAS in decision.changes or "" in decision.changes


def _of_pool_infrastructure(key: ObjectKey) -> bool:
    """Whether an object is the infrastructure of a MachinePool: those kinds are named so."""
    return key.kind.endswith(POOL) and key.kind != POOL


def read_change(text: str, noticed: datetime) -> Seen | None:
    """A change in words, as records of ours name it; None for what is none."""
    found = CHANGE.fullmatch(text)
    if found is None:
        return None
    manager = found["manager"] or ""
    return Seen(found["type"], found["kind"], found["namespace"] or "", found["name"], found["version"], "" if manager == "unknown" else manager, noticed)


def story(past: Past, key: ObjectKey) -> Story:
    """What became of an object."""
    made, gone = past.making(key), past.deletion(key)
    finished = next((one.run.ended for one in past.steps(key) if one.owner == key and one.step.verb == "patch" and one.step.reason.endswith(FINISHED)), None)
    first = made[0] if made else None
    successor = past.successor(key, gone) if gone else None
    return Story(
        key,
        made,
        gone,
        finished,
        replaced_by=successor,
        replacement=past.creation(successor) if successor is not None else None,
        replaces=past.predecessor(first) if isinstance(first, Decision) else None,
        verdict=_verdict(key, gone or made, gone=bool(gone)),
        touched=tuple(past.steps(key)),
    )


def _verdict(key: ObjectKey, chain: tuple[Because, ...], *, gone: bool) -> Verdict:
    if not chain:
        return Verdict.UNKNOWN
    decisions = [one for one in chain if isinstance(one, Decision)]
    root = chain[-1] if isinstance(chain[-1], Asked) else None
    deleted = root is not None and root.seen.type == "DELETING"
    if any(one.step.verb == "create" and one.target.kind == "MachineSet" and FIRST_REVISION not in one.step.reason for one in decisions):
        return Verdict.ROLLOUT
    if any(OTHER_REVISION in one.step.reason for one in decisions):
        return Verdict.ROLLOUT
    if not gone:
        if isinstance(chain[-1], Decision) and chain[-1].for_autoscaler:
            return Verdict.SCALE_UP
        return Verdict.CREATED if root is None or root.seen.type == "ADDED" else Verdict.DELETED_BY_HAND if deleted else Verdict.SCALE_UP
    if any(one.step.reason.startswith(REMEDIATION) for one in decisions):
        return Verdict.REMEDIATION
    if deleted and root is not None:
        return Verdict.DELETED_BY_HAND if root.place == place_of(key) else Verdict.OWNER_DELETED
    return Verdict.SCALE_DOWN if decisions else Verdict.UNKNOWN
