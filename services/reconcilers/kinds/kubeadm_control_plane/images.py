"""Names of container images: their parts, and one part exchanged for another.

Source: the reference grammar of container images (registry and path, tag, digest); Cluster API v1.14 (a tag cannot hold the + of a build).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

_VERSION = re.compile(r"^v?(\d+)\.(\d+)(?:\.(\d+))?")


@dataclass(frozen=True, slots=True)
class Image:
    """An image: ``repository`` is all before the last slash, ``""`` if there is none."""

    repository: str
    name: str
    tag: str = ""
    digest: str = ""

    def __str__(self) -> str:
        path = f"{self.repository}/{self.name}" if self.repository else self.name
        return path + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def with_tag(self, tag: str) -> Image:
        """The same image of another tag; a digest would name the old one."""
        return replace(self, tag=tag.replace("+", "_"), digest="")

    def within(self, repository: str) -> Image:
        """The image of that name elsewhere."""
        return replace(self, repository=repository.rstrip("/"))


def parse(text: str) -> Image:
    """The parts of an image's name."""
    path, _, digest = text.partition("@")
    repository, _, last = path.rpartition("/")
    name, _, tag = last.partition(":")
    return Image(repository, name, tag, digest)


def tag_version(tag: str) -> tuple[int, int, int] | None:
    """The version a tag says (``v1.12.4-eksbuild.1`` is 1.12.4); None when it says none."""
    found = _VERSION.match(tag)
    return (int(found[1]), int(found[2]), int(found[3] or 0)) if found is not None else None
