"""The group infrastructure.cluster.x-k8s.io, by version."""
