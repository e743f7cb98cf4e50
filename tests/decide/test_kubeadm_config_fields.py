"""Every field of a KubeadmConfig's spec is in the bootstrap data: another value makes other data, in some format and for some role.

The fields come from the schema itself, so that a field which is added there and forgotten here fails.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from fleetwake.errors import FleetwakeError
from fleetwake.plan import SecretInputs
from schemas.api.bootstrap.v1beta2 import KubeadmConfig
from schemas.crd import definition
from schemas.keys import ObjectKey
from services.reconcilers.bootstrap import composition
from services.reconcilers.bootstrap.host import Role
from tests.decide.bootstrap_world import POINT, inputs, request_of, stored

Json = dict[str, Any]
Path = tuple[str, ...]
ITEM, KEY = "[]", "{}"

VALUES: Mapping[str, tuple[Any, Any]] = {
    "diskSetup.partitions.[].diskLayout.[].partitionType": ("Linux", "LVM"),
    "files.[].path": ("/v0", "/v1"),
    "files.[].permissions": ("0600", "0644"),
    "fleetwake.httpProxy.httpProxy": ("http://v0:3128", "http://v1:3128"),
    "fleetwake.httpProxy.httpsProxy": ("http://v0:3128", "http://v1:3128"),
    "ignition.containerLinuxConfig.additionalConfig": ("passwd: {users: [{name: v0}]}", "passwd: {users: [{name: v1}]}"),
    "initConfiguration.bootstrapTokens.[].token": ("aaaaaa.0123456789abcdef", "bbbbbb.0123456789abcdef"),
    "joinConfiguration.discovery.bootstrapToken.token": ("aaaaaa.0123456789abcdef", "bbbbbb.0123456789abcdef"),
    "mounts.[].[]": ("/dev/v0", "/dev/v1"),
}
"""Two values of a field where any text will not do."""

BESIDE: Mapping[str, Json] = {
    "diskSetup.partitions.[].overwrite": {"layout": True},
    "diskSetup.partitions.[].tableType": {"layout": True},
    "files.[].append": {"content": "text"},
    "files.[].contentFormat": {"content": "{{ .controlPlane.version }}"},
    "files.[].encoding": {"content": "djA="},
    "files.[].owner": {"content": "text"},
    "files.[].permissions": {"content": "text"},
    "fleetwake.httpProxy.credentialsSecret.name": {"httpProxy": "http://v0:3128"},
    "fleetwake.httpProxy.noProxy.[]": {"httpProxy": "http://v0:3128"},
    "ntp.servers.[]": {"enabled": True},
    "ntp.enabled": {"servers": ["v0"]},
}
"""What a field means something beside: other fields of the object that holds it."""

ELSEWHERE = {
    "fleetwake.dataDeletion.afterNodeReadySeconds": "when the data goes, not what it is",
    "fleetwake.secretTransport.tokenLifetimeSeconds": "an annotation of the Secret",
    "ignition.containerLinuxConfig.strict": "what is refused, not what is rendered",
}
"""Fields that decide something else."""

ONLY_NEWER = {
    "clusterConfiguration.caCertificateValidityPeriodDays",
    "clusterConfiguration.certificateValidityPeriodDays",
    "clusterConfiguration.encryptionAlgorithm",
    *(f"{kind}.nodeRegistration.imagePullSerial" for kind in ("initConfiguration", "joinConfiguration")),
    *(f"initConfiguration.timeouts.{name}Seconds" for name in ("kubeletHealthCheck", "kubernetesAPICall", "etcdAPICall", "tlsBootstrap", "discovery")),
    *(
        f"joinConfiguration.timeouts.{name}Seconds"
        for name in ("controlPlaneComponentHealthCheck", "kubeletHealthCheck", "kubernetesAPICall", "etcdAPICall", "discovery")
    ),
}
"""What kubeadm's v1beta3 cannot say; and environment variables of components, see ``_known``."""

ROLES = {"initConfiguration": Role.INIT, "clusterConfiguration": Role.INIT, "joinConfiguration": Role.JOIN_CONTROL_PLANE}
SETTINGS: tuple[Json, ...] = ({}, {"format": "ignition"})


def fields(schema: Mapping[str, Any], path: Path = ()) -> Iterator[Path]:
    """The path of every leaf."""
    if schema.get("properties"):
        for name, inner in schema["properties"].items():
            yield from fields(inner, (*path, name))
    elif schema.get("type") == "array":
        yield from fields(schema["items"], (*path, ITEM))
    elif isinstance(schema.get("additionalProperties"), Mapping):
        yield from fields(schema["additionalProperties"], (*path, KEY))
    else:
        yield path


def sample(schema: Mapping[str, Any], path: Path, variant: int) -> Any:
    """A value of a schema, and of everything that it requires."""
    values = VALUES.get(".".join(path))
    if values is not None:
        return values[variant]
    if schema.get("properties"):
        return {name: sample(schema["properties"][name], (*path, name), 0) for name in schema.get("required", ())}
    if schema.get("enum"):
        return schema["enum"][variant]
    kinds = {"boolean": bool(variant), "integer": schema.get("minimum", 60) + variant, "array": [], "object": {}}
    if schema.get("type") in kinds:
        return kinds[schema["type"]]
    return {"date-time": f"2026-01-0{1 + variant}T00:00:00Z", "byte": ("AAAA", "AAEC")[variant]}.get(schema.get("format", ""), f"v{variant}")


def spec_with(schema: Mapping[str, Any], path: Path, variant: int, done: Path = ()) -> Any:
    """The smallest spec that sets the field."""
    if not path:
        return sample(schema, done, variant)
    name, rest = path[0], path[1:]
    if name == ITEM:
        return [spec_with(schema["items"], rest, variant, (*done, ITEM))]
    if name == KEY:
        return {"v": spec_with(schema["additionalProperties"], rest, variant, (*done, KEY))}
    beside = BESIDE.get(".".join((*done, *path)), {})
    held = beside if beside.keys() <= schema["properties"].keys() else {}
    return {**sample(schema, done, 0), **held, name: spec_with(schema["properties"][name], rest, variant, (*done, name))}


def merged(under: Json, over: Json) -> Json:
    """``over`` on top of ``under``."""
    both = {name: merged(under[name], over[name]) for name in under.keys() & over.keys() if isinstance(under[name], dict) and isinstance(over[name], dict)}
    return {**under, **over, **both}


def given() -> SecretInputs:
    """Secrets of both names that samples have, with all keys that are asked for."""
    data = {name: {key: f"{name}{key}".encode() for key in ("v0", "v1", "username", "password")} for name in ("v0", "v1")}
    found = inputs()
    # of an external etcd
    data["demo-apiserver-etcd-client"] = stored("etcd")
    more = {ObjectKey("", "Secret", "default", name): values for name, values in data.items()}
    return SecretInputs({**found.secrets, **more}, (), found.now)


def rendered(spec: Json, role: Role, version: str) -> Any:
    """The data, or None where there is none."""
    request = request_of(version, spec, POINT)
    if composition.refusal(request, role):
        return None
    try:
        return composition.data(request, role).render(GIVEN)
    except FleetwakeError:
        return None


GIVEN = given()
SCHEMA: Mapping[str, Any] = definition(KubeadmConfig)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
FIELDS = tuple(fields(SCHEMA))


def _tells(path: Path, version: str) -> bool:
    """Whether two values of the field make different data anywhere."""
    roles = sorted(Role, key=lambda role: role is not ROLES.get(path[0], Role.JOIN_WORKER))
    for under in SETTINGS:
        one, other = (merged(under, spec_with(SCHEMA, path, variant)) for variant in (0, 1))
        for role in roles:
            first, second = rendered(one, role, version), rendered(other, role, version)
            if first is not None and second is not None and first != second:
                return True
    return False


def _known(name: str, version: str) -> bool:
    return version != "v1.30.4" or not (name in ONLY_NEWER or "extraEnvs" in name)


def test_the_schema_has_the_fields() -> None:
    assert len(FIELDS) > 150 and ("clusterConfiguration", "featureGates", KEY) in FIELDS and ("mounts", ITEM, ITEM) in FIELDS


@pytest.mark.parametrize("version", ["v1.34.2", "v1.30.4"])
def test_every_field_is_in_the_data(version: str) -> None:
    silent = {".".join(path) for path in FIELDS if not _tells(path, version)}
    assert silent == set(ELSEWHERE) | {name for name in map(".".join, FIELDS) if not _known(name, version)}
