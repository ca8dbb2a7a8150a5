"""The advantages of a step: scored groups go in, a number for each token comes out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from journeyman.config import RlConfig
from journeyman.credit import VOCABULARY, ScoredBatch, build_credit
from journeyman.credit.base import Floats
from journeyman.credit.readings import READINGS
from journeyman.expressions import needs
from journeyman.trajectory import Trajectory

Supply = Callable[[ScoredBatch], Any]
"""How the stage gets what a credit needs and no trajectory tells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credited:
    """The trajectories of a step that were compared, and what each of their tokens is worth."""

    batch: ScoredBatch
    advantages: Sequence[Floats]
    """T numbers for each trajectory."""

    def pairs(self, *, whole_groups: bool = False) -> list[tuple[Trajectory, Floats, int]]:
        """(trajectory, advantages, number of its group) of every one that has something to learn from.

        `whole_groups`: of all of a group, for objectives that compare its rows themselves.
        """
        rows = zip(self.batch.trajectories, self.advantages, self.batch.group_B.tolist(), strict=True)
        return [(t, a, group) for t, a, group in rows if whole_groups or a.any()]


class Crediting:
    """Gives credit by the expression that the rl block names.

    `supplies`: need -> how this stage gets it; what trajectories tell by themselves is read from them.
    """

    def __init__(self, stage: RlConfig, supplies: Mapping[str, Supply]) -> None:
        self._credit, self._dynamic = stage.credit, stage.dynamic_sampling
        self._supplies = {need: {**READINGS, **supplies}[need] for need in needs(stage.credit, VOCABULARY)}

    def __call__(self, groups: Sequence[Sequence[Trajectory]]) -> Credited:
        """Compare what was scored.

        What could not be scored is set aside; a group of fewer than two is, too, and one that has nothing to compare
        where dynamic sampling is on.
        """
        scored = [[t for t in group if t.reward is not None] for group in groups]
        kept = [group for group in scored if len(group) > 1 and not (self._dynamic and all_equal(group))]
        batch = ScoredBatch.of(kept)
        supplied = {need: supply(batch) for need, supply in self._supplies.items()}
        return Credited(batch=batch, advantages=batch.split(build_credit(self._credit, **supplied)(batch)))


def all_equal(group: Sequence[Trajectory]) -> bool:
    """Whether a group's trajectories earned the same, turn by turn and channel by channel."""
    earned = {(t.reward, t.turn_rewards, t.reward_spans, tuple(sorted(t.reward_channels.items()))) for t in group}
    return len(earned) == 1


def contexts(trajectories: Sequence[Trajectory]) -> list[tuple[int, slice]]:
    """(index of the trajectory, its tokens) of every context in which a policy sampled."""
    return [(i, s) for i, t in enumerate(trajectories) for s in t.samples() if any(t.loss_mask[s])]


def per_token(batch: ScoredBatch, score: Callable[[list[tuple[int, ...]]], Sequence[Sequence[float]]]) -> Floats:
    """T numbers from a scorer of rows of ids that gives one for each token but the first; 0 elsewhere."""
    begins = np.concatenate([[0], np.cumsum([len(t.token_ids) for t in batch.trajectories])]).astype(int)
    values_T = np.zeros(int(begins[-1]))
    places = contexts(batch.trajectories)
    rows = [batch.trajectories[i].token_ids[s] for i, s in places]
    for (i, s), scores in zip(places, score(rows), strict=True):
        first = begins[i] + s.start + 1
        values_T[first : first + len(scores)] = scores
    return np.where(batch.mask_T, values_T, 0.0)
