"""What credit is: the trajectories of one problem, scored, to an advantage for each of their tokens."""

from collections.abc import Callable, Sequence

from journeyman.trajectory import Trajectory

Credit = Callable[[Sequence[Trajectory]], list[tuple[float, ...]]]
"""Scored trajectories of one problem (`reward` is never None) -> T advantages for each; 0 off the loss mask."""


def broadcast(values: Sequence[float], group: Sequence[Trajectory]) -> list[tuple[float, ...]]:
    """One advantage a trajectory, on every token that its policy sampled."""
    return [tuple(value * m for m in t.loss_mask) for value, t in zip(values, group, strict=True)]


def rewards_of(group: Sequence[Trajectory]) -> list[float]:
    rewards = [t.reward for t in group if t.reward is not None]
    assert len(rewards) == len(group), "unscorable trajectories are set aside before credit"
    return rewards
