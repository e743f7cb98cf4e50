"""Bootstrap data in the form Ignition reads: JSON of specification 2.3, as Cluster API emits it, or of 3.0 to 3.5.

Ignition writes files and units before the host's own system starts and runs nothing itself: a unit runs /etc/kubeadm.sh once, for as long as the
file kubeadm reads is there. ``ignition.containerLinuxConfig.additionalConfig`` is merged in, and wins.

Source: kinds.md §9; Ignition configuration specification 2.3.0 and 3.0.0 to 3.5.0; Cluster API v1.14 bootstrap/kubeadm/pkg/ignition (observable output).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from fleetwake.errors import InvalidError
from services.reconcilers.bootstrap import ignition_additional, ignition_merge
from services.reconcilers.bootstrap.host import Host, HostFile, Json, Layout

SCRIPT = "/etc/kubeadm.sh"
KUBEADM_CONFIG = "/etc/kubeadm.yml"
LAYOUT = Layout(KUBEADM_CONFIG, KUBEADM_CONFIG, "/etc/fleetwake")
DEFAULT_VERSION = "2.3"
_PLAIN = "~()*!.'-_/:=,;@&+$"
"""Characters that a data URL carries as they are, besides letters and digits."""

_NTP_CONF = """# Common pool
{servers}

# Warning: Using default NTP settings will leave your NTP
# server accessible to all hosts on the Internet.

# Allow only time queries, at a limited rate, and all local ones
restrict default nomodify nopeer noquery notrap limited kod
restrict 127.0.0.1
restrict [::1]
"""
_SSHD_CONF = """# Use most defaults for sshd configuration.
Subsystem sftp internal-sftp
ClientAliveInterval 180
UseDNS no
UsePAM yes
PrintLastLog no
PrintMotd no

"""
_UNIT = """[Unit]
Description=kubeadm
# Run only once. After a successful run this file is moved away.
ConditionPathExists={once}
After=network.target
[Service]
# It is to exit, and not to be started again then.
Type=oneshot
ExecStart=/bin/bash {script}
[Install]
WantedBy=multi-user.target
"""


class Ignition:
    """The format ``ignition`` in one version of its specification (``2.3``, ``3.4``, ...)."""

    name = "ignition"
    layout = LAYOUT

    def __init__(self, version: str = DEFAULT_VERSION) -> None:
        self._version = version

    @property
    def _old(self) -> bool:
        return self._version.startswith("2.")

    def refusal(self, spec: Json) -> str:
        """What of a spec Ignition cannot do, "" if nothing."""
        if spec.get("bootCommands"):
            return "spec.bootCommands: Ignition knows no commands at boot"
        for user in spec.get("users") or ():
            if user.get("inactive"):
                return f"spec.users: user {user['name']} is inactive, which Ignition cannot make"
        for file in spec.get("files") or ():
            if "gzip" in (file.get("encoding") or ""):
                return f"spec.files: {file['path']} is encoded as {file['encoding']}; with Ignition only base64 is possible"
        disks = spec.get("diskSetup") or {}
        for partition in disks.get("partitions") or ():
            if (partition.get("tableType") or "gpt") != "gpt":
                return f"spec.diskSetup.partitions: {partition['device']} has table type {partition['tableType']}; Ignition makes gpt only"
            if partition.get("diskLayout"):
                return f"spec.diskSetup.partitions: {partition['device']} is laid out in percent, which Ignition cannot do"
        for filesystem in disks.get("filesystems") or ():
            for name in ("replaceFS", "partition"):
                if filesystem.get(name):
                    return f"spec.diskSetup.filesystems: {filesystem['device']} has {name}, which Ignition does not know"
        try:
            _mounts(spec)
            ignition_additional.read(spec, self._version)
        except InvalidError as error:
            return error.message
        return ""

    def render(self, host: Host) -> bytes:
        """The configuration as JSON text.

        Raises:
            InvalidError: the spec asks for what Ignition cannot do, or its additional configuration cannot be read.
        """
        refusal = self.refusal(host.spec)
        if refusal:
            raise InvalidError(refusal)
        made = {
            "ignition": {"version": f"{self._version}.0"},
            "passwd": {"users": [self._user(user) for user in host.users]},
            "storage": {
                "disks": [self._disk(one) for one in (host.spec.get("diskSetup") or {}).get("partitions") or ()],
                "filesystems": [self._filesystem(one) for one in (host.spec.get("diskSetup") or {}).get("filesystems") or ()],
                "files": [self._file(file) for file in self._merged(_all_files(host, old=self._old))],
            },
            "systemd": {"units": list(_units(host))},
        }
        merge = ignition_merge.appended if self._old else ignition_merge.merged
        config = merge(_without_empty(made), ignition_additional.read(host.spec, self._version))
        return json.dumps(config, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    # ---- files ------------------------------------------------------------------------------------------------------------------------
    def _merged(self, files: Iterable[HostFile]) -> Iterable[tuple[HostFile, ...]]:
        """The files, those of one path together where the specification has one entry a path (3.x)."""
        if self._old:
            yield from ((file,) for file in files)
            return
        found: dict[str, list[HostFile]] = {}
        for file in files:
            if file.append:
                found.setdefault(file.path, []).append(file)
            else:
                found[file.path] = [file]
        yield from (tuple(parts) for parts in found.values())

    def _file(self, parts: tuple[HostFile, ...]) -> dict[str, Any]:
        first = parts[0]
        user, _, group = first.owner.partition(":")
        made: dict[str, Any] = {"path": first.path, "mode": first.mode}
        if user.strip():
            made["user"] = {"name": user.strip()}
        if group.strip():
            made["group"] = {"name": group.strip()}
        if self._old:
            return {**made, "filesystem": "root", "contents": {"source": data_url(first)}, **({"append": True} if first.append else {})}
        if first.append:
            return {**made, "append": [{"source": data_url(part)} for part in parts]}
        rest = [{"source": data_url(part)} for part in parts[1:]]
        return {**made, "overwrite": True, "contents": {"source": data_url(first)}, **({"append": rest} if rest else {})}

    # ---- users and disks --------------------------------------------------------------------------------------------------------------
    def _user(self, user: Json) -> dict[str, Any]:
        keys = {"name": "name", "gecos": "gecos", "homeDir": "homeDir", "shell": "shell", "passwd": "passwordHash", "primaryGroup": "primaryGroup"}
        made = {name: user[key] for key, name in keys.items() if user.get(key)}
        groups = [group.strip() for group in (user.get("groups") or "").split(",") if group.strip()]
        return {**made, "groups": groups, "sshAuthorizedKeys": list(user.get("sshAuthorizedKeys") or ())}

    def _disk(self, partition: Json) -> dict[str, Any]:
        made: dict[str, Any] = {"device": partition["device"]}
        if partition.get("overwrite"):
            made["wipeTable"] = True
        if partition.get("layout"):
            # a partition without a size is one of the whole disk; in 2.x number 0 is the next that is free
            made["partitions"] = [{"number": 0 if self._old else 1}]
        return made

    def _filesystem(self, one: Json) -> dict[str, Any]:
        made: dict[str, Any] = {"device": one["device"], "format": one["filesystem"], "wipeFilesystem": bool(one.get("overwrite"))}
        if one.get("label"):
            made["label"] = one["label"]
        if one.get("extraOpts"):
            made["options"] = list(one["extraOpts"])
        if self._old:
            return {"name": one.get("label") or one["device"].rpartition("/")[2], "mount": made}
        return made


def data_url(file: HostFile) -> str:
    """A file's content as a data URL: as text where that is readable, else in base64."""
    if file.encoding:
        return "data:;base64," + base64.b64encode(file.decoded()).decode("ascii")
    return "data:," + quote(file.text, safe=_PLAIN)


def _all_files(host: Host, *, old: bool) -> Iterable[HostFile]:
    for user in host.users:
        if user.get("sudo"):
            yield HostFile(f"/etc/sudoers.d/{user['name']}", f"{user['name']} {user['sudo']}", permissions="0600")
    names = [user["name"] for user in host.users if user.get("lockPassword") is False]
    if names:
        match = f"Match User {','.join(names)}\n  PasswordAuthentication yes\n"
        yield HostFile("/etc/ssh/sshd_config", _SSHD_CONF + match, permissions="0600") if old else _drop_in(match)
    yield from host.files
    yield HostFile(SCRIPT, _script(host), permissions="0700")
    ntp: Json = host.spec.get("ntp") or {}
    if ntp.get("enabled") and ntp.get("servers"):
        yield HostFile("/etc/ntp.conf", _NTP_CONF.format(servers="\n".join(f"server {server}" for server in ntp["servers"])), permissions="0644")


def _drop_in(match: str) -> HostFile:
    return HostFile("/etc/ssh/sshd_config.d/60-cluster-api.conf", match, permissions="0600")


def _script(host: Host) -> str:
    lines = ["#!/bin/bash", "set -e", *host.first, *(host.spec.get("preKubeadmCommands") or ()), "", host.command]
    lines.append("mkdir -p /run/cluster-api && echo success > /run/cluster-api/bootstrap-success.complete")
    lines.append(f"mv {' '.join(host.spent)} /tmp/")
    return "\n".join([*lines, *(host.spec.get("postKubeadmCommands") or ())]) + "\n"


# ---- units ----------------------------------------------------------------------------------------------------------------------------------


def _units(host: Host) -> Iterable[dict[str, Any]]:
    yield {"name": "kubeadm.service", "enabled": True, "contents": _UNIT.format(once=host.spent[0], script=SCRIPT)}
    if (host.spec.get("ntp") or {}).get("enabled"):
        yield {"name": "ntpd.service", "enabled": True}
    for what, where, options in _mounts(host.spec):
        contents = f"[Unit]\nDescription=Mount {what}\n\n[Mount]\nWhat={what}\nWhere={where}\n"
        contents += f"Options={options}\n" if options else ""
        yield {"name": f"{escaped_path(where)}.mount", "enabled": True, "contents": contents + "\n[Install]\nWantedBy=multi-user.target\n"}


def _mounts(spec: Json) -> list[tuple[str, str, str]]:
    """(device, mount point, options) of each mount. A label of the spec's file systems stands for its device.

    Raises:
        InvalidError: a mount has no mount point, or names neither a device nor a label that is known.
    """
    filesystems = (spec.get("diskSetup") or {}).get("filesystems") or ()
    devices = {one["label"]: one["device"] for one in filesystems if one.get("label")}
    found = []
    for mount in spec.get("mounts") or ():
        if len(mount) < 2:
            raise InvalidError(f"spec.mounts: {mount[0]} has no mount point")
        what = mount[0].removeprefix("LABEL=")
        if what not in devices and not what.startswith("/"):
            raise InvalidError(f"spec.mounts: {mount[0]} is neither a device nor the label of one of spec.diskSetup.filesystems")
        found.append((devices.get(what, what), mount[1], ",".join(mount[2:])))
    return found


def escaped_path(path: str) -> str:
    """A path as a unit's name. Source: systemd.unit(5), string escaping for inclusion in unit names."""
    trimmed = "/".join(part for part in path.split("/") if part)
    if not trimmed:
        return "-"
    out = []
    for index, char in enumerate(trimmed):
        if char == "/":
            out.append("-")
        elif (char.isascii() and char.isalnum()) or char in ":_" or (char == "." and index > 0):
            out.append(char)
        else:
            out.extend(f"\\x{byte:02x}" for byte in char.encode())
    return "".join(out)


def _without_empty(value: Any) -> Any:
    if isinstance(value, Mapping):
        found = {name: _without_empty(item) for name, item in value.items()}
        return {name: item for name, item in found.items() if item not in ({}, [])}
    return [_without_empty(item) for item in value] if isinstance(value, list) else value
