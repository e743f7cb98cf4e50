"""What a host does that fetches its data: the order it finds in its user data, and what the archive brings.

Source: the scripts of docs/security/bootstrap-data.md (fetch.sh, fetch.ps1, apply.sh, apply.ps1).
"""

from __future__ import annotations

import io
import re
import tarfile
from dataclasses import dataclass, field

from services.dev_infrastructure.emulation.user_data import BootstrapError, UserData, filled

ARCHIVE_BYTES_MAX = 16 << 20
_URL = re.compile(r"https://[^\s'\"]+")
_PLACED = re.compile(r"cat (\S+) (>>?) (\S+) && rm")
_WINDOWS_PART = re.compile(r"ReadAllText\('([^']+)'")
_WINDOWS_PLACED = re.compile(r"\]::(Append|Write)AllText\('([^']+)'")
_JINJA = "## template: jinja\n"


@dataclass(frozen=True, slots=True)
class Order:
    """Where to fetch, what to show, and whom to believe."""

    url: str
    authorization: str = field(repr=False)
    authority: str


def order(data: UserData) -> Order:
    """The order in user data whose rest is to be fetched.

    Raises:
        BootstrapError: something of it is missing.
    """
    join = "\\" if "\\" in data.fetch else "/"
    folder = data.fetch.rpartition(join)[0]
    url = _URL.search(data.text(data.fetch))
    if url is None:
        raise BootstrapError(f"{data.fetch} names no https URL")
    header = data.text(f"{folder}{join}authorization").strip()
    name, _, value = header.partition(": ")
    if name != "Authorization" or not value:
        raise BootstrapError(f"{folder}{join}authorization is no Authorization header")
    return Order(url[0], value, data.text(f"{folder}{join}ca.crt"))


def applied(data: UserData, archive: bytes, node_name: str) -> UserData:
    """The user data with what the archive brings in its place.

    Raises:
        BootstrapError: it is no archive.
    """
    files = dict(data.files)
    windows = "\\" in data.fetch
    script = ""
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
            for member in tar.getmembers():
                content = tar.extractfile(member)
                path = f"C:\\{member.name}".replace("/", "\\") if windows else f"/{member.name}"
                files[path] = content.read(ARCHIVE_BYTES_MAX) if content is not None else b""
                if path.rpartition("\\" if windows else "/")[2] in ("apply.sh", "apply.ps1"):
                    script = files[path].decode()
    except (tarfile.TarError, OSError, EOFError):
        raise BootstrapError("what was fetched is no archive") from None
    if not script:
        raise BootstrapError("what was fetched brings no script")
    for part, target, append in _placements(script, windows=windows):
        if part not in files:
            raise BootstrapError(f"{part} is not in what was fetched")
        content_ = filled(files.pop(part).decode().removeprefix(_JINJA), node_name).encode()
        files[target] = files.get(target, b"") + content_ if append else content_
    return UserData(files, data.commands)


def _placements(script: str, *, windows: bool) -> list[tuple[str, str, bool]]:
    """(part, place, whether it is appended) of every part that the script puts into place."""
    if not windows:
        return [(match[1], match[3], match[2] == ">>") for match in _PLACED.finditer(script)]
    found, part = [], ""
    for line in script.splitlines():
        if match := _WINDOWS_PART.search(line):
            part = match[1]
        elif match := _WINDOWS_PLACED.search(line):
            found.append((part, match[2], match[1] == "Append"))
    return found
