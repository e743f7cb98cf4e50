"""Bootstrap data as text: init, control-plane join and worker join in every format, with and without a proxy, inline and fetched, on Linux and Windows.

Files of cloud-config are the data itself. Ignition is shown as its JSON with data URLs opened, archives as a listing with the contents of their files.
"""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from services.reconcilers.bootstrap import composition
from services.reconcilers.bootstrap.host import Role
from tests.decide.bootstrap_world import POINT, PROXY, SPEC, data, request_of, short_inputs, worker_spec

FOLDER = Path(__file__).with_name("bootstrap")
SHORT: dict[str, Any] = {
    "clusterConfiguration": {"apiServer": {"certSANs": ["api.example.com"]}},
    "initConfiguration": {"nodeRegistration": {"name": "{{ ds.meta_data.local_hostname }}"}},
    "joinConfiguration": {"nodeRegistration": {"name": "{{ ds.meta_data.local_hostname }}"}},
    "files": [
        {"path": "/etc/motd", "content": "Welcome to {{ ds.meta_data.local_hostname }}\n", "owner": "root:root", "permissions": "0644"},
        {"path": "/etc/token", "contentFrom": {"secret": {"name": "extra", "key": "token"}}, "permissions": "0600", "append": True},
    ],
    "users": [{"name": "capi", "groups": "docker, wheel", "sudo": "ALL=(ALL) NOPASSWD:ALL", "sshAuthorizedKeys": ["ssh-ed25519 AAAA me"],
               "lockPassword": False, "passwdFrom": {"secret": {"name": "extra", "key": "password"}}}],
    "ntp": {"enabled": True, "servers": ["ntp.example.com"]},
    "preKubeadmCommands": ["echo before"],
    "postKubeadmCommands": ["echo after"],
}  # fmt: skip
DISKS: dict[str, Any] = {
    "diskSetup": {
        "partitions": [{"device": "/dev/vdb", "layout": True, "overwrite": True, "tableType": "gpt"}],
        "filesystems": [{"device": "/dev/vdb1", "filesystem": "ext4", "label": "etcd_disk", "extraOpts": ["-E", "lazy_itable_init=1"]}],
    },
    "mounts": [["LABEL=etcd_disk", "/var/lib/etcd-disk", "defaults", "noatime"]],
}
WINDOWS: dict[str, Any] = {
    "fleetwake": {"operatingSystem": "windows"},
    "joinConfiguration": {"nodeRegistration": {"name": "{{ ds.meta_data.local_hostname }}", "criSocket": "npipe:////./pipe/containerd-containerd"}},
    "files": [
        {"path": "C:\\k\\motd.txt", "content": "Welcome to {{ ds.meta_data.local_hostname }}\n"},
        {"path": "C:\\k\\token.txt", "contentFrom": {"secret": {"name": "extra", "key": "token"}}, "append": True},
    ],
    "users": [{"name": "capi", "groups": "Administrators", "sshAuthorizedKeys": ["ssh-ed25519 AAAA me"]}],
    "ntp": {"enabled": True, "servers": ["ntp.example.com"]},
    "preKubeadmCommands": ["powershell C:\\k\\prepare.ps1"],
    "postKubeadmCommands": ["echo after"],
}
ROLES = {"init": Role.INIT, "join-control-plane": Role.JOIN_CONTROL_PLANE, "join-worker": Role.JOIN_WORKER}
FORMATS: Mapping[str, dict[str, Any]] = {
    "cloud-config": {},
    "ignition-2.3": {"format": "ignition", **DISKS},
    "ignition-3.4": {"format": "ignition", **DISKS, "fleetwake": {"ignitionVersion": "3.4"}},
}


def spec_of(role: Role, parts: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    spec = {**SHORT, **parts, "fleetwake": {**parts.get("fleetwake", {}), **ours}}
    spec = {name: value for name, value in spec.items() if value != {}}
    return worker_spec(spec) if role is Role.JOIN_WORKER else spec


def opened(value: bytes) -> str:
    """Ignition as JSON that people can read: what data URLs hold stands in lines below them."""

    def shown(part: Any) -> Any:
        if isinstance(part, Mapping):
            source = part.get("source")
            if isinstance(source, str) and source.startswith("data:,"):
                return {**part, "source": ["data:,", *unquote(source.removeprefix("data:,")).split("\n")]}
            if isinstance(part.get("contents"), str):
                return {name: value.split("\n") if name == "contents" else shown(value) for name, value in part.items()}
            return {name: shown(item) for name, item in part.items()}
        return [shown(item) for item in part] if isinstance(part, list) else part

    return json.dumps(shown(json.loads(value)), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def listed(archive: bytes) -> str:
    """An archive as text."""
    lines = []
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        for member in tar.getmembers():
            content = tar.extractfile(member)
            assert content is not None
            lines.append(f"==> {member.name} ({member.mode:o} {member.uname}:{member.gname})\n{content.read().decode()}")
    return "\n".join(lines)


def compared(name: str, text: str, regolden: bool) -> None:
    path = FOLDER / name
    if regolden:
        path.write_text(text)
    assert path.exists(), f"record it: pytest {__file__} --regolden"
    assert text == path.read_text(), f"{name} has changed"


@pytest.mark.parametrize("version", ["v1.30.4", "v1.34.2"])
@pytest.mark.parametrize("mode", ROLES)
def test_every_field(mode: str, version: str, regolden: bool) -> None:
    role = ROLES[mode]
    made = data(role, worker_spec(SPEC) if role is Role.JOIN_WORKER else SPEC, version)
    compared(f"{mode}-{version}.yaml", made["value"].decode(), regolden)


@pytest.mark.parametrize("proxy", [False, True], ids=["direct", "proxy"])
@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("mode", ROLES)
def test_every_format(mode: str, format_: str, proxy: bool, regolden: bool) -> None:
    role = ROLES[mode]
    spec = spec_of(role, FORMATS[format_], {"httpProxy": PROXY} if proxy else {})
    made = data(role, spec, given=short_inputs())
    text = opened(made["value"]) if made["format"] == b"ignition" else made["value"].decode()
    suffix = "json" if made["format"] == b"ignition" else "yaml"
    compared(f"{mode}-{format_}{'-proxy' if proxy else ''}.{suffix}", text, regolden)


@pytest.mark.parametrize("proxy", [False, True], ids=["direct", "proxy"])
def test_windows_worker(proxy: bool, regolden: bool) -> None:
    ours = {"operatingSystem": "windows", **({"httpProxy": PROXY} if proxy else {})}
    made = data(Role.JOIN_WORKER, {**WINDOWS, "fleetwake": ours}, given=short_inputs())
    assert made["format"] == b"cloud-config"
    compared(f"join-worker-windows{'-proxy' if proxy else ''}.yaml", made["value"].decode(), regolden)


def test_worker_of_the_kubelet_alone(regolden: bool) -> None:
    spec = spec_of(Role.JOIN_WORKER, {}, {"bootstrapper": "kubelet"})
    compared("join-worker-kubelet.yaml", data(Role.JOIN_WORKER, spec, given=short_inputs())["value"].decode(), regolden)


FETCHED = {
    "init-cloud-config": (Role.INIT, spec_of(Role.INIT, {}, {"httpProxy": PROXY})),
    "join-control-plane-ignition-2.3": (Role.JOIN_CONTROL_PLANE, spec_of(Role.JOIN_CONTROL_PLANE, FORMATS["ignition-2.3"], {})),
    "join-worker-windows": (Role.JOIN_WORKER, WINDOWS),
}


@pytest.mark.parametrize("name", FETCHED)
def test_fetched(name: str, regolden: bool) -> None:
    role, spec = FETCHED[name]
    spec = {**spec, "fleetwake": {**spec.get("fleetwake", {}), "secretTransport": {"type": "Fetch"}}}
    made = data(role, spec, given=short_inputs())
    ignition = made["format"] == b"ignition"
    told = opened(made["value"]) if ignition else made["value"].decode()
    compared(f"{name}-fetch.{'json' if ignition else 'yaml'}", told, regolden)
    archive = composition.fetched(request_of("v1.34.2", spec, POINT), role).render(short_inputs())
    compared(f"{name}-fetched.txt", listed(archive), regolden)
    assert "PRIVATE KEY" not in told
