"""``deploy/k8s/base`` and ``deploy/k8s/components``: the chart's objects as files for kustomize.

The base is what the chart renders to with its default values; a component is what one more value adds to that and changes in it. So there is one source,
the chart, and whoever prefers kustomize gets the same objects.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from fleetwake.rig.rendering import NAMESPACE, Manifest, helm_template

HEAD = "# Generated from deploy/k8s/chart by `make deploy`. Do not edit.\n"
KUSTOMIZATION = "kustomization.yaml"
SETTINGS = "fleetwake-settings-"
CHECKSUM = "checksum/settings"
"""The annotation by which helm restarts pods when settings change; kustomize does that by the name of the ConfigMap."""

_OF_SETTINGS = re.compile(r"-[0-9a-f]{8}$")

# kustomize brings the namespace, helm makes it itself
ALWAYS: Mapping[str, str] = {"namespace.create": "true"}


@dataclass(frozen=True)
class Component:
    """The values that make a component, and the components it goes on top of."""

    values: Mapping[str, str]
    needs: tuple[str, ...] = ()


COMPONENTS: Mapping[str, Component] = {
    "dev-infrastructure": Component({"services.dev-infrastructure.enabled": "true"}),
    "topology": Component({"settings.common.cluster_topology": "true"}),
    "kafka": Component({"kafka.deploy": "true"}),
    "redis": Component({"redis.deploy": "true"}),
    "strimzi": Component({"kafka.strimzi.enabled": "true"}),
    "bootstrap-data": Component({"bootstrapData.enabled": "true"}),
    "keda": Component({"keda.enabled": "true"}),
    "keda-tls": Component({"keda.tls": "true"}, needs=("strimzi", "keda")),
    "older-versions": Component({"settings.common.served_versions": "v1beta1"}),
    "cert-manager": Component({"services.admission.webhooks.certificates": "cert-manager"}),
    "pod-monitors": Component({"podMonitors.enabled": "true"}),
}


def rendered_files() -> dict[str, str]:
    """The text of every generated file, by its path under ``deploy/k8s``.

    Raises:
        RigError: helm refused the chart.
    """
    rendered: dict[tuple[str, ...], dict[tuple[str, str, str], Manifest]] = {}

    def with_components(*names: str) -> dict[tuple[str, str, str], Manifest]:
        if names not in rendered:
            values = dict(ALWAYS)
            for name in names:
                values.update(COMPONENTS[name].values)
            rendered[names] = {_place(manifest): manifest for manifest in helm_template(settings=values)}
        return rendered[names]

    files = _base(with_components())
    for name, component in COMPONENTS.items():
        files |= _component(f"components/{name}", with_components(*component.needs), with_components(*component.needs, name))
    return files


def _base(objects: Mapping[tuple[str, str, str], Manifest]) -> dict[str, str]:
    settings = {name: manifest.body for (_, _, name), manifest in objects.items() if name.startswith(SETTINGS)}
    files = _grouped("base", (manifest for manifest in objects.values() if manifest.identity[2] not in settings))
    generators = [
        {"name": name, "namespace": NAMESPACE, "envs": [f"settings/{name.removeprefix(SETTINGS)}.env"], "options": {"labels": body["metadata"]["labels"]}}
        for name, body in settings.items()
    ]
    head = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
    files[f"base/{KUSTOMIZATION}"] = _dumped({**head, "resources": _relative("base", files), "configMapGenerator": generators})
    for name, body in settings.items():
        lines = "".join(f"{variable}={value}\n" for variable, value in body["data"].items())
        files[f"base/settings/{name.removeprefix(SETTINGS)}.env"] = HEAD + lines
    return files


def _component(folder: str, before: Mapping[tuple[str, str, str], Manifest], after: Mapping[tuple[str, str, str], Manifest]) -> dict[str, str]:
    """The files of what ``after`` has beyond ``before``: new objects, and patches of those that differ."""
    files = _grouped(folder, (manifest for key, manifest in after.items() if key not in before))
    body: dict[str, Any] = {"apiVersion": "kustomize.config.k8s.io/v1alpha1", "kind": "Component"}
    if files:
        body["resources"] = _relative(folder, files)
    patches = [
        {"target": {"kind": place[0], "name": before[place].identity[2]}, "patch": yaml.safe_dump(operations, sort_keys=False)}
        for place, manifest in after.items()
        if place in before and (operations := list(differences(_lasting(before[place]), _lasting(manifest))))
    ]
    if patches:
        body["patches"] = patches
    files[f"{folder}/{KUSTOMIZATION}"] = _dumped(body)
    return files


def _place(manifest: Manifest) -> tuple[str, str, str]:
    """What an object is whatever the settings are: helm gives a Job another name when they change, because a Job cannot be."""
    kind, namespace, name = manifest.identity
    return kind, namespace, _OF_SETTINGS.sub("", name) if kind == "Job" else name


def _lasting(manifest: Manifest) -> Mapping[str, Any]:
    """An object without what helm alone says of the settings: names of Jobs, checksums in pods."""
    metadata = {**manifest.body["metadata"], "name": _place(manifest)[2]}
    whole: Mapping[str, Any] = _unchecked({**manifest.body, "metadata": metadata})
    return whole


def _unchecked(value: Any) -> Any:
    return {name: _unchecked(one) for name, one in value.items() if name != CHECKSUM} if isinstance(value, Mapping) else value


def differences(before: Mapping[str, Any], after: Mapping[str, Any], path: str = "") -> Iterable[dict[str, Any]]:
    """JSON patch operations that turn one object into the other; lists are replaced whole."""
    for key in [*before, *(key for key in after if key not in before)]:
        if key == CHECKSUM:
            continue
        place = f"{path}/{key.replace('~', '~0').replace('/', '~1')}"
        if key not in after:
            yield {"op": "remove", "path": place}
        elif key not in before:
            yield {"op": "add", "path": place, "value": after[key]}
        elif isinstance(before[key], Mapping) and isinstance(after[key], Mapping):
            yield from differences(before[key], after[key], place)
        elif before[key] != after[key]:
            yield {"op": "replace", "path": place, "value": after[key]}


def _grouped(folder: str, objects: Iterable[Manifest]) -> dict[str, str]:
    """One file for what each template says of each component."""
    texts: dict[str, list[str]] = {}
    for manifest in objects:
        place = PurePosixPath(folder) / PurePosixPath(manifest.template).parent / f"{manifest.component}.yaml"
        text = "".join(line for line in manifest.text.splitlines(keepends=True) if CHECKSUM not in line)
        texts.setdefault(str(place), []).append(text)
    return {place: HEAD + "---\n".join(found) for place, found in texts.items()}


def _relative(folder: str, files: Iterable[str]) -> list[str]:
    return sorted(str(PurePosixPath(name).relative_to(folder)) for name in files)


def _dumped(body: Mapping[str, Any]) -> str:
    return HEAD + str(yaml.dump(dict(body), Dumper=_Dumper, sort_keys=False, width=200))


class _Dumper(yaml.SafeDumper):
    """Texts of several lines stay readable."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def generated_files(root: Path) -> dict[str, str]:
    """The files that are there now, by their path under ``root``: everything in the folders that are generated whole."""
    folders = (root / "base", root / "components")
    return {str(path.relative_to(root)): path.read_text() for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()}
