"""Benchmarks: figures of the real system on a rig of its own, printed by ``fleetwake bench``."""
