"""Credit relative to the group: every token of a trajectory gets the trajectory's advantage."""

import statistics
from collections.abc import Sequence

from journeyman.credit.base import broadcast, rewards_of
from journeyman.trajectory import Trajectory

EPSILON = 1e-6


def group_normalized(group: Sequence[Trajectory]) -> list[tuple[float, ...]]:
    """GRPO (DeepSeekMath, arXiv 2402.03300): (r - mean) / (std + 1e-6), std of the group as a population."""
    rewards = rewards_of(group)
    mean, spread = statistics.fmean(rewards), statistics.pstdev(rewards)
    return broadcast([(r - mean) / (spread + EPSILON) for r in rewards], group)


def group_mean(group: Sequence[Trajectory]) -> list[tuple[float, ...]]:
    """Dr. GRPO (arXiv 2503.20783): r - mean, without dividing by the spread."""
    rewards = rewards_of(group)
    mean = statistics.fmean(rewards)
    return broadcast([r - mean for r in rewards], group)


def best(group: Sequence[Trajectory]) -> list[tuple[float, ...]]:
    """1 for the trajectories with the group's highest reward where it is above 0, else 0 (rejection fine-tuning)."""
    rewards = rewards_of(group)
    highest = max(rewards)
    return broadcast([float(r == highest and r > 0) for r in rewards], group)
