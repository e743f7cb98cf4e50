"""Bootstrap data in the form cloud-init reads: a cloud-config document behind a jinja header.

The text is composed line by line, because three things in it are read before any YAML parser: the two header lines, and jinja expressions
that users put into file contents and commands. Contents are literal blocks, so that their indentation and their expressions survive.
Commands are double quoted, in the escapes that cloud-init's users know from Cluster API.

Source: kinds.md §9 (exact order); cloud-init 25 module reference; Cluster API v1.14 bootstrap/kubeadm/pkg/cloudinit (observable output).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fleetwake import yaml_text
from services.reconcilers.kubeadm.documents import Json

HEADER = "## template: jinja\n#cloud-config\n"
SENTINEL_COMMAND = "echo success > /run/cluster-api/bootstrap-success.complete"
PLACEHOLDER_PATH = "/run/cluster-api/placeholder"
PLACEHOLDER = (
    "This placeholder file is used to create the /run/cluster-api sub directory in a way that is compatible with both Linux and Windows "
    "(mkdir -p /run/cluster-api does not work with Windows)"
)
INIT_PATH = "/run/kubeadm/kubeadm.yaml"
JOIN_PATH = "/run/kubeadm/kubeadm-join-config.yaml"

_PARTITION_TYPES = {"Linux": "83", "LinuxSwap": "82", "LinuxRAID": "fd", "LVM": "8e", "Fat32": "0c", "NTFS": "07", "LinuxExtended": "85"}
_NOT_LITERAL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x84\x86-\x9f\ufeff\ufffe\uffff]")
"""Characters a literal block cannot carry (carriage returns would be read as line ends)."""


@dataclass(frozen=True, slots=True)
class WriteFile:
    """A file for ``write_files``. ``content`` may hold key material and is kept out of the repr."""

    path: str
    content: str = field(repr=False)
    owner: str = ""
    permissions: str = ""
    encoding: str = ""
    append: bool = False


@dataclass(frozen=True, slots=True)
class UserData:
    """Everything a cloud-config says; ``spec`` is the KubeadmConfig's spec (commands, ntp, disks, mounts), ``users`` with passwords in place."""

    files: tuple[WriteFile, ...]
    kubeadm_command: str
    spec: Json = field(default_factory=dict)
    users: tuple[Json, ...] = ()


def render(data: UserData) -> bytes:
    """The cloud-config as UTF-8 text."""
    lines = [HEADER, "write_files:"]
    for file in (*data.files, WriteFile(PLACEHOLDER_PATH, PLACEHOLDER, "root:root", "0640")):
        lines.extend(_file(file))
    spec = data.spec
    lines.extend(_commands("bootcmd", spec.get("bootCommands") or ()))
    run = (*(spec.get("preKubeadmCommands") or ()), f"{data.kubeadm_command} && {SENTINEL_COMMAND}", *(spec.get("postKubeadmCommands") or ()))
    lines.extend(_commands("runcmd", run))
    sections = {
        "ntp": _ntp(spec.get("ntp") or {}),
        "users": [_user(user) for user in data.users],
        "disk_setup": _disk_setup(spec.get("diskSetup") or {}),
        "fs_setup": [_filesystem(one) for one in (spec.get("diskSetup") or {}).get("filesystems") or ()],
        "mounts": [list(mount) for mount in spec.get("mounts") or ()],
    }
    lines.extend(yaml_text.dump({name: value}, sort_keys=False, width=1 << 20).rstrip("\n") for name, value in sections.items() if value)
    return ("\n".join(lines) + "\n").encode()


def kubeadm_command(verb: str, path: str, verbosity: int | None) -> str:
    """The command that bootstraps the node: ``kubeadm init --config ...``."""
    flag = "" if verbosity is None else f" --v {verbosity}"
    return f"kubeadm {verb} --config {path}{flag}"


def _quoted(text: str) -> str:
    """A YAML double-quoted scalar on one line."""
    if _NOT_LITERAL.search(text):
        return yaml_text.quoted(text, width=1 << 30).rstrip("\n")
    return json.dumps(text, ensure_ascii=False)


def _plain(text: str) -> str:
    """A scalar as YAML spells it with the least quoting."""
    return yaml_text.dump(text, width=1 << 30).rstrip("\n")


def _commands(section: str, commands: Sequence[str]) -> Iterable[str]:
    return (f"{section}:", *(f"  - {_quoted(command)}" for command in commands)) if commands else ()


def _file(file: WriteFile) -> Iterable[str]:
    yield f"-   path: {_plain(file.path)}"
    if file.encoding:
        yield f'    encoding: "{file.encoding}"'
    if file.owner:
        yield f"    owner: {_plain(file.owner)}"
    if file.permissions:
        # quoted, or YAML would read an octal number
        yield f"    permissions: '{file.permissions}'"
    if file.append:
        yield "    append: true"
    yield from _content(file.content)


def _content(content: str) -> Iterable[str]:
    if not content.strip("\n") or _NOT_LITERAL.search(content):
        yield f"    content: {_quoted(content)}"
        return
    # without the indicator a parser would take the first line's own leading blanks for indentation
    indicator = "2" if content.lstrip("\n").startswith(" ") or content.startswith("\n") else ""
    yield f"    content: |{indicator}"
    yield from (f"      {line}" if line else "" for line in content.rstrip("\n").split("\n"))


def _ntp(wanted: Json) -> Mapping[str, Any]:
    section: dict[str, Any] = {}
    if wanted.get("enabled") is not None:
        section["enabled"] = wanted["enabled"]
    if wanted.get("servers"):
        section["servers"] = list(wanted["servers"])
    return section


_USER_KEYS = {
    "name": "name",
    "passwd": "passwd",
    "gecos": "gecos",
    "groups": "groups",
    "homeDir": "homedir",
    "inactive": "inactive",
    "lockPassword": "lock_passwd",
    "shell": "shell",
    "primaryGroup": "primary_group",
    "sudo": "sudo",
    "sshAuthorizedKeys": "ssh_authorized_keys",
}


def _user(user: Json) -> Mapping[str, Any]:
    return {
        name: user[key] if not isinstance(user[key], tuple) else list(user[key]) for key, name in _USER_KEYS.items() if user.get(key) not in (None, "", [], ())
    }


def _disk_setup(wanted: Json) -> Mapping[str, Any]:
    section: dict[str, Any] = {}
    for partition in wanted.get("partitions") or ():
        disk: dict[str, Any] = {}
        if partition.get("tableType"):
            disk["table_type"] = partition["tableType"]
        layout = [_slice(one) for one in partition.get("diskLayout") or ()]
        disk["layout"] = layout or bool(partition.get("layout"))
        if partition.get("overwrite") is not None:
            disk["overwrite"] = partition["overwrite"]
        section[partition["device"]] = disk
    return section


def _slice(one: Json) -> Any:
    """A partition of a layout: its share of the disk, with its type where one is asked for (cloud-init wants the number of the type)."""
    kind = one.get("partitionType")
    return [one["percentage"], _PARTITION_TYPES.get(kind, kind)] if kind else one["percentage"]


def _filesystem(one: Json) -> Mapping[str, Any]:
    keys = {"label": "label", "filesystem": "filesystem", "device": "device", "partition": "partition", "overwrite": "overwrite", "replaceFS": "replace_fs"}
    section = {name: one[key] for key, name in keys.items() if one.get(key) is not None}
    if one.get("extraOpts"):
        section["extra_opts"] = list(one["extraOpts"])
    return section
