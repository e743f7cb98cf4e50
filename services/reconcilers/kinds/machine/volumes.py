"""Waiting until no volume is attached to the Node of a Machine that goes: a disk must not be deleted together with its host.

Volumes count by the Node's status and by VolumeAttachments (``Look volumes/<node>``: attachments, volumes, pods); those of Pods that draining
leaves alone do not.

Source: kinds.md §2 (delete flow d), §18; Cluster API v1.14 machine controller (message format).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from fleetwake.conditions import get, wire_time
from fleetwake.plan import Look
from services.reconcilers.kinds.machine.drain import DONE, Stage, treatments_of, unreachable
from services.reconcilers.kinds.machine.observed import Node, Observed

DETACH_RETRY = timedelta(seconds=20)
NAMES_MAX = 5


@dataclass(frozen=True, slots=True)
class Attached:
    """What is still attached: claims, volumes bound to no claim, and names behind which no PersistentVolume was found."""

    claims: frozenset[str]
    unclaimed: frozenset[str]
    unknown_to_node: frozenset[str]
    unknown_to_attachments: frozenset[str]

    @property
    def nothing(self) -> bool:
        """Whether nothing is attached."""
        return not (self.claims or self.unclaimed or self.unknown_to_node or self.unknown_to_attachments)


def detach(observed: Observed, node: Node | None, started: datetime) -> Stage:
    """Decide whether to wait for volumes; done when the Node is gone, cannot be reached, or holds none."""
    workload = observed.workload
    if node is not None and unreachable(node):
        return DONE
    if node is None and workload.watch_synced and workload.connected:
        return DONE
    name = observed.node_name
    header = f"Waiting for Node volumes to be detached (started at {wire_time(started)})"
    stored = get(observed.machine.status.conditions, "Deleting")
    before = stored.message if stored is not None and stored.reason == "WaitingForVolumeDetach" and stored.message else header
    if node is None or not workload.connected:
        return Stage(False, before)
    look = workload.looks.get(f"volumes/{name}")
    if look is None or observed.at - look.at >= DETACH_RETRY:
        step = Look(observed.cluster_key, f"volumes/{name}", "volumes must be detached before the host goes")
        return Stage(False, before, (step,), DETACH_RETRY)
    wait = look.at + DETACH_RETRY - observed.at
    if look.error:
        return Stage(False, f"Error waiting for volumes to be detached from Node: {look.error}", (), wait)
    found = look.value if isinstance(look.value, Mapping) else {}
    left = _left(node, found, set(_ignored_claims(observed, found.get("pods"), node)))
    return DONE if left.nothing else Stage(False, _message(left, header), (), wait)


def _ignored_claims(observed: Observed, pods: Any, node: Node) -> Iterable[str]:
    """``namespace/name`` of the claims of Pods that stay: their volumes will not be detached."""
    for one in treatments_of(observed, pods, node):
        if one.behavior == "Skip":
            for volume in one.pod.get("spec", {}).get("volumes") or ():
                if volume.get("persistentVolumeClaim"):
                    yield f"{one.pod['metadata'].get('namespace', '')}/{volume['persistentVolumeClaim']['claimName']}"


def _left(node: Node, found: Mapping[str, Any], ignored: set[str]) -> Attached:
    by_node = {str(one["name"]) for one in node.get("status", {}).get("volumesAttached") or ()}
    by_attachment = {
        str(one["spec"]["source"]["persistentVolumeName"])
        for one in found.get("attachments") or ()
        if one.get("status", {}).get("attached")
        and one["spec"].get("nodeName") == node["metadata"]["name"]
        and one["spec"].get("source", {}).get("persistentVolumeName")
    }
    claims, unclaimed = set(), set()
    seen_by_node, seen_by_attachment = set(), set()
    for volume in found.get("volumes") or ():
        spec, name = volume.get("spec", {}), str(volume["metadata"]["name"])
        csi = spec.get("csi") or {}
        handle = f"kubernetes.io/csi/{csi.get('driver')}^{csi.get('volumeHandle')}" if csi else ""
        if handle not in by_node and name not in by_attachment:
            continue
        seen_by_node.add(handle)
        seen_by_attachment.add(name)
        claim = spec.get("claimRef") or {}
        if claim.get("kind") == "PersistentVolumeClaim":
            claims.add(f"{claim.get('namespace', '')}/{claim.get('name', '')}")
        else:
            unclaimed.add(name)
    return Attached(
        frozenset(claims - ignored),
        frozenset(unclaimed),
        frozenset(by_node - seen_by_node),
        frozenset(by_attachment - seen_by_attachment),
    )


def _message(left: Attached, header: str) -> str:
    lines = [header]
    for title, names in (
        ("PersistentVolumeClaims", left.claims),
        ("PersistentVolumes without a .spec.claimRef to a PersistentVolumeClaim", left.unclaimed),
        ("Node with .status.volumesAttached entries not matching a PersistentVolume", left.unknown_to_node),
        ("VolumeAttachment with .spec.source.persistentVolumeName not matching a PersistentVolume", left.unknown_to_attachments),
    ):
        if names:
            ordered = sorted(names)
            more = [f"... ({len(ordered) - NAMES_MAX} more)"] if len(ordered) > NAMES_MAX else []
            lines.append(f"* {title}: {', '.join(ordered[:NAMES_MAX] + more)}")
    return "\n".join(lines)
