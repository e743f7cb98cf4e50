"""The group runtime.cluster.x-k8s.io, by version."""
