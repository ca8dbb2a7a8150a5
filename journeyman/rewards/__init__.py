"""Rewards: pure functions of a group of trajectories. To add one: a function, a line in `REWARDS`, a test."""

from journeyman.rewards.base import Reward, Score, apply_reward
from journeyman.rewards.correctness import correct
from journeyman.rewards.efficiency import otc

REWARDS: dict[str, Reward] = {"correct": correct, "otc": otc}

__all__ = ["REWARDS", "Reward", "Score", "apply_reward"]
