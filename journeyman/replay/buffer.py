"""A bounded buffer of past successes with their advantages at the time."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from journeyman.seeds import derive
from journeyman.trajectory import Trajectory, read_trajectories, write_trajectories


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """A trajectory worth learning from again."""

    trajectory: Trajectory
    advantage: float
    """Mean advantage on its learned tokens when it was sampled."""


class ReplayBuffer:
    """Keeps at most `capacity` trajectories of positive advantage, none older than `max_age` policy versions."""

    def __init__(self, capacity: int, max_age: int, seed: int) -> None:
        self._capacity, self._max_age, self._seed = capacity, max_age, seed
        self._kept: list[Replayed] = []

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, found: Sequence[Replayed], *, version: int) -> None:
        """Take in successes, drop the old and, beyond the capacity, the oldest."""
        kept = [*self._kept, *(r for r in found if r.advantage > 0)]
        kept = [r for r in kept if version - r.trajectory.policy_version <= self._max_age]
        self._kept = kept[len(kept) - self._capacity :] if len(kept) > self._capacity else kept

    def sample(self, count: int, *, step: int) -> list[Replayed]:
        """Up to `count` different trajectories, seeded by step."""
        rng = random.Random(derive(self._seed, "replay", step))
        return rng.sample(self._kept, min(count, len(self._kept)))

    def save(self, folder: Path) -> None:
        """Write the buffer as Parquet, so that SQL can ask it too."""
        stored = [
            r.trajectory.scored(r.trajectory.reward, {**r.trajectory.reward_parts, "replay_advantage": r.advantage})
            for r in self._kept
        ]
        write_trajectories(stored, folder / "replay.parquet")

    def load(self, folder: Path) -> None:
        """The inverse of `save`."""
        self._kept = []
        for stored in read_trajectories(folder / "replay.parquet"):
            parts = dict(stored.reward_parts)
            advantage = parts.pop("replay_advantage")
            self._kept.append(Replayed(trajectory=stored.scored(stored.reward, parts), advantage=advantage))
