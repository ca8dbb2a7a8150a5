"""Rewards with given scores, for the tests of what is made of rewards."""

from collections.abc import Sequence

from journeyman.rewards.base import Group, Reward, Score
from journeyman.trajectory import Trajectory
from tests.unit.fakes import trajectory


def totals(*values: float | None, name: str = "given") -> Reward:
    """The first trajectory's total, the second's, ..."""

    def given(group: Sequence[Trajectory]) -> list[Score]:
        return [Score(total=value) for value in values]

    given.__name__ = name
    return given


def steps(*rows: Sequence[float], end: float = 0.0, name: str = "steps") -> Reward:
    """The step rewards of the first trajectory, of the second, ...; each earns `end` besides."""

    def given(group: Sequence[Trajectory]) -> list[Score]:
        return [
            Score(total=end + sum(row), turns=tuple(row), parts={"end": end}, turn_parts={name: tuple(row)})
            for row in rows
        ]

    given.__name__ = name
    return given


def members(count: int, **fields: object) -> Group:
    """A group of so many."""
    return Group(trajectories=tuple(trajectory(id=f"t{i}", sample=i) for i in range(count)), **fields)  # type: ignore[arg-type]


def earned(reward: Reward, count: int, **fields: object) -> list[float | None]:
    """The totals that a reward gives to a group of so many."""
    return [score.total for score in reward(members(count, **fields))]
