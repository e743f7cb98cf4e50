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
from typing import Any

from fleetwake import yaml_text
from services.reconcilers.bootstrap.host import Host, HostFile, Json, Layout

HEADER = "## template: jinja\n#cloud-config\n"
SENTINEL_COMMAND = "echo success > /run/cluster-api/bootstrap-success.complete"
PLACEHOLDER_PATH = "/run/cluster-api/placeholder"
PLACEHOLDER = (
    "This placeholder file is used to create the /run/cluster-api sub directory in a way that is compatible with both Linux and Windows "
    "(mkdir -p /run/cluster-api does not work with Windows)"
)
LAYOUT = Layout("/run/kubeadm/kubeadm.yaml", "/run/kubeadm/kubeadm-join-config.yaml", "/run/fleetwake")

_PARTITION_TYPES = {"Linux": 83, "LinuxSwap": 82, "LinuxRAID": "fd", "LVM": "8e", "Fat32": "0c", "NTFS": "07", "LinuxExtended": 85}
"""What cloud-init calls them: numbers where the hexadecimal code has no letter and no leading zero."""
_NOT_LITERAL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x84\x86-\x9f\ufeff\ufffe\uffff]")
"""Characters a literal block cannot carry (carriage returns would be read as line ends)."""


class CloudConfig:
    """The format ``cloud-config``."""

    name = "cloud-config"
    layout = LAYOUT

    def refusal(self, spec: Json) -> str:
        """Nothing of a KubeadmConfig is beyond cloud-init."""
        return ""

    def render(self, host: Host) -> bytes:
        """The cloud-config as UTF-8 text."""
        return render(host)


def render(host: Host) -> bytes:
    """The cloud-config as UTF-8 text."""
    lines = [HEADER, "write_files:"]
    for file in (*host.files, HostFile(PLACEHOLDER_PATH, PLACEHOLDER, "root:root", "0640")):
        lines.extend(write_file(file))
    spec = host.spec
    lines.extend(commands("bootcmd", spec.get("bootCommands") or ()))
    before, after = (*host.first, *(spec.get("preKubeadmCommands") or ())), spec.get("postKubeadmCommands") or ()
    lines.extend(commands("runcmd", (*before, f"{host.command} && {SENTINEL_COMMAND}", *after)))
    sections = {
        "ntp": ntp(spec.get("ntp") or {}),
        "users": [_linux_user(one) for one in host.users],
        "disk_setup": _disk_setup(spec.get("diskSetup") or {}),
        "fs_setup": [_filesystem(one) for one in (spec.get("diskSetup") or {}).get("filesystems") or ()],
        "mounts": [list(mount) for mount in spec.get("mounts") or ()],
    }
    lines.extend(section(name, value) for name, value in sections.items() if value)
    return ("\n".join(lines) + "\n").encode()


def section(name: str, value: Any) -> str:
    """One section of plain values, without the newline at its end."""
    return yaml_text.dump({name: value}, sort_keys=False, width=1 << 20).rstrip("\n")


def _quoted(text: str) -> str:
    """A YAML double-quoted scalar on one line."""
    if _NOT_LITERAL.search(text):
        return yaml_text.quoted(text, width=1 << 30).rstrip("\n")
    return json.dumps(text, ensure_ascii=False)


def _plain(text: str) -> str:
    """A scalar as YAML spells it with the least quoting."""
    return yaml_text.dump(text, width=1 << 30).rstrip("\n")


def commands(name: str, lines: Sequence[str]) -> Iterable[str]:
    """A section of commands; nothing when there are none."""
    return (f"{name}:", *(f"  - {_quoted(line)}" for line in lines)) if lines else ()


def write_file(file: HostFile) -> Iterable[str]:
    """The lines of one entry of ``write_files``."""
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


def ntp(wanted: Json) -> Mapping[str, Any]:
    """The section ``ntp``."""
    found: dict[str, Any] = {}
    if wanted.get("enabled") is not None:
        found["enabled"] = wanted["enabled"]
    if wanted.get("servers"):
        found["servers"] = list(wanted["servers"])
    return found


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


def user(wanted: Json) -> Mapping[str, Any]:
    """One entry of ``users``."""
    found = {name: wanted.get(key) for key, name in _USER_KEYS.items()}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items() if value not in (None, "", [], ())}


def _linux_user(wanted: Json) -> Mapping[str, Any]:
    """The same for cloud-init, which wants to know after how many days a user becomes inactive: for one that is, after none."""
    found = dict(user(wanted))
    if found.pop("inactive", False):
        found["inactive"] = "0"
    return found


def _disk_setup(wanted: Json) -> Mapping[str, Any]:
    disks: dict[str, Any] = {}
    for partition in wanted.get("partitions") or ():
        disk: dict[str, Any] = {}
        if partition.get("tableType"):
            disk["table_type"] = partition["tableType"]
        layout = [_slice(one) for one in partition.get("diskLayout") or ()]
        disk["layout"] = layout or bool(partition.get("layout"))
        if partition.get("overwrite") is not None:
            disk["overwrite"] = partition["overwrite"]
        disks[partition["device"]] = disk
    return disks


def _slice(one: Json) -> Any:
    """A partition of a layout: its share of the disk, with its type where one is asked for (cloud-init wants the number of the type)."""
    kind = one.get("partitionType")
    return [one["percentage"], _PARTITION_TYPES.get(kind, kind)] if kind else one["percentage"]


def _filesystem(one: Json) -> Mapping[str, Any]:
    keys = {"label": "label", "filesystem": "filesystem", "device": "device", "partition": "partition", "overwrite": "overwrite", "replaceFS": "replace_fs"}
    found = {name: one[key] for key, name in keys.items() if one.get(key) is not None}
    if one.get("extraOpts"):
        found["extra_opts"] = list(one["extraOpts"])
    return found
