"""A control plane whose etcd is the emulated one, with hosts that fail, seen and unseen: the truth that decisions are held against."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fleetwake import labels
from fleetwake.kind import Looked
from fleetwake.plan import Apply, EtcdMoveLeader, EtcdRemoveMember, Event, Look, Patch, Plan, Step, flatten
from fleetwake.sim.etcd import EmulatedEtcd, EtcdRefusal
from services.reconcilers.kinds.kubeadm_control_plane import KIND
from tests.decide.control_plane_fleet import Fleet, control_plane, mutations, template
from tests.decide.kubeadm_world import cluster, condition
from tests.decide.world import Json

ROUNDS_MAX = 60
COMPONENTS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "etcd")
PROVISIONED = {"infrastructureProvisioned": True, "bootstrapDataSecretCreated": True}


class QuorumFleet(Fleet):
    """``Fleet`` with a real membership. ``unseen`` are hosts that died and whose pods nobody has told of yet; ``refused``: etcd refused the last plan."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.etcd = EmulatedEtcd("default/demo")
        self.unseen: set[str] = set()
        self.refused = False

    # --- what decisions read

    def workload(self, cluster: Any) -> Any:
        self.connected = bool(self.etcd.members) and self.etcd.has_quorum
        return super().workload(cluster)

    def look(self, step: Look) -> None:
        if step.query != "etcd":
            super().look(step)
            return
        self.asked.append(step.query)
        member = next((found for node in step.via if (found := self.etcd.find(node)) is not None and found.running), None)
        if member is None or not self.etcd.has_quorum:
            self.looks["etcd"] = Looked(self.at, None, "no answer")
            return
        members = [{"id": one.id, "name": one.name, "isLearner": one.is_learner} for one in self.etcd.members.values()]
        alarms = [{"memberID": member_id, "alarm": alarm} for member_id, alarm in sorted(self.etcd.alarms)]
        self.looks["etcd"] = Looked(self.at, {"members": members, "alarms": alarms, "leader": self.etcd.leader_id, "via": member.name})

    # --- what becomes of plans

    def carry_out(self, steps: Iterable[Step], limit: int | None = None) -> list[Step]:
        """As the shell: what etcd refuses fails, and the steps behind it are not taken, but for what is told."""
        done: list[Step] = []
        self.refused = False
        for step in flatten(steps):
            if self.refused and not (isinstance(step, Apply) and step.subresource == "status"):
                continue
            if isinstance(step, EtcdRemoveMember | EtcdMoveLeader):
                try:
                    self._etcd(step)
                except EtcdRefusal:
                    self.refused = True
                    continue
                done.append(step)
            else:
                done += super().carry_out((step,))
        return done

    def _etcd(self, step: EtcdRemoveMember | EtcdMoveLeader) -> None:
        if isinstance(step, EtcdMoveLeader):
            for heir in (step.to_member_id, *step.others):
                try:
                    self.etcd.move_leader(self.etcd.leader_id, heir)
                except EtcdRefusal as refusal:
                    last = refusal
                else:
                    return
            raise last
        local = next(found for node in step.via if (found := self.etcd.find(node)) is not None and found.running)
        self.etcd.remove(local.id, step.member_id)

    # --- hosts

    def provision(self, name: str) -> None:
        """A host comes up; what runs there is up as soon as it can join etcd."""
        if not any(node["metadata"]["name"] == name for node in self.nodes):
            self.appear(name, "Node")
        member = self.etcd.find(name)
        if member is None:
            try:
                self.etcd.add(name, (f"https://{name}:2380",))
            except EtcdRefusal:
                return
        else:
            # it had stayed half way, and may have died there
            self.etcd.set_running(member.id, True)
        self.unseen.discard(name)
        self.appear(name, "Pods")

    def coming(self) -> list[str]:
        """Machines whose host is not up, or could not join etcd so far."""
        up = {pod["metadata"]["name"] for pod in self.pods}
        return [
            one["metadata"]["name"] for one in self.machines() if f"etcd-{one['metadata']['name']}" not in up and "deletionTimestamp" not in one["metadata"]
        ]

    def appear(self, name: str, what: str) -> None:
        super().appear(name, what)
        self.members.clear()
        if what == "Pods":
            self.initialize(str(self.machine(name)["spec"].get("version", "v1.34.2")))

    def fail(self, name: str, *, seen: bool) -> None:
        """A host dies. What runs there is seen to be away, or is not yet."""
        member = self.etcd.find(name)
        if member is not None:
            self.etcd.set_running(member.id, False)
        self.unseen.add(name)
        if seen:
            self.notice(name)

    def notice(self, name: str) -> None:
        """The pods of a host that died are seen to be away."""
        self.unseen.discard(name)
        self._pods(name, "False")

    def revive(self, name: str) -> None:
        """A host that had died is back."""
        member = self.etcd.find(name)
        if member is not None:
            self.etcd.set_running(member.id, True)
            self._pods(name, "True")
        self.unseen.discard(name)

    def _pods(self, name: str, ready: str) -> None:
        stamp = self.at.strftime("%Y-%m-%dT%H:%M:%SZ")
        for pod in self.pods:
            if pod["metadata"]["name"] in {f"{component}-{name}" for component in COMPONENTS}:
                pod["status"] = {"phase": "Running", "conditions": [{"type": "Ready", "status": ready, "lastTransitionTime": stamp}]}

    def end(self, name: str) -> None:
        """A Machine ends, and its host with it: a member that is still listed stays so, and is away."""
        super().end(name)
        member = self.etcd.find(name)
        if member is not None:
            self.etcd.lose(member.id)
        self.unseen.discard(name)
        if not any(one.running for one in self.etcd.members.values()) and not self.machines():
            self.etcd = EmulatedEtcd("default/demo")

    def hand_over(self, name: str) -> None:
        """A health check fails a Machine and hands it to its control plane."""
        told = {one["type"]: one["status"] for one in self.machine(name).get("status", {}).get("conditions", ())}
        wanted = [condition("HealthCheckSucceeded", "False", "UnhealthyNode")]
        if told.get("OwnerRemediated") != "False":
            wanted.append(condition("OwnerRemediated", "False", "WaitingForRemediation"))
        self.set_conditions(name, *wanted)

    def voting(self) -> bool:
        """Whether etcd has a majority, or there is no etcd yet."""
        return not self.etcd.members or self.etcd.has_quorum


def quorum_fleet(replicas: int, **spec: Any) -> QuorumFleet:
    """A control plane of that many Machines, all up; 0: only the wish for one."""
    world = QuorumFleet([cluster(), control_plane(max(replicas, 1), **spec), template()])
    world.put({**template(), "metadata": {"name": "other", "namespace": "default"}})
    if replicas:
        world.live()
    return world


# --- the rules ---------------------------------------------------------------------------------------------------------------------------------


def act(world: QuorumFleet, plan: Plan) -> None:
    """Carry a plan out and hold it to the rules."""
    touched = mutations(plan.steps)
    removals = [step for step in flatten(plan.steps) if isinstance(step, EtcdRemoveMember)]
    assert len(touched) + len(removals) <= 1, f"more than one change of membership: {touched} {removals}"
    deleting = bool(world.kcp()["metadata"].get("deletionTimestamp"))
    before = world.voting()
    if not deleting:
        for step in touched:
            _judge_mutation(world, step)
        assert not (touched or removals) or plan.guarded or not _deletes(touched), "a Machine is deleted on the word of a cache"
    done = world.carry_out(plan.steps)
    if before and not deleting:
        assert world.voting(), f"etcd lost its majority by {removals}"
        for step in done:
            if _drops_hook(step):
                assert _survives(world, step.key.name, removed=False), f"the end of {step.key.name} takes etcd its majority"


def _deletes(touched: list[Step]) -> list[Step]:
    return [step for step in touched if type(step).__name__ == "Delete"]


def _judge_mutation(world: QuorumFleet, step: Any) -> None:
    """One operation ends before the next begins; and nothing is deleted that a majority needs, as far as anybody could know."""
    others = [one for one in world.machines() if one["metadata"]["name"] != step.key.name]
    leaving = [one["metadata"]["name"] for one in others if "deletionTimestamp" in one["metadata"]]
    assert not leaving, f"{step.key.name} is touched while {leaving} leave"
    coming = [one["metadata"]["name"] for one in others if not (one.get("status") or {}).get("nodeRef") and not _failed(one)]
    assert not coming, f"{step.key.name} is touched while {coming} come"
    if _deletes([step]) and world.voting():
        unknown = world.unseen - {step.key.name}
        assert unknown or _survives(world, step.key.name, removed=True), f"the deletion of {step.key.name} takes etcd its majority"


def _failed(machine: Json) -> bool:
    return any(one["type"] == "HealthCheckSucceeded" and one["status"] == "False" for one in machine.get("status", {}).get("conditions", ()))


def _drops_hook(step: Step) -> bool:
    if not isinstance(step, Patch) or step.key.kind != "Machine":
        return False
    annotations = step.body.get("metadata", {}).get("annotations", {})
    return labels.KCP_CLEANUP_HOOK in annotations and annotations[labels.KCP_CLEANUP_HOOK] is None


def _survives(world: QuorumFleet, name: str, *, removed: bool) -> bool:
    """Whether etcd keeps its majority when the host of a Machine goes, its member ``removed`` before or not; the last Machine takes all with it."""
    if len(world.machines()) <= 1:
        return True
    copied = EmulatedEtcd.from_json(world.etcd.to_json())
    member = copied.find(name)
    if member is not None and removed:
        copied.forget(member.id)
    elif member is not None:
        copied.lose(member.id)
    return copied.has_quorum


def rest(world: QuorumFleet, runs: int = 15) -> None:
    """Run until nothing is asked for."""
    for _ in range(runs):
        plan = world.plan(KIND, "demo-cp")
        act(world, plan)
        if world.refused or not [step for step in plan.steps if not isinstance(step, Event)]:
            # what etcd refused is tried again after a while
            return
    raise AssertionError(f"no rest: {plan.steps}")


def calm(world: QuorumFleet) -> None:
    """Every host is well again, every health check content, and everything around the control plane does its part: it must come to what is wanted."""
    for one in world.machines():
        name = one["metadata"]["name"]
        world.revive(name)
        if "deletionTimestamp" not in one["metadata"]:
            world.set_conditions(name, condition("HealthCheckSucceeded"))
    assert world.voting(), "etcd has no majority although every host is back"
    quiet = 0
    for _ in range(ROUNDS_MAX):
        world.later(40)
        rest(world)
        coming, leaving = world.coming(), world.leaving()
        for name in coming:
            world.provision(name)
        for name in leaving:
            world.leave(name)
        # what waits for nothing but time is done in the next round
        quiet = 0 if coming or leaving else quiet + 1
        if quiet == 2:
            break
    wanted = world.kcp()["spec"]["replicas"]
    assert len(world.names()) == wanted, f"{world.names()} of {wanted}: {world.told('ScalingUp')} {world.told('ScalingDown')}"
    assert {member.name for member in world.etcd.members.values()} == set(world.names())
    assert {one["spec"]["version"] for one in world.machines()} == {world.kcp()["spec"]["version"]}
    assert world.told("MachinesUpToDate")[0] == "True", world.told("MachinesUpToDate")
    assert world.told("Available")[0] == "True", world.told("Available")
    assert labels.REMEDIATION_IN_PROGRESS not in world.kcp()["metadata"].get("annotations", {})
