"""The kubelets of one emulated cluster, and the controllers that clean up after them.

A pod bound to a Node with a running host starts; one asked to go goes after its grace period, unless its Node is marked unreachable. When a Node is
gone, so are its pods. Everything happens after the change that caused it, never inside of it; nothing polls.

Source: workload.md §3; kubelet and pod garbage collector, Kubernetes 1.36.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from fleetwake.sim.apiserver import ApiServer, ApiStatusError, Change, DeleteOptions, WriteOptions
from fleetwake.sim.apiserver.store import Key, Scope
from services.dev_infrastructure.emulation import objects

JsonDict = dict[str, Any]
AS_KUBELET = WriteOptions(field_manager="kubelet", subresource="status")
NOW = DeleteOptions(grace_seconds=0)


class Kubelet:
    """See the module. ``runs(node name)`` says whether the host of a Node runs."""

    def __init__(self, server: ApiServer, runs: Callable[[str], bool]) -> None:
        self._server, self._runs = server, runs
        self._loop = asyncio.get_running_loop()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._soon: set[asyncio.Handle] = set()
        self._closed = False
        server.on_change(self._changed)
        for entry in server.store.entries(Scope("pods")):
            self._pod(entry.obj)

    def close(self) -> None:
        """Stop everything."""
        self._closed = True
        for handle in self._timers.values():
            handle.cancel()
        self._timers.clear()

    def _later(self, callback: Callable[..., None], *arguments: Any) -> None:
        self._loop.call_soon(self._unless_closed, callback, *arguments)

    def _unless_closed(self, callback: Callable[..., None], *arguments: Any) -> None:
        if not self._closed:
            callback(*arguments)

    def _changed(self, change: Change) -> None:
        key = change.entry.key
        if key.resource == "pods":
            if change.type == "DELETED":
                handle = self._timers.pop(change.entry.uid, None)
                if handle is not None:
                    handle.cancel()
            else:
                self._pod(change.entry.obj)
        elif key.resource == "nodes" and change.type != "ADDED":
            self._later(self._collect if change.type == "DELETED" else self._resume, key.name)

    def _pod(self, pod: JsonDict) -> None:
        node = pod.get("spec", {}).get("nodeName")
        if not node:
            return
        meta = pod["metadata"]
        if "deletionTimestamp" in meta:
            self._arm(pod)
        elif pod.get("status", {}).get("phase") == "Pending" and self._runs(node):
            self._later(self._start, meta["namespace"], meta["name"])

    def _arm(self, pod: JsonDict) -> None:
        meta = pod["metadata"]
        old = self._timers.pop(meta["uid"], None)
        if old is not None:
            old.cancel()
        grace = float(meta.get("deletionGracePeriodSeconds") or 0)
        self._timers[meta["uid"]] = self._loop.call_later(grace, self._stopped, meta["namespace"], meta["name"], meta["uid"])

    def _start(self, namespace: str, name: str) -> None:
        entry = self._server.store.get(Key("pods", namespace, name))
        if entry is None or entry.obj.get("status", {}).get("phase") != "Pending" or "deletionTimestamp" in entry.obj["metadata"]:
            return
        start(self._server, entry.obj)

    def _stopped(self, namespace: str, name: str, uid: str) -> None:
        self._timers.pop(uid, None)
        entry = self._server.store.get(Key("pods", namespace, name))
        if entry is None or entry.uid != uid or not self._reachable(entry.obj["spec"]["nodeName"]):
            return
        delete(self._server, "pods", namespace, name)

    def _reachable(self, name: str) -> bool:
        entry = self._server.store.get(Key("nodes", "", name))
        if entry is None:
            return True  # nothing is left that could hold the pod: the garbage collector takes it
        tainted = any(taint.get("key") == objects.UNREACHABLE_TAINT for taint in entry.obj.get("spec", {}).get("taints") or ())
        return not tainted and self._runs(name)

    def _resume(self, node: str) -> None:
        """The Node changed: it may be reachable again, and pods that were to go can."""
        if not self._reachable(node):
            return
        for entry in self._on(node):
            if "deletionTimestamp" in entry.obj["metadata"] and entry.uid not in self._timers:
                self._arm(entry.obj)

    def _collect(self, node: str) -> None:
        if self._server.store.get(Key("nodes", "", node)) is None:
            for entry in self._on(node):
                delete(self._server, "pods", entry.key.namespace, entry.key.name)

    def _on(self, node: str) -> list[Any]:
        return self._server.store.entries(Scope("pods", fields=lambda pod: bool(pod.get("spec", {}).get("nodeName") == node)))


def start(server: ApiServer, pod: JsonDict) -> None:
    """Tell that a pod runs."""
    host = server.store.get(Key("nodes", "", pod["spec"]["nodeName"]))
    addresses = host.obj.get("status", {}).get("addresses", ()) if host is not None else ()
    address = next((one["address"] for one in addresses if one["type"] == "InternalIP"), "")
    server.update("pods", {**pod, "status": objects.running(pod, address, server.now())}, pod["metadata"]["namespace"], AS_KUBELET)


def crash(server: ApiServer, name: str) -> None:
    """Tell that the container of a static pod has ended and ends again whenever it is started; once."""
    found = server.store.get(Key("pods", objects.SYSTEM, name))
    if found is not None and any(one.get("ready") for one in (found.obj.get("status") or {}).get("containerStatuses") or ()):
        server.update("pods", {**found.obj, "status": objects.crashed(found.obj["status"], server.now())}, objects.SYSTEM, AS_KUBELET)


def delete(server: ApiServer, resource: str, namespace: str, name: str) -> None:
    """Delete at once, if it is there."""
    try:
        server.delete(resource, namespace, name, NOW)
    except ApiStatusError as error:
        if error.code != 404:
            raise
