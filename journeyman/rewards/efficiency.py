"""Rewards for getting by with few tool calls."""

import math
from collections.abc import Sequence

from journeyman.rewards.base import Score
from journeyman.trajectory import Trajectory

MOST_CALLS = 6
"""The constant c of OTC's n = 0 case: most calls that are allowed."""


def otc(group: Sequence[Trajectory]) -> list[Score]:
    """OTC (#18), its GRPO form: correctness times tool efficiency.

    With n the fewest calls among the group's right trajectories and m a trajectory's own, f = 2mn/(m+n) and the
    efficiency is sin(f pi / 2n): 1 at m = n, falling on both sides. Where n = 0 it is cos(m pi / (2m + c)).
    n is taken from this group alone; the historic minimum that follow-up work keeps (#11) is not covered.
    """
    right = [len(t.calls) for t in group if t.correct]
    fewest = min(right, default=0)
    return [_score(t, fewest) for t in group]


def _score(trajectory: Trajectory, fewest: int) -> Score:
    if trajectory.correct is None:
        return Score(total=None)
    efficiency = tool_efficiency(len(trajectory.calls), fewest)
    verdict = float(trajectory.correct)
    return Score(total=verdict * efficiency, parts={"correct": verdict, "tool_efficiency": efficiency})


def tool_efficiency(calls: int, fewest: int) -> float:
    """OTC's coefficient in [0, 1] for m = `calls` and n = `fewest` (#18)."""
    if fewest == 0:
        return math.cos(calls * math.pi / (2 * calls + MOST_CALLS))
    f = 2 * calls * fewest / (calls + fewest)
    return math.sin(f * math.pi / (2 * fewest))
