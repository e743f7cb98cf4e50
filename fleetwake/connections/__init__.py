"""How clients reach Kafka, Redis and the trace backend: one module for each, and the only place where a library is told of TLS or a password.

``fleetwake.settings`` makes these values, everything else is handed them; ``tests/architecture/test_connections.py`` proves that no client is made past them.
"""
