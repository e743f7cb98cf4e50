"""The partition of a cluster is part of the wire format: a producer in any language, with Kafka's own key partitioner, must come to the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.partitioner.default import murmur2

from fleetwake.stream.partition import partition_of


@given(cluster=st.text(), partitions=st.integers(1, 1000))
def test_it_is_that_of_kafka_python(cluster: str, partitions: int) -> None:
    assert partition_of(cluster, partitions) == (murmur2(cluster.encode()) & 0x7FFFFFFF) % partitions


@pytest.mark.parametrize(("cluster", "partition"), [("default/demo", 21), ("default/c1", 6), ("fleet-a/prod", 6)])
def test_it_never_changes(cluster: str, partition: int) -> None:
    assert partition_of(cluster, 24) == partition
