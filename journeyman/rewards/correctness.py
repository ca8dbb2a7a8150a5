"""Rewards for the right answer."""

from collections.abc import Sequence

from journeyman.rewards.base import Score
from journeyman.trajectory import Trajectory


def correct(group: Sequence[Trajectory]) -> list[Score]:
    """1 for the right answer, else 0; unscorable where the environment gave no verdict."""
    return [
        Score(total=None) if t.correct is None else Score(total=float(t.correct), parts={"correct": float(t.correct)})
        for t in group
    ]
