"""Credit relative to the group or the batch: every token of a trajectory gets the trajectory's advantage."""

from typing import Literal

import numpy as np

from journeyman.credit.base import Credit, Floats, ScoredBatch

EPSILON = 1e-6


def normalized_B(batch: ScoredBatch, values_B: Floats, epsilon: float = EPSILON) -> Floats:
    """(value - mean) / (std + epsilon) in its group; the std is the population's."""
    return (values_B - batch.mean_B(values_B)) / (batch.std_B(values_B) + epsilon)


def leave_one_out_B(batch: ScoredBatch, values_B: Floats) -> Floats:
    """The mean of the group's other trajectories; of a group of one its own value, so that nothing is left."""
    others = np.maximum(batch.size_B - 1, 1)
    return np.where(batch.size_B > 1, (batch.per_group(values_B) - values_B) / others, values_B)


def whitened(values: Floats, epsilon: float = EPSILON) -> Floats:
    """Values with mean 0 and standard deviation 1, as a population; the empty stay empty."""
    return (values - values.mean()) / (values.std() + epsilon) if len(values) else values


def whitened_T(batch: ScoredBatch, values_T: Floats) -> Floats:
    """`whitened` over the learned tokens of the whole batch, which is where long trajectories weigh more."""
    result_T = np.zeros(len(values_T))
    result_T[batch.mask_T] = whitened(values_T[batch.mask_T])
    return result_T


def reinforce(batch: ScoredBatch) -> Floats:
    """REINFORCE without a baseline: the reward itself.

    Bias: none, and the largest variance of all: a constant added to the rewards changes the update.
    """
    return batch.from_rows(batch.rewards_B)


def rloo(batch: ScoredBatch) -> Floats:
    """RLOO (arXiv 2402.14740, secondary): r - the mean of the group's others; 0 in a group of one.

    Bias: none in groups of two and more, for the baseline doesn't depend on the trajectory.
    """
    return batch.from_rows(batch.rewards_B - leave_one_out_B(batch, batch.rewards_B))


def group_normalized(batch: ScoredBatch) -> Floats:
    """GRPO (DeepSeekMath, arXiv 2402.03300, secondary): (r - mean) / (std + 1e-6), std of the group as a population.

    verl and TRL divide by the sample's std, which is sqrt(G / (G - 1)) larger.

    Bias: biased, for the spread depends on the trajectory itself; problems of little spread weigh more.
    """
    return batch.from_rows(normalized_B(batch, batch.rewards_B))


def group_mean(batch: ScoredBatch) -> Floats:
    """Dr. GRPO (arXiv 2503.20783, secondary): r - mean, without dividing by the spread.

    Bias: none but for the scale (G - 1) / G: it is RLOO times that.
    """
    return batch.from_rows(batch.rewards_B - batch.mean_B(batch.rewards_B))


def best(batch: ScoredBatch) -> Floats:
    """1 for the trajectories with the group's highest reward where it is above 0, else 0 (rejection fine-tuning).

    Bias: biased: it climbs the chance to be the best of G, and says nothing of by how much.
    """
    highest_P = np.full(batch.groups, -np.inf)
    np.maximum.at(highest_P, batch.group_B, batch.rewards_B)
    return batch.from_rows(((batch.rewards_B == highest_P[batch.group_B]) & (batch.rewards_B > 0)).astype(np.float64))


def best_and_worst(batch: ScoredBatch, *, above: float = 0.5, below: float = -0.5) -> Floats:
    """Of each group its best one where z >= `above` and its worst one where z < `below`; the others 0.

    B2-DiffuRL (#164, verified) trains on those two of a branch, z being a prompt's over the batch and the last 8, and
    advantages clipped at 5. Here z = (r - mean) / (std + 1e-6) over the step, whose groups are the branches; nothing is
    remembered (ours). Of equal ones all are taken.

    Bias: biased: what lies between counts for nothing, and the spread depends on the trajectory itself.
    """
    z_B = np.clip(whitened(batch.rewards_B), -5, 5)
    highest_P, lowest_P = np.full(batch.groups, -np.inf), np.full(batch.groups, np.inf)
    np.maximum.at(highest_P, batch.group_B, batch.rewards_B)
    np.minimum.at(lowest_P, batch.group_B, batch.rewards_B)
    best_B = (batch.rewards_B == highest_P[batch.group_B]) & (z_B >= above)
    worst_B = (batch.rewards_B == lowest_P[batch.group_B]) & (z_B < below)
    return batch.from_rows(np.where(best_B | worst_B, z_B, 0.0))


def batch_mean(batch: ScoredBatch) -> Floats:
    """r - the mean over all trajectories of the step: one baseline for all problems.

    Bias: none but for the scale (B - 1) / B; more variance than `group_mean` where problems differ in difficulty.
    """
    return batch.from_rows(batch.rewards_B - batch.rewards_B.mean() if len(batch.rewards_B) else batch.rewards_B)


def batch_normalized(batch: ScoredBatch, *, baseline: Literal["batch", "group"] = "batch") -> Floats:
    """REINFORCE++ (arXiv 2501.03262, verified): rewards whitened over all learned tokens of the step.

    `group`: less the group's mean before (REINFORCE++-baseline). NOT covered: the KL penalty inside its rewards.

    Bias: biased, by less the larger the batch: mean and spread are taken over tokens, which the trajectory has a share in.
    """
    center_B = batch.mean_B(batch.rewards_B) if baseline == "group" else 0.0
    return whitened_T(batch, batch.from_rows(batch.rewards_B - center_B))


def self_critical(batch: ScoredBatch, *, greedy_rewards_P: Floats) -> Floats:
    """Self-critical training (#175, derived): r - the reward of the problem's greedy attempt, without a spread.

    As ReMax (arXiv 2310.10505, secondary). Where the greedy attempt has no reward (NaN), the mean of the group's others
    stands in. `greedy_rewards_P`: P numbers. NOT covered: the likelihood term mixed in, which is the objective's.

    Bias: none, for the greedy attempt doesn't depend on the sampled ones.
    """
    greedy_B = greedy_rewards_P[batch.group_B]
    baseline_B = np.where(np.isnan(greedy_B), leave_one_out_B(batch, batch.rewards_B), greedy_B)
    return batch.from_rows(batch.rewards_B - baseline_B)


def pf_ppo(credit: Credit, *, keep: Literal["best", "best_random", "best_worst"] = "best_worst") -> Credit:
    """PF-PPO (#225, derived): only the group's best trajectory and its worst, or another one, are learned from.

    Of equals the earlier one counts as the better. The other one at random is the first of the group that is not the
    best: samples come in no order. Advantages are taken in the whole group, before anything is dropped (ours).

    Bias: biased: which ones are kept depends on their rewards.
    """

    def pf_ppo_(batch: ScoredBatch) -> Floats:
        count = len(batch.rewards_B)
        ranked = np.lexsort((np.arange(count), -batch.rewards_B, batch.group_B))
        last_P = np.cumsum(np.bincount(batch.group_B, minlength=batch.groups)) - 1
        first_P = np.append(0, last_P[:-1] + 1)[: batch.groups]
        best_P, worst_P = ranked[first_P], ranked[last_P]
        other_P = np.where(best_P == first_P, np.minimum(first_P + 1, last_P), first_P)
        kept_B = np.zeros(count)
        kept_B[best_P] = 1
        kept_B[{"best": best_P, "best_random": other_P, "best_worst": worst_P}[keep]] = 1
        return credit(batch) * batch.from_rows(kept_B)

    return pf_ppo_
