"""The roles of the committed manifests: nothing broad in them, nothing missing, and a page that says so."""

from __future__ import annotations

from fleetwake.kube.discovery import Definition, watched
from fleetwake.kube.redaction import REDACTION_SECRET
from fleetwake.kube.sealing import SEALING_SECRET
from fleetwake.rig.access_page import PAGE, grants, rendered_page
from fleetwake.settings import Settings
from schemas import crd
from schemas.api.infrastructure.v1beta2 import DevCluster
from schemas.api.registry import KINDS
from schemas.served import converted
from services.reconcilers.bootstrap_data.authority import SECRET_NAME as CERTIFICATE_SECRET
from tests.deployment.manifests import of_kind, settings_env

FORBIDDEN_VERBS = frozenset({"*", "escalate", "bind", "impersonate", "approve", "sign"})
READING = frozenset({"get", "list", "watch"})
GRANTS = grants()


BY_NAME = {
    ("admissionregistration.k8s.io", "validatingadmissionpolicies"),
    ("admissionregistration.k8s.io", "validatingadmissionpolicybindings"),
    ("apiextensions.k8s.io", "customresourcedefinitions/status"),
}


def _granted(service: str, verb: str, scope: str = "") -> set[tuple[str, str]]:
    """The (group, resource) pairs on which a service may do a verb without a restriction to names."""
    return {
        (group, resource)
        for grant in GRANTS
        if grant.service == service and verb in grant.verbs and not grant.names and scope in ("", grant.scope)
        for group in grant.groups
        for resource in grant.resources
    }


def test_no_role_holds_anything_broad() -> None:
    for role in of_kind("ClusterRole", "Role"):
        for rule in role.get("rules") or ():
            assert not FORBIDDEN_VERBS & set(rule["verbs"]), role["metadata"]["name"]
            assert not any("*" in part for part in (*rule["apiGroups"], *rule["resources"], *rule.get("resourceNames", ()))), role["metadata"]["name"]
            assert "nonResourceURLs" not in rule
            assert "rbac.authorization.k8s.io" not in rule["apiGroups"]
            assert not any(resource in ("serviceaccounts/token", "pods/exec", "nodes/proxy") for resource in rule["resources"])


def test_every_role_is_bound_to_its_own_account_alone() -> None:
    accounts = {account["metadata"]["name"] for account in of_kind("ServiceAccount")}
    for binding in of_kind("ClusterRoleBinding", "RoleBinding"):
        (subject,) = binding["subjects"]
        assert subject["kind"] == "ServiceAccount" and subject["namespace"] == "fleetwake-system"
        assert subject["name"] in accounts
        assert binding["roleRef"]["name"].startswith(subject["name"])
    unbound = {role["metadata"]["name"] for role in of_kind("ClusterRole", "Role")} - {
        binding["roleRef"]["name"] for binding in of_kind("ClusterRoleBinding", "RoleBinding")
    }
    assert unbound == {"fleetwake-dev-infrastructure-aggregate-to-manager", "fleetwake-dev-infrastructure-aggregate-to-watcher"}


def test_the_watcher_reads_and_writes_nothing_but_its_lease() -> None:
    written = {(grant.groups, grant.resources, grant.verbs) for grant in GRANTS if grant.service == "watcher" and set(grant.verbs) - READING}
    assert written == {(("coordination.k8s.io",), ("leases",), ("get", "update")), (("coordination.k8s.io",), ("leases",), ("create",))}
    (named,) = (grant.names for grant in GRANTS if grant.service == "watcher" and "update" in grant.verbs)
    assert named == (Settings.from_env(settings_env()).watcher_lease,)


def test_the_watcher_may_watch_every_kind_that_it_carries() -> None:
    carried = {(model.GROUP, model.PLURAL, getattr(model, "SCOPE", "Namespaced")) for model in KINDS if watched(Definition.from_object(crd.definition(model)))}
    ours = {(group, plural) for group, plural, scope in carried if scope == "Namespaced" and group != DevCluster.GROUP}
    assert _granted("watcher", "watch", "namespaced") == ours | {("", "secrets"), ("", "configmaps")}
    beyond = {(group, plural) for group, plural, scope in carried if scope != "Namespaced"}
    assert _granted("watcher", "watch", "cluster") == beyond | {("apiextensions.k8s.io", "customresourcedefinitions")}
    provider = {(group, plural) for group, plural, _ in carried if group == DevCluster.GROUP}
    assert _granted("dev-infrastructure", "watch", "fleetwake.cluster.x-k8s.io/aggregate-to-watcher") == provider


def test_workers_watch_nothing_and_list_no_secret() -> None:
    for service in ("reconcilers", "remediation", "autoscaler-bridge", "dev-infrastructure"):
        assert not _granted(service, "watch", "namespaced")
        assert ("", "secrets") not in _granted(service, "list")
    assert ("", "secrets") not in {pair for verb in ("get", "create", "patch", "delete") for pair in _granted("remediation", verb)}
    assert not _granted("remediation", "create") - {("", "events")}, "it makes nothing but Events of its own right"
    assert ("", "secrets") not in _granted("dev-infrastructure", "delete")
    assert ("", "secrets") not in _granted("dev-infrastructure", "create") | _granted("dev-infrastructure", "patch")


def test_the_preparation_may_change_our_definitions_and_no_other() -> None:
    (patched,) = (grant for grant in GRANTS if (grant.service, grant.scope) == ("prepare", "cluster") and "patch" in grant.verbs)
    assert sorted(patched.names) == sorted(f"{model.PLURAL}.{model.GROUP}" for model in KINDS)
    assert _granted("prepare", "list", "cluster") >= {(model.GROUP, model.PLURAL) for model in KINDS}
    assert not _granted("prepare", "delete") and _granted("prepare", "get", "older") == _granted("prepare", "patch", "older") - BY_NAME
    older = {model.PLURAL: f"{model.PLURAL}.{model.GROUP}" for model in converted()}
    for grant in (grant for grant in GRANTS if grant.service == "prepare" and grant.scope == "older"):
        prefix = "fleetwake-" if grant.groups == ("admissionregistration.k8s.io",) else ""
        assert sorted(grant.names) == (sorted(f"{prefix}{name}" for name in older.values()) if grant.names else []), grant
        assert grant.names or set(grant.resources) <= older.keys(), grant
    read = {(grant.service, grant.names) for grant in GRANTS if grant.resources == ("secrets",) and grant.scope == "own" and "get" in grant.verbs}
    keys, authority, autoscalers = (REDACTION_SECRET, SEALING_SECRET), Settings().webhook_service, Settings().autoscaler_service
    assert {names for service, names in read if service == "prepare"} == {(*keys, authority, autoscalers)}
    assert {names for service, names in read if service == "admission"} == {(authority,)}
    assert {names for service, names in read if service == "reconcilers"} == {keys, (CERTIFICATE_SECRET,)}
    assert {names for service, names in read if service == "autoscaler-bridge"} == {keys, (autoscalers,)}
    assert {names for service, names in read if service not in ("prepare", "admission", "reconcilers", "autoscaler-bridge")} == {keys}


def test_the_bridge_makes_and_deletes_nothing_and_writes_no_machine_but_its_metadata() -> None:
    granted = {verb: _granted("autoscaler-bridge", verb, "namespaced") for verb in ("create", "delete", "update", "patch")}
    assert not granted["create"] | granted["delete"] | granted["update"]
    core = "cluster.x-k8s.io"
    scalable = {"machinedeployments", "machinesets", "machinepools"}
    assert granted["patch"] == {(core, name) for name in scalable | {f"{name}/status" for name in scalable} | {"machines"}}


def test_admission_changes_its_own_webhooks_and_its_own_secret_and_reads_no_object() -> None:
    optional = ("older", "topology")
    found = {(grant.resources, grant.names, grant.verbs) for grant in GRANTS if grant.service == "admission" and grant.scope not in optional}
    own = (Settings().webhook_service,)
    assert found == {
        (("mutatingwebhookconfigurations", "validatingwebhookconfigurations"), own, ("create", "get", "list", "patch", "watch")),
        (("secrets",), own, ("get", "list", "update", "watch")),
    }


def test_who_uses_no_class_gives_no_right_to_make_what_one_names() -> None:
    """What topologies need is in a role of its own; the other roles of the reconcilers let them make no workers, control planes and health checks."""
    made = {"machinedeployments", "machinepools", "machinehealthchecks", "kubeadmcontrolplanes", "kubeadmconfigtemplates"}
    scopes = {grant.scope for grant in GRANTS if grant.service == "reconcilers" and "create" in grant.verbs and made & set(grant.resources)}
    assert scopes == {"topology"}


def test_admission_with_topologies_reads_classes_and_who_names_them() -> None:
    found = {(grant.resources, grant.names, grant.verbs) for grant in GRANTS if grant.service == "admission" and grant.scope == "topology"}
    assert found == {(("clusterclasses",), (), ("get",)), (("clusters",), (), ("list",))}


def test_admission_with_older_versions_reads_definitions_and_changes_those_that_it_converts() -> None:
    found = {(grant.resources, tuple(sorted(grant.names)), grant.verbs) for grant in GRANTS if grant.service == "admission" and grant.scope == "older"}
    assert found == {
        (("customresourcedefinitions",), (), ("get", "list", "watch")),
        (("customresourcedefinitions",), tuple(sorted(f"{model.PLURAL}.{model.GROUP}" for model in converted())), ("patch",)),
    }


def test_what_providers_grant_is_aggregated() -> None:
    rules = {role["metadata"]["name"]: role["aggregationRule"]["clusterRoleSelectors"] for role in of_kind("ClusterRole") if "aggregationRule" in role}
    manager, watcher = (
        {"matchLabels": {label: "true"}} for label in ("cluster.x-k8s.io/aggregate-to-manager", "fleetwake.cluster.x-k8s.io/aggregate-to-watcher")
    )
    remediation = {"matchLabels": {"fleetwake.cluster.x-k8s.io/aggregate-to-remediation": "true"}}
    assert rules == {
        "fleetwake-reconcilers-providers": [manager],
        "fleetwake-watcher-providers": [watcher, manager],
        "fleetwake-remediation-providers": [remediation, manager],
    }


def test_the_page_of_permissions_is_what_the_roles_say() -> None:
    assert PAGE.read_text() == rendered_page(), "run `make deploy`"
