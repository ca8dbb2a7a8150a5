"""Credit among trajectories of one shape: only those with the same number of calls are compared."""

import numpy as np

from journeyman.credit.base import Floats, Ints, ScoredBatch
from journeyman.credit.group import EPSILON, normalized_B
from journeyman.expressions import Share


def strata_B(batch: ScoredBatch) -> Ints:
    """A number for (group, number of calls): trajectories that share it are peers."""
    most = int(batch.calls_B.max(initial=0)) + 1
    return np.unique(batch.group_B * most + batch.calls_B, return_inverse=True)[1].reshape(-1).astype(np.int64)


def stratified(batch: ScoredBatch, *, alpha: Share = 0.8, epsilon: float = EPSILON) -> Floats:
    """Stratified GRPO (#155, derived): alpha * z within the stratum + (1 - alpha) * z within the group.

    A stratum is the group's trajectories with the same number of calls; who is alone in one gets 0 from it. z is
    (r - mean) / (std + epsilon), std as a population. alpha = 0.8 is ours. NOT covered: other shapes than the number of
    calls.

    Bias: biased; with alpha = 1 strata are never compared, so that the number of calls is learned by chance only.
    """
    stratum_B = strata_B(batch)
    size_B = np.bincount(stratum_B)[stratum_B]
    centered_B = batch.rewards_B - (np.bincount(stratum_B, batch.rewards_B)[stratum_B] / size_B)
    spread_B = np.sqrt(np.bincount(stratum_B, centered_B**2)[stratum_B] / size_B)
    within_B = np.where(size_B > 1, centered_B / (spread_B + epsilon), 0.0)
    return batch.from_rows(alpha * within_B + (1 - alpha) * normalized_B(batch, batch.rewards_B, epsilon))
