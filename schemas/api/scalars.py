"""Bounded strings and numbers that many kinds share, and the patterns behind them.

Patterns follow the names of Kubernetes itself: RFC 1123 labels and subdomains, qualified names, label values (apimachinery
``validation``). ``TextN`` is a non-empty string of at most N characters.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from schemas.api.meta import CONDITION_TYPE_PATTERN, IntOrString
from schemas.markers import Addition

LABEL_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
SUBDOMAIN_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
KIND_PATTERN = r"^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$"
GROUP_VERSION_PATTERN = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/[a-z]([-a-z0-9]*[a-z0-9])?$"
TAINT_KEY_PATTERN = r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$"
LABEL_VALUE_PATTERN = r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$"
RANGE_PATTERN = r"^\[[0-9]+-[0-9]+\]$"
QUANTITY_PATTERN = r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$"

Text16 = Annotated[str, Field(min_length=1, max_length=16)]
Text36 = Annotated[str, Field(min_length=1, max_length=36)]
Text39 = Annotated[str, Field(min_length=1, max_length=39)]
Text63 = Annotated[str, Field(min_length=1, max_length=63)]
Text128 = Annotated[str, Field(min_length=1, max_length=128)]
Text253 = Annotated[str, Field(min_length=1, max_length=253)]
Text256 = Annotated[str, Field(min_length=1, max_length=256)]
Text512 = Annotated[str, Field(min_length=1, max_length=512)]
Text1024 = Annotated[str, Field(min_length=1, max_length=1024)]
Text2048 = Annotated[str, Field(min_length=1, max_length=2048)]
Text4096 = Annotated[str, Field(min_length=1, max_length=4096)]
Text10240 = Annotated[str, Field(min_length=1, max_length=10240)]
Text32768 = Annotated[str, Field(min_length=1, max_length=32768)]
Text51200 = Annotated[str, Field(min_length=1, max_length=51200)]

Label = Annotated[str, Field(min_length=1, max_length=63, pattern=LABEL_PATTERN)]
Subdomain = Annotated[str, Field(min_length=1, max_length=253, pattern=SUBDOMAIN_PATTERN)]
TopologyName = Annotated[str, Field(min_length=1, max_length=63, pattern=SUBDOMAIN_PATTERN)]
KindName = Annotated[str, Field(min_length=1, max_length=63, pattern=KIND_PATTERN)]
GroupVersion = Annotated[str, Field(min_length=1, max_length=317, pattern=GROUP_VERSION_PATTERN)]
ConditionType = Annotated[str, Field(min_length=1, max_length=316, pattern=CONDITION_TYPE_PATTERN)]
TaintKey = Annotated[str, Field(min_length=1, max_length=317, pattern=TAINT_KEY_PATTERN)]
TaintValue = Annotated[str, Field(min_length=1, max_length=63, pattern=LABEL_VALUE_PATTERN)]
Quantity = Annotated[int | str, Field(json_schema_extra={"x-kubernetes-int-or-string": True, "pattern": QUANTITY_PATTERN})]

NonNegative = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Port = Annotated[int, Field(ge=1, le=65535)]

NumberOrPercent = Annotated[IntOrString, Addition("minimum", 0), Addition("pattern", "^[0-9]+%$")]
