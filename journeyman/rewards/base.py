"""What a reward is: scores with named parts for the trajectories of one problem."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from journeyman.trajectory import Trajectory


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What one trajectory earned."""

    total: float | None
    """None: it could not be scored (never 0)."""
    parts: Mapping[str, float] = field(default_factory=dict)
    """What the total is made of, by name; logged as metrics."""


Reward = Callable[[Sequence[Trajectory]], list[Score]]
"""The trajectories of one problem -> a score for each, in order."""


def apply_reward(reward: Reward, group: Sequence[Trajectory]) -> list[Trajectory]:
    """The group with its scores written in."""
    scores = reward(group)
    return [t.scored(score.total, score.parts) for t, score in zip(group, scores, strict=True)]
