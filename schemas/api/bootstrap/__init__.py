"""The group bootstrap.cluster.x-k8s.io, by version."""
