"""What all kinds tell alike.

Source: kinds.md §14.
"""

from __future__ import annotations

from fleetwake.conditions import Reasons

READY = "Ready"
READY_REASONS = Reasons("NotReady", "ReadyUnknown", "Ready")
