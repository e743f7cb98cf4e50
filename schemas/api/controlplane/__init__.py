"""The group controlplane.cluster.x-k8s.io, by version."""
