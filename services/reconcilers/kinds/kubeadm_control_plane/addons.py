"""kube-proxy and CoreDNS in the workload cluster, kept at what the control plane's spec says once its Machines are.

They are looked at when there is a new connection, and after each write. An answer that asks for a write is asked for again first, and the
write goes to the version that was told.

Source: kinds.md §8.1 step 17, §8.7; Cluster API v1.14 (which image, order of the writes of CoreDNS, name of the backup).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fleetwake import labels
from fleetwake.patches import api_version_of, key_of
from fleetwake.plan import Event, Look, Patch, Step, soonest
from schemas.keys import ObjectKey
from services.reconcilers.kinds.kubeadm_control_plane import corefile, images
from services.reconcilers.kinds.kubeadm_control_plane.cluster_configuration import UnreadableError, update
from services.reconcilers.kinds.kubeadm_control_plane.health import Health
from services.reconcilers.kinds.kubeadm_control_plane.looking import ACT_ON, seen
from services.reconcilers.kinds.kubeadm_control_plane.move import Move
from services.reconcilers.kinds.kubeadm_control_plane.observed import Observed

SYSTEM = "kube-system"
KUBE_PROXY, COREDNS = "kube-proxy", "coredns"
PROXY_QUERY = f"get/apps/v1/DaemonSet/{SYSTEM}/{KUBE_PROXY}"
COREDNS_QUERY = f"get/apps/v1/Deployment/{SYSTEM}/{COREDNS}"
COREFILE_QUERY = f"get//v1/ConfigMap/{SYSTEM}/{COREDNS}"
COREFILE, BACKUP, VOLUME = "Corefile", "Corefile-backup", "config-volume"
UPSTREAM_REPOSITORIES = ("registry.k8s.io", "k8s.gcr.io")
RENAMED_SINCE = (1, 8, 0)
"""Since then CoreDNS lies in a folder of its own in Kubernetes' registry."""

Json = Mapping[str, Any]


def update_addons(observed: Observed, health: Health) -> Move:
    """Bring kube-proxy, then CoreDNS, to what they should be."""
    if not health.readable or not observed.members:
        return Move()
    proxy, dns = _kube_proxy(observed), _coredns(observed)
    return Move((*proxy.steps, *dns.steps), wait=soonest(proxy.wait, dns.wait), guarded=proxy.guarded or dns.guarded)


def _container(found: Any, name: str) -> Json | None:
    template = ((found or {}).get("spec") or {}).get("template") or {}
    return next((one for one in (template.get("spec") or {}).get("containers") or () if one.get("name") == name), None)


def _patch(observed: Observed, found: Json, kind: str, spec: Json, reason: str) -> Patch:
    """A strategic patch of a workload's pod template, to the version that was looked at."""
    meta = found["metadata"]
    key = ObjectKey("apps", kind, SYSTEM, str(meta["name"]), str(observed.cluster_key))
    body = {"spec": {"template": {"spec": spec}}}
    return Patch(key, "apps/v1", str(meta.get("uid", "")), body, reason, resource_version=str(meta.get("resourceVersion", "")), strategic=True)


def _again(observed: Observed, *queries: str) -> tuple[Step, ...]:
    return tuple(Look(observed.cluster_key, query, "it was changed") for query in queries)


# --- kube-proxy --------------------------------------------------------------------------------------------------------------------------------


def _kube_proxy(observed: Observed) -> Move:
    if observed.kcp.annotated(labels.SKIP_KUBE_PROXY):
        return Move()
    known = seen(observed, PROXY_QUERY, "its version follows the control plane's")
    if known.known and _proxy_image(observed, known.value) is not None:
        known = seen(observed, PROXY_QUERY, "it is about to be changed", fresh=True)
    if not known.known:
        return Move((known.look,) if known.look is not None else (), wait=known.wait)
    image = _proxy_image(observed, known.value)
    if image is None:
        return Move()
    patch = _patch(observed, known.value, "DaemonSet", {"containers": [{"name": KUBE_PROXY, "image": image}]}, f"kube-proxy follows {observed.version}")
    return Move((patch, *_again(observed, PROXY_QUERY)), guarded=True)


def _proxy_image(observed: Observed, found: Any) -> str | None:
    """The image that kube-proxy should have and has not."""
    container = _container(found, KUBE_PROXY)
    if container is None or not container.get("image"):
        return None
    image = images.parse(str(container["image"])).with_tag(observed.version)
    repository = observed.configuration.get("imageRepository")
    wanted = str(image.within(str(repository)) if repository else image)
    return wanted if wanted != container["image"] else None


# --- CoreDNS -----------------------------------------------------------------------------------------------------------------------------------


def _coredns(observed: Observed) -> Move:
    configuration = observed.configuration
    dns: Json = configuration.get("dns") or {}
    asked = dns.get("imageTag") or dns.get("imageRepository") or configuration.get("imageRepository")
    if observed.kcp.annotated(labels.SKIP_COREDNS) or not asked:
        # without a wish what runs is what should
        return Move()
    known = seen(observed, COREDNS_QUERY, "its image follows the control plane's settings")
    if not known.known:
        return Move((known.look,) if known.look is not None else (), wait=known.wait)
    if _dns_image(configuration, known.value) is None and not _on_backup(known.value):
        return Move()
    config = seen(observed, COREFILE_QUERY, "CoreDNS is about to be changed")
    if not config.known or config.value is None:
        return Move((config.look,) if config.look is not None else (), wait=config.wait)
    try:
        steps = _migrated(observed, known.value, config.value)
    except (corefile.MigrationError, UnreadableError) as error:
        return _refused(observed, str(error))
    again = [seen(observed, query, "it is about to be changed", fresh=True) for query in (COREDNS_QUERY, COREFILE_QUERY)]
    if not all(one.known for one in again):
        return Move(tuple(one.look for one in again if one.look is not None), wait=soonest(*(one.wait for one in again)))
    return Move((*steps, *_again(observed, COREDNS_QUERY, COREFILE_QUERY)), guarded=True)


def _refused(observed: Observed, text: str) -> Move:
    """Tell what is wrong with the wish, when the wish is new or what it is about was just looked at."""
    kcp = observed.kcp
    looked = observed.workload.looks.get(COREFILE_QUERY)
    if kcp.status.observed_generation == kcp.metadata.generation and (looked is None or observed.at - looked.at > ACT_ON):
        return Move()
    return Move((Event(key_of(kcp), api_version_of(kcp), kcp.metadata.uid, "CoreDNSUpdateFailed", f"Failed to update CoreDNS: {text}", "Warning"),))


def _dns_image(configuration: Json, found: Any) -> images.Image | None:
    """The image that CoreDNS should have and has not."""
    container = _container(found, COREDNS)
    if container is None or not container.get("image"):
        return None
    current = images.parse(str(container["image"]))
    dns: Json = configuration.get("dns") or {}
    wanted = current.with_tag(str(dns["imageTag"])) if dns.get("imageTag") else current
    repository = str(dns.get("imageRepository") or configuration.get("imageRepository") or current.repository).rstrip("/")
    wanted = wanted.within(repository)
    release = images.tag_version(wanted.tag)
    if repository in UPSTREAM_REPOSITORIES and release is not None and release >= RENAMED_SINCE:
        wanted = wanted.within(f"{repository}/{COREDNS}")
    return wanted if str(wanted) != str(current) else None


def _on_backup(found: Any) -> bool:
    """Whether an update was begun and not ended: CoreDNS reads the backup."""
    return any(item.get("key") == BACKUP for volume in _volumes(found) for item in (volume.get("configMap") or {}).get("items") or ())


def _volumes(found: Any) -> Iterable[Json]:
    spec = (((found or {}).get("spec") or {}).get("template") or {}).get("spec") or {}
    return [volume for volume in spec.get("volumes") or () if volume.get("name") == VOLUME and (volume.get("configMap") or {}).get("name") == COREDNS]


def _migrated(observed: Observed, deployment: Json, config: Json) -> tuple[Step, ...]:
    """The writes of an update: CoreDNS reads a backup while its configuration is exchanged, so that no Pod of the old image meets the new one's.

    Raises:
        MigrationError: the wish cannot be met.
        UnreadableError: kubeadm's configuration cannot be read.
    """
    container = _container(deployment, COREDNS)
    assert container is not None
    current = images.parse(str(container["image"]))
    wanted = _dns_image(observed.configuration, deployment) or current
    old, new = images.tag_version(current.tag), images.tag_version(wanted.tag)
    if old is None or new is None:
        raise corefile.MigrationError(f"no version in the tags of {current} and {wanted}")
    if new < old:
        raise corefile.MigrationError(f"toVersion {wanted.tag!r} must be greater than or equal to fromVersion {current.tag!r}")
    data: Json = config.get("data") or {}
    text = data.get(BACKUP) if _on_backup(deployment) else data.get(COREFILE)
    if not text:
        raise corefile.MigrationError("unable to find the CoreDNS Corefile data")
    migrated = corefile.migrate(str(text), old, new)
    dns: Json = observed.configuration.get("dns") or {}
    stored = update(observed, {"imageRepository": dns.get("imageRepository"), "imageTag": dns.get("imageTag")})
    key = ObjectKey("", "ConfigMap", SYSTEM, COREDNS, str(observed.cluster_key))
    meta = config["metadata"]
    uid, version = str(meta.get("uid", "")), str(meta.get("resourceVersion", ""))
    kept = Patch(key, "v1", uid, {"data": {BACKUP: text}}, "CoreDNS keeps its configuration while it is updated", resource_version=version)
    exchanged = Patch(key, "v1", uid, {"data": {COREFILE: migrated}}, f"the configuration of CoreDNS is brought to {wanted.tag}")
    aside = _patch(observed, deployment, "Deployment", _reading(deployment, BACKUP), "CoreDNS reads its backup meanwhile")
    spec = {"containers": [{"name": COREDNS, "image": str(wanted)}], **_reading(deployment, COREFILE)}
    done = Patch(aside.key, aside.api_version, aside.uid, {"spec": {"template": {"spec": spec}}}, f"CoreDNS becomes {wanted}", strategic=True)
    return (*((stored,) if stored is not None else ()), kept, aside, exchanged, done)


def _reading(deployment: Json, key: str) -> dict[str, Any]:
    """The volume of CoreDNS with its configuration taken from that key."""
    volumes = []
    for volume in _volumes(deployment):
        source = volume["configMap"]
        items = [{**item, "key": key} if item.get("key") in (COREFILE, BACKUP) else dict(item) for item in source.get("items") or ()]
        volumes.append({"name": VOLUME, "configMap": {"name": source["name"], "items": items}})
    return {"volumes": volumes} if volumes else {}
