"""Where an API server is and how to speak to it: endpoint, credentials and TLS, taken from the ``kubernetes`` package's configuration.

Files, the pod's service account, exec plugins, OIDC and token refresh are that package's work. TLS material that a kubeconfig holds inline never
reaches a disk: ``ssl`` reads certificate chains from files only, so they pass through anonymous memory. TLS is verified always.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import os
import ssl
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from kubernetes.client import Configuration
from kubernetes.config import ConfigException, load_incluster_config
from kubernetes.config.kube_config import ENV_KUBECONFIG_PATH_SEPARATOR, KUBE_CONFIG_DEFAULT_LOCATION, KubeConfigLoader, KubeConfigMerger

from fleetwake import yaml_text
from fleetwake.errors import TerminalError
from fleetwake.kube import proxies

SERVICE_ACCOUNT_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
INLINE_TLS = ("client-certificate-data", "client-key-data")


class ConfigError(TerminalError):
    """The configuration of a connection cannot be used; the message names the field and the remedy."""


@dataclass(frozen=True, slots=True)
class ApiConfig:
    """One API server. ``authorization`` gives the current header value (``""`` for none); it may block, so call it in a thread.

    ``proxy`` is the URL of the proxy it is reached through, ``""`` for none; it may hold credentials.
    """

    server: str
    tls: ssl.SSLContext | None = None
    server_hostname: str | None = None
    authorization: Callable[[], str] = lambda: ""
    proxy: str = dataclasses.field(default="", repr=False)


def load(kubeconfig: str = "", *, context: str | None = None) -> ApiConfig:
    """Read the configuration: the named file, else KUBECONFIG or ~/.kube/config if there is one, else the pod's service account.

    Raises:
        ConfigError: nothing usable was found.
    """
    paths = kubeconfig or os.environ.get("KUBECONFIG", "")
    if not paths and SERVICE_ACCOUNT_TOKEN.exists():
        return in_cluster()
    paths = paths or KUBE_CONFIG_DEFAULT_LOCATION
    expanded = ENV_KUBECONFIG_PATH_SEPARATOR.join(os.path.expanduser(path) for path in paths.split(ENV_KUBECONFIG_PATH_SEPARATOR))
    if not any(os.path.exists(path) for path in expanded.split(ENV_KUBECONFIG_PATH_SEPARATOR)):
        raise ConfigError(f"no kubeconfig at {paths!r} and no service account in this pod; set FLEETWAKE_KUBECONFIG or KUBECONFIG to a kubeconfig file")
    try:
        merged = KubeConfigMerger(expanded).config
        return _from_document(merged.value, merged, context)
    except (ConfigException, yaml.YAMLError, OSError) as error:
        raise ConfigError(f"kubeconfig {paths!r}: {error}") from error


def in_cluster() -> ApiConfig:
    """Read the pod's service account; its token is re-read every minute.

    Raises:
        ConfigError: this process is not in a pod.
    """
    configuration = Configuration()
    try:
        load_incluster_config(client_configuration=configuration)
    except ConfigException as error:
        raise ConfigError(f"service account: {error}") from error
    tls = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    return ApiConfig(configuration.host, tls, None, _authorization(configuration), _proxy(configuration, ""))


def from_kubeconfig(data: bytes, *, context: str | None = None) -> ApiConfig:
    """Read a kubeconfig held in memory (a workload cluster's ``<cluster>-kubeconfig`` Secret). Nothing of it reaches a disk.

    Raises:
        ConfigError: it is no kubeconfig, or asks for what is refused (unverified TLS, a command to run, files of this machine).
    """
    try:
        document = yaml_text.load(data)
        if not isinstance(document, dict):
            raise ConfigError("kubeconfig: the document is no mapping")
        _refuse_local_reach(document)
        return _from_document(document, document, context)
    except (ConfigException, yaml_text.YAMLError, KeyError, TypeError) as error:
        raise ConfigError(f"kubeconfig: {error}") from error


def _refuse_local_reach(document: dict[str, Any]) -> None:
    # A kubeconfig that came from a Secret is someone else's word: it may neither start programs here nor read files of this machine.
    for entry in document.get("users") or ():
        for field in ("exec", "auth-provider", "tokenFile", "client-certificate", "client-key"):
            if field in (entry.get("user") or {}):
                raise ConfigError(f"kubeconfig user {entry.get('name')!r}: {field} is not accepted from a Secret; use inline data or a token")
    for entry in document.get("clusters") or ():
        if "certificate-authority" in (entry.get("cluster") or {}):
            raise ConfigError(f"kubeconfig cluster {entry.get('name')!r}: certificate-authority names a file; use certificate-authority-data")


def _from_document(document: dict[str, Any], node: Any, context: str | None) -> ApiConfig:
    name = context or document.get("current-context")
    chosen = _named(document, "contexts", "context", name)
    cluster = _named(document, "clusters", "cluster", chosen.get("cluster"))
    user = _named(document, "users", "user", chosen["user"]) if chosen.get("user") else {}
    if cluster.get("insecure-skip-tls-verify"):
        raise ConfigError(f"kubeconfig cluster {chosen.get('cluster')!r}: insecure-skip-tls-verify is not accepted; give certificate-authority-data")
    inline = {field: _decoded(user, field) for field in INLINE_TLS}
    authority = _decoded(cluster, "certificate-authority-data")
    hidden = [(holder, field, holder.pop(field)) for holder, field in _inline_fields(cluster, user)]
    configuration = Configuration()
    try:
        with tempfile.TemporaryDirectory(prefix="fleetwake-") as private:
            KubeConfigLoader(node, active_context=context, temp_file_path=private).load_and_set(configuration)
            tls = _tls(configuration, authority, inline)
    finally:
        for holder, field, value in hidden:
            holder[field] = value
    proxy = _proxy(configuration, str(cluster.get("proxy-url") or ""))
    return ApiConfig(configuration.host, tls, configuration.tls_server_name or None, _authorization(configuration), proxy)


def _inline_fields(cluster: dict[str, Any], user: dict[str, Any]) -> list[tuple[dict[str, Any], str]]:
    # Hidden from the loader, which would write them to files that stay until the process ends, and for ever after a kill -9.
    found = [(user, field) for field in INLINE_TLS if field in user]
    return [*found, (cluster, "certificate-authority-data")] if "certificate-authority-data" in cluster else found


def _tls(configuration: Configuration, authority: bytes, inline: dict[str, bytes]) -> ssl.SSLContext | None:
    if not configuration.host.startswith("https://"):
        return None
    if authority:
        context = ssl.create_default_context(cadata=authority.decode())
    else:
        context = ssl.create_default_context(cafile=configuration.ssl_ca_cert)
    certificate, key = inline["client-certificate-data"], inline["client-key-data"]
    if certificate and key:
        load_cert_chain(context, certificate, key)
    elif configuration.cert_file:
        context.load_cert_chain(configuration.cert_file, configuration.key_file)
    return context


def load_cert_chain(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Give ``context`` a client certificate and key held in memory (PEM).

    Raises:
        ConfigError: they are no PEM pair.
    """
    with _memory_file(certificate + b"\n" + key) as path:
        try:
            context.load_cert_chain(path)
        except ssl.SSLError as error:
            raise ConfigError(f"client certificate and key do not load: {error.reason or error}") from error


@contextmanager
def _memory_file(content: bytes) -> Iterator[str]:
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("fleetwake", os.MFD_CLOEXEC)
        try:
            os.write(descriptor, content)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
    else:  # not Linux: a private file that lives for the one call
        with tempfile.NamedTemporaryFile(prefix="fleetwake-") as file:
            file.write(content)
            file.flush()
            yield file.name


def _authorization(configuration: Configuration) -> Callable[[], str]:
    def current() -> str:
        return configuration.get_api_key_with_prefix("BearerToken", "authorization") or ""

    if "BearerToken" in configuration.api_key or "authorization" in configuration.api_key:
        return current
    return lambda: ""


def _proxy(configuration: Configuration, proxy_url: str) -> str:
    try:
        return proxies.proxy_of(configuration.host, proxy_url, "" if proxy_url else configuration.proxy or "", configuration.no_proxy or "")
    except ValueError as error:
        place = "kubeconfig cluster: proxy-url" if proxy_url else "HTTPS_PROXY"
        raise ConfigError(f"{place}: {error}") from None


def _named(document: dict[str, Any], listing: str, field: str, name: str | None) -> dict[str, Any]:
    for entry in document.get(listing) or ():
        plain = getattr(entry, "value", entry)
        if plain.get("name") == name:
            found = plain.get(field) or {}
            plain_found: dict[str, Any] = getattr(found, "value", found)
            return plain_found
    raise ConfigError(f"kubeconfig: {listing} has no entry named {name!r}")


def _decoded(holder: dict[str, Any], field: str) -> bytes:
    try:
        return base64.b64decode("".join(str(holder.get(field) or "").split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ConfigError(f"kubeconfig: {field} is no base64") from error
