"""The kinds of the remediation service."""

from __future__ import annotations

from typing import Any

from fleetwake.kind import Kind
from services.remediation.kinds import machine_health_check

KINDS: tuple[Kind[Any], ...] = (machine_health_check.KIND,)
