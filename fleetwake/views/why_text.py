"""A story in sentences, as one tells it to whoever is on call: first the answer, then how it came to it, then what the records do not say."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from fleetwake.views.api_audit import COLLECTOR
from fleetwake.views.why import OTHER_REVISION, REPLICAS, Asked, Because, Decision, Story, Verdict
from schemas.keys import ObjectKey

VERSION_REASON = re.compile(r"Version (?P<before>\S*), (?P<after>\S+) required")
REPLICAS_REASON = re.compile(r"^\d+ to \d+ replicas: ")
HOSTS_REASON = re.compile(r"(?P<before>\d+) hosts exist, (?P<after>\d+) are wanted")
CHANGED = {"ADDED": "created", "MODIFIED": "changed", "DELETING": "deleted", "DELETED": "deleted"}


def told(story: Story) -> list[str]:
    """The story as lines."""
    if not story.chain:
        return [f"No record says why {name_of(story.key)} came or went. What is known of it: `fleetwake audit {story.key.kind.lower()}/{story.key.name}`."]
    lines = [headline(story), "", "How it came to this (UTC, oldest first):"]
    links = [(one.at, sentence(one)) for one in reversed(story.chain)]
    # a rollout makes the replacement before the old one goes, a repair after it
    lines += [f"  {_clock(at)}  {text}" for at, text in sorted([*links, *_beside(story)], key=lambda link: link[0])]
    caveats = list(unsaid(story))
    return [*lines, *(["", *caveats] if caveats else [])]


def headline(story: Story) -> str:
    """The answer in one sentence."""
    name, because = name_of(story.key), _because(story)
    if not story.gone:
        if story.replaces is not None:
            return f"{name} is there because it replaces {story.replaces.name}: {because}."
        return f"{name} is there because {because}."
    if story.replaced_by is not None:
        return f"{name} was replaced by {story.replaced_by.name} because {because}."
    gone = "was deleted" if story.finished is not None else "was told to go"
    return f"{name} {gone} and nothing took its place, because {because}."


def _because(story: Story) -> str:
    root, autoscaled = story.root, story.autoscaled
    if autoscaled is not None:
        way = "down" if story.gone else "up"
        return f"cluster-autoscaler scaled node group {name_of(autoscaled.target)} {way}{_scaling(story)} ({autoscaled.step.reason})"
    if root is None:
        return "of a decision whose cause no record tells" if story.verdict is not Verdict.REMEDIATION else "a health check found it unhealthy"
    who, what = who_asked(root), f"{root.seen.kind} {root.seen.name}"
    match story.verdict:
        case Verdict.ROLLOUT:
            return f"{who} changed the template of {what} ({_difference(story)}), and a rollout brings every Machine to the new revision"
        case Verdict.SCALE_DOWN:
            return f"{who} scaled {what} down{_scaling(story)}"
        case Verdict.SCALE_UP:
            return f"{who} scaled {what} up{_scaling(story)}"
        case Verdict.DELETED_BY_HAND:
            target = "it" if root.seen.name == story.key.name else what
            return f"{who} deleted {target}"
        case Verdict.OWNER_DELETED:
            return f"{who} deleted {what}, to which it belonged"
        case Verdict.REMEDIATION:
            return "a health check found it unhealthy and handed it to its owner"
    return f"{who} {CHANGED.get(root.seen.type, 'changed')} {what}"


def _difference(story: Story) -> str:
    """What of the template changed, in the words of the decision that found out."""
    for one in story.chain:
        if isinstance(one, Decision) and one.step.verb == "create" and one.target.kind == "MachineSet":
            return _plainly(one.step.reason.rpartition("; ")[0] or one.step.reason)
        if isinstance(one, Decision) and OTHER_REVISION in one.step.reason:
            return _plainly(one.step.reason.partition(f"{OTHER_REVISION}: ")[2])
    return "its template changed"


def _scaling(story: Story) -> str:
    for one in reversed(story.chain):
        if isinstance(one, Decision) and REPLICAS in one.changes:
            before, after = one.changes[REPLICAS]
            return f" from {before} to {after} replicas"
    counts = next((found for one in story.chain if isinstance(one, Decision) and (found := HOSTS_REASON.match(one.step.reason))), None)
    return f" from {counts['before']} to {counts['after']} replicas" if counts is not None else ""


def who_asked(asked: Asked) -> str:
    """Who made a change: the user where the API server's log names one, and the field manager."""
    manager = asked.seen.manager if asked.seen.type != "DELETING" else ""
    request = asked.request
    if request is None:
        return f"somebody with {manager}" if manager else "somebody"
    if request.user == COLLECTOR:
        return "Kubernetes' garbage collector"
    through = " as ".join(part for part in (request.program, f"field manager {manager}" if manager else "") if part)
    return f"{request.user} ({through})" if through else request.user


def sentence(one: Because) -> str:
    """One link of the chain."""
    if isinstance(one, Asked):
        version = f", which became version {one.seen.version}" if one.seen.version and one.seen.type != "DELETING" else ""
        return f"{who_asked(one)} {CHANGED.get(one.seen.type, 'changed')} {one.seen.kind} {one.seen.name}{version}."
    step, run, target = one.step, one.run, name_of(one.target)
    whom = "" if one.owner == one.target else f" for {name_of(one.owner)}"
    what = _done(one, target)
    doubt = "" if run.done is not None else ", as planned; no record says what came of it"
    reason = REPLICAS_REASON.sub("", step.reason) if REPLICAS in one.changes else step.reason
    return f"{run.record.instance} {what}{whom}{doubt}: {_plainly(reason) or 'no reason recorded'}."


def _done(one: Decision, target: str) -> str:
    if REPLICAS in one.changes:
        before, after = one.changes[REPLICAS]
        return f"set {target} from {before} to {after} replicas"
    words = {"create": "made", "delete": "deleted", "apply": "applied", "patch": "patched", "sync metadata": "brought up to date the metadata of"}
    return f"{words.get(one.step.verb, one.step.verb)} {target}"


def _beside(story: Story) -> Iterator[tuple[datetime, str]]:
    if story.replacement is not None:
        yield story.replacement.at, sentence(story.replacement)
    if story.finished is not None and story.gone:
        yield story.finished, f"{name_of(story.key)} was gone: everything of it was cleaned up."


def unsaid(story: Story) -> Iterator[str]:
    """What the records do not say, and who would know."""
    root = story.root
    if story.autoscaled is not None:
        yield "What cluster-autoscaler decided it from is in its own log: it sends the bridge no reason."
        return
    if root is None:
        yield (
            "What began this is not in the records that are kept (results are kept 30 days; a trail's database, --database, for as long as it is there), "
            "or it was a health check's or a timer's own doing."
        )
        return
    if root.request is None:
        if root.seen.type == "DELETING":
            yield "Kubernetes keeps no name of who deletes an object. The API server's audit log has it: give --audit-log FILE."
        else:
            manager = root.seen.manager or "The field manager"
            yield f"{manager} names the program that wrote. Whose hand it was is in the API server's audit log: give --audit-log FILE."


def _plainly(reason: str) -> str:
    return VERSION_REASON.sub(lambda found: f"version {found['before'] or 'none'} → {found['after']}", reason)


def _clock(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def name_of(key: ObjectKey) -> str:
    """An object as people say it."""
    return f"{key.kind} {key.name}{f' of {key.cluster}' if key.cluster else ''}"


def as_json(story: Story) -> Mapping[str, Any]:
    """The story as plain data."""
    return {
        "object": str(story.key),
        "answer": headline(story) if story.chain else None,
        "verdict": story.verdict.value,
        "replaced_by": str(story.replaced_by) if story.replaced_by is not None else None,
        "replaces": str(story.replaces) if story.replaces is not None else None,
        "finished": story.finished.isoformat() if story.finished is not None else None,
        "chain": [_link(one) for one in reversed(story.chain)],
    }


def _link(one: Because) -> Mapping[str, Any]:
    common = {"at": one.at.isoformat(), "text": sentence(one)}
    if isinstance(one, Asked):
        seen, request = one.seen, one.request
        who = {"user": request.user, "program": request.program, "audit_id": request.audit_id, "verb": request.verb} if request is not None else {}
        found = {"type": seen.type, "kind": seen.kind, "namespace": seen.namespace, "name": seen.name, "version": seen.version}
        return {**common, "change": {**found, "field_manager": seen.manager if seen.type != "DELETING" else "", **who}}
    record = one.run.record
    decided = {"for": record.key, "verb": one.step.verb, "target": one.step.target, "reason": one.step.reason, "audit_id": one.step.audit_id}
    return {**common, "decision": {**decided, "service": record.service, "instance": record.instance, "plan_id": record.plan_id, "intent": one.run.intent}}
