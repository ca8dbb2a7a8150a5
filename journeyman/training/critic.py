"""Value heads of the learner as credits see them, and what they learn from a step."""

import math
from collections.abc import Callable, Sequence

import numpy as np

from journeyman.config import CriticConfig
from journeyman.credit import ScoredBatch
from journeyman.credit.base import Floats, Ints
from journeyman.credit.critics import q_targets_U, step_rewards_U
from journeyman.training.crediting import contexts, per_token
from journeyman.training.handle import LearnerHandle

VALUE, Q = "value", "q"


class Critic:
    """V of the places where tokens and turns begin; with `q`, Q of the places where turns end, as ArCHer has it (#192)."""

    def __init__(self, config: CriticConfig, learner: LearnerHandle, *, q: bool) -> None:
        self._config, self._learner, self._heads = config, learner, (VALUE, Q) if q else (VALUE,)

    def supplies(self) -> dict[str, Callable[[ScoredBatch], Floats]]:
        """Need of a credit -> how it is had."""
        return {
            "values_T": lambda batch: self._values(batch, (VALUE,))[VALUE],
            "values_U": lambda batch: _first(batch, self._values(batch, (VALUE,))[VALUE]),
            "q_values_U": lambda batch: _last(batch, self._values(batch, (Q,))[Q]),
        }

    def fit(self, batch: ScoredBatch) -> dict[str, float]:
        """Learn from a step: V the returns that came (by Monte Carlo); with Q, both from their slowly moving copies."""
        targets = {VALUE: self._returns_T(batch)}
        if Q in self._heads:
            slow = self._values(batch, self._heads, slow=True)
            q_U = _last(batch, slow[Q])
            next_V = q_targets_U(batch, _first(batch, slow[VALUE]), self._config.gamma)
            targets = {VALUE: _at(batch, _first_T(batch), q_U), Q: _at(batch, _last_T(batch), next_V)}
        config = self._config
        return self._learner.fit_values(
            [batch.trajectories[i].token_ids[s] for i, s in contexts(batch.trajectories)],
            {head: _rows(batch, values_T, after=head == Q) for head, values_T in targets.items()},
            learning_rate=config.learning_rate,
            epochs=config.epochs,
            polyak=config.polyak,
        )

    def _returns_T(self, batch: ScoredBatch) -> Floats:
        returns_U = batch.to_go(step_rewards_U(batch), self._config.gamma)
        return np.where(batch.mask_T, np.append(returns_U, 0.0)[batch.turn_T], np.nan)

    def _values(self, batch: ScoredBatch, heads: Sequence[str], *, slow: bool = False) -> dict[str, Floats]:
        """V of the place before each learned token, Q of the place after it: one pass for all heads that are asked."""
        rows = [batch.trajectories[i].token_ids[s] for i, s in contexts(batch.trajectories)]
        found = self._learner.values(rows, tuple(heads), slow=slow)
        cut = {VALUE: slice(1, -1), Q: slice(2, None)}
        return {head: per_token(batch, lambda _, head=head: [v[cut[head]] for v in found[head]]) for head in heads}


def _first_T(batch: ScoredBatch) -> Ints:
    """Index in T of each turn's first learned token; -1 where there is none."""
    first_U = np.full(len(batch.row_U), -1)
    learned = np.flatnonzero(batch.mask_T)[::-1]
    first_U[batch.turn_T[learned]] = learned  # of several the last that is written stays
    return first_U


def _last_T(batch: ScoredBatch) -> Ints:
    last_U = np.full(len(batch.row_U), -1)
    learned = np.flatnonzero(batch.mask_T)
    last_U[batch.turn_T[learned]] = learned
    return last_U


def _first(batch: ScoredBatch, values_T: Floats) -> Floats:
    return np.append(values_T, 0.0)[_first_T(batch)]


def _last(batch: ScoredBatch, values_T: Floats) -> Floats:
    return np.append(values_T, 0.0)[_last_T(batch)]


def _at(batch: ScoredBatch, places_U: Ints, values_U: Floats) -> Floats:
    """Values of turns at one token of each; NaN elsewhere."""
    found_T = np.full(len(batch.mask_T), np.nan)
    found_T[places_U[places_U >= 0]] = values_U[places_U >= 0]
    return found_T


def _rows(batch: ScoredBatch, values_T: Floats, *, after: bool) -> list[list[float]]:
    """By context, T + 1 numbers: a token's value stands at the place before it, or after it."""
    split: Sequence[Floats] = batch.split(values_T)
    rows = [split[i][s].tolist() for i, s in contexts(batch.trajectories)]
    return [[math.nan, *row] if after else [*row, math.nan] for row in rows]
