"""Raw requests to the API server from many threads: what the tests read and what the recorder follows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from kubernetes import client, config

CONNECTIONS_MAX = 40
REQUEST_LIMIT_S = 20.0
WATCH_SILENCE_LIMIT_S = 330.0

PATHS = {
    "Cluster": "/apis/cluster.x-k8s.io/v1beta2/clusters",
    "MachineDeployment": "/apis/cluster.x-k8s.io/v1beta2/machinedeployments",
    "MachineSet": "/apis/cluster.x-k8s.io/v1beta2/machinesets",
    "MachinePool": "/apis/cluster.x-k8s.io/v1beta2/machinepools",
    "Machine": "/apis/cluster.x-k8s.io/v1beta2/machines",
    "MachineHealthCheck": "/apis/cluster.x-k8s.io/v1beta2/machinehealthchecks",
    "KubeadmControlPlane": "/apis/controlplane.cluster.x-k8s.io/v1beta2/kubeadmcontrolplanes",
    "KubeadmConfig": "/apis/bootstrap.cluster.x-k8s.io/v1beta2/kubeadmconfigs",
    "KubeadmConfigTemplate": "/apis/bootstrap.cluster.x-k8s.io/v1beta2/kubeadmconfigtemplates",
    "DevCluster": "/apis/infrastructure.cluster.x-k8s.io/v1beta2/devclusters",
    "DevMachine": "/apis/infrastructure.cluster.x-k8s.io/v1beta2/devmachines",
    "DevMachinePool": "/apis/infrastructure.cluster.x-k8s.io/v1beta2/devmachinepools",
    "DevMachineTemplate": "/apis/infrastructure.cluster.x-k8s.io/v1beta2/devmachinetemplates",
    "Secret": "/api/v1/secrets",
    "ConfigMap": "/api/v1/configmaps",
}
"""Collections over all namespaces, by kind."""


class Answer(Exception):
    """The API server answered with a status of 400 or more."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Api:
    """One API server as the account of a kubeconfig sees it. Threads may share it."""

    def __init__(self, kubeconfig: str) -> None:
        configuration = client.Configuration()
        config.load_kube_config(kubeconfig, client_configuration=configuration)
        configuration.connection_pool_maxsize = CONNECTIONS_MAX
        self._pool = client.ApiClient(configuration).rest_client.pool_manager
        # an account of a service shows a token, the admin a certificate
        token = configuration.get_api_key_with_prefix("BearerToken", "authorization") or configuration.get_api_key_with_prefix("authorization")
        self._headers = {"Authorization": token} if token else {}
        self._root = configuration.host.rstrip("/")

    def get(self, path: str, **query: str) -> dict[str, Any]:
        """Read one object or collection.

        Raises:
            Answer: it was refused.
            OSError: no connection (urllib3's errors descend from it or from HTTPError).
        """
        response = self._pool.request("GET", f"{self._root}{path}?{urlencode(query)}", headers=self._headers, timeout=REQUEST_LIMIT_S, retries=False)
        if response.status >= 400:
            raise Answer(response.status, response.data.decode(errors="replace")[:300])
        return dict(json.loads(response.data))

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Create something (or have a question answered).

        Raises:
            Answer: it was refused.
        """
        headers = {**self._headers, "Content-Type": "application/json"}
        response = self._pool.request("POST", f"{self._root}{path}", body=json.dumps(body), headers=headers, timeout=REQUEST_LIMIT_S, retries=False)
        if response.status >= 400:
            raise Answer(response.status, response.data.decode(errors="replace")[:300])
        return dict(json.loads(response.data))

    def decode(self, path: str, api_version: str, kind: str, message: bytes) -> dict[str, Any]:
        """What the server makes of a protobuf message of a built-in kind: it creates the object, but keeps nothing (``dryRun``).

        Raises:
            Answer: it was refused.
        """
        # runtime.Unknown: 1 type meta (1 apiVersion, 2 kind), 2 the message
        unknown = _field(1, _field(1, api_version.encode()) + _field(2, kind.encode())) + _field(2, message)
        headers = {**self._headers, "Content-Type": "application/vnd.kubernetes.protobuf", "Accept": "application/json"}
        url = f"{self._root}{path}?dryRun=All"
        response = self._pool.request("POST", url, body=b"k8s\x00" + unknown, headers=headers, timeout=REQUEST_LIMIT_S, retries=False)
        if response.status >= 400:
            raise Answer(response.status, response.data.decode(errors="replace")[:300])
        return dict(json.loads(response.data))

    def watch(self, path: str, resource_version: str) -> Iterator[dict[str, Any]]:
        """Follow a collection from a resourceVersion on, until the server ends the stream."""
        query = urlencode({"watch": "1", "resourceVersion": resource_version, "allowWatchBookmarks": "true"})
        response = self._pool.request("GET", f"{self._root}{path}?{query}", preload_content=False, timeout=WATCH_SILENCE_LIMIT_S, retries=False)
        try:
            if response.status >= 400:
                raise Answer(response.status, response.data.decode(errors="replace")[:300])
            rest = b""
            while block := response.read1():
                *lines, rest = (rest + block).split(b"\n")
                yield from (json.loads(line) for line in lines if line)
        finally:
            response.close()


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited field of a protobuf message."""
    size, length = len(content), bytearray()
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([number << 3 | 2, *length, size]) + content
