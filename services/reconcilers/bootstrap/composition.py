"""The composition: which bootstrapper, format and transport a spec asks for, and the bootstrap Secret's data they make together.

Adding one of a kind is a module and a line here.

Source: roadmap row 17; kinds.md §9 (what the Secret says).
"""

from __future__ import annotations

from typing import Protocol

from fleetwake.plan import Computed, SecretInputs
from schemas.keys import ObjectKey
from services.reconcilers.bootstrap import archive, files, proxy, transports
from services.reconcilers.bootstrap.cloud_config import CloudConfig
from services.reconcilers.bootstrap.cloudbase_init import CloudbaseInit
from services.reconcilers.bootstrap.host import Host, Json, Layout, Made, Role
from services.reconcilers.bootstrap.ignition import DEFAULT_VERSION, Ignition
from services.reconcilers.bootstrap.kubelet import Kubelet
from services.reconcilers.bootstrap.request import Request, fetches, is_windows, settings
from services.reconcilers.kubeadm.bootstrapper import Kubeadm


class Bootstrapper(Protocol):
    """What makes a Node of a host."""

    name: str

    def refusal(self, request: Request, role: Role) -> str:
        """Why it cannot make this node, "" if it can."""
        ...

    def secrets(self, request: Request, role: Role) -> tuple[ObjectKey, ...]:
        """The Secrets that ``make`` reads, besides those of the user's files."""
        ...

    def make(self, request: Request, role: Role, layout: Layout, spec: Json, inputs: SecretInputs) -> Made:
        """Files and command. Raises: RetryableError, InvalidError."""
        ...


class Format(Protocol):
    """What writes a host down for the program that reads user data there. ``name`` is what the bootstrap Secret's key ``format`` says."""

    name: str
    layout: Layout

    def refusal(self, spec: Json) -> str:
        """What of a spec it cannot say, "" if nothing."""
        ...

    def render(self, host: Host) -> bytes:
        """The user data. Raises: InvalidError."""
        ...


BOOTSTRAPPERS: tuple[Bootstrapper, ...] = (Kubeadm(), Kubelet())


def bootstrapper_of(spec: Json) -> Bootstrapper:
    """The bootstrapper a spec asks for; kubeadm if it says nothing."""
    wanted = settings(spec).get("bootstrapper") or Kubeadm.name
    return next(one for one in BOOTSTRAPPERS if one.name == wanted)


def format_of(spec: Json) -> Format:
    """The format a spec asks for; cloud-config if it says nothing."""
    if spec.get("format") == Ignition.name:
        return Ignition(settings(spec).get("ignitionVersion") or DEFAULT_VERSION)
    return CloudbaseInit() if is_windows(spec) else CloudConfig()


def refusal(request: Request, role: Role) -> str:
    """Why this spec can make no data, whatever happens elsewhere; "" if it can."""
    spec = request.spec
    if is_windows(spec) and spec.get("format") == Ignition.name:
        return "spec.format: Windows reads no Ignition"
    return bootstrapper_of(spec).refusal(request, role) or format_of(spec).refusal(spec) or transports.refusal(request)


def data(request: Request, role: Role) -> Computed:
    """The bootstrap Secret's data."""

    def render(inputs: SecretInputs) -> dict[str, bytes]:
        wanted = host(request, role, inputs)
        format_ = format_of(wanted.spec)
        if not fetches(wanted.spec):
            return {"value": format_.render(wanted), "format": format_.name.encode()}
        value = format_.render(transports.without_secrets(wanted, format_.layout, request, inputs))
        transports.refuse_keys(value)
        return {"value": value, "format": format_.name.encode()}

    return Computed(f"bootstrap data ({role.value})", render, secrets=secrets_of(request, role))


def fetched(request: Request, role: Role) -> Computed:
    """What a host gets that fetches: the archive of its files."""

    def render(inputs: SecretInputs) -> bytes:
        wanted = host(request, role, inputs)
        format_ = format_of(wanted.spec)
        return archive.archive(wanted, format_.layout, templated=not isinstance(format_, Ignition))

    return Computed(f"fetched bootstrap data ({role.value})", render, secrets=secrets_of(request, role))


def secrets_of(request: Request, role: Role) -> tuple[ObjectKey, ...]:
    """The Secrets (and the KubeadmConfig itself, where its values count) that the data is rendered from, each once."""
    namespace = request.cluster.namespace
    fetching = (request.ca, request.fetch.ca) if fetches(request.spec) and request.fetch is not None else ()
    own = bootstrapper_of(request.spec).secrets(request, role)
    sources = (*files.secrets_of(request.spec, namespace), *proxy.secrets_of(request.spec, namespace))
    return tuple(dict.fromkeys((*own, *sources, *fetching, *request.live)))


def host(request: Request, role: Role, inputs: SecretInputs) -> Host:
    """Everything the host does at its first boot, secrets in place.

    Raises:
        RetryableError: a Secret does not exist.
        InvalidError: what is wanted cannot be made.
    """
    spec = request.live_spec(inputs)
    namespace, layout = request.cluster.namespace, format_of(spec).layout
    made = bootstrapper_of(spec).make(request, role, layout, spec, inputs)
    users_files = files.user_files(spec, namespace, inputs, request.control_plane_version)
    whole = Host((*made.before, *users_files, *made.after), made.command, spec, files.users(spec, namespace, inputs), spent=made.spent)
    return proxy.with_proxy(whole, namespace, request.facts, layout, inputs)
