"""Credit in a tree that a search has grown: the values of turns come with the trajectories."""

from dataclasses import dataclass

import numpy as np

from journeyman.credit.base import Bools, Floats, Ints, ScoredBatch
from journeyman.credit.turns import combined


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """What the searches of a batch say, NaN for what none has found."""

    values_U: Floats
    """What each turn is worth."""
    node_U: Ints
    """Number of the place that each turn leads to in the group's tree; -1: it is in none."""
    mean_B: Floats
    """Mean outcome, in -1..1, of the tree of each trajectory's group."""
    learned_B: Floats
    """1 for what is learned from, 0 for other leaves."""

    @property
    def found_U(self) -> Bools:
        return ~np.isnan(self.values_U)


def deepsearch(batch: ScoredBatch, *, searched: Searched) -> Floats:
    """DeepSearch (#168, secondary): q of a turn minus the mean outcome of the tree, without a division by the spread.

    Outcomes are +-1; what was not searched, direct attempts and old solutions, has 2 reward - 1 on all turns, in groups
    without a tree less their mean. Leaves share turns: such a turn's advantage is divided by how many of the group's
    learned leaves go through it, so that it counts once. That division, and the direct attempts in the mean, are ours.

    Bias: biased: leaves come from where the search looked, q fades towards the root, and only what was backed up is
    learned. In a tree without a right leaf q - mean is above 0 for all but the last turn of the one leaf:
    `dynamic_sampling` drops such trees. Without a tree it is twice `group_mean`.
    """
    outcome_B = 2 * batch.rewards_B - 1
    mean_B = np.where(np.isnan(searched.mean_B), batch.mean_B(outcome_B), searched.mean_B)
    q_U = np.where(searched.found_U, searched.values_U, outcome_B[batch.row_U])
    return batch.from_turns((q_U - mean_B[batch.row_U]) * _share_U(batch, searched))


def rest_mcts(batch: ScoredBatch, *, searched: Searched) -> Floats:
    """ReST-MCTS* (#45, derived): how much a turn raises the step value, v_k - v_{k-1}, with v_0 = 0.

    The values are the authors', learning from their rises by policy gradient is ours: there the right traces are
    imitated. What was not searched gets its reward minus the group's mean. A turn that learned leaves share counts
    once, as in `deepsearch`.

    Bias: biased: leaves come from where the search looked; a wrong first turn loses nothing, for v can't fall below 0.
    Without a tree it is `group_mean`.
    """
    before_U = np.append(0.0, searched.values_U[:-1])[: len(searched.values_U)]
    before_U[batch.first_B] = 0.0
    plain_U = (batch.rewards_B - batch.mean_B(batch.rewards_B))[batch.row_U]
    rise_U = np.where(searched.found_U, searched.values_U - before_U, plain_U)
    return batch.from_turns(rise_U * _share_U(batch, searched))


def _share_U(batch: ScoredBatch, searched: Searched) -> Floats:
    """1 over how many learned leaves of the group share a turn; 0 for what is not learned from."""
    learned_U = searched.learned_B[batch.row_U]
    places = combined(batch.group_U, searched.node_U)
    counts = np.bincount(places, learned_U) if len(places) else np.zeros(0)
    shared = searched.node_U >= 0
    return np.where(shared, learned_U / np.maximum(counts[places], 1.0), learned_U)
