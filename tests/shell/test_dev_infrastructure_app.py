"""Wiring of the development provider: shards, groups, settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleetwake.settings import Settings, SettingsError
from services.dev_infrastructure.app import main, spec_of


def test_each_shard_is_a_group_that_works_on_its_share(tmp_path: Path) -> None:
    specs = [spec_of(Settings(dev_shards=3, dev_shard=shard, data_dir=str(tmp_path))) for shard in range(3)]
    assert [spec.group for spec in specs] == [f"capi-dev-infrastructure-{shard}" for shard in range(3)]
    assert all(sum(spec.shard(partition) for spec in specs) == 1 for partition in range(24)), "each partition has one worker"
    assert not any(spec.owns_workloads for spec in specs)
    assert set(specs[0].actions) == {"ensure_cluster", "ensure_machine", "remove_machine", "remove_cluster"}


def test_own_settings_are_read_beside_those_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEETWAKE_DEV_HOST", "10.0.0.7")
    monkeypatch.setenv("FLEETWAKE_TOPIC_PREFIX", "mine")
    found = Settings.from_env()
    assert (found.dev_host, found.topic_prefix) == ("10.0.0.7", "mine")


def test_shard_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEETWAKE_DEV_SHARD", "1")
    with pytest.raises(SettingsError, match="FLEETWAKE_DEV_SHARD 1 is not below"):
        main(Settings.from_env())
