"""Ignition: what is refused, how files and mounts are told, additional configurations, merging by the rules of each version."""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest

from fleetwake.errors import InvalidError
from services.reconcilers.bootstrap.host import Host, HostFile
from services.reconcilers.bootstrap.ignition import Ignition, data_url, escaped_path
from services.reconcilers.bootstrap.ignition_merge import appended, merged

WHOLE_CONFIG = """
ignition:
  config:
    append:
    - source: https://example.com/more.ign
      verification: {hash: {function: sha512, sum: HASH}}
  timeouts: {http_total: 30}
passwd:
  users:
  - {name: core, ssh_authorized_keys: [ssh-ed25519 AAAA], create: {home_dir: /home/core}}
storage:
  disks:
  - device: /dev/vdc
    wipe_table: true
    partitions: [{label: data, number: 1, size: 10MB, start: 1GiB, type_guid: 4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709}]
  filesystems:
  - name: data
    mount: {device: /dev/disk/by-partlabel/data, format: ext4, wipe_filesystem: true}
  files:
  - path: /opt/inline
    contents: {inline: "two words\\n"}
  - path: /opt/remote
    mode: 0755
    contents: {remote: {url: "https://example.com/x", compression: gzip}}
  directories:
  - {path: /opt/dir}
  links:
  - {path: /opt/link, target: /opt/inline}
systemd:
  units:
  - name: kubeadm.service
    dropins: [{name: 10-more.conf, contents: "[Service]\\nEnvironment=A=1\\n"}]
networkd:
  units: [{name: 00-eth0.network, contents: "[Match]\\nName=eth0\\n"}]
""".replace("HASH", "0f" * 64)
BUTANE = """
variant: flatcar
version: 1.1.0
storage:
  files:
  - path: /etc/kubeadm.sh
    mode: 0755
  - path: /opt/new
    contents: {inline: new}
systemd:
  units:
  - name: kubeadm.service
    dropins: [{name: 10-more.conf, contents: "[Service]\\n"}]
"""


def rendered(spec: dict[str, Any], version: str = "2.3", files: tuple[HostFile, ...] = ()) -> dict[str, Any]:
    host = Host(files, "kubeadm join --config /etc/kubeadm.yml", spec, tuple(spec.get("users", ())), spent=("/etc/kubeadm.yml",))
    found: dict[str, Any] = json.loads(Ignition(version).render(host))
    return found


def with_additional(text: str, strict: bool = False) -> dict[str, Any]:
    return {"ignition": {"containerLinuxConfig": {"additionalConfig": text, "strict": strict}}}


def file(config: dict[str, Any], path: str) -> dict[str, Any]:
    (found,) = (one for one in config["storage"]["files"] if one["path"] == path)
    return dict(found)


REFUSED = [
    ({"bootCommands": ["x"]}, "bootCommands"),
    ({"users": [{"name": "a", "inactive": True}]}, "inactive"),
    ({"files": [{"path": "/a", "encoding": "gzip+base64", "content": "x"}]}, "gzip"),
    ({"diskSetup": {"partitions": [{"device": "/dev/a", "layout": True, "tableType": "mbr"}]}}, "gpt only"),
    ({"diskSetup": {"partitions": [{"device": "/dev/a", "diskLayout": [{"percentage": 50}]}]}}, "percent"),
    ({"diskSetup": {"filesystems": [{"device": "/dev/a", "filesystem": "ext4", "replaceFS": "ntfs"}]}}, "replaceFS"),
    ({"diskSetup": {"filesystems": [{"device": "/dev/a", "filesystem": "ext4", "partition": "auto"}]}}, "partition"),
    ({"mounts": [["nowhere", "/x"]]}, "neither a device"),
    ({"mounts": [["/dev/a"]]}, "no mount point"),
    (with_additional("a: ["), "no YAML"),
    (with_additional("- a"), "no mapping"),
    (with_additional("unknown: 1", strict=True), "unknown is not known"),
    (with_additional("etcd: {version: 3}"), "section etcd"),
    (with_additional(BUTANE), "set spec.fleetwake.ignitionVersion"),
    (with_additional("storage: {files: [{path: /a, contents: {local: x}}]}"), "no local files"),
    (with_additional("storage: {disks: [{device: /dev/a, partitions: [{size: many}]}]}"), "is no size"),
    (with_additional("storage: {disks: [{device: /dev/a, partitions: [{size: 1500KB}]}]}"), "whole MiB"),
]


@pytest.mark.parametrize(("spec", "message"), REFUSED)
def test_refused(spec: dict[str, Any], message: str) -> None:
    assert message in Ignition().refusal(spec)
    with pytest.raises(InvalidError):
        rendered(spec)


def test_script_runs_once_and_in_order() -> None:
    config = rendered({"preKubeadmCommands": ["echo before"], "postKubeadmCommands": ["echo after"]})
    script = file(config, "/etc/kubeadm.sh")["contents"]["source"]
    lines = data(script).decode().splitlines()
    assert lines == [
        "#!/bin/bash",
        "set -e",
        "echo before",
        "",
        "kubeadm join --config /etc/kubeadm.yml",
        "mkdir -p /run/cluster-api && echo success > /run/cluster-api/bootstrap-success.complete",
        "mv /etc/kubeadm.yml /tmp/",
        "echo after",
    ]
    (unit,) = config["systemd"]["units"]
    assert (unit["name"], unit["enabled"]) == ("kubeadm.service", True)
    assert "ConditionPathExists=/etc/kubeadm.yml\n" in unit["contents"] and "ExecStart=/bin/bash /etc/kubeadm.sh\n" in unit["contents"]


def data(source: str) -> bytes:
    kind, _, body = source.removeprefix("data:").partition(",")
    return base64.b64decode(unquote_to_bytes(body)) if kind == ";base64" else unquote_to_bytes(body)


@pytest.mark.parametrize("content", ["plain\n", "50% of {a} #?&\"'\\ é\n", "tab\tcr\r\n", ""])
def test_contents_survive(content: str) -> None:
    assert data(data_url(HostFile("/a", content))).decode() == content


def test_base64_is_opened() -> None:
    assert data(data_url(HostFile("/a", base64.b64encode(b"\x00\xff").decode(), encoding="base64"))) == b"\x00\xff"
    packed = base64.b64encode(gzip.compress(b"packed")).decode()
    assert HostFile("/a", packed, encoding="gzip+base64").decoded() == b"packed"
    with pytest.raises(InvalidError, match="/a"):
        HostFile("/a", "!", encoding="base64").decoded()
    with pytest.raises(InvalidError, match="no octal number"):
        rendered({}, files=(HostFile("/a", "x", permissions="u=rw"),))


def test_appended_files_of_each_version() -> None:
    files = (HostFile("/a", "one", "root:wheel", "0600"), HostFile("/a", "two", append=True), HostFile("/b", "three", append=True))
    old, new = rendered({}, files=files)["storage"]["files"], rendered({}, "3.4", files)["storage"]["files"]
    assert [(one["path"], one.get("append")) for one in old[:3]] == [("/a", None), ("/a", True), ("/b", True)]
    assert old[0]["user"] == {"name": "root"} and old[0]["group"] == {"name": "wheel"} and old[0]["mode"] == 0o600
    assert (new[0]["path"], data(new[0]["contents"]["source"]), data(new[0]["append"][0]["source"])) == ("/a", b"one\n", b"two\n")
    assert "contents" not in new[1] and data(new[1]["append"][0]["source"]) == b"three\n"


@pytest.mark.parametrize(
    ("path", "unit"), [("/var/lib/etcd", "var-lib-etcd"), ("/mnt/a-b", "mnt-a\\x2db"), ("/", "-"), ("/.hidden", "\\x2ehidden"), ("//a//b/", "a-b")]
)
def test_mount_units(path: str, unit: str) -> None:
    assert escaped_path(path) == unit


def test_additional_configuration_of_container_linux() -> None:
    config = rendered(with_additional(WHOLE_CONFIG, strict=True))
    assert config["ignition"]["config"]["append"] == [{"source": "https://example.com/more.ign", "verification": {"hash": "sha512-" + "0f" * 64}}]
    assert config["ignition"] | {"config": None} == {"version": "2.3.0", "timeouts": {"httpTotal": 30}, "config": None}
    partition = config["storage"]["disks"][0]["partitions"][0]
    assert (partition["sizeMiB"], partition["startMiB"], partition["typeGuid"]) == (10, 1024, "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709")
    assert file(config, "/opt/inline") == {"path": "/opt/inline", "filesystem": "root", "mode": 0o644, "contents": {"source": "data:,two%20words%0A"}}
    assert file(config, "/opt/remote")["contents"] == {"source": "https://example.com/x", "compression": "gzip"}
    assert config["storage"]["directories"] == [{"path": "/opt/dir", "filesystem": "root", "mode": 0o755}]
    assert config["passwd"]["users"][0]["create"] == {"homeDir": "/home/core"}
    # 2.x appends: the unit of that name stands twice, and Ignition takes both
    assert [unit["name"] for unit in config["systemd"]["units"]] == ["kubeadm.service", "kubeadm.service"]


def test_additional_configuration_of_butane_is_merged_by_name() -> None:
    config = rendered(with_additional(BUTANE) | {"fleetwake": {"ignitionVersion": "3.4"}}, "3.4")
    (unit,) = config["systemd"]["units"]
    assert unit["enabled"] and unit["dropins"] == [{"name": "10-more.conf", "contents": "[Service]\n"}]
    assert file(config, "/etc/kubeadm.sh")["mode"] == 0o755 and data(file(config, "/etc/kubeadm.sh")["contents"]["source"]).startswith(b"#!")
    assert data(file(config, "/opt/new")["contents"]["source"]) == b"new"


def test_rules_of_merging() -> None:
    base = {"ignition": {"version": "x", "config": {"replace": {"source": "a"}}}, "storage": {"files": [{"path": "/a", "mode": 1}]}}
    more = {"ignition": {"version": "y", "config": {"append": []}}, "storage": {"files": [{"path": "/a", "mode": 2}], "links": [{"path": "/b"}]}}
    old = appended(base, more)
    assert old["ignition"] == {"version": "x", "config": {"append": []}}
    assert [one["mode"] for one in old["storage"]["files"]] == [1, 2]
    new = merged(base, more | {"storage": {"files": [{"path": "/a", "user": {"name": "u"}}], "links": [{"path": "/b"}]}})
    assert new["storage"]["files"] == [{"path": "/a", "mode": 1, "user": {"name": "u"}}]
    assert merged(base, {"storage": {"links": [{"path": "/a"}]}})["storage"] == {"links": [{"path": "/a"}]}
    keys = {"passwd": {"users": [{"name": "u", "groups": ["a", "b"]}]}}
    assert merged(keys, {"passwd": {"users": [{"name": "u", "groups": ["b", "c"]}]}}) == {"passwd": {"users": [{"name": "u", "groups": ["a", "b", "c"]}]}}
