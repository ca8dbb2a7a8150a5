"""Credit by a critic: what a token or a turn was worth beyond what was expected of where it began."""

import numpy as np

from journeyman.credit.base import Floats, Ints, ScoredBatch, discounted, sums
from journeyman.credit.group import whitened_T
from journeyman.credit.readings import turn_rewards_U
from journeyman.credit.turns import paid_U
from journeyman.expressions import Share


def gae(
    batch: ScoredBatch, *, gamma: Share = 1.0, lambda_: Share = 0.95, whiten: bool = False, values_T: Floats
) -> Floats:
    """Generalised advantage estimation as in PPO (arXiv 1506.02438, verified): sum_k (gamma lambda)^k delta_{t+k}.

    delta_t = r_t + gamma V_{t+1} - V_t over learned tokens only: what stands between them (tool results) takes neither
    time nor value. `values_T`: the critic's value of each learned token's place, before it is sampled; other entries are
    not read. A turn's reward is paid at its last learned token, what the whole earned at the last of all. `whiten`: over
    all learned tokens, as PPO implementations do. lambda = 0.95 as there; gamma = 1 (ours).

    Bias: none at gamma = 1 with lambda = 1 whatever the critic says, or with exact values whatever lambda is; else the
    critic's error comes in. Whitening adds its own.
    """
    learned_N = batch.turn_T[batch.mask_T]
    values_N = values_T[batch.mask_T]
    lengths_B = batch.sum_turns(batch.tokens_U.astype(np.float64)).astype(np.int64)
    next_N = np.append(values_N, 0.0)[1:]
    next_N[np.cumsum(lengths_B)[lengths_B > 0] - 1] = 0.0
    delta_N = paid_N(batch, learned_N, lengths_B) + gamma * next_N - values_N
    advantages_T = np.zeros(len(batch.mask_T))
    advantages_T[batch.mask_T] = discounted(delta_N, lengths_B, gamma * lambda_)
    return whitened_T(batch, advantages_T) if whiten else advantages_T


def paid_N(batch: ScoredBatch, learned_N: Ints, lengths_B: Ints) -> Floats:
    """Rewards of the N learned tokens: each turn's at its last one; at the one before it where the turn has none."""
    last_U = np.full(len(batch.row_U), -1)
    last_U[learned_N] = np.arange(len(learned_N))  # of several the last one stays
    first_B = np.cumsum(lengths_B) - lengths_B
    at_U = np.maximum(np.maximum.accumulate(last_U), first_B[batch.row_U])
    learns_U = lengths_B[batch.row_U] > 0
    return sums(at_U[learns_U], step_rewards_U(batch)[learns_U], len(learned_N))


def step_rewards_U(batch: ScoredBatch) -> Floats:
    """What each turn earned, the last one with what the whole earned besides: they sum to the rewards."""
    return paid_U(batch, turn_rewards_U(batch) if batch.trajectories else np.zeros(len(batch.row_U)))


def archer(batch: ScoredBatch, *, values_U: Floats, q_values_U: Floats) -> Floats:
    """ArCHer (#192, verified): Q(s, u) - V(s) of a turn's utterance u, on all its tokens.

    `values_U`: V of the place where each turn begins. `q_values_U`: Q of that place with the utterance written, before
    anything answers it. With two critics each is the smaller of the two; they learn towards `q_targets_U` and, for V, Q of
    a fresh utterance, both from slowly moving copies. NOT covered: the token-level baseline within an utterance, replay.

    Bias: none with exact values; else the critics' errors are all of it, for no reward is looked at.
    """
    return batch.from_turns(q_values_U - values_U)


def turn_td(batch: ScoredBatch, *, gamma: Share = 0.9, values_U: Floats) -> Floats:
    """ArCHer with V alone (#192, derived): r + gamma V(next turn) - V(this turn), on all tokens of the turn.

    The one-step estimate of Q - V. `values_U`: V of the place where each turn begins. gamma = 0.9 is the authors' default.

    Bias: none at gamma = 1 with exact values, else the critic's error comes in.
    """
    return batch.from_turns(q_targets_U(batch, values_U, gamma) - values_U)


def q_targets_U(batch: ScoredBatch, values_U: Floats, gamma: float) -> Floats:
    """What ArCHer's Q learns: r + gamma V(next turn), the last turn's with nothing after it (#192)."""
    next_U = np.append(values_U, 0.0)[1:]
    next_U[batch.last_B] = 0.0
    return step_rewards_U(batch) + gamma * next_U
