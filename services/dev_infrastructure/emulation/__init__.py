"""Emulated workload clusters: API servers with TLS listeners, etcd, Nodes and a kubelet, in one process."""
