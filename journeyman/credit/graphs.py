"""Credit in the graph that a group's trajectories make when equal steps are merged."""

from dataclasses import dataclass

import numpy as np

from journeyman.credit.base import Floats, Ints, ScoredBatch
from journeyman.credit.group import normalized_B
from journeyman.credit.turns import combined, mean_by
from journeyman.expressions import Count


@dataclass(frozen=True, slots=True, kw_only=True)
class Moves:
    """What each turn saw and what it did, as numbers: equal number, equal thing."""

    state_U: Ints
    """What the model was shown before the turn."""
    action_U: Ints
    """The turn's calls or its answer, whatever was thought before them."""


def salt(batch: ScoredBatch, *, moves: Moves, history: Count = 1) -> Floats:
    """SALT (#97, derived): GRPO's advantage, averaged over the steps of a group that are the same step.

    Steps are merged where state, action, next state and the `history` steps before agree (the first steps of
    trajectories have none before); others keep their own. What right and wrong trajectories share so comes near 0, and
    the credit stays with what sets them apart. How much history is ours. A step that a trajectory makes twice counts twice.

    Bias: that of `group`, where state, action and history are all that the return depends on; else it also mixes steps that
    are worth different things. Where merged steps agree in every token their sum, and so the gradient, stays as it was.
    """
    last_U = batch.index_U == batch.turns_B[batch.row_U] - 1
    next_U = np.where(last_U, -1, np.append(moves.state_U[1:], -1)[: len(last_U)])
    columns = [batch.group_U, moves.state_U, moves.action_U, next_U]
    for back in range(1, history + 1):
        there = np.maximum(np.arange(len(last_U)) - back, 0)
        known = batch.index_U >= back
        columns += [np.where(known, moves.state_U[there], -1), np.where(known, moves.action_U[there], -1)]
    return batch.from_turns(mean_by(combined(*columns), normalized_B(batch, batch.rewards_B)[batch.row_U]))
