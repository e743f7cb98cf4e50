"""The group ipam.cluster.x-k8s.io, by version."""
