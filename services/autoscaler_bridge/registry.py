"""The kinds of the autoscaler bridge: every kind that can be a node group."""

from __future__ import annotations

from typing import Any

from fleetwake.kind import Kind
from services.autoscaler_bridge.kinds import node_group

KINDS: tuple[Kind[Any], ...] = node_group.KINDS
