"""What a curriculum is: a seeded, checkpointed choice of problems."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from journeyman.problem import Problem
from journeyman.trajectory import Trajectory


class Curriculum(Protocol):
    """Chooses the problems of each step, and learns from how they went."""

    def choose(self, count: int, *, step: int) -> list[Problem]:
        """The problems of a step: a function of seed, step and state."""
        ...

    def update(self, trajectories: Sequence[Trajectory]) -> None:
        """Take note of a step's scored trajectories."""
        ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...
