"""What a curriculum is: a seeded, checkpointed choice of problems."""

import math
import random
from collections.abc import Mapping, Sequence, Set
from typing import Any, Protocol, runtime_checkable

from journeyman.errors import DataError
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


@runtime_checkable
class Shown(Protocol):
    """A curriculum that makes use of demonstrations."""

    def show(self, demonstrations: Sequence[Trajectory], problems: Sequence[Problem]) -> None:
        """Take those that the cold start learned from, before the first step and before any state is loaded.

        `problems`: those that were demonstrated; a trajectory names its own by id.
        """
        ...


@runtime_checkable
class Tempered(Protocol):
    """A curriculum that sets the temperature of sampling."""

    def temperature(self, step: int) -> float | None:
        """Of the attempts of a step, asked when its problems are chosen; None: the block's own."""
        ...


@runtime_checkable
class Growing(Protocol):
    """A curriculum that takes in problems which were made during training."""

    def add(self, problems: Sequence[Problem]) -> None:
        """Take problems in. Part of its state: with `state_dict` they are kept, and with `load_state_dict` they return."""
        ...


def check_keys(state: Mapping[str, Any], expected: Set[str]) -> None:
    if state.keys() != expected:
        raise KeyError(f"the state has {sorted(state)}, expected {sorted(expected)}")


def check_known(ids: Set[str], problems: Set[str]) -> None:
    """A state speaks of no other problems than the curriculum has."""
    if not ids <= problems:
        raise KeyError(f"the state is of other problems, such as {min(ids - problems)}")


def share_of(count: int, share: float, rng: random.Random) -> int:
    """A share of a count as a whole number, right in the mean: small batches get their part, too."""
    return min(count, math.floor(count * share + rng.random()))


def in_data(problem: Problem, by: str) -> Any:
    """The value that `data.KEY` names."""
    key = by.removeprefix("data.")
    if key not in problem.data:
        raise DataError(
            f"problem {problem.id} has no `{key}` in its data",
            place="curriculum.by",
            remedy=f"it has: {', '.join(sorted(problem.data)) or 'none'}",
        )
    return problem.data[key]
