"""The configuration a user adds to Ignition data, translated from the YAML people write to the JSON that Ignition reads.

For specification 2.3 that is a Container Linux Config, as in Cluster API; for 3.x it is Butane's. Both are Ignition in snake case with some sugar: contents
inline, sizes with units, hashes in two parts. Sections that stand for units and files of Container Linux's own (etcd, flannel, docker, update, locksmith)
are refused. A field nobody knows is an error when ``strict`` is set, and left out otherwise.

Source: Container Linux Config Transpiler 0.9 configuration specification; Butane flatcar 1.1 and fcos 1.5 specifications.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from fleetwake import yaml_text
from fleetwake.errors import InvalidError
from services.reconcilers.bootstrap.host import Json

Shape = Mapping[str, Any]
"""Fields by the name people write: None (taken as it is), a Shape, a list of one Shape, or a function that makes the value."""
_PLAIN = "~()*!.'-_/:=,;@&+$"
_SIZE = re.compile(r"^(\d+)(?:([KMGTPE])i?B|B)?$")
_MIB = 1 << 20
_UNITS = {"": 1, **{unit: 1 << (10 * power) for power, unit in enumerate("KMGTPE", 1)}}
_SUGAR = ("etcd", "flannel", "docker", "update", "locksmith")
_OLD_ONLY_DEFAULTS = {"files": 0o644, "directories": 0o755}


def read(spec: Json, version: str) -> dict[str, Any]:
    """``spec.ignition.containerLinuxConfig.additionalConfig`` as Ignition of the version; empty when there is none.

    Raises:
        InvalidError: it cannot be read; the message names the place, never a value.
    """
    wanted: Json = (spec.get("ignition") or {}).get("containerLinuxConfig") or {}
    text = wanted.get("additionalConfig")
    if not text:
        return {}
    try:
        document = yaml_text.load(text)
    except yaml_text.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise InvalidError(f"{_WHERE} is no YAML" + (f" (line {mark.line + 1})" if mark is not None else "")) from None
    if document is None:
        return {}
    if not isinstance(document, Mapping):
        raise InvalidError(f"{_WHERE} is no mapping")
    old, strict = version.startswith("2."), bool(wanted.get("strict"))
    given = {name: value for name, value in document.items() if name not in ("variant", "version")}
    if old and len(given) != len(document):
        raise InvalidError(f"{_WHERE} is Butane's (it has variant or version): set spec.fleetwake.ignitionVersion to a 3.x version")
    for name in _SUGAR:
        if given.get(name):
            raise InvalidError(f"{_WHERE}: section {name} is not supported; write its units and files out")
    return _object(given, _CONTAINER_LINUX if old else _BUTANE, "", strict)


_WHERE = "spec.ignition.containerLinuxConfig.additionalConfig"


def camel(name: str) -> str:
    """The name Ignition has for a name in snake case."""
    known = {"type_guid": "typeGuid", "size_mib": "sizeMiB", "start_mib": "startMiB", "http_headers": "httpHeaders", "dropins": "dropins"}
    first, *rest = name.split("_")
    return known.get(name) or first + "".join(part[:1].upper() + part[1:] for part in rest)


def _object(given: Any, shape: Shape, path: str, strict: bool) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise InvalidError(f"{_WHERE}: {path or 'the document'} is no mapping")
    made: dict[str, Any] = {}
    for name, value in given.items():
        at = f"{path}.{name}" if path else str(name)
        if name not in shape:
            if strict:
                raise InvalidError(f"{_WHERE}: {at} is not known")
            continue
        if value is None:
            continue
        rule = shape[name]
        if rule is None:
            made[camel(name)] = value
        elif callable(rule):
            made |= rule(value, at)
        elif isinstance(rule, list):
            if not isinstance(value, list):
                raise InvalidError(f"{_WHERE}: {at} is no list")
            made[camel(name)] = [_object(item, rule[0], f"{at}[{index}]", strict) for index, item in enumerate(value)]
        else:
            made[camel(name)] = _object(value, rule, at, strict)
    return made | (shape[""](made) if "" in shape else {})


def _leaf(value: Any, at: str, kind: type) -> Any:
    if not isinstance(value, kind):
        raise InvalidError(f"{_WHERE}: {at} has the wrong type")
    return value


def _hash(value: Any, at: str) -> dict[str, Any]:
    """``verification``: a hash in two parts (Container Linux Config) or in one (Butane)."""
    found = _leaf(value, at, Mapping).get("hash")
    if isinstance(found, Mapping):
        found = f"{found.get('function', '')}-{found.get('sum', '')}" if found.get("function") and found.get("sum") else None
    return {"verification": {"hash": found}} if found else {}


def _source(text: str) -> str:
    return "data:," + quote(text, safe=_PLAIN)


def _contents(value: Any, at: str) -> dict[str, Any]:
    """``contents`` of a Container Linux file: inline or remote."""
    given = _leaf(value, at, Mapping)
    if given.get("local"):
        raise InvalidError(f"{_WHERE}: {at}.local: there are no local files here")
    remote = given.get("remote") or {}
    if given.get("inline") and remote.get("url"):
        raise InvalidError(f"{_WHERE}: {at} has both inline and remote")
    made: dict[str, Any] = {"source": _source(_leaf(given["inline"], f"{at}.inline", str)) if given.get("inline") else remote.get("url") or "data:,"}
    if remote.get("compression"):
        made["compression"] = remote["compression"]
    return {"contents": made | (_hash(remote["verification"], f"{at}.remote.verification") if remote.get("verification") else {})}


def _resource(value: Any, at: str) -> dict[str, Any]:
    """A resource of Butane: inline or from a source."""
    given = _leaf(value, at, Mapping)
    if given.get("local"):
        raise InvalidError(f"{_WHERE}: {at}.local: there are no local files here")
    made = {camel(name): given[name] for name in ("source", "compression", "http_headers") if given.get(name)}
    if given.get("inline") is not None:
        made["source"] = _source(_leaf(given["inline"], f"{at}.inline", str))
    return made | (_hash(given["verification"], f"{at}.verification") if given.get("verification") else {})


def _resources(name: str) -> Callable[[Any, str], dict[str, Any]]:
    return lambda value, at: {camel(name): [_resource(item, f"{at}[{index}]") for index, item in enumerate(_leaf(value, at, list))]}


def _mebibytes(name: str) -> Callable[[Any, str], dict[str, Any]]:
    """A size with its unit, in whole MiB."""

    def rule(value: Any, at: str) -> dict[str, Any]:
        match = _SIZE.match(str(value))
        size, rest = divmod(int(match[1]) * _UNITS[match[2] or ""], _MIB) if match is not None else (0, 1)
        if rest:
            raise InvalidError(f"{_WHERE}: {at} is no size in whole MiB, as in 10GiB")
        return {name: size}

    return rule


def _old_node(kind: str) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    """What a file or directory of a Container Linux Config has without saying so."""

    def rest(made: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {} if made.get("filesystem") else {"filesystem": "root"}
        if kind in _OLD_ONLY_DEFAULTS and made.get("mode") is None:
            found["mode"] = _OLD_ONLY_DEFAULTS[kind]
        if kind == "files" and "contents" not in made:
            found["contents"] = {"source": "data:,"}
        return found

    return rest


_EMPTY_SUGAR: Shape = {name: lambda value, at: {} for name in _SUGAR}
_OWNER: Shape = {"id": None, "name": None}
_UNIT: Shape = {"name": None, "enabled": None, "enable": None, "mask": None, "contents": None, "dropins": [{"name": None, "contents": None}]}
_REFERENCE: Shape = {"source": None, "verification": _hash}
_USER_FIELDS = ("gecos", "home_dir", "no_create_home", "primary_group", "groups", "no_user_group", "system", "no_log_init", "shell")
_USER: Shape = dict.fromkeys(("name", "password_hash", "ssh_authorized_keys", "uid", *_USER_FIELDS))
_GROUP: Shape = dict.fromkeys(("name", "gid", "password_hash", "system"))
_RAID: Shape = dict.fromkeys(("name", "level", "devices", "spares", "options"))
_OLD_NODE: Shape = {"filesystem": None, "path": None, "user": _OWNER, "group": _OWNER, "overwrite": None}
_TIMEOUTS: Shape = {"http_response_headers": None, "http_total": None}

_CONTAINER_LINUX: Shape = {
    "ignition": {
        "config": {"append": [_REFERENCE], "replace": _REFERENCE},
        "timeouts": _TIMEOUTS,
        "security": {"tls": {"certificate_authorities": [_REFERENCE]}},
    },
    "passwd": {"users": [{**_USER, "create": dict.fromkeys(("uid", *_USER_FIELDS))}], "groups": [_GROUP]},
    "storage": {
        "disks": [
            {
                "device": None,
                "wipe_table": None,
                "partitions": [
                    {
                        **dict.fromkeys(("label", "number", "type_guid", "guid", "wipe_partition_entry", "should_exist")),
                        "size": _mebibytes("sizeMiB"),
                        "start": _mebibytes("startMiB"),
                    }
                ],
            }
        ],
        "raid": [_RAID],
        "filesystems": [
            {
                "name": None,
                "path": None,
                "mount": {
                    **dict.fromkeys(("device", "format", "wipe_filesystem", "label", "uuid", "options")),
                    "create": {"force": None, "options": None},
                },
            }
        ],
        "files": [{**_OLD_NODE, "mode": None, "append": None, "contents": _contents, "": _old_node("files")}],
        "directories": [{**_OLD_NODE, "mode": None, "": _old_node("directories")}],
        "links": [{**_OLD_NODE, "hard": None, "target": None, "": _old_node("links")}],
    },
    "systemd": {"units": [_UNIT]},
    "networkd": {"units": [{"name": None, "contents": None, "dropins": [{"name": None, "contents": None}]}]},
    **_EMPTY_SUGAR,
}

_NODE: Shape = {"path": None, "user": _OWNER, "group": _OWNER, "overwrite": None}
_BUTANE: Shape = {
    "ignition": {
        "config": {"merge": _resources("merge"), "replace": lambda value, at: {"replace": _resource(value, at)}},
        "timeouts": _TIMEOUTS,
        "security": {"tls": {"certificate_authorities": _resources("certificate_authorities")}},
        "proxy": {"http_proxy": None, "https_proxy": None, "no_proxy": None},
    },
    "passwd": {"users": [{**_USER, "should_exist": None}], "groups": [{**_GROUP, "should_exist": None}]},
    "storage": {
        "disks": [
            {
                "device": None,
                "wipe_table": None,
                "partitions": [
                    dict.fromkeys(("label", "number", "size_mib", "start_mib", "type_guid", "guid", "wipe_partition_entry", "should_exist", "resize"))
                ],
            }
        ],
        "raid": [_RAID],
        "filesystems": [dict.fromkeys(("path", "device", "format", "wipe_filesystem", "label", "uuid", "options", "mount_options"))],
        "files": [{**_NODE, "mode": None, "contents": lambda value, at: {"contents": _resource(value, at)}, "append": _resources("append")}],
        "directories": [{**_NODE, "mode": None}],
        "links": [{**_NODE, "hard": None, "target": None}],
    },
    "systemd": {"units": [_UNIT]},
    "kernel_arguments": {"should_exist": None, "should_not_exist": None},
}
