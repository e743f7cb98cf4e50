"""What Cluster API's contracts say a provider's object means: typed readers over objects whose kinds are not ours to model.

Stands between ``observe`` (which finds the object and its contract version) and the decisions. Reading is lenient: a field that is absent, or of
the wrong shape, reads as not reported; a provider's mistake must never stop a reconcile.

Source: contracts.md §2-§6; Cluster API v1.14 docs "Developing providers / Contracts" (v1beta1 and v1beta2).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError

from fleetwake.conditions import FALSE, NO_REASON_REPORTED, TRUE, UNKNOWN, ConditionValue, get
from fleetwake.kind import External
from fleetwake.legacy_conditions import READY, WARNING, Legacy
from fleetwake.versions import newer
from schemas.api.core.v1beta2.shared import APIEndpoint, FailureDomain, MachineAddress
from schemas.api.meta import ConditionStatus

V1BETA1 = "v1beta1"
ADDRESSES_MAX = 256
FAILURE_DOMAINS_MAX = 100
PROVIDER_IDS_MAX = 10_000

_ADDRESS_TYPES = get_args(MachineAddress.model_fields["type"].annotation)
_TIME: TypeAdapter[datetime] = TypeAdapter(datetime)


def field(obj: External, *path: str) -> Any:
    """The value at the path, None when there is none (``field(config, "status", "dataSecretName")``)."""
    value: Any = obj.fields
    for name in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def _text(obj: External, *path: str) -> str:
    value = field(obj, *path)
    return value if isinstance(value, str) else ""


def _flag(obj: External, *path: str) -> bool:
    return field(obj, *path) is True


def _number(obj: External, *path: str) -> int | None:
    value = field(obj, *path)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def conditions(obj: External) -> tuple[ConditionValue, ...]:
    """The object's conditions, in whichever of the three places and two shapes it keeps them.

    ``status.v1beta2.conditions`` wins over ``status.conditions``; a condition without a reason (legacy) gets ``NoReasonReported``.
    """
    stored = field(obj, "status", "v1beta2", "conditions")
    if not isinstance(stored, list | tuple):
        stored = field(obj, "status", "conditions")
    return tuple(_conditions(stored)) if isinstance(stored, list | tuple) else ()


def _conditions(stored: list[Any] | tuple[Any, ...]) -> Iterator[ConditionValue]:
    for one in stored:
        if not isinstance(one, Mapping) or not isinstance(one.get("type"), str):
            continue
        status: ConditionStatus
        match one.get("status"):
            case "True":
                status = TRUE
            case "False":
                status = FALSE
            case "Unknown":
                status = UNKNOWN
            case _:
                continue
        yield ConditionValue(
            type=one["type"],
            status=status,
            reason=str(one.get("reason") or NO_REASON_REPORTED),
            message=str(one.get("message") or ""),
            last_transition_time=_time(one.get("lastTransitionTime")),
        )


def condition(obj: External, type_: str) -> ConditionValue | None:
    """One condition of the object, None when it does not report it."""
    found = get(conditions(obj), type_)
    return found if isinstance(found, ConditionValue) else None


def legacy_ready(obj: External) -> Legacy | None:
    """The Ready condition of the v1beta1 contract, wherever the object's own contract keeps it; None when it reports none."""
    path = ("conditions",) if obj.contract == V1BETA1 else ("deprecated", "v1beta1", "conditions")
    told = field(obj, "status", *path)
    for one in told if isinstance(told, list | tuple) else ():
        if isinstance(one, Mapping) and one.get("type") == READY and one.get("status") in (TRUE, FALSE, UNKNOWN):
            severity = str(one.get("severity") or WARNING) if one["status"] == FALSE else ""
            return Legacy(READY, one["status"], severity, str(one.get("reason") or ""), str(one.get("message") or ""))
    return None


def _time(value: Any) -> datetime | None:
    if not isinstance(value, str) or not value:
        return None
    try:
        found = _TIME.validate_python(value)
    except ValidationError:
        return None
    return found if found.tzinfo is not None else None


def failure(obj: External) -> tuple[str, str]:
    """``status.failureReason`` and ``status.failureMessage``, each ``""`` when not reported; providers of the newer contract may still set them."""
    return _text(obj, "status", "failureReason"), _text(obj, "status", "failureMessage")


def api_endpoint(obj: External) -> APIEndpoint:
    """``spec.controlPlaneEndpoint`` of an infrastructure cluster or control plane; empty when not set (yet)."""
    return APIEndpoint(host=_text(obj, "spec", "controlPlaneEndpoint", "host") or None, port=_number(obj, "spec", "controlPlaneEndpoint", "port") or None)


# --- infrastructure cluster ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class InfraCluster:
    """An infrastructure provider's cluster object, read by its contract."""

    obj: External

    @property
    def provisioned(self) -> bool:
        """Whether the infrastructure says it is fully provisioned."""
        return _provisioned(self.obj)

    @property
    def endpoint(self) -> APIEndpoint:
        """Where the API server is, if the infrastructure decides that."""
        return api_endpoint(self.obj)

    @property
    def failure_domains(self) -> tuple[FailureDomain, ...]:
        """The failure domains, by name; ``control_plane`` is always set (False unless said otherwise)."""
        stored = field(self.obj, "status", "failureDomains")
        found: dict[str, Mapping[str, Any]] = {}
        if isinstance(stored, Mapping):
            found = {str(name): value for name, value in stored.items() if isinstance(value, Mapping)}
        elif isinstance(stored, list | tuple):
            found = {str(value["name"]): value for value in stored if isinstance(value, Mapping) and value.get("name")}
        return tuple(_failure_domain(name, found[name]) for name in sorted(found)[:FAILURE_DOMAINS_MAX])

    @property
    def ready(self) -> ConditionValue | None:
        """The Ready condition, if reported."""
        return condition(self.obj, "Ready")


def _failure_domain(name: str, value: Mapping[str, Any]) -> FailureDomain:
    attributes = value.get("attributes")
    texts = {str(key): str(text) for key, text in attributes.items()} if isinstance(attributes, Mapping) else {}
    return FailureDomain(name=name, control_plane=value.get("controlPlane") is True, attributes=texts)


def _provisioned(obj: External) -> bool:
    if obj.contract == V1BETA1:
        return _flag(obj, "status", "ready")
    return _flag(obj, "status", "initialization", "provisioned")


# --- infrastructure machine ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class InfraMachine:
    """An infrastructure provider's machine object, read by its contract."""

    obj: External

    @property
    def provisioned(self) -> bool:
        """Whether the host exists and runs."""
        return _provisioned(self.obj)

    @property
    def provider_id(self) -> str:
        """The host's identity, ``""`` until known; equals the Node's spec.providerID."""
        return _text(self.obj, "spec", "providerID")

    @property
    def addresses(self) -> tuple[MachineAddress, ...]:
        """The host's addresses, in the provider's order; entries of unknown type are left out."""
        stored = field(self.obj, "status", "addresses")
        if not isinstance(stored, list | tuple):
            return ()
        found = (one for one in stored if isinstance(one, Mapping) and one.get("type") in _ADDRESS_TYPES and one.get("address"))
        return tuple(MachineAddress(type=one["type"], address=str(one["address"])) for one in found)[:ADDRESSES_MAX]

    @property
    def failure_domain(self) -> str:
        """Where the host was placed, ``""`` if not reported."""
        return _text(self.obj, "status", "failureDomain")

    @property
    def spec_failure_domain(self) -> str:
        """The v1beta1 contract's way to say where the host was placed; it ends up in the Machine's spec."""
        return _text(self.obj, "spec", "failureDomain")

    @property
    def interruptible(self) -> bool:
        """Whether the infrastructure may take the host away at short notice."""
        return _flag(self.obj, "status", "interruptible")

    @property
    def ready(self) -> ConditionValue | None:
        """The Ready condition, if reported."""
        return condition(self.obj, "Ready")


# --- infrastructure machine pool -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class InfraMachinePool:
    """An infrastructure provider's machine pool object, read by its contract."""

    obj: External

    @property
    def provisioned(self) -> bool:
        """Whether the pool says it is fully provisioned: ``status.ready``, the only field Cluster API reads, or the one that the contract's text names."""
        return _flag(self.obj, "status", "ready") or _flag(self.obj, "status", "initialization", "provisioned")

    @property
    def provider_ids(self) -> tuple[str, ...]:
        """The identities of the hosts, in the provider's order, each once."""
        stored = field(self.obj, "spec", "providerIDList")
        found = (one for one in stored if isinstance(one, str) and one) if isinstance(stored, list | tuple) else ()
        return tuple(dict.fromkeys(found))[:PROVIDER_IDS_MAX]

    @property
    def replicas(self) -> int | None:
        """How many hosts the pool has, None until reported."""
        return _number(self.obj, "status", "replicas")

    @property
    def machine_kind(self) -> str:
        """The kind of the objects that stand for single hosts (in the pool's own group); ``""`` where the provider has none."""
        return _text(self.obj, "status", "infrastructureMachineKind")

    @property
    def ready(self) -> ConditionValue | None:
        """The Ready condition, if reported."""
        return condition(self.obj, "Ready")


# --- bootstrap configuration -----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class BootstrapConfig:
    """A bootstrap provider's configuration object, read by its contract."""

    obj: External

    @property
    def data_secret_created(self) -> bool:
        """Whether the bootstrap data exists."""
        if self.obj.contract == V1BETA1:
            return _flag(self.obj, "status", "ready")
        return _flag(self.obj, "status", "initialization", "dataSecretCreated")

    @property
    def data_secret_name(self) -> str:
        """Name of the Secret with the bootstrap data, ``""`` until known."""
        return _text(self.obj, "status", "dataSecretName")

    @property
    def ready(self) -> ConditionValue | None:
        """The Ready condition, if reported."""
        return condition(self.obj, "Ready")


# --- control plane ---------------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ControlPlaneVersion:
    """How many control plane machines run a version."""

    version: str
    replicas: int = 0


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """A control plane provider's object, read by its contract. Counters are None where the provider does not report them."""

    obj: External

    @property
    def initialized(self) -> bool:
        """Whether the control plane has once been able to take requests."""
        if self.obj.contract == V1BETA1:
            return _flag(self.obj, "status", "initialized")
        return _flag(self.obj, "status", "initialization", "controlPlaneInitialized")

    @property
    def endpoint(self) -> APIEndpoint:
        """Where the API server is, if the control plane provider decides that."""
        return api_endpoint(self.obj)

    @property
    def externally_managed(self) -> bool:
        """Whether the control plane has no Machines and Nodes of its own."""
        return _flag(self.obj, "status", "externalManagedControlPlane")

    @property
    def version(self) -> str:
        """The version asked for."""
        return _text(self.obj, "spec", "version")

    @property
    def versions(self) -> tuple[ControlPlaneVersion, ...]:
        """The versions that run, oldest first; empty when the provider reports at most ``status.version``."""
        stored = field(self.obj, "status", "versions")
        if not isinstance(stored, list | tuple):
            return ()
        found = (one for one in stored if isinstance(one, Mapping) and isinstance(one.get("version"), str))
        return tuple(ControlPlaneVersion(one["version"], one["replicas"] if isinstance(one.get("replicas"), int) else 0) for one in found)

    @property
    def current_version(self) -> str:
        """The oldest version that runs, ``""`` while none does."""
        versions = self.versions
        return versions[0].version if versions else _text(self.obj, "status", "version")

    @property
    def provisioning(self) -> bool:
        """Whether no version runs yet."""
        return not self.current_version

    @property
    def upgrading(self) -> bool:
        """Whether some machine still runs a version older than the one asked for."""
        running = [one.version for one in self.versions] or [self.current_version]
        return any(newer(self.version, version) for version in running)

    @property
    def replicas(self) -> int | None:
        """``spec.replicas``."""
        return _number(self.obj, "spec", "replicas")

    @property
    def status_replicas(self) -> int | None:
        """``status.replicas``."""
        return _number(self.obj, "status", "replicas")

    @property
    def ready_replicas(self) -> int | None:
        """``status.readyReplicas``."""
        return _number(self.obj, "status", "readyReplicas")

    @property
    def available_replicas(self) -> int | None:
        """``status.availableReplicas``; in the v1beta1 contract the replicas asked for less those reported unavailable."""
        if self.obj.contract != V1BETA1:
            return _number(self.obj, "status", "availableReplicas")
        wanted = self.replicas
        return None if wanted is None else max(wanted - (_number(self.obj, "status", "unavailableReplicas") or 0), 0)

    @property
    def up_to_date_replicas(self) -> int | None:
        """``status.upToDateReplicas``; ``status.updatedReplicas`` in the v1beta1 contract."""
        return _number(self.obj, "status", "updatedReplicas" if self.obj.contract == V1BETA1 else "upToDateReplicas")

    @property
    def scaling(self) -> bool:
        """Whether the counters have not all reached the replicas asked for."""
        counters = (self.status_replicas, self.up_to_date_replicas, self.ready_replicas, self.available_replicas)
        return any(counter != self.replicas for counter in counters)

    @property
    def rollout_after(self) -> datetime | None:
        """When a user wants all machines replaced."""
        legacy = self.obj.contract == V1BETA1
        return _time(field(self.obj, "spec", "rolloutAfter") if legacy else field(self.obj, "spec", "rollout", "after"))

    @property
    def conditions(self) -> tuple[ConditionValue, ...]:
        """All conditions the provider reports."""
        return conditions(self.obj)

    @property
    def available(self) -> ConditionValue | None:
        """The Available condition, if reported."""
        return condition(self.obj, "Available")
