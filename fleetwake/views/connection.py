"""Where the commands that only look find their servers: FLEETWAKE_* variables, else the rig of this checkout."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fleetwake.errors import TerminalError
from fleetwake.rig import Rig, RigError
from fleetwake.rig.records import Endpoints
from fleetwake.settings import ENV_PREFIX, Settings

RIG_SETTINGS = {"kubeconfig": "KUBECONFIG", "kafka_bootstrap": "KAFKA_", "redis_url": "REDIS_"}
"""Settings a rig answers, and how the variables begin that come with each: it also says how to be let in."""

IDENTITY = "views"
"""Whom the commands that look are toward a secure rig."""

WORDS = {"kubeconfig": "API server", "kafka_bootstrap": "Kafka", "redis_url": "Redis"}


class ViewError(TerminalError):
    """What was asked for cannot be shown; the message names what is missing and the remedy."""


@dataclass(frozen=True, slots=True)
class Connection:
    """The settings to use, and the rig they came from, if they did."""

    settings: Settings
    rig: Endpoints | None


def connect(*needed: str, state_dir: Path | None = None, environment: Mapping[str, str] | None = None, identity: str = IDENTITY) -> Connection:
    """Find the servers. ``needed`` names the settings that must be known: keys of RIG_SETTINGS. ``identity`` is whom to be toward a rig that asks.

    Raises:
        ViewError: one of them is neither set nor answered by a running rig.
        SettingsError: a variable is misspelt, or a setting cannot be used.
    """
    environment = os.environ if environment is None else environment
    unset = [name for name in RIG_SETTINGS if not environment.get(ENV_PREFIX + name.upper())]
    rig = _rig(state_dir) if unset else None
    overrides = _told(rig, unset, identity) if rig is not None else {}
    missing = [name for name in needed if name in unset and rig is None and not (name == "kubeconfig" and _kubeconfig_elsewhere(environment))]
    if missing:
        variables = " and ".join(ENV_PREFIX + name.upper() for name in missing)
        places = " and ".join(WORDS[name] for name in missing)
        raise ViewError(f"no rig is running here and {variables} is not set, so {places} cannot be found: run `fleetwake dev up`, or set the variable")
    return Connection(Settings.from_env(environment, **overrides), rig)


def _told(rig: Endpoints, unset: Iterable[str], identity: str) -> dict[str, object]:
    found = {ENV_PREFIX + RIG_SETTINGS["kubeconfig"]: rig.kubeconfig, **rig.variables(identity)}
    begins = tuple(ENV_PREFIX + RIG_SETTINGS[name] for name in unset)
    return {name.removeprefix(ENV_PREFIX).lower(): value for name, value in found.items() if name.startswith(begins)}


def _rig(state_dir: Path | None) -> Endpoints | None:
    try:
        state = Rig(state_dir).state()
    except RigError as error:
        raise ViewError(str(error)) from error
    return state.endpoints if state is not None and state.phase == "up" else None


def _kubeconfig_elsewhere(environment: Mapping[str, str]) -> bool:
    return bool(environment.get("KUBECONFIG")) or Path("~/.kube/config").expanduser().exists() or bool(environment.get("KUBERNETES_SERVICE_HOST"))
