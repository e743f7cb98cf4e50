"""What a host is to do at its first boot, told once for all formats.

Source: kinds.md §9 (what a bootstrap Secret says); bootstrap.cluster.x-k8s.io/v1beta2 (files, users, commands, disks).
"""

from __future__ import annotations

import base64
import binascii
import gzip
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeAlias

from fleetwake.errors import InvalidError

Json: TypeAlias = Mapping[str, Any]
CONTENT_BYTES_MAX = 1 << 20


class Role(Enum):
    """How the host comes into the cluster."""

    INIT = "init"
    JOIN_CONTROL_PLANE = "control plane join"
    JOIN_WORKER = "worker join"

    @property
    def control_plane(self) -> bool:
        """Whether the host runs the control plane."""
        return self is not Role.JOIN_WORKER


@dataclass(frozen=True, slots=True)
class Layout:
    """Where things lie on the host, and how its shell says that all went well."""

    init_path: str
    join_path: str
    fetched: str
    """Folder of what only bootstrapping by fetch needs."""
    windows: bool = False


@dataclass(frozen=True, slots=True)
class HostFile:
    """A file on the host. ``content`` may hold key material and is kept out of the repr; ``encoding`` is how the content is encoded, "" for none."""

    path: str
    content: str = field(repr=False)
    owner: str = ""
    permissions: str = ""
    encoding: str = ""
    append: bool = False

    @property
    def text(self) -> str:
        """The content as every format writes it: a text ends with one newline; what is encoded stays as it is."""
        return self.content if self.encoding or not self.content.strip("\n") else self.content.rstrip("\n") + "\n"

    @property
    def mode(self) -> int:
        """The permissions as a number; 0644 where none are given.

        Raises:
            InvalidError: they are no octal number.
        """
        try:
            return int(self.permissions, 8) if self.permissions else 0o644
        except ValueError:
            raise InvalidError(f"file {self.path}: permissions {self.permissions!r} are no octal number") from None

    def decoded(self) -> bytes:
        """The bytes that are on the disk in the end.

        Raises:
            InvalidError: the content is not encoded as it says, or is too large.
        """
        try:
            data = base64.b64decode("".join(self.content.split()), validate=True) if "base64" in self.encoding else self.text.encode()
            if "gzip" in self.encoding:
                reader = zlib.decompressobj(wbits=31)
                data = reader.decompress(data, CONTENT_BYTES_MAX)
                if reader.unconsumed_tail:
                    raise InvalidError(f"file {self.path} has more than {CONTENT_BYTES_MAX} bytes when unpacked")
            return data
        except (binascii.Error, gzip.BadGzipFile, zlib.error) as error:
            raise InvalidError(f"file {self.path}: its content is not {self.encoding}") from error


@dataclass(frozen=True, slots=True)
class Host:
    """Everything a host does at its first boot.

    ``files`` are written first. Then run ``first`` (commands of ours), the spec's own preKubeadmCommands, ``command``, which makes the Node, and the
    spec's postKubeadmCommands. ``users`` have their passwords in place. ``spent`` are files that have done their work with that: where a format runs
    its commands at every boot, it moves them away, and does nothing without the first.
    """

    files: tuple[HostFile, ...]
    command: str
    spec: Json = field(default_factory=dict)
    users: tuple[Json, ...] = field(default=(), repr=False)
    first: tuple[str, ...] = ()
    spent: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Made:
    """What a bootstrapper contributes: files before and after the user's own, the command that makes the Node, and which of the files it uses up."""

    before: tuple[HostFile, ...]
    after: tuple[HostFile, ...]
    command: str
    spent: tuple[str, ...]
