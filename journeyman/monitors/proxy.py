"""Monitors of the reward as a proxy: how far it is from the gold reward, and whether what is gained is still wanted."""

import math
from collections.abc import Sequence
from statistics import fmean, stdev

import numpy as np

from journeyman.monitors.base import Past, Reading, Step

POINTS = 5
"""Least points that the law of over-optimisation is fitted to (ours)."""
ERRORS = 2.0
"""Standard errors below its maximum at which gold counts as fallen (ours)."""
STEEPEST = 50.0
"""Largest exponent of a distance over its optimum, so that it stays a number (ours)."""


def reward_distance(step: Step, past: Past) -> Reading:
    """Distance in [0, 1] between the reward and the gold reward: a sample of the STARC metrics (#73, derived).

    0: they order the attempts of each problem alike and at the same ratios; 1: the other way round. Both are
    canonicalised by subtracting their group's mean, which stands for the value of the problem, and divided by their
    norm over the step. Shifts by problem and positive factors don't matter. The sample form is ours; the exact one is
    `starc_distance`. Nothing where no group has two attempts that have both.
    """
    groups = [np.array(group) for group in step.pairs() if len(group) > 1]
    if not groups:
        return Reading()
    centred_B2 = np.concatenate([group - group.mean(0) for group in groups])
    return Reading(value=_half_distance(centred_B2[:, 0], centred_B2[:, 1]))


def starc_distance(
    first: np.ndarray, second: np.ndarray, *, transitions: np.ndarray, policy: np.ndarray, gamma: float
) -> float:
    """STARC distance with the VAL canonicalisation in a tabular world, in [0, 1] (#73, derived).

    Both rewards are S x A x S (state, action, next state), and so are `transitions` (sums of 1 over the last axis);
    `policy` is S x A, sums of 1; `gamma` < 1. c(R)(s, a) = E[R(s, a, s') - V(s) + gamma V(s')] with the policy's own
    values, over its norm (L2), 0 where that is 0; half the distance of the two.
    """
    return _half_distance(*(_canonical(reward, transitions, policy, gamma) for reward in (first, second)))


def _canonical(reward: np.ndarray, transitions: np.ndarray, policy: np.ndarray, gamma: float) -> np.ndarray:
    expected_SA = (transitions * reward).sum(-1)
    moves_SS = np.einsum("sa,sat->st", policy, transitions)
    values_S = np.linalg.solve(np.eye(len(policy)) - gamma * moves_SS, (policy * expected_SA).sum(-1))
    return expected_SA - values_S[:, None] + gamma * transitions @ values_S


def _half_distance(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.linalg.norm(_normalised(first) - _normalised(second)) / 2)


def _normalised(values: np.ndarray) -> np.ndarray:
    norm = np.linalg.norm(values)
    # Below rounding of what was subtracted there is nothing but noise.
    return values / norm if norm > 1e-9 else np.zeros_like(values)


def reward_hacking(step: Step, past: Past) -> Reading:
    """How far the gold return has fallen below the first step's while the reward rose above its own (#78, derived).

    The lesser of the two: hacking, as the paper defines it, is optimising a proxy into a return below the reference
    policy's, and above 0 that is what is seen. The policy of the first step stands for the reference. Not covered:
    problems that become harder on the way, which lower gold, too.
    """
    means = step.means()
    if means is None:
        return Reading()
    reward, gold = past[0] if past else means
    return Reading(value=min(means[0] - reward, gold - means[1]), noted=means)


def over_optimisation(step: Step, past: Past) -> Reading:
    """How far the policy has gone, as a share of how far pays: the scaling law of over-optimisation (#65, derived).

    gold(d) = d (alpha - b log d), d the square root of the divergence from the reference in nats an attempt, gold
    counted from the first point; fitted by least squares to all points so far, five or more (ours), with its optimum
    at d = exp(alpha / b - 1). Above 1 d lies beyond it, or the last two points of gold lie two standard errors below
    the best one although the reward is above what it was there (ours): then it is 1 and what they fell. Nothing
    while neither can be said. Standard errors are over problems.
    """
    groups, means = step.pairs(), step.means()
    if means is None or not step.log_ratios or not (ratios := step.log_ratios()):
        return Reading()
    point = (math.sqrt(max(0.0, fmean(ratios))), *means, standard_error([[gold for _, gold in g] for g in groups]))
    points = [*past, point]
    start = points[0][2]
    law = fitted([one[0] for one in points], [one[2] - start for one in points])
    found = [] if law is None or not point[0] else [_beyond(point[0], *law)]
    if (fall := _fall(points)) > 0:
        found.append(1 + fall)
    return Reading(value=max(found, default=None), noted=point, kept=True)


def fitted(distances: Sequence[float], gold: Sequence[float]) -> tuple[float, float] | None:
    """(alpha, b) of gold = d (alpha - b log d); None for fewer than `POINTS` points, or where they leave it open."""
    if len(distances) < POINTS:
        return None
    d_N = np.array(distances)
    features_N2 = np.stack([d_N, -d_N * np.log(np.where(d_N > 0, d_N, 1.0))], axis=1)
    found, _, rank, _ = np.linalg.lstsq(features_N2, np.array(gold), rcond=None)
    return (float(found[0]), float(found[1])) if rank == 2 else None


def optimum(alpha: float, b: float) -> float:
    """The d at which d (alpha - b log d) is largest; needs b > 0."""
    return math.exp(min(alpha / b - 1, STEEPEST))


def standard_error(groups: Sequence[Sequence[float]]) -> float:
    """Of the mean over groups of values: what groups differ by; 0 for one group."""
    means = [fmean(group) for group in groups]
    return stdev(means) / math.sqrt(len(means)) if len(means) > 1 else 0.0


def _beyond(distance: float, alpha: float, b: float) -> float:
    """A distance over its optimum; 0 where gold only rises with it."""
    if b <= 0:
        return 0.0
    exponent = math.log(distance) - alpha / b + 1
    return math.exp(max(-STEEPEST, min(exponent, STEEPEST)))


def _fall(points: Past) -> float:
    """By how much each of the last two points of gold lies below the best one's and its error; 0 without a rise of reward."""
    if len(points) < 3:
        return 0.0
    best = max(points[:-2], key=lambda point: point[2])
    rises = all(reward > best[1] for _, reward, _, _ in points[-2:])
    return min(best[2] - gold - ERRORS * error for _, _, gold, error in points[-2:]) if rises else 0.0
