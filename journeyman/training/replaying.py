"""Replay in an rl stage: past successes are learned from again beside a step's own attempts."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import numpy as np

from journeyman.config import RlConfig
from journeyman.credit.base import Floats
from journeyman.replay import ReplayBuffer, Replayed
from journeyman.replay.parts import warmup
from journeyman.training.crediting import contexts
from journeyman.training.handle import LearnerHandle, Row
from journeyman.training.rows import rows_of
from journeyman.trajectory import Trajectory

Pair = tuple[Trajectory, Floats, int]
"""A trajectory, T advantages, the number of its group."""


class Replaying:
    """The buffer of a block, and the rows that come from it. Without a capacity it does nothing."""

    def __init__(self, stage: RlConfig, learner: LearnerHandle, seed: int, folder: Path | None) -> None:
        """`folder`: of the buffer's segments."""
        self._stage, self._learner = stage, learner
        self.buffer = ReplayBuffer(stage.replay, seed, folder)

    def rows(
        self, groups: Sequence[Sequence[Trajectory]], pairs: Sequence[Pair], *, fresh: int, step: int
    ) -> tuple[list[Row], dict[str, float]]:
        """What a step learns from again beside `fresh` rows of its own, and metrics; then its successes are kept.

        `groups`: all that the step has sampled, scored; `pairs`: those of them that are learned from.
        """
        config = self._stage.replay
        if not config.capacity:
            return [], {}
        self.buffer.observe([[t.reward for t in group if t.reward is not None] for group in groups])
        replayed = self.buffer.sample(round(config.fraction * fresh), step=step, score=self._score)
        rows = self._again(replayed, first_group=len(groups), weight=warmup(step, config.warmup))
        self.buffer.add([Replayed(trajectory=t, advantage=_mean(t, a)) for t, a, _ in pairs], version=step)
        return rows, _metrics(self.buffer, replayed)

    def _again(self, replayed: Sequence[Replayed], *, first_group: int, weight: float) -> list[Row]:
        return [
            row
            for number, r in enumerate(replayed, first_group)
            for row in rows_of(r.trajectory, r.advantage * np.array(r.trajectory.loss_mask), number, weight=weight)
        ]

    def _score(self, trajectories: Sequence[Trajectory]) -> list[list[float]]:
        """Log-probabilities of the tokens that each trajectory learns from, as the learner is now."""
        places = contexts(trajectories)
        scores = self._learner.score([trajectories[i].token_ids[s] for i, s in places], self._stage.temperature)
        learned: list[list[float]] = [[] for _ in trajectories]
        for (i, s), score in zip(places, scores, strict=True):
            mask = trajectories[i].loss_mask[s][1:]
            learned[i] += [logprob for logprob, m in zip(score, mask, strict=True) if m]
        return learned

    def save(self, folder: Path) -> None:
        self.buffer.save(folder)

    def load(self, folder: Path) -> None:
        """The inverse of `save`."""
        self.buffer.load(folder)


def _mean(trajectory: Trajectory, advantages: Floats) -> float:
    return float(advantages.sum()) / max(1, sum(trajectory.loss_mask))


def _metrics(buffer: ReplayBuffer, replayed: Sequence[Replayed]) -> dict[str, float]:
    ages = [r.age for r in replayed]
    found = {"replay/kept": float(len(buffer)), "replay/replayed": float(len(replayed))}
    return found | ({"replay/age_mean": fmean(ages)} if ages else {})
