"""The CEL rules that more than one field needs, each written once. They take the place of webhook rules: they hold whether a webhook answers or not.

Source: contracts.md §11; Kubernetes "Extend the Kubernetes API with CustomResourceDefinitions" (validation rules, transition rules), 1.36.
"""

from __future__ import annotations

from schemas.markers import Reason, Rule

VERSION_PATTERN = r"^v?(0|[1-9][0-9]*)\\.(0|[1-9][0-9]*)\\.(0|[1-9][0-9]*)(-[0-9A-Za-z.-]+)?(\\+[0-9A-Za-z.-]+)?$"


def added(rule: str, message: str, *, field_path: str = "", reason: Reason = "FieldValueInvalid") -> Rule:
    """A rule that Cluster API's own definitions do not have."""
    return Rule(rule, message, reason, field_path, added=True)


def exclusive(one: str, other: str) -> Rule:
    """At most one of two fields."""
    return added(f"!(has(self.{one}) && has(self.{other}))", f"only one of {one} and {other} may be set")


def permanent(field: str, *, reason: Reason = "FieldValueForbidden") -> Rule:
    """A field that may be set and changed but not taken away."""
    return added(f"!has(oldSelf.{field}) || has(self.{field})", "cannot be removed", field_path=f".{field}", reason=reason)


CIDR = added("isCIDR(self)", "must be a range in CIDR notation")
IP = added("isIP(self)", "must be an IP address")
IMMUTABLE = added("self == oldSelf", "field is immutable", reason="FieldValueForbidden")
KUBERNETES_VERSION = added(f"self.matches('{VERSION_PATTERN}')", "must be a valid semantic version, as in v1.31.2")
SELECTOR_NOT_EMPTY = added(
    "(has(self.matchLabels) && size(self.matchLabels) > 0) || (has(self.matchExpressions) && size(self.matchExpressions) > 0)",
    "selector must not be empty",
    reason="FieldValueRequired",
)
NAMED_AT_RANDOM = added(r"self.matches('\\{\\{ *\\.random *\\}\\}')", "{{ .random }} is missing")

_BOOTSTRAP_OF_TEMPLATE = "has(self.template.spec.bootstrap.configRef) || has(self.template.spec.bootstrap.dataSecretName)"
_BOOTSTRAP = "one of configRef and dataSecretName must be set"
_SAME_CLUSTER = added("self.clusterName == self.template.spec.clusterName", "must be that of template.spec", field_path=".clusterName")

WORKER_RULES = (
    added(_BOOTSTRAP_OF_TEMPLATE, _BOOTSTRAP, field_path=".template.spec.bootstrap", reason="FieldValueRequired"),
    _SAME_CLUSTER,
    added(
        "!has(self.template.spec.taints) || self.template.spec.taints.all(t, t.key != 'node-role.kubernetes.io/control-plane')",
        "node-role.kubernetes.io/control-plane is not for workers",
        field_path=".template.spec.taints",
    ),
)
"""MachineSets and MachineDeployments."""

POOL_RULES = (
    WORKER_RULES[0],
    _SAME_CLUSTER,
    added("!has(self.template.spec.taints)", "not for pools", field_path=".template.spec.taints", reason="FieldValueForbidden"),
)
"""MachinePools: their infrastructure makes the Nodes, and knows no taints of ours."""

_CONFIGURATION = "self.kubeadmConfigSpec.clusterConfiguration"
_HAS_CONFIGURATION = f"has(self.kubeadmConfigSpec) && has({_CONFIGURATION})"
_EXTERNAL_ETCD = f"{_HAS_CONFIGURATION} && has({_CONFIGURATION}.etcd) && has({_CONFIGURATION}.etcd.external)"
_SURGE = "self.rollout.strategy.rollingUpdate.maxSurge"
_HAS_SURGE = f"has(self.rollout) && has(self.rollout.strategy) && has(self.rollout.strategy.rollingUpdate) && has({_SURGE})"
_VALIDITY = f"({_HAS_CONFIGURATION} && has({_CONFIGURATION}.certificateValidityPeriodDays) ? {_CONFIGURATION}.certificateValidityPeriodDays : 365)"


def _health_check(of: str) -> str:
    """The seconds that a control plane component has, -1 when none are said."""
    configuration = f"self.kubeadmConfigSpec.{of}"
    seconds = f"{configuration}.timeouts.controlPlaneComponentHealthCheckSeconds"
    return f"(has({configuration}) && has({configuration}.timeouts) && has({seconds}) ? {seconds} : -1)"


CERTIFICATES_WITHIN_CA = added(
    "!has(self.certificateValidityPeriodDays) || "
    "self.certificateValidityPeriodDays <= (has(self.caCertificateValidityPeriodDays) ? self.caCertificateValidityPeriodDays : 3650)",
    "must not be more than caCertificateValidityPeriodDays, which is 3650 by default",
    field_path=".certificateValidityPeriodDays",
)

CERTIFICATE_RULES = (
    added(
        "!(has(self.rollout) && has(self.rollout.before) && has(self.rollout.before.certificatesExpiryDays)) || "
        f"self.rollout.before.certificatesExpiryDays < {_VALIDITY}",
        "must be less than certificateValidityPeriodDays, which is 365 by default",
        field_path=".rollout.before.certificatesExpiryDays",
    ),
    added(
        f"!has(self.kubeadmConfigSpec) || {_health_check('initConfiguration')} == {_health_check('joinConfiguration')}",
        "controlPlaneComponentHealthCheckSeconds must be the same in initConfiguration.timeouts and joinConfiguration.timeouts",
        field_path=".kubeadmConfigSpec",
    ),
)
"""A control plane, and a template of one."""

ODD_REPLICAS = added(
    f"!has(self.replicas) || self.replicas % 2 == 1 || ({_EXTERNAL_ETCD})",
    "cannot be an even number when etcd runs beside the API servers",
    field_path=".replicas",
    reason="FieldValueForbidden",
)
OLDER_CONTROL_PLANE_RULES = (ODD_REPLICAS, added("!has(self.replicas) || self.replicas >= 1", "must be at least 1", field_path=".replicas"))
"""What scaling could break, in versions older than the hub: the scale subresource is judged by the schema of its version, and no policy sees its object."""

CONTROL_PLANE_RULES = (
    *CERTIFICATE_RULES,
    ODD_REPLICAS,
    added(
        f"!({_HAS_SURGE} && {_SURGE} == 0) || (has(self.replicas) && self.replicas >= 3)",
        "0 needs at least 3 replicas",
        field_path=".rollout.strategy.rollingUpdate.maxSurge",
    ),
    added(
        f"({_EXTERNAL_ETCD}) == ({_EXTERNAL_ETCD.replace('self.', 'oldSelf.')})",
        "cannot change between external and local etcd",
        field_path=".kubeadmConfigSpec.clusterConfiguration.etcd.external",
        reason="FieldValueForbidden",
    ),
)

IMAGE_TAG = added(r"self.matches('^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$')", "must be a valid image tag")

_IGNITION = "has(self.format) && self.format == 'ignition'"
_WITH_IGNITION = "not supported with format ignition"


def _without_ignition(holds: str, field: str) -> Rule:
    return added(f"!({_IGNITION}) || {holds}", _WITH_IGNITION, field_path=field, reason="FieldValueForbidden")


IGNITION_RULES = (
    added(f"!has(self.ignition) || ({_IGNITION})", "must be ignition when ignition is set"),
    _without_ignition("!has(self.bootCommands)", ".bootCommands"),
    _without_ignition("!has(self.users) || self.users.all(u, !has(u.inactive) || !u.inactive)", ".users"),
    _without_ignition("!has(self.files) || self.files.all(f, !has(f.encoding) || f.encoding == 'base64')", ".files"),
    _without_ignition(
        "!has(self.diskSetup) || !has(self.diskSetup.partitions) || self.diskSetup.partitions.all(p, !has(p.tableType) || p.tableType == 'gpt')",
        ".diskSetup.partitions",
    ),
    _without_ignition(
        "!has(self.diskSetup) || !has(self.diskSetup.filesystems) || self.diskSetup.filesystems.all(f, !has(f.replaceFS) && !has(f.partition))",
        ".diskSetup.filesystems",
    ),
)
"""What Ignition has no words for."""
