"""Credit shaped by the effective rank of hidden states: how many directions the policy's states move in."""

import numpy as np

from journeyman.credit.base import Credit, Floats, ScoredBatch
from journeyman.expressions import Positive

BOUND = 5.0
"""Relative deviations are cut to +-5."""
RATE = 0.7
"""Share of the newest step in the running means."""


def effective_rank(
    credit: Credit, *, kappa: Positive = 2.0, gain: Positive = 1.5, ranks_B: Floats, mean_ranks: Floats
) -> Credit:
    """VERL (#98, verified): A + min(max(0, Phi), |A| / kappa), where Phi is how far the trajectory's ranks are ahead.

    d(x) = (x - running mean) / |running mean|, cut to +-5; b = sigmoid(gain * d(ERA)); Phi = b tanh(d(ER)) + (1 - b)
    tanh(d(ERV)). `ranks_B`: ER, ERV and ERA of each trajectory, B x 3 (`ranks_of`); `mean_ranks`: their running means
    before the step, 3 numbers, NaN before the first: Phi is then 0. Phi is read in the code; that it is cut by |A| / kappa
    is derived, and kappa = 2 ours. NOT covered: the code's factor that fades with the running mean of the scores.

    Bias: biased: Phi is no part of the reward. The sign of A stays for kappa >= 1.
    """

    def effective_rank_(batch: ScoredBatch) -> Floats:
        advantages_T = credit(batch)
        bonus_T = batch.from_rows(np.maximum(potential_B(ranks_B, mean_ranks, gain), 0.0))
        return advantages_T + np.minimum(bonus_T, np.abs(advantages_T) / kappa)

    return effective_rank_


def potential_B(ranks_B: Floats, mean_ranks: Floats, gain: float = 1.5) -> Floats:
    """Phi of each trajectory: exploration where the rank's growth speeds up, exploitation where it slows down."""
    if np.isnan(mean_ranks).any():
        return np.zeros(len(ranks_B))
    with np.errstate(divide="ignore", invalid="ignore"):
        ahead = np.nan_to_num((ranks_B - mean_ranks) / np.abs(mean_ranks), posinf=np.inf, neginf=-np.inf)
    rank_B, velocity_B, acceleration_B = np.clip(ahead, -BOUND, BOUND).T
    explore_B = 1 / (1 + np.exp(-gain * acceleration_B))
    return explore_B * np.tanh(rank_B) + (1 - explore_B) * np.tanh(velocity_B)


def moved_means(mean_ranks: Floats, ranks_B: Floats, rate: float = RATE) -> Floats:
    """The running means after a step: (1 - rate) * before + rate * the step's mean; the first step's as they are."""
    newest = ranks_B.mean(axis=0)
    return np.where(np.isnan(mean_ranks), newest, (1 - rate) * mean_ranks + rate * newest)


def ranks_of(hidden_TD: Floats, stride: int = 40) -> Floats:
    """ER of a response, and ERV and ERA averaged over its prefixes of `stride`, 2 * `stride`, ... tokens and the whole.

    ERV_j = ER_j - the mean of those before; ERA_j = ERV_j - ERV_{j-1} (#98). `hidden_TD`: last-layer states of its T
    tokens. 0 where there are too few prefixes. stride = 40 is ours.
    """
    count = len(hidden_TD)
    ends = [*range(stride, count, stride), count] if count else []
    ranks = np.array([effective_rank_of(hidden_TD[:end]) for end in ends])
    before = np.cumsum(ranks)[:-1] / np.arange(1, max(len(ranks), 1))
    velocities = ranks[1:] - before
    accelerations = np.diff(velocities)
    return np.array([series.mean() if len(series) else 0.0 for series in (ranks[-1:], velocities, accelerations)])


def effective_rank_of(hidden_TD: Floats) -> float:
    """exp of the entropy of the centred states' singular values, each as its share of their sum; 0 for fewer than two."""
    if len(hidden_TD) < 2:
        return 0.0
    singular = np.linalg.svd(hidden_TD - hidden_TD.mean(axis=0), compute_uv=False)
    if not singular.sum():
        return 0.0
    shares = singular[singular > 0] / singular.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))
