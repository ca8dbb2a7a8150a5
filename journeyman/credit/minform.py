"""Credit by process rewards where a trajectory is worth what its worst step is."""

from typing import Literal

import numpy as np

from journeyman.credit.base import Floats, ScoredBatch
from journeyman.credit.group import leave_one_out_B
from journeyman.credit.turns import outcome_B
from journeyman.expressions import NotNegative, Positive


def pure(
    batch: ScoredBatch,
    *,
    turn_rewards_U: Floats,
    temperature: Positive = 0.1,
    baseline: Literal["token", "step", "none"] = "token",
    outcome: NotNegative = 1.0,
) -> Floats:
    """PURE (#40, verified): process rewards weighted by softmax(-reward / temperature), so that they sum to about the least.

    A turn gets the undiscounted sum of the weighted rewards, less a baseline, from there on. The turn rewards are the process
    rewards, p(good) - p(bad) in [-1, 1]; the rest of the reward is the verifiable part, less its leave-one-out mean,
    times `outcome`, on all tokens.
    baseline: `token`, the other trajectories' sum over their learned tokens, times those of the turn; `step`, the mean of
    their sums per turn; nothing. Without others it is 0. `returns` is the sum form.

    Bias: biased as a gradient of the least reward: the weights of earlier turns depend on later ones, and returns to go
    leave them out; `token` and `step` take off more the longer the trajectory itself goes on.
    """
    weighted_U = least_weights_U(batch, turn_rewards_U, temperature) * turn_rewards_U
    centred_U = weighted_U - _baseline_U(batch, weighted_U, baseline)
    verdict_B = outcome_B(batch, turn_rewards_U)
    verifiable_B = outcome * (verdict_B - leave_one_out_B(batch, verdict_B))
    return batch.from_turns(batch.to_go(centred_U)) + batch.from_rows(verifiable_B)


def least_weights_U(batch: ScoredBatch, rewards_U: Floats, temperature: float) -> Floats:
    """softmax(-reward / temperature) over a trajectory's turns."""
    least_B = np.full(len(batch.turns_B), np.inf)
    np.minimum.at(least_B, batch.row_U, rewards_U)
    raised_U = np.exp((least_B[batch.row_U] - rewards_U) / temperature)
    return raised_U / batch.sum_turns(raised_U)[batch.row_U]


def _baseline_U(batch: ScoredBatch, rewards_U: Floats, kind: str) -> Floats:
    sums_B = batch.sum_turns(rewards_U)
    if kind == "token":
        tokens_B = batch.sum_turns(batch.tokens_U.astype(np.float64))
        others_B = batch.per_group(tokens_B) - tokens_B
        rate_B = np.where(others_B > 0, (batch.per_group(sums_B) - sums_B) / np.maximum(others_B, 1), 0.0)
        return rate_B[batch.row_U] * batch.tokens_U.astype(np.float64)
    if kind == "step":
        return np.where(batch.size_B > 1, leave_one_out_B(batch, sums_B / batch.turns_B), 0.0)[batch.row_U]
    return np.zeros(len(rewards_U))
