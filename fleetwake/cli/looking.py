"""What commands share that only look or run a service: options, and how they fail."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleetwake.errors import FleetwakeError

if TYPE_CHECKING:
    from fleetwake.views.runs import RunView

FAILED = 1

Namespace = Annotated[str, typer.Option("-n", "--namespace", help="Namespace of the object.")]
StateDir = Annotated[
    Path | None,
    typer.Option("--state", metavar="DIR", help="State folder of the rig to ask, where FLEETWAKE_* variables do not say [default: this checkout's]."),
]


@contextmanager
def looking(command: str) -> Iterator[None]:
    """Turn our errors into one line and an exit code of 1."""
    try:
        yield
    except FleetwakeError as error:
        typer.echo(f"fleetwake {command}: {error}", err=True)
        raise typer.Exit(FAILED) from error
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except BrokenPipeError:
        # whoever read it has seen enough; Python would complain once more when it flushes at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(FAILED) from None


def runs_of(state: Path | None) -> list[RunView]:
    """Every run on the results topic.

    Raises:
        ViewError: Kafka or the topic is not to be found.
    """
    from fleetwake.views.connection import connect
    from fleetwake.views.results import read_results
    from fleetwake.views.runs import join

    settings = connect("kafka_bootstrap", state_dir=state).settings
    return join(read_results(settings.kafka, settings.topics.results))
