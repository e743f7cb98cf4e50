"""What a rule is: a function from what is asked to what is wrong with it, with the words that documentation needs.

Pure. Nothing here knows of HTTP or of AdmissionReview; ``services.admission.review`` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from schemas.api.core.v1beta2.cluster import Cluster
from schemas.api.core.v1beta2.cluster_class import ClusterClass
from schemas.api.meta import KubeObject
from schemas.markers import Reason

FailurePolicy = Literal["Fail", "Ignore"]
K = TypeVar("K", bound=KubeObject)


@dataclass(frozen=True, slots=True)
class Violation:
    """What is wrong, where. ``message`` holds no value of a Secret: none of our kinds has one."""

    path: str
    message: str
    reason: Reason = "FieldValueInvalid"


@dataclass(frozen=True, slots=True)
class Known:
    """What rules know of other objects. ``read``: the API server was asked for them.

    ``topologies``: whether anybody reconciles topologies. Of a Cluster its class, and the one it had if that was another; of a class its Clusters.
    """

    topologies: bool = True
    read: bool = False
    cluster_class: ClusterClass | None = None
    former_class: ClusterClass | None = None
    clusters: tuple[Cluster, ...] = ()


@dataclass(frozen=True, slots=True)
class Asked(Generic[K]):
    """What is asked of the API server: the object as it shall be, and as it is (None for a create); each also as it came.

    Of an object that is to be deleted both are what it is.
    """

    new: K
    old: K | None
    new_raw: Mapping[str, Any]
    old_raw: Mapping[str, Any]
    known: Known = Known()


@dataclass(frozen=True, slots=True)
class Rule(Generic[K]):
    """One rule. ``path`` and ``says`` are for people; ``source`` is where the rule comes from."""

    path: str
    says: str
    source: str
    check: Callable[[Asked[K]], Iterable[Violation]]


@dataclass(frozen=True, slots=True)
class Default(Generic[K]):
    """What is filled in. ``fills`` says which fields, with their values; the function gives the object with all of them.

    ``lacking`` is CEL over ``object``: whether anything may be missing at all. Empty: the API server always asks.
    ``complete`` goes on with what other objects say.
    """

    fills: tuple[tuple[str, str], ...]
    fill: Callable[[K, K | None], K]
    lacking: str = ""
    complete: Callable[[K, Known], K] = lambda new, known: new


@dataclass(frozen=True)
class Admission(Generic[K]):
    """All of one kind: what is filled in, what is refused, and what happens when nobody answers.

    ``annotations`` are those that rules read: an update that changes neither the spec nor one of them is not asked about. ``concerns`` is CEL over ``object``:
    whether there is anything that the rules speak of. Empty: the API server always asks. ``deletion`` are the rules for a delete; without any the API server
    does not ask. ``warns`` tells a user what is stored all the same.
    """

    model: type[K]
    rules: tuple[Rule[K], ...]
    policy: FailurePolicy
    why: str
    default: Default[K] | None = None
    annotations: tuple[str, ...] = ()
    concerns: str = ""
    deletion: tuple[Rule[K], ...] = ()
    warns: Callable[[Asked[K]], Iterable[str]] = lambda asked: ()


def forbidden(path: str, message: str) -> Violation:
    """A change or value that is not allowed here."""
    return Violation(path, message, "FieldValueForbidden")
