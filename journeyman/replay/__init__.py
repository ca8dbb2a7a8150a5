"""Replay: past trajectories that are learned from again."""

from journeyman.replay.buffer import ReplayBuffer

__all__ = ["ReplayBuffer"]
