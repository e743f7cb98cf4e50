"""The group cluster.x-k8s.io, by version."""
