"""What cluster-autoscaler asks of a node group, and what it is answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verb = Literal["increase", "decrease", "remove"]
Code = Literal["OK", "INVALID_ARGUMENT", "OUT_OF_RANGE", "FAILED_PRECONDITION", "NOT_FOUND", "ABORTED", "DEADLINE_EXCEEDED"]
"""Names of gRPC statuses."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """A change of size that was begun: from which number of replicas to which."""

    base: int
    target: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """One request. ``amount`` is how many Machines more or fewer, never negative; ``machines`` are the names of those to remove.

    ``attempt`` is there once writing has begun: a run that ended half way goes on with the same numbers instead of changing the size twice.
    """

    id: int
    verb: Verb
    asker: str
    amount: int = 0
    machines: tuple[str, ...] = ()
    attempt: Attempt | None = None

    @property
    def text(self) -> str:
        """The request in words."""
        match self.verb:
            case "increase":
                return f"cluster-autoscaler of {self.asker} asks for {self.amount} more"
            case "decrease":
                return f"cluster-autoscaler of {self.asker} gives up {self.amount} that have not become Nodes"
            case "remove":
                return f"cluster-autoscaler of {self.asker} removes {', '.join(self.machines) or 'nobody'}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the asker is told."""

    code: Code
    message: str = ""
