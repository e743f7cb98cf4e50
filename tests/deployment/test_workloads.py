"""What runs in the cluster: how it is confined, how it is told what to do, how it ends. From the committed manifests alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from fleetwake.cli.main import app
from fleetwake.rig.access import MANIFESTS
from fleetwake.rig.services import ADMISSION, AUTOSCALER_BRIDGE, DEV_INFRASTRUCTURE, RECONCILERS, REMEDIATION, WATCHER
from fleetwake.settings import ENV_PREFIX, Settings
from fleetwake.shell.faust_app import DRAIN_SECONDS
from schemas.topics import Topics
from services.autoscaler_bridge.listener import place_of
from services.dev_infrastructure.app import spec_of
from services.watcher.app import SHUTDOWN_FLUSH_SECONDS
from tests.deployment.manifests import Workload, of_kind, settings_env, workloads

VALUES = yaml.safe_load((MANIFESTS / "chart" / "values.yaml").read_text())
ALL = workloads()
SERVICES = tuple(one for one in ALL if one.component in ("watcher", "reconcilers", "remediation", "admission", "autoscaler-bridge", "dev-infrastructure"))
MEMBERS = tuple(one for one in SERVICES if one.component in VALUES["kafka"]["access"])
"""Those that speak to Kafka."""
OURS = tuple(one for one in ALL if one.component not in ("kafka", "redis"))
PRESENT = {"metadata.name": "fleetwake-x-0", "metadata.namespace": "fleetwake-system", "metadata.labels['apps.kubernetes.io/pod-index']": "0"}
"""What the downward API gives a pod."""
ANSWERS_SECONDS = 2.0


def _id(one: Workload) -> str:
    return one.name


def _environment(container: Mapping[str, Any]) -> dict[str, str]:
    """The variables a container is started with, as the kubelet puts them together."""
    groups = [entry["configMapRef"]["name"].removeprefix("fleetwake-settings-") for entry in container["envFrom"]]
    env = settings_env(*groups)
    for variable in container.get("env", ()):
        source = variable.get("valueFrom", {})
        value = variable.get("value", "")
        if "fieldRef" in source:
            value = PRESENT[source["fieldRef"]["fieldPath"]]
        env[variable["name"]] = re.sub(r"\$\((\w+)\)", lambda found: env[found.group(1)], value)
    return env


def test_there_are_the_services_that_exist() -> None:
    assert {(one.kind, one.component) for one in SERVICES} == {
        ("Deployment", "watcher"),
        ("StatefulSet", "reconcilers"),
        ("StatefulSet", "remediation"),
        ("Deployment", "admission"),
        ("StatefulSet", "autoscaler-bridge"),
        ("StatefulSet", "dev-infrastructure"),
    }


@pytest.mark.parametrize("one", ALL, ids=_id)
def test_a_pod_is_confined(one: Workload) -> None:
    pod = one.pod["securityContext"]
    assert pod["runAsNonRoot"] is True and pod["runAsUser"] > 0 and pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert one.pod["automountServiceAccountToken"] is False
    assert one.pod["enableServiceLinks"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & one.pod.keys()
    for container in one.containers:
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"] is True and security["allowPrivilegeEscalation"] is False and security["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"] == container["resources"]["requests"]["memory"]
        assert "cpu" in container["resources"]["requests"] and "cpu" not in container["resources"]["limits"]
        # somewhere to write, as the root file system is none
        assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}
        assert {mount["name"] for mount in container["volumeMounts"]} <= _volumes(one)


def _volumes(one: Workload) -> set[str]:
    claims = {claim["metadata"]["name"] for claim in one.spec.get("volumeClaimTemplates", ())}
    return {volume["name"] for volume in one.pod["volumes"]} | claims


@pytest.mark.parametrize("one", OURS, ids=_id)
def test_only_what_speaks_to_the_api_server_has_a_token(one: Workload) -> None:
    with_token = {container["name"] for container in one.containers if any(mount["name"] == "account" for mount in container["volumeMounts"])}
    expected = {"prepare": {"migrate"} if "-migrate-" in one.name else {"secrets", "schemas"}, "redis-secret": {"secret"}}
    assert with_token == expected.get(one.component, {one.component})


@pytest.mark.parametrize("one", OURS, ids=_id)
def test_every_container_has_a_command_of_ours_and_settings_that_are_settings(one: Workload) -> None:
    from typer.main import get_command

    commands = get_command(app)
    for container in one.containers:
        found = commands
        for word in container["args"]:
            if hasattr(found, "get_command"):
                found = found.get_command(None, word)
        assert found is not None and not hasattr(found, "get_command"), container["args"]
        env = _environment(container)
        Settings.from_env(env)
        unknown = {name for name in env if name.removeprefix(ENV_PREFIX).lower() not in Settings.model_fields}
        assert not unknown


@pytest.mark.parametrize(
    ("component", "command"),
    [(service.account, service.command) for service in (WATCHER, RECONCILERS, REMEDIATION, ADMISSION, AUTOSCALER_BRIDGE, DEV_INFRASTRUCTURE)],
)
def test_a_service_runs_the_command_that_the_rig_runs(component: str, command: str) -> None:
    one = next(one for one in SERVICES if one.component == component)
    assert one.pod["containers"][0]["args"] == [command]
    assert one.pod["serviceAccountName"] == f"fleetwake-{component}"


@pytest.mark.parametrize("one", SERVICES, ids=_id)
def test_probes_ask_what_the_services_answer(one: Workload) -> None:
    container = one.pod["containers"][0]
    port = _environment(container)["FLEETWAKE_WEB_PORT"]
    assert [str(entry["containerPort"]) for entry in container["ports"] if entry["name"] == "web"] == [port]
    assert {name: container[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")} == {
        "startupProbe": {"path": "/healthz", "port": "web"},
        "livenessProbe": {"path": "/healthz", "port": "web"},
        "readinessProbe": {"path": "/readyz", "port": "web"},
    }
    # a worker waits a minute for the redaction key before it listens at all
    assert container["startupProbe"]["periodSeconds"] * container["startupProbe"]["failureThreshold"] > 120


@pytest.mark.parametrize("one", SERVICES, ids=_id)
def test_a_pod_has_the_time_that_its_service_takes_to_end(one: Workload) -> None:
    needed = SHUTDOWN_FLUSH_SECONDS if one.component in ("watcher", "admission") else DRAIN_SECONDS + ANSWERS_SECONDS
    assert one.pod["terminationGracePeriodSeconds"] >= 2 * needed


@pytest.mark.parametrize("one", [one for one in MEMBERS if one.component != "watcher"], ids=_id)
def test_a_member_of_a_group_keeps_its_name(one: Workload) -> None:
    """The name of a StatefulSet's pod is the static member's id: the next pod of that name takes over what the last one had."""
    assert one.kind == "StatefulSet" and one.spec["podManagementPolicy"] == "Parallel" and one.spec["updateStrategy"] == {"type": "RollingUpdate"}
    assert _environment(one.pod["containers"][0])["FLEETWAKE_INSTANCE"] == PRESENT["metadata.name"]
    # and while it is replaced, nobody else is given its partitions
    assert int(settings_env()["FLEETWAKE_SESSION_SECONDS"]) >= 20


def test_a_shard_of_the_development_provider_knows_its_number_and_keeps_its_data() -> None:
    one = next(one for one in SERVICES if one.component == "dev-infrastructure")
    env = _environment(one.pod["containers"][0])
    settings = Settings.from_env(env)
    assert (settings.dev_shards, settings.dev_shard) == (one.spec["replicas"], 0)
    service = of_kind("Service")
    assert [found["spec"]["clusterIP"] for found in service if found["metadata"]["name"] == one.spec["serviceName"]] == ["None"]
    assert settings.dev_host == f"{settings.instance}.{one.spec['serviceName']}.fleetwake-system.svc.cluster.local"
    mounts = {mount["name"]: mount["mountPath"] for mount in one.pod["containers"][0]["volumeMounts"]}
    assert mounts["data"] == settings.data_dir
    assert [claim["metadata"]["name"] for claim in one.spec["volumeClaimTemplates"]] == ["data"]


@pytest.mark.parametrize("one", [*SERVICES], ids=_id)
def test_disruptions_take_one_at_a_time_and_pods_keep_apart(one: Workload) -> None:
    budgets = [
        budget["spec"] for budget in of_kind("PodDisruptionBudget") if budget["spec"]["selector"]["matchLabels"]["app.kubernetes.io/component"] == one.component
    ]
    assert [budget["maxUnavailable"] for budget in budgets] == [1]
    assert {spread["topologyKey"] for spread in one.pod["topologySpreadConstraints"]} == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}


def test_there_are_never_more_workers_than_partitions() -> None:
    (scaled,) = of_kind("ScaledObject")
    (reconcilers,) = (one for one in SERVICES if one.component == "reconcilers")
    assert scaled["spec"]["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": reconcilers.kind, "name": reconcilers.name}
    assert scaled["spec"]["maxReplicaCount"] == int(settings_env()["FLEETWAKE_PARTITIONS"])
    trigger = scaled["spec"]["triggers"][0]["metadata"]
    settings = Settings.from_env(settings_env())
    assert (trigger["topic"], trigger["consumerGroup"], trigger["allowIdleConsumers"]) == (
        settings.topics.objects,
        f"{settings.topic_prefix}-reconcilers",
        "false",
    )


def test_the_topics_are_those_of_the_code() -> None:
    settings = Settings.from_env(settings_env())
    wanted = {spec.name: (spec.partitions, dict(spec.config)) for spec in settings.topics.specs(settings.partitions)}
    found = {
        topic["metadata"]["name"]: (topic["spec"]["partitions"], {key: str(value) for key, value in topic["spec"]["config"].items()})
        for topic in of_kind("KafkaTopic")
    }
    assert found == wanted


def test_users_of_kafka_may_do_what_the_table_says_and_only_those_who_see_objects_write_them() -> None:
    table = {user: may for user, may in VALUES["kafka"]["access"].items() if user != "dev-infrastructure"}
    found: dict[str, Any] = {}
    for user in of_kind("KafkaUser"):
        assert user["spec"]["authentication"] == {"type": "tls"}
        may: dict[str, Any] = {}
        for acl in user["spec"]["authorization"]["acls"]:
            resource, name = acl["resource"], acl["resource"].get("name", "")
            if resource["type"] == "cluster":
                may["cluster"] = acl["operations"]
            elif resource["type"] == "group":
                assert resource["patternType"] == ("prefix" if name.endswith("-") else "literal")
                may.setdefault("groups", {})[name.removeprefix("capi-")] = acl["operations"]
            else:
                assert resource["patternType"] == "literal"
                may.setdefault("topics", {})[name.removeprefix("capi.")] = acl["operations"]
        found[user["metadata"]["name"].removeprefix("fleetwake-")] = may
    assert found == table
    for topic, writers in (("objects", {"watcher", "reconcilers"}), ("objects.shared", {"watcher"})):
        assert {user for user, may in VALUES["kafka"]["access"].items() if "Write" in may["topics"].get(topic, ())} == writers
    assert set(table["topics"]["topics"]) == {spec.name.removeprefix("capi.") for spec in Topics().specs()}


def test_groups_are_those_that_the_services_join() -> None:
    access = VALUES["kafka"]["access"]
    provider = spec_of(Settings(dev_shard=0, dev_shards=1))
    assert [provider.group.startswith(f"capi-{group}") for group in access["dev-infrastructure"]["groups"]] == [True]
    assert {service: list(access[service]["groups"]) for service in ("reconcilers", "remediation", "autoscaler-bridge")} == {
        "reconcilers": ["reconcilers"],
        "remediation": ["remediation"],
        "autoscaler-bridge": ["autoscaler-bridge"],
    }


@pytest.mark.parametrize("one", MEMBERS, ids=_id)
def test_a_service_waits_for_the_topics_that_it_may_use(one: Workload) -> None:
    (waiting,) = one.pod["initContainers"]
    assert waiting["args"] == ["topics", "await", *sorted(VALUES["kafka"]["access"][one.component]["topics"])]


def test_what_asks_nothing_of_kafka_is_given_nothing_of_it() -> None:
    (one,) = (one for one in SERVICES if one not in MEMBERS)
    assert one.component == "admission" and "initContainers" not in one.pod
    env = _environment(one.pod["containers"][0])
    assert not [name for name in env if "KAFKA" in name or "REDIS" in name]
    assert _volumes(one) == {"tmp", "data", "account"}


def test_the_api_server_reaches_the_webhooks_where_they_listen() -> None:
    (one,) = (one for one in SERVICES if one.component == "admission")
    container = one.pod["containers"][0]
    settings = Settings.from_env(_environment(container))
    (service,) = (found for found in of_kind("Service") if found["metadata"]["name"] == settings.webhook_service)
    (port,) = service["spec"]["ports"]
    assert {entry["name"]: entry["containerPort"] for entry in container["ports"]}[port["targetPort"]] == settings.webhook_port
    assert service["spec"]["selector"]["app.kubernetes.io/component"] == "admission"
    (mutating,), (validating,) = of_kind("MutatingWebhookConfiguration"), of_kind("ValidatingWebhookConfiguration")
    for webhook in (*mutating["webhooks"], *validating["webhooks"]):
        reached = webhook["clientConfig"]["service"]
        assert (reached["name"], reached["namespace"], reached["port"]) == (settings.webhook_service, service["metadata"]["namespace"], port["port"])
    (certificate,) = of_kind("Certificate")
    assert f"{settings.webhook_service}.{service['metadata']['namespace']}.svc" in certificate["spec"]["dnsNames"]
    policy = next(found["spec"] for found in of_kind("NetworkPolicy") if found["metadata"]["name"] == "fleetwake-admission")
    assert {"ports": [{"protocol": "TCP", "port": "webhook"}]} in policy["ingress"]


def test_cluster_autoscalers_reach_the_bridge_where_it_listens_under_the_name_that_its_certificate_has() -> None:
    (one,) = (one for one in SERVICES if one.component == "autoscaler-bridge")
    container = one.pod["containers"][0]
    settings = Settings.from_env(_environment(container))
    (service,) = (found for found in of_kind("Service") if found["metadata"]["name"] == settings.autoscaler_service)
    assert place_of(settings).host == f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc"
    (port,) = (entry for entry in service["spec"]["ports"] if entry["name"] == "grpc")
    assert {entry["name"]: entry["containerPort"] for entry in container["ports"]}[port["targetPort"]] == port["port"] == settings.autoscaler_port
    policy = next(found["spec"] for found in of_kind("NetworkPolicy") if found["metadata"]["name"] == "fleetwake-autoscaler-bridge")
    assert {"ports": [{"protocol": "TCP", "port": "grpc"}]} in policy["ingress"]
    assert one.spec["replicas"] == 1, "a second one would answer for half of the clusters"


def test_nothing_goes_in_or_out_unless_a_policy_says_so() -> None:
    policies = {policy["metadata"]["name"]: policy["spec"] for policy in of_kind("NetworkPolicy")}
    default = policies["fleetwake-default"]
    assert default["policyTypes"] == ["Ingress", "Egress"] and "ingress" not in default
    for one in ALL:
        labels = {"app.kubernetes.io/instance": "fleetwake", "app.kubernetes.io/name": "fleetwake"}
        assert default["podSelector"]["matchLabels"] == labels
        assert policies[f"fleetwake-{one.component}"]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == one.component
    ports = {name: {port["port"] for rule in spec.get("egress", ()) for port in rule["ports"]} for name, spec in policies.items()}
    assert 6379 not in ports["fleetwake-watcher"] and 4318 not in ports["fleetwake-watcher"]
    assert ports["fleetwake-kafka"] == ports["fleetwake-redis"] == set()


def test_hosts_reach_the_reconcilers_and_nobody_else() -> None:
    """What they fetch is behind one port, which their Service and a policy open, and which the provider's emulated hosts may go to."""
    (service,) = (one["spec"] for one in of_kind("Service") if one["metadata"]["name"] == "fleetwake-bootstrap-data")
    (reconcilers,) = (one for one in SERVICES if one.component == "reconcilers")
    assert service["selector"] == reconcilers.spec["selector"]["matchLabels"]
    # a node's address in the audit trail would tell nothing
    assert (service["type"], service["externalTrafficPolicy"]) == ("LoadBalancer", "Local")
    listening = {entry["name"]: entry["containerPort"] for entry in reconcilers.pod["containers"][0]["ports"]}
    settings = Settings.from_env(_environment(reconcilers.pod["containers"][0]))
    assert listening["bootstrap-data"] == settings.bootstrap_data_port and settings.bootstrap_data_url == ""
    assert [(port["port"], port["targetPort"]) for port in service["ports"]] == [(listening["bootstrap-data"], "bootstrap-data")]
    policies = {policy["metadata"]["name"]: policy["spec"] for policy in of_kind("NetworkPolicy")}
    opened = policies["fleetwake-bootstrap-data"]
    assert opened["podSelector"]["matchLabels"] == service["selector"] and opened["ingress"] == [{"ports": [{"protocol": "TCP", "port": "bootstrap-data"}]}]
    (way,) = policies["fleetwake-dev-infrastructure-to-bootstrap-data"]["egress"]
    assert way["to"] == [{"podSelector": {"matchLabels": service["selector"]}}]
    for one in SERVICES:
        assert (one.component == "reconcilers") is ("bootstrap-data" in {port["name"] for port in one.pod["containers"][0]["ports"]})
