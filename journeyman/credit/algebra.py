"""How credits are put together: sums of weighted advantages, and advantages brought to one scale."""

import numpy as np

from journeyman.credit.base import Credit, Floats, ScoredBatch
from journeyman.credit.group import whitened_T


def blend(*terms: tuple[float, Credit]) -> Credit:
    """The sum of advantages, each times its weight.

    Bias: that of its terms: none where none of them has any.
    """

    def blend_(batch: ScoredBatch) -> Floats:
        return np.sum([weight * credit(batch) for weight, credit in terms], axis=0)

    return blend_


def whiten(credit: Credit) -> Credit:
    """Advantages with mean 0 and standard deviation 1 over all learned tokens of the step.

    Bias: biased, by less the larger the batch: mean and spread depend on the tokens they are applied to.
    """

    def whiten_(batch: ScoredBatch) -> Floats:
        return whitened_T(batch, credit(batch))

    return whiten_
