"""What a caller may say beside the object: options of writes, deletes, lists and watches; settings of the server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

OBJECT_BYTES_MAX = 1_572_864
REQUEST_BYTES_MAX = 3 * 1024 * 1024
HISTORY_MAX = 4096
CONTINUATIONS_MAX = 64


class PatchType(Enum):
    """The patch formats; the value is the content type that selects one."""

    JSON = "application/json-patch+json"
    MERGE = "application/merge-patch+json"
    STRATEGIC = "application/strategic-merge-patch+json"
    APPLY = "application/apply-patch+yaml"


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """How to write. ``subresource`` is "", "status" or "scale"; ``force`` is for server-side apply only."""

    field_manager: str = ""
    force: bool = False
    dry_run: bool = False
    subresource: str = ""


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """How to delete. ``propagation`` is "", "Background", "Foreground" or "Orphan"; ``preconditions`` holds uid and resourceVersion."""

    propagation: str = ""
    preconditions: Mapping[str, Any] = field(default_factory=dict)
    grace_seconds: int | None = None
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class ListOptions:
    """What to list. ``limit`` 0 means all; ``continue_`` is the token of the page before."""

    label_selector: str = ""
    field_selector: str = ""
    limit: int = 0
    continue_: str = ""
    resource_version: str = ""


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """What to watch, and from where. "" or "0" begins with the present objects as ADDED; ``initial_events`` adds a bookmark behind them."""

    label_selector: str = ""
    field_selector: str = ""
    resource_version: str = ""
    bookmarks: bool = False
    initial_events: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """How the server behaves.

    ``create_namespaces``: a create in an absent namespace makes it. ``collect_automatically``: owner-reference collection and namespace
    deletion run to their end within each write; else whoever drives the server calls ``collect_garbage``. ``graceful_pods``: a pod with a
    node keeps existing for its grace period until a kubelet deletes it with grace 0. ``first_version`` and ``version_step`` shape
    resourceVersions; ``object_bytes_max`` is etcd's request limit.
    """

    create_namespaces: bool = False
    collect_automatically: bool = False
    graceful_pods: bool = True
    first_version: int = 0
    version_step: int = 1
    history_max: int = HISTORY_MAX
    object_bytes_max: int = OBJECT_BYTES_MAX
    seed: int = 0
