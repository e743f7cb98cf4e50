"""Generated stubs of the etcd v3 calls that fleetwake makes; see README.md for the command."""
