"""Weight sync: the sampler takes the learner's weights, and a probe batch proves that it did."""

import math
from collections.abc import Sequence

from journeyman.errors import WeightSyncError
from journeyman.rollout.job import SamplerPool
from journeyman.training.handle import LearnerHandle

TOLERANCE = {"float32": 1e-3, "bfloat16": 0.5}
"""Largest difference of log-probabilities, in nats, by the sampler's precision; the learner scores in float32."""


def sync_weights(
    learner: LearnerHandle, samplers: SamplerPool, *, version: int, probe: Sequence[Sequence[int]], tolerance: float
) -> float:
    """Hand over the weights and compare log-probabilities on the probe rows, worker by worker.

    Returns the largest difference in nats, 0 without a probe. Raises `WeightSyncError` where it is above the tolerance
    (0: by precision).
    """
    samplers.load_weights(learner.weights(), version)
    if not probe:
        return 0.0
    expected = [value for row in learner.score(probe, exact=True) for value in row]
    found = [value for row in samplers.score(probe) for value in row]
    assert expected and len(found) % len(expected) == 0, "each worker scores every probe row"
    differences = [abs(value - expected[i % len(expected)]) for i, value in enumerate(found)]
    # A NaN is no agreement, and `max` alone would pass over it.
    difference = max(differences, key=lambda value: (math.isnan(value), value))
    allowed = tolerance or TOLERANCE[learner.sampler_precision()]
    if not difference <= allowed:
        raise WeightSyncError(
            f"after weight sync {version} the sampler's log-probabilities differ from the learner's by "
            f"{difference:.3g} nats, more than {allowed:g}: the sampler does not compute with these weights"
        )
    return difference
