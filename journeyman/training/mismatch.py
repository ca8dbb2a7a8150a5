"""How far the learner is from the policy that sampled its rows, before it learns from them."""

from collections.abc import Sequence

import numpy as np

from journeyman.training.handle import Row

CAP = 10.0
"""Largest log-ratio of a row, for the variance (ours)."""


def mismatch(rows: Sequence[Row]) -> dict[str, float]:
    """KL and chi-square of the learner against the sampler, in nats and without a unit; replayed rows count, too.

    With d = learner's - sampler's log-probability: the mean over learned tokens of exp(d) - 1 - d, an estimate of
    KL(sampler, learner) that is never negative; the mean over rows of (exp(sum d) - 1)^2, of chi^2(learner, sampler) of
    whole rows. Empty where no row has both.
    """
    differences = [_differences(row) for row in rows if row.old_logprobs and row.logprobs]
    if not differences:
        return {}
    d_N = np.clip(np.concatenate(differences), -CAP, CAP)
    sums_B = np.clip([d.sum() for d in differences], -CAP, CAP)
    return {
        "policy/sampler_kl_nats": float((np.expm1(d_N) - d_N).mean()),
        "policy/sampler_chi_square": float((np.expm1(sums_B) ** 2).mean()),
    }


def _differences(row: Row) -> np.ndarray:
    learned = np.array(row.mask, dtype=bool)
    return (np.array(row.old_logprobs) - np.array(row.logprobs))[learned]
