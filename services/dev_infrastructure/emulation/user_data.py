"""User data as the programs on a real host read it: cloud-init, Ignition, cloudbase-init. What comes out is files, commands, and where to fetch the rest.

Nothing is executed. What a real host would choke on is a ``BootstrapError``; no content of the data appears in a message but names of fields and files.

Source: cloud-init 25 module reference; Ignition configuration specification 2.3.0 and 3.0.0 to 3.5.0; cloudbase-init 1.1 cloud-config plugins.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import json
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes

from fleetwake import yaml_text

JsonDict = dict[str, Any]
HEADER = "#cloud-config"
WINDOWS_SECTIONS = {"write_files", "runcmd", "ntp", "users", "groups", "set_hostname", "hostname", "set_timezone", "timezone"}
IGNITION_VERSIONS = ("2.3.0", "3.0.0", "3.1.0", "3.2.0", "3.3.0", "3.4.0", "3.5.0")
_EXPRESSION = re.compile(r"\{\{\s*(?:ds\.meta_data|v1)\.(local_hostname|hostname|instance_id)\s*\}\}")
_FETCH = re.compile(r"(?:^|[\s;&])(?:sh|powershell [^|]*-File) (\S*fetch\.(?:sh|ps1))\b")
_EXEC_START = re.compile(r"^ExecStart=/bin/bash (\S+)$", re.MULTILINE)
_CONDITION = re.compile(r"^ConditionPathExists=(\S+)$", re.MULTILINE)


class BootstrapError(Exception):
    """Why a host would not become a Node. ``again``: it would try again by itself (a token or an API server may still come)."""

    def __init__(self, message: str, *, again: bool = False) -> None:
        super().__init__(message)
        self.again = again


@dataclass(frozen=True, slots=True)
class UserData:
    """What the host finds: files by path, and the commands of its shell in order. ``fetch`` is the script that fetches the rest, "" for none."""

    files: Mapping[str, bytes] = field(repr=False)
    commands: tuple[str, ...]
    fetch: str = ""

    def text(self, path: str) -> str:
        """A file's text.

        Raises:
            BootstrapError: there is no such file, or it is no text.
        """
        if path not in self.files:
            raise BootstrapError(f"nothing writes {path}")
        try:
            return self.files[path].decode()
        except UnicodeDecodeError:
            raise BootstrapError(f"{path} is no UTF-8 text") from None


def read(secret: Mapping[str, bytes], node_name: str, *, windows: bool = False) -> UserData:
    """Read the data of a bootstrap Secret as the host ``node_name`` would.

    Raises:
        BootstrapError: it could not.
    """
    if "value" not in secret:
        raise BootstrapError("the bootstrap Secret has no key value")
    kind = secret.get("format", b"cloud-config").decode("utf-8", "replace")
    if kind == "cloud-config":
        found = _cloud_config(secret["value"], node_name, windows=windows)
    elif kind == "ignition" and not windows:
        found = _ignition(secret["value"])
    else:
        raise BootstrapError(f"a {'windows' if windows else 'linux'} host reads no bootstrap data of format {kind!r}")
    scripts = [match[1] for line in found.commands for match in _FETCH.finditer(line)]
    return UserData(found.files, found.commands, scripts[0]) if scripts else found


def filled(text: str, node_name: str) -> str:
    """A text with what cloud-init knows of the host in place."""
    return _EXPRESSION.sub(node_name, text)


# ---- cloud-config ---------------------------------------------------------------------------------------------------------------------------


def _cloud_config(value: bytes, node_name: str, *, windows: bool) -> UserData:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise BootstrapError("the bootstrap data is no UTF-8 text") from None
    if HEADER not in (line.strip() for line in text.split("\n", 2)[:2]):
        raise BootstrapError(f"the bootstrap data does not begin with {HEADER}")
    config = mapping(filled(text, node_name), "the cloud-config")
    if windows:
        foreign = sorted(set(config) - WINDOWS_SECTIONS)
        if foreign:
            raise BootstrapError(f"cloudbase-init on a windows host knows no section {', '.join(foreign)}")
    run = config.get("runcmd", [])
    commands = tuple(" ".join(str(part) for part in one) if isinstance(one, list) else str(one) for one in run) if isinstance(run, list) else ()
    return UserData(dict(_written(config, windows=windows)), commands)


def mapping(text: str, what: str) -> JsonDict:
    """A YAML mapping. Raises: BootstrapError, which names ``what`` and shows nothing of it."""
    try:
        found = yaml_text.load(text)
    except yaml_text.YAMLError as error:
        raise BootstrapError(explain(error, what)) from None
    if not isinstance(found, dict):
        raise BootstrapError(f"{what} is no mapping")
    return found


def explain(error: yaml_text.YAMLError, what: str) -> str:
    """The place of a YAML error without its excerpt, which may show a key."""
    mark = getattr(error, "problem_mark", None)
    return f"{what} is no YAML: {getattr(error, 'problem', 'malformed')}" + (f" (line {mark.line + 1})" if mark is not None else "")


def _written(config: JsonDict, *, windows: bool) -> JsonDict:
    entries = config.get("write_files", [])
    if not isinstance(entries, list):
        raise BootstrapError("write_files is no list")
    files: dict[str, bytes] = {}
    for one in entries:
        if not isinstance(one, dict) or not isinstance(one.get("path"), str):
            raise BootstrapError("write_files has an entry without a path")
        path = one["path"]
        if windows != bool(re.match(r"[A-Za-z]:\\", path)):
            raise BootstrapError(f"write_files: {path} is no path of a {'windows' if windows else 'linux'} host")
        if "permissions" in one and not re.fullmatch(r"[0-7]{3,4}", str(one["permissions"])):
            raise BootstrapError(f"write_files: permissions of {path} are no octal number")
        content = one.get("content", "")
        if not isinstance(content, str):
            raise BootstrapError(f"write_files: content of {path} is no text")
        data = _decoded(content, str(one.get("encoding") or ""), path)
        files[path] = files.get(path, b"") + data if one.get("append") else data
    return files


def _decoded(content: str, encoding: str, path: str) -> bytes:
    try:
        data = base64.b64decode(content) if "base64" in encoding else content.encode()
        return gzip.decompress(data) if "gzip" in encoding else data
    except (binascii.Error, gzip.BadGzipFile, EOFError, zlib.error):
        raise BootstrapError(f"the content of {path} is not {encoding}") from None


# ---- Ignition -------------------------------------------------------------------------------------------------------------------------------


def _ignition(value: bytes) -> UserData:
    try:
        config = json.loads(value)
    except ValueError:
        raise BootstrapError("the Ignition configuration is no JSON") from None
    version = (config.get("ignition") or {}).get("version") if isinstance(config, dict) else None
    if version not in IGNITION_VERSIONS:
        raise BootstrapError(f"Ignition version {version!r} is not one of {', '.join(IGNITION_VERSIONS)}")
    files: dict[str, bytes] = {}
    for one in (config.get("storage") or {}).get("files") or ():
        path = one.get("path")
        if not isinstance(path, str) or not path.startswith("/"):
            raise BootstrapError("an Ignition file has no absolute path")
        parts = _sources(one, old=version.startswith("2."))
        files[path] = b"".join(([files.get(path, b"")] if one.get("append") else []) + [_data(source, path) for source in parts])
    return UserData(files, _unit_commands(config, files))


def _sources(file: JsonDict, *, old: bool) -> Iterable[str]:
    if (file.get("contents") or {}).get("source") is not None:
        yield file["contents"]["source"]
    if not old:
        yield from (part.get("source") or "" for part in file.get("append") or ())


def _data(source: str, path: str) -> bytes:
    scheme, _, rest = source.partition(":")
    kind, comma, body = rest.partition(",")
    if scheme != "data" or not comma:
        raise BootstrapError(f"Ignition: the contents of {path} are no data URL")
    try:
        return base64.b64decode(unquote_to_bytes(body), validate=True) if kind.endswith(";base64") else unquote_to_bytes(body)
    except binascii.Error:
        raise BootstrapError(f"Ignition: the contents of {path} are no base64") from None


def _unit_commands(config: JsonDict, files: Mapping[str, bytes]) -> tuple[str, ...]:
    """The lines of the scripts that enabled units run, once what they wait for is there."""
    commands: list[str] = []
    for unit in (config.get("systemd") or {}).get("units") or ():
        contents = unit.get("contents") or ""
        started = _EXEC_START.search(contents)
        if started is None or not (unit.get("enabled") or unit.get("enable")):
            continue
        waits = _CONDITION.search(contents)
        if waits is not None and waits[1] not in files:
            raise BootstrapError(f"unit {unit.get('name')} waits for {waits[1]}, which nothing writes")
        if started[1] not in files:
            raise BootstrapError(f"unit {unit.get('name')} runs {started[1]}, which nothing writes")
        commands.extend(files[started[1]].decode("utf-8", "replace").splitlines())
    return tuple(commands)
