"""The chart by the real helm, the kustomizations by the real kustomize: one source, the same objects."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest

from fleetwake.rig.access import MANIFESTS
from fleetwake.rig.kustomizations import CHECKSUM, COMPONENTS, generated_files, rendered_files
from fleetwake.rig.rendering import Manifest, helm_lint, helm_template, kustomize_build
from fleetwake.settings import Settings
from services.admission.configurations import Address, configurations
from tests.deployment.manifests import OVERLAYS

# helm and kustomize are built from source with the other tools (`make tools`)
pytestmark = pytest.mark.apiserver


def _values(name: str) -> list[Any]:
    return [MANIFESTS / "values" / f"{name}.yaml"] if name else []


def _comparable(found: tuple[Manifest, ...]) -> dict[tuple[str, str, str], Any]:
    """Objects by identity, without what the two tools rightly do in ways of their own: hashes in names, the restart on changed settings, the namespace."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: plain(inner) for key, inner in value.items() if key != CHECKSUM}
        if isinstance(value, list):
            return [plain(inner) for inner in value]
        return re.sub(r"^(fleetwake-(?:settings-[a-z]+|prepare|migrate))-[a-z0-9]{8,10}$", r"\1", value) if isinstance(value, str) else value

    bodies = [plain(manifest.body) for manifest in found if manifest.body["kind"] != "Namespace"]
    return {(body["kind"], body["metadata"].get("namespace", ""), body["metadata"]["name"]): body for body in bodies}


@pytest.mark.parametrize("values", ["", *OVERLAYS])
def test_helm_finds_nothing_to_correct(values: str) -> None:
    assert "0 chart(s) failed" in helm_lint(_values(values))


def test_the_committed_files_are_what_the_chart_says() -> None:
    wanted, present = rendered_files(), generated_files(MANIFESTS)
    assert {name for name in {*wanted, *present} if wanted.get(name) != present.get(name)} == set(), "run `make deploy`"


@pytest.mark.parametrize("name", OVERLAYS)
def test_helm_and_kustomize_make_the_same_objects(name: str) -> None:
    by_helm, by_kustomize = _comparable(helm_template(_values(name))), _comparable(kustomize_build(MANIFESTS / "overlays" / name))
    assert by_helm.keys() == by_kustomize.keys()
    for identity, body in by_helm.items():
        assert body == by_kustomize[identity], identity


def test_the_base_alone_is_what_helm_makes_without_values() -> None:
    assert _comparable(helm_template()) == _comparable(kustomize_build(MANIFESTS / "base"))


@pytest.mark.parametrize("name", COMPONENTS)
def test_every_component_goes_on_top_of_the_base(name: str, tmp_path: Any) -> None:
    needed = [*COMPONENTS[name].needs, name]
    # kustomize takes only paths below or beside the folder that it builds
    folder = tmp_path / "deploy"
    for part in ("base", *(f"components/{one}" for one in needed)):
        for path in (MANIFESTS / part).rglob("*"):
            if path.is_file():
                target = folder / path.relative_to(MANIFESTS)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
    (folder / "all").mkdir()
    lines = ["resources: [../base]", "components:", *(f"- ../components/{one}" for one in needed)]
    (folder / "all" / "kustomization.yaml").write_text("\n".join(lines))
    values: dict[str, str] = {}
    for one in needed:
        values.update(COMPONENTS[one].values)
    assert _comparable(kustomize_build(folder / "all")) == _comparable(helm_template(settings=values))


def _one(found: tuple[Manifest, ...], kind: str, name: str) -> Mapping[str, Any]:
    return next(manifest.body for manifest in found if manifest.body["kind"] == kind and manifest.body["metadata"]["name"] == name)


@pytest.mark.parametrize(
    ("namespace", "watch_filter"),
    [("", ""), ("team-a", ""), ("", "blue"), ("team-a", "blue")],
    ids=["all", "one namespace", "a filter", "both"],
)
def test_the_watcher_is_allowed_the_lease_that_it_asks_for(namespace: str, watch_filter: str) -> None:
    found = helm_template(settings={"settings.common.namespace": namespace, "settings.common.watch_filter": watch_filter})
    role = _one(found, "Role", "fleetwake-watcher-own")
    (named,) = (rule["resourceNames"] for rule in role["rules"] if rule["resources"] == ["leases"] and "resourceNames" in rule)
    assert named == [Settings(namespace=namespace, watch_filter=watch_filter).watcher_lease]


def test_an_installation_for_one_namespace_has_permissions_there_alone() -> None:
    found = helm_template(settings={"settings.common.namespace": "team-a", "services.dev-infrastructure.enabled": "true"})
    across = {manifest.body["metadata"]["name"] for manifest in found if manifest.body["kind"] == "ClusterRoleBinding"}
    assert across == {"fleetwake-watcher-cluster", "fleetwake-reconcilers-cluster", "fleetwake-admission-cluster", "fleetwake-prepare-cluster"}
    within = {(one.body["metadata"]["namespace"], one.body["roleRef"]["kind"]) for one in found if one.body["kind"] == "RoleBinding"}
    assert within == {("team-a", "ClusterRole"), ("fleetwake-system", "Role")}


def test_a_service_without_a_command_is_not_there_and_one_with_a_few_lines_is() -> None:
    before = {manifest.identity for manifest in helm_template()}
    gone = {
        identity
        for identity in before - {one.identity for one in helm_template(settings={"services.reconcilers.enabled": "false"})}
        if "reconcilers" in identity[2]
    }
    assert {kind for kind, _, _ in gone} >= {"StatefulSet", "ServiceAccount", "ClusterRole", "PodDisruptionBudget", "NetworkPolicy"}
    unmade = helm_template(settings={"services.topology.replicas": "2"})
    assert not [manifest.identity for manifest in unmade if "topology" in manifest.identity[2]]


def test_older_versions_bring_their_rights_and_a_migration_and_nothing_without() -> None:
    def names(settings: Mapping[str, str]) -> set[str]:
        return {f"{one.body['kind']} {one.identity[2]}" for one in helm_template(settings=settings)}

    def job(kind: str, settings: Mapping[str, str]) -> Mapping[str, Any]:
        return next(one.body for one in helm_template(settings=settings) if one.identity[2].startswith(f"fleetwake-{kind}-") and one.body["kind"] == "Job")

    served = {"settings.common.served_versions": "v1beta1\\,v1alpha4"}
    brought = {re.sub(r"-[0-9a-f]{8}$", "", name) for name in names(served) - names({})} - {"Job fleetwake-prepare"}
    assert brought == {f"{kind} fleetwake-{part}-older" for kind in ("ClusterRole", "ClusterRoleBinding") for part in ("admission", "prepare")} | {
        "Job fleetwake-migrate"
    }
    assert _one(helm_template(settings=served), "ConfigMap", "fleetwake-settings-common")["data"]["FLEETWAKE_SERVED_VERSIONS"] == "v1beta1,v1alpha4"
    # with cert-manager, which keeps the CA, admission changes no definition
    injected = {**served, "services.admission.webhooks.certificates": "cert-manager"}
    role = _one(helm_template(settings=injected), "ClusterRole", "fleetwake-admission-older")
    assert [rule["verbs"] for rule in role["rules"]] == [["get", "list", "watch"]]
    (schemas,) = (one for one in job("prepare", injected)["spec"]["template"]["spec"]["initContainers"] if one["name"] == "schemas")
    assert {"name": "FLEETWAKE_WEBHOOK_CA_FROM", "value": "fleetwake-system/fleetwake-admission"} in schemas["env"]


def test_with_cert_manager_the_chart_brings_the_configurations_and_the_service_may_do_nothing() -> None:
    rendered = helm_template(settings={"services.admission.webhooks.certificates": "cert-manager", "settings.common.namespace": "team-a"})
    found = {manifest.body["kind"]: manifest.body for manifest in rendered if manifest.component == "admission"}
    address = Address("fleetwake-admission", "fleetwake-system", only="team-a")
    for configuration in configurations(address, b""):
        body = found[configuration["kind"]]
        assert body["webhooks"] == configuration["webhooks"]
        assert body["metadata"]["annotations"] == {"cert-manager.io/inject-ca-from": f"fleetwake-system/{found['Certificate']['metadata']['name']}"}
    roles = [manifest.body for manifest in rendered if manifest.component == "admission" and manifest.body["kind"] in ("Role", "ClusterRole")]
    assert [role["rules"] for role in roles] == [[], []]
    pod = found["Deployment"]["spec"]["template"]["spec"]
    (mounted,) = (volume["secret"]["secretName"] for volume in pod["volumes"] if volume["name"] == "webhook")
    assert mounted == found["Certificate"]["spec"]["secretName"]


def test_with_mounted_certificates_the_bridge_reads_files_and_no_ca() -> None:
    own, mounted = (helm_template(settings={"services.autoscaler-bridge.grpc.certificates": way}) for way in ("own", "mounted"))
    secrets = [[rule["resourceNames"] for rule in _one(found, "Role", "fleetwake-autoscaler-bridge-own")["rules"]] for found in (own, mounted)]
    keys = ["fleetwake-redaction", "fleetwake-audit"]
    assert secrets == [[keys, ["fleetwake-autoscaler-bridge"]], [keys]]
    pod = _one(mounted, "StatefulSet", "fleetwake-autoscaler-bridge")["spec"]["template"]["spec"]
    (secret,) = (volume["secret"]["secretName"] for volume in pod["volumes"] if volume["name"] == "autoscaler")
    assert secret == "fleetwake-autoscaler-bridge-tls"
    (place,) = (mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"] if mount["name"] == "autoscaler")
    named = {entry["name"]: entry.get("value") for entry in pod["containers"][0]["env"]}
    files = {f"FLEETWAKE_AUTOSCALER_{part}_FILE": f"{place}/{name}" for part, name in (("CERTIFICATE", "tls.crt"), ("KEY", "tls.key"), ("CA", "ca.crt"))}
    assert files.items() <= named.items()


def test_a_release_of_another_name_names_everything_after_itself() -> None:
    from fleetwake.rig.rendering import CHART, manifests, run

    found = manifests(run("helm", "template", "blue", str(CHART), "--namespace", "blue-system", "--set", "priorityClass.create=false"))
    assert all(manifest.identity[2].startswith("blue") for manifest in found)
    assert {manifest.identity[1] for manifest in found} == {"", "blue-system"}
