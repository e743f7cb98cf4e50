"""The kinds of the development provider."""

from __future__ import annotations

from typing import Any

from fleetwake.kind import Kind
from services.dev_infrastructure.kinds import dev_cluster, dev_machine, dev_machine_pool, dev_machine_template

KINDS: tuple[Kind[Any], ...] = (dev_cluster.KIND, dev_machine.KIND, dev_machine_pool.KIND, dev_machine_template.KIND)
