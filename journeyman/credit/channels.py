"""Credit channel by channel: every reward has an advantage of its own, and only then are they summed."""

from collections.abc import Mapping

import numpy as np

from journeyman.credit.base import Floats, ScoredBatch
from journeyman.credit.group import EPSILON, whitened

FLAT = 0.01
"""A channel is flat in a group whose std is below this share of the channel's range in the batch (ours)."""


def per_channel(
    batch: ScoredBatch, *, weights: dict[str, float] | None = None, channels: Mapping[str, Floats]
) -> Floats:
    """HDPO (#118, verified): z of each channel among those that take part in it, 0 for the others, summed with weights.

    0 for all where fewer than two of a group take part. `weights`: 1 for channels that it doesn't name; HDPO's are 1 for
    the accuracy and 0.15 for calls saved, which only right answers take part in. `channels`: B numbers each, NaN: takes
    no part. HDPO has a loss a channel and averages each over the tokens of those that take part; one sum of advantages
    averages all channels over all learned tokens, so that a channel few take part in weighs less here.

    Raises `ValueError` where a weight names no channel.

    Bias: biased, by the spread of each channel as GRPO is; who takes no part is no part of its channel's baseline.
    """
    terms = [weight * z_B for weight, z_B in _terms(batch, weights, channels, flat=0.0, epsilon=EPSILON)]
    return batch.from_rows(np.sum([np.zeros(len(batch.rewards_B)), *terms], axis=0))


def slim(batch: ScoredBatch, *, weights: dict[str, float] | None = None, channels: Mapping[str, Floats]) -> Floats:
    """SLIM (#68, secondary): z of each channel in the group, summed with weights, then whitened over the step.

    A channel that is nearly constant in a group has no say there: std below 0.01 of its range in the batch (ours).
    `weights`: 1 for channels that it doesn't name; the paper's are not known. Whitening is over trajectories.
    `channels`: B numbers each, NaN: takes no part. NOT covered: a critic for each reward (its PPO mode).

    Raises `ValueError` where a weight names no channel.

    Bias: biased, by the spread of each channel and by that of the batch.
    """
    terms = [weight * z_B for weight, z_B in _terms(batch, weights, channels, flat=FLAT, epsilon=0.0)]
    return batch.from_rows(whitened(np.sum([np.zeros(len(batch.rewards_B)), *terms], axis=0)))


def _terms(
    batch: ScoredBatch,
    weights: dict[str, float] | None,
    channels: Mapping[str, Floats],
    *,
    flat: float,
    epsilon: float,
) -> list[tuple[float, Floats]]:
    """(weight, z) of each channel."""
    unknown = [name for name in weights or {} if name not in channels]
    if unknown:
        raise ValueError(f"there is no channel `{unknown[0]}`; the reward's are {', '.join(channels) or 'none'}")
    return [
        ((weights or {}).get(name, 1.0), _z_B(batch, values_B, flat, epsilon)) for name, values_B in channels.items()
    ]


def _z_B(batch: ScoredBatch, values_B: Floats, flat: float, epsilon: float) -> Floats:
    """z among the group's trajectories that take part; 0 where they are fewer than two, or flat."""
    part_B = ~np.isnan(values_B)
    span = np.ptp(values_B[part_B]) if part_B.any() else 0.0
    if not span:
        return np.zeros(len(values_B))
    known_B = np.where(part_B, values_B, 0.0)
    size_B = np.maximum(batch.per_group(part_B.astype(np.float64)), 1)
    centered_B = np.where(part_B, known_B - batch.per_group(known_B) / size_B, 0.0)
    spread_B = np.sqrt(batch.per_group(centered_B**2) / size_B)
    compared_B = part_B & (size_B > 1) & (spread_B > flat * span)
    return np.where(compared_B, centered_B / np.where(compared_B, spread_B + epsilon, 1.0), 0.0)
