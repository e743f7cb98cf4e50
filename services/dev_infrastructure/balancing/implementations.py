"""The load balancers there are, by the name that ``spec.backend.inMemory.loadBalancer.type`` of a DevCluster gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from services.dev_infrastructure.balancing.haproxy import HAProxy
from services.dev_infrastructure.balancing.in_process import InProcess
from services.dev_infrastructure.balancing.load_balancer import LoadBalancer, Place

LOAD_BALANCERS: Mapping[str, Callable[[Place], LoadBalancer]] = {"InProcess": InProcess, "HAProxy": HAProxy}
