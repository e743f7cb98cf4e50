"""Pausing, under the name by which the kinds of this service know it (``fleetwake.pausing``)."""

from __future__ import annotations

from fleetwake.pausing import PAUSED, OwnedStatus, paused_condition, paused_plan

__all__ = ["PAUSED", "OwnedStatus", "paused_condition", "paused_plan"]
