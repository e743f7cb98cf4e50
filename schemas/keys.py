"""Keys: how an object is named on the bus, in caches and on queues.

A key is ``group/kind/namespace/name``; an object of a workload cluster carries that cluster behind an ``@``
(``/Node//node-1@default/demo``), so that Nodes of two clusters never collide. The cluster an object belongs to
decides its partition, not its key (architecture: partition by cluster).
"""

from __future__ import annotations

from typing import NamedTuple


class ObjectKey(NamedTuple):
    """The identity of an object. ``cluster`` is ``""`` for the management API, else ``<namespace>/<name>`` of a workload cluster."""

    group: str
    kind: str
    namespace: str
    name: str
    cluster: str = ""

    def __str__(self) -> str:
        text = f"{self.group}/{self.kind}/{self.namespace}/{self.name}"
        return f"{text}@{self.cluster}" if self.cluster else text

    @property
    def group_kind(self) -> GroupKind:
        """The (group, kind) pair."""
        return GroupKind(self.group, self.kind)

    @classmethod
    def parse(cls, text: str) -> ObjectKey:
        """Read a key written by ``str``.

        Raises:
            ValueError: the text has no four parts.
        """
        path, _, cluster = text.partition("@")
        group, kind, namespace, name = path.split("/", 3)
        return cls(group, kind, namespace, name, cluster)


class GroupKind(NamedTuple):
    """An API group and a kind, without a version."""

    group: str
    kind: str

    def __str__(self) -> str:
        return f"{self.kind}.{self.group}" if self.group else self.kind


class ClusterKey(NamedTuple):
    """The namespace and name of a Cluster; ``str`` gives what decides the partition."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @classmethod
    def parse(cls, text: str) -> ClusterKey:
        """Read ``<namespace>/<name>``."""
        namespace, _, name = text.partition("/")
        return cls(namespace, name)
