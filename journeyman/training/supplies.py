"""What an rl stage supplies credits with: a critic, a process model, ranks of hidden states, greedy attempts."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from journeyman.config import RlConfig
from journeyman.config.objective import BaseObjective, PolicyGradient, WeightedMean
from journeyman.credit import VOCABULARY, ScoredBatch
from journeyman.credit.base import Floats
from journeyman.credit.ranks import moved_means
from journeyman.credit.readings import Edges, spans
from journeyman.credit.spans import Spans
from journeyman.expressions import needs
from journeyman.rollout.chat import ChatFormat
from journeyman.rollout.token_text import edges_of
from journeyman.training.crediting import Supply, contexts, per_token
from journeyman.training.critic import Critic
from journeyman.training.handle import LearnerHandle, Row
from journeyman.training.precision import precision_weights
from journeyman.training.process import ProcessModel
from journeyman.training.rows import rows_of
from journeyman.trajectory import Trajectory

PROCESS = "process"
STRIDE = 40
"""Tokens between two prefixes whose rank is taken (ours)."""


class Supplies:
    """Holds what is trained or counted along with the policy. Only what the block's credit needs is there."""

    def __init__(
        self,
        stage: RlConfig,
        learner: LearnerHandle,
        *,
        process: ProcessModel | None = None,
        policy: Path | None = None,
    ) -> None:
        """`process`: where the block asks for one. `policy`: the folder with the tokenizer."""
        self._policy = policy
        self._precision = precision_of(stage.objective) if policy else None
        self.process, self._updates_first = process, stage.process is not None and stage.process.loss == "outcome"
        self._process_metrics: dict[str, float] = {}
        self.needs = frozenset(needs(stage.credit, VOCABULARY))
        self._learner = learner
        self._critic = Critic(stage.critic, learner, q="q_values_U" in self.needs) if stage.critic else None
        self._mean_ranks: Floats = np.full(3, np.nan)
        self._ranks_B: Floats = np.empty((0, 3))
        self._greedy: dict[str, float] = {}
        self._edges: Edges | None = None

    def arrays(self) -> dict[str, Supply]:
        """Need -> how it is had."""
        return {
            "ranks_B": self._ranks,
            "mean_ranks": lambda batch: self._mean_ranks,
            "greedy_rewards_P": self._greedy_rewards,
            **(self._critic.supplies() if self._critic else {}),
            **({"process_T": self._process_rewards} if self.process else {}),
            **({"spans": self._spans} if self._policy else {}),
        }

    def compare_with(self, greedy: Sequence[Trajectory]) -> None:
        """Take the step's greedy attempts, one a problem, scored."""
        self._greedy = {t.problem_id: t.reward for t in greedy if t.reward is not None}

    def learn(self, batch: ScoredBatch) -> dict[str, float]:
        """Learn from a step that credit was given in; metrics by name."""
        if not len(batch.rewards_B):
            return {}
        if "mean_ranks" in self.needs:
            self._mean_ranks = moved_means(self._mean_ranks, self._ranks_B)
        if self.process and not self._updates_first:
            self._process_metrics = self.process.update(_rows(batch))
        return {**self._process_metrics, **(self._critic.fit(batch) if self._critic else {})}

    def state_dict(self) -> dict[str, Any]:
        return {"mean_ranks": [None if np.isnan(rank) else float(rank) for rank in self._mean_ranks]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._mean_ranks = np.array([np.nan if rank is None else rank for rank in state["mean_ranks"]])

    def save(self, folder: Path) -> None:
        """What JSON doesn't hold."""
        if self.process:
            self.process.learner.save_checkpoint(folder / PROCESS)

    def load(self, folder: Path) -> None:
        if self.process:
            self.process.learner.load_checkpoint(folder / PROCESS)

    def _process_rewards(self, batch: ScoredBatch) -> Floats:
        """T rewards; PRIME's model learns from the step before it is asked about it."""
        assert self.process is not None
        rows = _rows(batch)
        if self._updates_first:
            self._process_metrics = self.process.update(rows)
        found = self.process.process_T(rows)
        return per_token(batch, lambda _: [values[1:] for values in found])

    def token_weights(self, trajectory: Trajectory) -> Floats | None:
        """What a trajectory's tokens weigh in their row, where the objective weighs them."""
        return precision_weights(trajectory, self._token_edges(), self._precision) if self._precision else None

    def _spans(self, batch: ScoredBatch) -> Spans:
        return spans(batch, self._token_edges())

    def _token_edges(self) -> Edges:
        assert self._policy is not None
        self._edges = self._edges or edges_of(ChatFormat.of_folder(self._policy))
        return self._edges

    def _greedy_rewards(self, batch: ScoredBatch) -> Floats:
        """P rewards; NaN where a greedy attempt could not be scored."""
        first_P = np.searchsorted(batch.group_B, np.arange(batch.groups))
        return np.array([self._greedy.get(batch.trajectories[i].problem_id, np.nan) for i in first_P])

    def _ranks(self, batch: ScoredBatch) -> Floats:
        """B x 3; the mean over its contexts for an attempt that has several."""
        places, rows = contexts(batch.trajectories), _rows(batch)
        found, counts = np.zeros((len(batch.trajectories), 3)), np.zeros(len(batch.trajectories))
        for (i, _), ranks in zip(places, self._learner.hidden_ranks(rows, STRIDE), strict=True):
            found[i] += ranks
            counts[i] += 1
        self._ranks_B = found / np.maximum(counts, 1)[:, None]
        return self._ranks_B


def precision_of(objective: BaseObjective) -> float | None:
    """The weight of tokens that have to be exact; None where all weigh the same."""
    if isinstance(objective, PolicyGradient) and isinstance(objective.normalisation, WeightedMean):
        return objective.normalisation.precision
    return None


def _rows(batch: ScoredBatch) -> list[Row]:
    """A row for each context, in the order of `contexts`."""
    groups = batch.group_B.tolist()
    return [
        row
        for t, group in zip(batch.trajectories, groups, strict=True)
        for row in rows_of(t, np.zeros(len(t.token_ids)), group)
    ]
