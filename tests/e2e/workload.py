"""A workload cluster as an operator looks at it: kubectl with the cluster's kubeconfig, and etcd's own list of its members."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from fleetwake.kube import config
from fleetwake.kube.client import ApiClient
from fleetwake.kube.etcd import EtcdClient, EtcdTls
from fleetwake.kube.pki import CertificateSpec, KeyPair, generate_key, sign_certificate
from fleetwake.kube.port_forward import ApiAccess
from tests.e2e.fleet import Fleet

COMPONENTS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")


@dataclass(frozen=True)
class Workload:
    """One cluster of a namespace; ``folder`` keeps its kubeconfig."""

    fleet: Fleet
    namespace: str
    name: str
    folder: Path

    def objects(self, *arguments: str) -> list[dict[str, Any]]:
        """The objects that ``kubectl get`` lists, in kube-system unless the arguments say otherwise."""
        kubeconfig = self.fleet.workload_kubeconfig(self.namespace, self.name, self.folder)
        listed = json.loads(self.fleet.kubectl("-n", "kube-system", "get", *arguments, "-o", "json", kubeconfig=kubeconfig))
        return list(listed["items"]) if "items" in listed else [listed]

    def nodes(self) -> set[str]:
        """The names of the Nodes."""
        return {node["metadata"]["name"] for node in self.objects("nodes")}

    def configuration(self) -> dict[str, Any]:
        """kubeadm's ClusterConfiguration, as hosts that join read it."""
        return dict(yaml.safe_load(self.objects("configmap", "kubeadm-config")[0]["data"]["ClusterConfiguration"]))

    def images(self, resource: str, *names: str) -> dict[str, str]:
        """The image of the first container by the name of its object; for workloads, of their template."""
        found = {}
        for obj in self.objects(resource, *names):
            spec = obj["spec"]["template"]["spec"] if "template" in obj["spec"] else obj["spec"]
            found[str(obj["metadata"]["name"])] = str(spec["containers"][0]["image"])
        return found

    def etcd_members(self, node: str) -> set[str]:
        """The names of etcd's members, as the one on ``node`` knows them."""
        return asyncio.run(self._etcd_members(node))

    async def _etcd_members(self, node: str) -> set[str]:
        secret = self.fleet.api.get(f"/api/v1/namespaces/{self.namespace}/secrets/{self.name}-etcd")["data"]
        ca = KeyPair(*(base64.b64decode(secret[field]) for field in ("tls.crt", "tls.key")))
        pair = sign_certificate(ca, CertificateSpec("operator", usages=("client",)), generate_key("ECDSA-P256"), now=datetime.now(UTC))
        client = ApiClient(config.load(self.fleet.workload_kubeconfig(self.namespace, self.name, self.folder)), service="test")
        try:
            access = ApiAccess(client.session, client.config.server)
            async with EtcdClient.through(access, pod=f"etcd-{node}", tls=EtcdTls(ca.cert_pem, pair.cert_pem, pair.key_pem)) as etcd:
                return {member.name for member in await etcd.members()}
        finally:
            await client.close()
