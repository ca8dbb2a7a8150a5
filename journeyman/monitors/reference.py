"""Monitors of how far the policy has gone from the reference. Each costs a forward pass of the reference over the step."""

import math
from collections.abc import Sequence
from statistics import fmean

from journeyman.monitors.base import Past, Reading, Step
from journeyman.training.handle import LearnerHandle
from journeyman.training.mismatch import CAP
from journeyman.trajectory import Trajectory


def reference_kl(step: Step, past: Past) -> Reading:
    """Divergence of the policy from the reference, in nats an attempt: the distance of the laws of over-optimisation
    (#65, secondary).

    The mean over the step's attempts of log(policy / reference), sampled tokens only; an estimate that may be below 0.
    """
    ratios = step.log_ratios() if step.log_ratios else ()
    return Reading(value=fmean(ratios) if ratios else None)


def reference_chi_square(step: Step, past: Past) -> Reading:
    """Chi-square of the policy against the reference over whole attempts: it bounds how far a proxy misleads (#78, derived).

    The mean of policy / reference over the policy's own attempts, less 1; log-ratios are capped at 10 (ours), for a few
    attempts far away would be all of it.
    """
    ratios = step.log_ratios() if step.log_ratios else ()
    return Reading(value=fmean(math.expm1(min(ratio, CAP)) for ratio in ratios) if ratios else None)


def log_ratios(learner: LearnerHandle, trajectories: Sequence[Trajectory]) -> list[float]:
    """log(policy / reference) of each sampled attempt, in nats over its sampled tokens.

    The sampler's log-probabilities against the reference's in training's arithmetic, at the attempt's temperature;
    greedy attempts are left out.
    """
    sums: dict[int, float] = {}
    for temperature in sorted({t.temperature for t in trajectories if t.temperature > 0}):
        places = [
            (i, sample)
            for i, t in enumerate(trajectories)
            if t.temperature == temperature
            for sample in t.samples()
            if any(t.loss_mask[sample])
        ]
        rows = [trajectories[i].token_ids[sample] for i, sample in places]
        for (i, sample), reference in zip(places, learner.score_reference(rows, temperature), strict=True):
            sums[i] = sums.get(i, 0.0) + _log_ratio(trajectories[i], sample, reference)
    return [sums[i] for i in sorted(sums)]


def _log_ratio(trajectory: Trajectory, sample: slice, reference: Sequence[float]) -> float:
    own, learned = trajectory.logprobs[sample][1:], trajectory.loss_mask[sample][1:]
    return math.fsum(a - b for a, b, counts in zip(own, reference, learned, strict=True) if counts)
