"""What a host fetches: a gzipped tar of its files, and a script in it that does what no archive can.

Every file is in the archive at its place, with its mode and owner. Three things need more: files that are appended to, passwords of users, and expressions that
the format would have filled in on the host (``{{ ds.meta_data.local_hostname }}``).

Source: POSIX pax; cloud-init's ``devel render`` (the program that fills in user data at boot, for one file).
"""

from __future__ import annotations

import base64
import gzip
import io
import re
import shlex
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from fleetwake.errors import InvalidError
from services.reconcilers.bootstrap.host import Host, HostFile, Layout

APPLY = "apply.sh"
WINDOWS_APPLY = "apply.ps1"
JINJA_HEADER = "## template: jinja\n"
_EXPRESSION = re.compile(r"\{[{%#]")
_LOOKUP = re.compile(r"\{\{\s*[A-Za-z_][\w.]*\s*\}\}")


@dataclass(slots=True)
class _Member:
    path: str
    data: bytes = field(repr=False)
    mode: int = 0o644
    owner: str = "root:root"


def archive(host: Host, layout: Layout, *, templated: bool) -> bytes:
    """The archive of a host's files and passwords; the same input gives the same bytes. ``templated``: the format fills in jinja expressions.

    Raises:
        InvalidError: a file cannot be told in an archive.
    """
    members = list(_windows_members(host, layout, templated=templated) if layout.windows else _linux_members(host, layout, templated=templated))
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for member in members:
            info = tarfile.TarInfo(member.path)
            user, _, group = member.owner.partition(":")
            info.size, info.mode = len(member.data), member.mode
            info.uname, info.gname = user.strip() or "root", group.strip() or "root"
            tar.addfile(info, io.BytesIO(member.data))
    return gzip.compress(buffer.getvalue(), mtime=0)


def expressions(files: Iterable[HostFile]) -> tuple[str, ...]:
    """The lookups in files that a Windows host fills in by itself, each once.

    Raises:
        InvalidError: a file has an expression that is no lookup.
    """
    found: dict[str, None] = {}
    for file in files:
        if not file.encoding and _EXPRESSION.search(_LOOKUP.sub("", file.text)):
            raise InvalidError(f"file {file.path}: with the transport Fetch, Windows hosts fill in lookups like {{{{ ds.meta_data.local_hostname }}}} only")
        found |= dict.fromkeys(_LOOKUP.findall(file.text) if not file.encoding else ())
    return tuple(found)


def _linux_members(host: Host, layout: Layout, *, templated: bool) -> Iterable[_Member]:
    folder = layout.fetched
    lines = ["#!/bin/sh", "set -eu", "umask 022"]
    for index, file in enumerate(host.files):
        relative, target = file.path.lstrip("/"), shlex.quote(file.path)
        template = templated and not file.encoding and _EXPRESSION.search(file.text) is not None
        if not file.append and not template:
            yield _Member(relative, file.decoded(), file.mode, file.owner)
            continue
        part = f"{folder}/parts/{index}"
        yield _Member(part.lstrip("/"), (JINJA_HEADER.encode() if template else b"") + file.decoded(), 0o600)
        if template:
            lines.append(f"cloud-init devel render {part} > {part}.filled && mv {part}.filled {part}")
        if file.append:
            lines.append(f"mkdir -p $(dirname {target}) && cat {part} >> {target} && rm {part}")
            lines.extend(f"{command} {shlex.quote(value)} {target}" for command, value in (("chown", file.owner), ("chmod", file.permissions)) if value)
        else:
            # an empty file in the archive gives the place its owner and mode
            yield _Member(relative, b"", file.mode, file.owner)
            lines.append(f"cat {part} > {target} && rm {part}")
    passwords = [f"{user['name']}:{user['passwd']}" for user in host.users if user.get("passwd")]
    if passwords:
        yield _Member(f"{folder}/passwords".lstrip("/"), ("\n".join(passwords) + "\n").encode(), 0o600)
        lines.append(f"chpasswd -e < {folder}/passwords && rm {folder}/passwords")
    yield _Member(f"{folder}/{APPLY}".lstrip("/"), ("\n".join(lines) + "\n").encode(), 0o600)


def _windows_members(host: Host, layout: Layout, *, templated: bool) -> Iterable[_Member]:
    lines = ["$ErrorActionPreference = 'Stop'", "$utf8 = New-Object Text.UTF8Encoding $false"]
    for index, file in enumerate(host.files):
        template = templated and not file.encoding and _LOOKUP.search(file.text) is not None
        if not file.append and not template:
            yield _Member(_below_c(file.path), file.decoded())
            continue
        part = rf"{layout.fetched}\parts\{index}"
        yield _Member(_below_c(part), file.decoded())
        lines.append(f"$text = [IO.File]::ReadAllText({_ps(part)}, $utf8)")
        if template:
            lines.append("foreach ($entry in $values.GetEnumerator()) { $text = $text.Replace($entry.Key, $entry.Value) }")
        lines.append(f"[void](New-Item -ItemType Directory -Force (Split-Path {_ps(file.path)}))")
        lines.append(f"[IO.File]::{'AppendAllText' if file.append else 'WriteAllText'}({_ps(file.path)}, $text, $utf8)")
        lines.append(f"Remove-Item {_ps(part)}")
    for user in host.users:
        if user.get("passwd"):
            lines.append(f"Set-LocalUser -Name {_ps(user['name'])} -Password (ConvertTo-SecureString {_ps(user['passwd'])} -AsPlainText -Force)")
    yield _Member(_below_c(rf"{layout.fetched}\{WINDOWS_APPLY}"), ("\n".join(lines) + "\n").encode())


def _below_c(path: str) -> str:
    drive, colon, rest = path.partition(":")
    if colon and drive.upper() != "C":
        raise InvalidError(f"file {path}: a host can fetch files for drive C only")
    return (rest if colon else path).replace("\\", "/").lstrip("/")


def _ps(text: str) -> str:
    """A text as PowerShell's literal string."""
    return "'" + text.replace("'", "''") + "'"


def values_table(found: Sequence[str]) -> list[str]:
    """PowerShell that makes ``$values``: what stands for each lookup. The format fills in the right-hand sides; the left-hand sides it must not see."""
    lines = ["$values = @{}"]
    for expression in found:
        key = base64.b64encode(expression.encode()).decode("ascii")
        lines.append(f"$values[$utf8.GetString([Convert]::FromBase64String('{key}'))] = '{expression}'")
    return lines
