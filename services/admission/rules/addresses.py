"""IPAddresses: an address, a prefix and a gateway that belong together. That the pool is the claim's is not checked: it would take a read.

Source: contracts.md §11; kinds.md §13; Cluster API v1.14, IPAddress webhook.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from schemas.api.ipam.v1beta2.ip_address import IPAddress
from services.admission.rules.rule import Admission, Asked, Rule, Violation

SOURCE = "contracts.md §11; Cluster API v1.14, IPAddress webhook"


def _address(asked: Asked[IPAddress]) -> Iterator[Violation]:
    spec = asked.new.spec
    try:
        address = ipaddress.ip_address(spec.address)
    except ValueError:
        yield Violation("spec.address", "must be an IP address")
        return
    if spec.prefix > address.max_prefixlen:
        yield Violation("spec.prefix", f"must be at most {address.max_prefixlen} for IPv{address.version}")


def _gateway(asked: Asked[IPAddress]) -> Iterator[Violation]:
    if asked.new.spec.gateway is None:
        return
    try:
        ipaddress.ip_address(asked.new.spec.gateway)
    except ValueError:
        yield Violation("spec.gateway", "must be an IP address")


ADMISSION = Admission(
    IPAddress,
    rules=(
        Rule("spec.{address,prefix}", "are an address and a prefix length of its family", SOURCE, _address),
        Rule("spec.gateway", "is an address", SOURCE, _gateway),
    ),
    policy="Fail",
    why="what was handed out cannot be changed later",
)
