"""Replay: past trajectories that are learned from again. To add a priority: a function in `parts`, its name, a test."""

from journeyman.replay.buffer import ReplayBuffer, Replayed, export
from journeyman.replay.parts import PARTS, PRIORITIES
from journeyman.replay.selections import SELECTIONS, determination

__all__ = ["PARTS", "PRIORITIES", "SELECTIONS", "ReplayBuffer", "Replayed", "determination", "export"]
