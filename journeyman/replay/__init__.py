"""Replay: past trajectories that are learned from again. To add a priority: a function in `parts`, its name, a test."""

from journeyman.replay.buffer import ReplayBuffer, Replayed
from journeyman.replay.parts import PARTS, PRIORITIES

__all__ = ["PARTS", "PRIORITIES", "ReplayBuffer", "Replayed"]
