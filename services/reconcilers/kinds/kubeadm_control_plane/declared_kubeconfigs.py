"""Kubeconfigs for people and programs, as a control plane declares them in an annotation: for whom, for how long, and how often revoked.

An annotation, because the schema of KubeadmControlPlane is Cluster API's. Source: roadmap.md row 20.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from fleetwake import yaml_text

KUBECONFIGS = "fleetwake.io/kubeconfigs"
"""Annotation of a KubeadmControlPlane: a list of ``DeclaredKubeconfig`` in YAML."""
ISSUED_FOR = "fleetwake.io/issued-for"
"""Annotation of a Secret that holds a declared kubeconfig: a digest of what its certificate was made for."""
DECLARED_MAX = 50
RESERVED = ("ca", "etcd", "proxy", "sa", "kubeconfig", "apiserver-etcd-client")
"""What the name of a Secret that a Cluster's controllers read ends with: a kubeconfig of one Cluster must never be taken for another's."""
Text = Annotated[str, Field(min_length=1, max_length=253)]


class DeclarationError(ValueError):
    """The annotation does not say what is wanted."""


class DeclaredKubeconfig(BaseModel):
    """One entry. Another ``revision`` makes all that was handed out before worthless."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)

    name: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")]
    user: Text
    groups: Annotated[tuple[Text, ...], Field(max_length=50)] = ()
    lifetime_hours: Annotated[int, Field(ge=1, le=8760)] = 720
    audience: Annotated[str, Field(max_length=256)] = ""
    revision: Annotated[int, Field(ge=1)] = 1

    @property
    def lifetime(self) -> timedelta:
        """How long its certificate lives; it is renewed when half of that is over."""
        return timedelta(hours=self.lifetime_hours)


_ENTRIES = TypeAdapter(Annotated[tuple[DeclaredKubeconfig, ...], Field(max_length=DECLARED_MAX)])


def secret_name(cluster: str, name: str) -> str:
    """The name of the Secret of a declared kubeconfig."""
    return f"{cluster}-kubeconfig-{name}"


def declared(text: str | None) -> tuple[DeclaredKubeconfig, ...]:
    """What the annotation asks for, in its order; nothing without it.

    Raises:
        DeclarationError: it cannot be read; the text says where.
    """
    if not text or not text.strip():
        return ()
    try:
        found = _ENTRIES.validate_python(_loaded(text))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise DeclarationError(f"{KUBECONFIGS}: {_path(first['loc'])}: {first['msg']}") from None
    names = [entry.name for entry in found]
    for entry in found:
        if names.count(entry.name) > 1:
            raise DeclarationError(f"{KUBECONFIGS}: two entries are named {entry.name}")
        if any(entry.name == word or entry.name.endswith(f"-{word}") for word in RESERVED):
            raise DeclarationError(f"{KUBECONFIGS}: {entry.name}: a name must not end with {', '.join(RESERVED)}")
        if entry.user.startswith("system:"):
            # Nodes, service accounts and components prove who they are otherwise
            raise DeclarationError(f"{KUBECONFIGS}: {entry.name}: a user must not begin with system:")
    return found


def _loaded(text: str) -> Any:
    try:
        found = yaml_text.load(text)
    except yaml_text.YAMLError:
        raise DeclarationError(f"{KUBECONFIGS} is no YAML") from None
    return tuple(found) if isinstance(found, list) else found


def _path(location: tuple[int | str, ...]) -> str:
    """The place of an error: ``[1].groups[0]``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location) or "the list"
