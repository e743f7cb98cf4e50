"""All emulated clusters of this process: what the decisions ask for (actions), what they see (states), and what is kept on disk.

Actions are idempotent and take turns per cluster. After each one the new state is on disk before anything is told to the management API, and before a
client hears that its write is done. What the emulated machines do by themselves is written shortly after, many changes at once.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from fleetwake.background import Background
from fleetwake.errors import NotFoundError, RetryableError, UnavailableError
from fleetwake.kind import Change
from fleetwake.sim.apiserver import ApiStatusError
from schemas.api.infrastructure.v1beta2 import DevCluster, DevMachine
from schemas.keys import ClusterKey, ObjectKey
from services.dev_infrastructure.emulation import fetching
from services.dev_infrastructure.emulation.bootstrapping import Bootstrapper, Fetcher, SecretReader
from services.dev_infrastructure.emulation.cluster import EmulatedCluster, Host
from services.dev_infrastructure.emulation.doors import Doors
from services.dev_infrastructure.emulation.faults import Inflicted, refuse
from services.dev_infrastructure.emulation.objects import DEFAULT_VERSION
from services.dev_infrastructure.emulation.ports import PortPool
from services.dev_infrastructure.emulation.user_data import BootstrapError
from services.dev_infrastructure.kinds.state import API_SERVER, ClusterArguments, ClusterState, MachineArguments

log = logging.getLogger(__name__)
SAVE_SECONDS = 0.05
MODE_PRIVATE = 0o600


@dataclass(frozen=True, slots=True)
class Outside:
    """What the emulation needs: ports of the address it listens on, Secrets of the management API, a clock, whom to wake, where to keep (None: nowhere).

    ``fetch`` fetches bootstrap data as a host does.
    """

    ports: PortPool
    secret: SecretReader
    now: Callable[[], datetime]
    wake: Callable[[ObjectKey], None]
    folder: Path | None = None
    fetch: Fetcher = fetching.fetch


class Emulator:
    """See the module. ``states`` is what ``view.local("clusters")`` shows."""

    def __init__(self, outside: Outside) -> None:
        self._outside = outside
        self._faults = Inflicted(outside.now)
        self._doors = Doors(outside.ports, outside.folder)
        self._bootstrapper = Bootstrapper(outside.secret, outside.fetch, outside.now)
        self.clusters: dict[str, EmulatedCluster] = {}
        self.states: dict[str, ClusterState] = {}
        self._saves: dict[str, asyncio.TimerHandle] = {}
        self._background = Background(lambda error: log.error("cleaning up an emulated cluster failed", exc_info=error))
        self.actions: Mapping[str, Any] = {
            "ensure_cluster": self.ensure_cluster,
            "ensure_machine": self.ensure_machine,
            "remove_machine": self.remove_machine,
            "remove_cluster": self.remove_cluster,
        }

    # ---- life -------------------------------------------------------------------------------------------------------------------------
    async def open(self) -> None:
        """Bring back what was kept: every cluster with its objects, and its listener on the same port."""
        folder = self._outside.folder
        if folder is None:
            return
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._doors.recover()
        for path in sorted(folder.glob("*.jsonl")):
            try:
                cluster = EmulatedCluster.from_bytes(path.read_bytes(), self._outside.now, self._dirty)
            except (ValueError, KeyError, TypeError) as error:
                log.error("the state of an emulated cluster cannot be read, it begins anew: %s: %s", path, error)
                continue
            self._register(cluster)
            self._reserve(cluster, cluster.promised_port)
            await cluster.balance(cluster.balancer, self._doors)
            self._publish(cluster)

    async def keep_only(self, uids: frozenset[str]) -> None:
        """Forget clusters and hosts whose DevCluster or DevMachine is not among these: they went while nobody looked."""
        for cluster in [one for one in self.clusters.values() if one.uid not in uids]:
            log.info("the emulated cluster %s has no DevCluster any more", cluster.key, extra={"about": cluster.key})
            await self._drop(cluster)
        for uid in [uid for cluster in self.clusters.values() for uid in cluster.hosts if uid not in uids]:
            await self.remove_machine({"uid": uid})

    async def close(self) -> None:
        """Keep everything and end."""
        self._background.cancel()
        for key, cluster in self.clusters.items():
            if key in self._saves:
                self._save(cluster)
        await asyncio.gather(*(cluster.close() for cluster in self.clusters.values()))
        self.clusters.clear()
        self.states.clear()

    def _register(self, cluster: EmulatedCluster) -> None:
        cluster.worth_a_try = lambda: self._retry(cluster)
        cluster.keep = lambda: self._keep(cluster)
        cluster.fell = lambda: self._fell(cluster)
        self.clusters[str(cluster.key)] = cluster

    def _reserve(self, cluster: EmulatedCluster, port: int) -> None:
        try:
            cluster.listen(self._outside.ports.reopen(port) if port else self._outside.ports.reserve())
            cluster.failure = ""
        except OSError as error:
            cluster.failure = f"port {port or 'any'} of {self._outside.ports.host}: {error.strerror or error}"

    # ---- actions ----------------------------------------------------------------------------------------------------------------------
    async def ensure_cluster(self, arguments: Mapping[str, Any]) -> None:
        """Make an emulated cluster, reserve its port and open the door at it."""
        wanted = ClusterArguments.model_validate(arguments)
        cluster = self.clusters.get(wanted.cluster)
        if cluster is not None and cluster.uid != wanted.uid:
            await self._drop(cluster)
            cluster = None
        if cluster is None:
            cluster = EmulatedCluster(ClusterKey.parse(wanted.cluster), (wanted.name, wanted.uid), self._outside.now, self._dirty)
            cluster.host = wanted.host or self._outside.ports.host
            self._register(cluster)
        if cluster.endpoint is None:
            self._reserve(cluster, wanted.port or cluster.promised_port)
        await cluster.balance(wanted.balancer, self._doors)
        self._publish(cluster)
        self._save(cluster)
        if cluster.failure or cluster.balancer_failure:
            # no wake: the run that asked is repeated after its backoff, and then tells
            raise UnavailableError(cluster.failure or cluster.balancer_failure, operation=f"give {cluster.key} an endpoint")
        await self._faults.on_cluster(cluster, wanted.faults)
        self._publish(cluster)
        self._outside.wake(self._cluster_key(cluster))

    async def ensure_machine(self, arguments: Mapping[str, Any]) -> None:
        """Request a host, and bring it to the stages wanted."""
        wanted = MachineArguments.model_validate(arguments)
        cluster = self.clusters.get(wanted.cluster)
        if cluster is None:
            raise RetryableError("its emulated cluster is not there yet", operation=f"start DevMachine {wanted.name}")
        async with cluster.lock:
            host = await self._host(cluster, wanted)
            served = API_SERVER in host.done
            try:
                for stage in wanted.stages:
                    if stage not in host.done:
                        refuse(host, stage, wanted.faults)
                        await self._bootstrapper.reach(cluster, host, stage, wanted)
                host.fail("", "")
            except BootstrapError as error:
                host.fail(str(error), wanted.data, waits=error.again)
                log.warning("DevMachine %s/%s: %s", cluster.key.namespace, wanted.name, error)
            except (ApiStatusError, NotFoundError, UnavailableError, ValueError) as error:
                host.fail(str(error), wanted.data, at=self._outside.now())
                log.warning("DevMachine %s/%s: %s", cluster.key.namespace, wanted.name, error)
            finally:
                await self._faults.on_host(cluster, host, wanted.faults)
                self._publish(cluster)
                self._save(cluster)
                self._outside.wake(self._machine_key(cluster, host))
        if API_SERVER in host.done and not served:
            self._retry(cluster)

    async def _host(self, cluster: EmulatedCluster, wanted: MachineArguments) -> Host:
        host = cluster.hosts.get(wanted.uid)
        if host is None:
            for other in [one.uid for one in cluster.hosts.values() if one.name == wanted.machine]:
                await cluster.remove_host(other)
            version = wanted.version or DEFAULT_VERSION
            version = version if version.startswith("v") else f"v{version}"
            host = Host(wanted.uid, wanted.name, wanted.machine, wanted.control_plane, version, self._outside.now())
            cluster.hosts[wanted.uid] = host
        return host

    async def remove_machine(self, arguments: Mapping[str, Any]) -> None:
        """Switch the host of a DevMachine off, whichever cluster it is in."""
        uid = str(arguments["uid"])
        for cluster in [one for one in self.clusters.values() if uid in one.hosts]:
            async with cluster.lock:
                self._faults.forget(cluster, uid)
                await cluster.remove_host(uid)
            self._publish(cluster)
            self._save(cluster)

    async def remove_cluster(self, arguments: Mapping[str, Any]) -> None:
        """Forget a cluster with everything in it and let its port go."""
        uid = str(arguments["uid"])
        for cluster in [one for one in self.clusters.values() if one.uid == uid]:
            await self._drop(cluster)

    async def _drop(self, cluster: EmulatedCluster) -> None:
        key = str(cluster.key)
        self.clusters.pop(key, None)
        self.states.pop(key, None)
        self._faults.drop(cluster)
        handle = self._saves.pop(key, None)
        if handle is not None:
            handle.cancel()
        async with cluster.lock:
            await cluster.close()
        path = self._path(cluster)
        if path is not None:
            path.unlink(missing_ok=True)

    # ---- what others did --------------------------------------------------------------------------------------------------------------
    def changed(self, change: Change) -> None:
        """Clean up behind a DevCluster or DevMachine that is gone without asking (it was deleted before it got its finalizer, or by force)."""
        if change.after is not None or change.key.group != DevCluster.GROUP:
            return
        uid = str(((change.before or {}).get("metadata") or {}).get("uid", ""))
        if change.key.kind == DevCluster.KIND and any(cluster.uid == uid for cluster in self.clusters.values()):
            self._background.spawn(self.remove_cluster({"uid": uid}))
        elif change.key.kind == DevMachine.KIND and any(uid in cluster.hosts for cluster in self.clusters.values()):
            self._background.spawn(self.remove_machine({"uid": uid}))

    def _retry(self, cluster: EmulatedCluster) -> None:
        """What hosts were waiting for may have come: let them try again."""
        waiting = [host for host in cluster.hosts.values() if host.failure and host.waits]
        for host in waiting:
            host.fail("", "")
        if waiting:
            self._publish(cluster)
        for host in waiting:
            self._outside.wake(self._machine_key(cluster, host))

    def _fell(self, cluster: EmulatedCluster) -> None:
        """The load balancer does not run any more: let it be told, and started anew."""
        self._publish(cluster)
        self._outside.wake(self._cluster_key(cluster))

    @staticmethod
    def _cluster_key(cluster: EmulatedCluster) -> ObjectKey:
        return ObjectKey(DevCluster.GROUP, DevCluster.KIND, cluster.key.namespace, cluster.dev_cluster)

    def _machine_key(self, cluster: EmulatedCluster, host: Host) -> ObjectKey:
        return ObjectKey(DevMachine.GROUP, DevMachine.KIND, cluster.key.namespace, host.dev_machine)

    # ---- keeping ----------------------------------------------------------------------------------------------------------------------
    def _publish(self, cluster: EmulatedCluster) -> None:
        if self.clusters.get(str(cluster.key)) is cluster:
            self.states[str(cluster.key)] = self._faults.shown(cluster)

    def _dirty(self, cluster: EmulatedCluster) -> None:
        key = str(cluster.key)
        if key not in self._saves and self._outside.folder is not None:
            self._saves[key] = asyncio.get_running_loop().call_later(SAVE_SECONDS, self._save, cluster)

    def _keep(self, cluster: EmulatedCluster) -> None:
        if str(cluster.key) in self._saves:
            self._save(cluster)

    def _path(self, cluster: EmulatedCluster) -> Path | None:
        folder = self._outside.folder
        return folder / f"{cluster.key.namespace}_{cluster.key.name}.jsonl" if folder is not None else None

    def _save(self, cluster: EmulatedCluster) -> None:
        handle = self._saves.pop(str(cluster.key), None)
        if handle is not None:
            handle.cancel()
        path = self._path(cluster)
        if path is None or self.clusters.get(str(cluster.key)) is not cluster:
            return
        draft = path.with_suffix(".draft")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, MODE_PRIVATE), "wb") as file:
            file.write(cluster.to_bytes())
        draft.replace(path)
