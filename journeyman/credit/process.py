"""Credit from a process reward model that is trained along: beta times the log-ratio of two models, token by token."""

import numpy as np

from journeyman.credit.base import Floats, ScoredBatch, discounted, sums
from journeyman.credit.group import EPSILON, leave_one_out_B, normalized_B, whitened_T
from journeyman.expressions import NotNegative


def oprl(batch: ScoredBatch, *, alpha: NotNegative = 1.0, process_T: Floats) -> Floats:
    """OPRL / iStar (#50, secondary): z(reward) in the group + alpha * z(step reward) over all steps of the group.

    The step reward is the sum of `process_T` over the turn's learned tokens: beta log(pi_phi / pi_old). z is
    (x - mean) / (std + 1e-6), std as a population; turns without learned tokens are no steps. alpha = 1 (ours).

    Bias: biased, by the spread as GRPO is, and by what the process model adds: a step gets its own reward, not those
    that follow it.
    """
    steps_U = sums(batch.turn_T[batch.mask_T], process_T[batch.mask_T], len(batch.row_U))
    counts_U = (batch.tokens_U > 0).astype(np.float64)
    size_P = np.maximum(sums(batch.group_U, counts_U, batch.groups), 1)
    mean_P = sums(batch.group_U, steps_U, batch.groups) / size_P
    centered_U = (steps_U - mean_P[batch.group_U]) * counts_U
    spread_P = np.sqrt(sums(batch.group_U, centered_U**2, batch.groups) / size_P)
    step_U = centered_U / (spread_P[batch.group_U] + EPSILON)
    return batch.from_turns(normalized_B(batch, batch.rewards_B)[batch.row_U] + alpha * step_U)


def prime(
    batch: ScoredBatch,
    *,
    process_weight: NotNegative = 1.0,
    centered: bool = False,
    whiten: bool = True,
    process_T: Floats,
) -> Floats:
    """PRIME (#49, verified): return-to-go of token rewards less their baseline, plus the outcome less its own, whitened.

    Both baselines leave the trajectory out: the mean over the group's others of their mean token reward, and of their
    outcomes. `centered`: as the released code has it, G / (G - 1) times (token reward - mean over all). A group of one
    gets 0. `process_T`: beta log(pi_phi / pi_ref) of each learned token. gamma is 1 as there.

    Bias: biased: whitening, and a process model that is no potential changes what is best. The baseline is taken once
    a token, so that it pays for length.
    """
    process_N = process_T[batch.mask_T]
    row_N = batch.row_U[batch.turn_T[batch.mask_T]]
    lengths_B = np.bincount(row_N, minlength=len(batch.turns_B))
    mean_B = sums(row_N, process_N, len(batch.turns_B)) / np.maximum(lengths_B, 1)
    scale_B = np.where(batch.size_B > 1, batch.size_B / np.maximum(batch.size_B - 1, 1) if centered else 1.0, 0.0)
    base_B = batch.mean_B(mean_B) if centered else leave_one_out_B(batch, mean_B)
    to_go_N = discounted(scale_B[row_N] * (process_N - base_B[row_N]), lengths_B, 1.0)
    outcome_B = batch.rewards_B - leave_one_out_B(batch, batch.rewards_B)
    advantages_T = np.zeros(len(batch.mask_T))
    advantages_T[batch.mask_T] = process_weight * to_go_N + outcome_B[row_N]
    return whitened_T(batch, advantages_T) if whiten else advantages_T
