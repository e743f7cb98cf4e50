"""The runtime of fleetwake: everything a reconciler needs and nothing of the domain's rules."""
