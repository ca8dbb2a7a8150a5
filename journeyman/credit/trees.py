"""Credit in the tree that a group's trajectories make: by token, or by the turns where attempts fork."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from journeyman.credit.base import Floats, Ints, ScoredBatch
from journeyman.credit.group import EPSILON, normalized_B
from journeyman.credit.turns import combined, mean_by, normalized_by, outcome_B
from journeyman.expressions import NotNegative, Share

Names = NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefixes:
    """The states of the tree of tokens: what stands before and after each token, by name.

    Equal names mean equal tokens in the same group; no trajectory meets a name twice. Only learned tokens' are read.
    """

    before_T: Names
    after_T: Names


def tempo(batch: ScoredBatch, *, prefixes: Prefixes) -> Floats:
    """TEMPO (#182, derived): ((r - mean) + (V(after the token) - V(before it))) / std in the group's tree of tokens.

    V of a prefix is the mean reward of the trajectories that go through it, so that the second term is 0 but where they part. A
    parting in what tools answered is no token's doing and gives no credit. std + 1e-6, the population's.

    Bias: biased: tokens at which trajectories part get their value's rise on top of the whole's credit, others don't;
    and `group`'s own.
    """
    learned = np.flatnonzero(batch.mask_T)
    row = batch.row_U[batch.turn_T[learned]]
    before, after = prefixes.before_T[learned], prefixes.after_T[learned]
    # Mostly a token begins where the last one ended: a state counts once a trajectory.
    begins = np.append(True, (before[1:] != after[:-1]) | (row[1:] != row[:-1]))[: len(row)]
    states = np.unique(np.concatenate([after, before]), return_inverse=True)[1].reshape(-1)
    counted = np.concatenate([np.ones(len(row)), begins.astype(np.float64)])
    value_after, value_before = np.split(mean_by(states, np.tile(batch.rewards_B[row], 2), counted), 2)
    risen_T = np.zeros(len(batch.mask_T))
    risen_T[learned] = (value_after - value_before) / (batch.std_B(batch.rewards_B) + EPSILON)[row]
    return batch.from_rows(normalized_B(batch, batch.rewards_B)) + risen_T


def portool(
    batch: ScoredBatch,
    *,
    forks_U: Ints,
    turn_rewards_U: Floats,
    gamma: Share = 0.95,
    trajectory: NotNegative = 1.0,
    fork: NotNegative = 1.0,
) -> Floats:
    """PORTool (#117, derived): a step's z among those that fork from the same place, plus the trajectory's z in its group.

    A step earns the mean over the leaves below it of gamma^(turns to the leaf) times the outcome, plus its own turn reward (its
    format, and whether its calls worked). A step that several trajectories share is one step. Their turns
    are compared as trajectories that fork: those of a tree, or those that happen to begin with the same tokens.
    gamma is the authors' best; both weights are ours.

    Bias: biased by both divisions, the own shares in the means and gamma; and a tree's shared beginnings are not quite
    the policy's, since attempts with many turns are forked more often.
    """
    nodes, first = _steps_U(batch, forks_U)
    to_leaf_U = batch.turns_B[batch.row_U] - 1 - batch.index_U
    decayed_U = gamma**to_leaf_U * outcome_B(batch, turn_rewards_U)[batch.row_U]
    earned_U = mean_by(nodes, decayed_U) + mean_by(nodes, turn_rewards_U)
    siblings = normalized_by(forks_U[first], earned_U[first])
    whole = batch.from_rows(normalized_B(batch, batch.rewards_B))
    return trajectory * whole + fork * batch.from_turns(siblings[nodes])


def _steps_U(batch: ScoredBatch, forks_U: Ints) -> tuple[Ints, Ints]:
    """(the step of each turn, the first turn of each step): one step where turns lead from one fork to the same next."""
    last_U = batch.index_U == batch.turns_B[batch.row_U] - 1
    next_U = np.where(last_U, -1 - np.arange(len(last_U)), np.append(forks_U[1:], -1)[: len(last_U)])
    steps = combined(forks_U, next_U)
    return steps, np.unique(steps, return_index=True)[1]
