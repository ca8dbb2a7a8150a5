"""Credit turn by turn: what a turn earned and what came after it, against the group's turns."""

from typing import Literal

import numpy as np

from journeyman.credit.base import Floats, Ints, ScoredBatch, discounted, sums
from journeyman.credit.group import EPSILON, normalized_B
from journeyman.expressions import NotNegative, Positive, Share


def mean_by(keys: Ints, values: Floats, weights: Floats | None = None) -> Floats:
    """The mean of those with the same key, for each; one that counts `weights` times. 0 where nothing counts."""
    counts = np.bincount(keys, weights).astype(np.float64)
    sums = np.bincount(keys, values if weights is None else values * weights)
    return np.divide(sums, counts, out=np.zeros_like(counts), where=counts > 0)[keys]


def normalized_by(keys: Ints, values: Floats, weights: Floats | None = None, epsilon: float = EPSILON) -> Floats:
    """(value - mean) / (std + epsilon) among those with the same key; the std is the population's."""
    centred = values - mean_by(keys, values, weights)
    return centred / (np.sqrt(mean_by(keys, centred**2, weights)) + epsilon)


def combined(*columns: Ints) -> Ints:
    """A number for each combination of values, from 0: several times faster than rows of a table."""
    found = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        values, places = np.unique(column, return_inverse=True)
        found = np.unique(found * len(values) + places.reshape(-1), return_inverse=True)[1].reshape(-1)
    return found


def index_keys(batch: ScoredBatch) -> Ints:
    """A key for each turn: turns of one group at the same place in their trajectories share it."""
    return batch.group_U * int(batch.turns_B.max(initial=1)) + batch.index_U


def outcome_B(batch: ScoredBatch, turn_rewards_U: Floats) -> Floats:
    """What of the rewards was not earned turn by turn."""
    return batch.rewards_B - batch.sum_turns(turn_rewards_U)


def paid_U(batch: ScoredBatch, turn_rewards_U: Floats) -> Floats:
    """What each turn was paid; the last one also gets what was earned by the whole. A trajectory's sum is its reward."""
    paid = turn_rewards_U.astype(np.float64).copy()
    paid[batch.last_B] += outcome_B(batch, turn_rewards_U)
    return paid


def flow_grpo(batch: ScoredBatch, *, over: Literal["trajectories", "turns"] = "trajectories") -> Floats:
    """Flow-GRPO (#8, verified): the outcome on every turn, normalised in the group.

    over: what mean and std are taken over. The paper's trajectories make it the same as `group`. The released code has a row
    a turn and takes them over rows, so that a trajectory counts as often as it has turns; its std is the sample's,
    here it is the population's.

    Bias: that of `group`. Over turns there is more: mean and spread depend on how long the trajectory itself is.
    """
    weights = batch.turns_B.astype(np.float64) if over == "turns" else None
    return batch.from_rows(normalized_by(batch.group_B, batch.rewards_B, weights))


def turn_group(
    batch: ScoredBatch,
    *,
    turn_rewards_U: Floats,
    of: Literal["return", "reward"] = "return",
    gamma: Share = 1.0,
) -> Floats:
    """Turn-level GRPO (MatchTIR's turn part, #135, verified): z over the group's turns at the same index.

    What was earned by the whole counts as earned by the last turn.
    of: the turn's discounted return to go, or what it earned itself. A turn that no other trajectory has gets 0.

    Bias: biased by the division by the spread, which differs from index to index, and by the own share in the mean. Of
    `reward` it also forgets what a turn leads to, which is right only where later rewards don't depend on it.
    """
    return batch.from_turns(_turn_group_U(batch, turn_rewards_U, of, gamma))


def _turn_group_U(batch: ScoredBatch, turn_rewards_U: Floats, of: str, gamma: float) -> Floats:
    paid = paid_U(batch, turn_rewards_U)
    return normalized_by(index_keys(batch), batch.to_go(paid, gamma) if of == "return" else paid)


def returns(
    batch: ScoredBatch,
    *,
    turn_rewards_U: Floats,
    gamma: Share = 1.0,
    baseline: Literal["none", "mean", "leave_one_out"] = "none",
) -> Floats:
    """REINFORCE with returns to go (policy gradient theorem, derived): a turn's tokens get what was earned from there on.

    What was earned by the whole counts as earned by the last turn. The sum form that PURE (#40) is compared with.
    baseline: none; the mean return of the group's turns at the same index; the same without the own one, 0 where no
    other trajectory got so far.

    Bias: none with gamma 1 and `none` or `leave_one_out`, since nothing earned before a turn depends on it and no
    baseline on the turn. `mean` shrinks by (n-1)/n, n turns being compared; gamma < 1 is the gradient of no return.
    """
    returns_U = batch.to_go(paid_U(batch, turn_rewards_U), gamma)
    keys = index_keys(batch)
    if baseline == "mean":
        returns_U = returns_U - mean_by(keys, returns_U)
    elif baseline == "leave_one_out":
        others = np.bincount(keys)[keys] - 1
        returns_U = returns_U - (np.bincount(keys, returns_U)[keys] - returns_U) / np.maximum(others, 1)
    return batch.from_turns(returns_U)


def igpo(
    batch: ScoredBatch, *, turn_rewards_U: Floats, gamma: Share = 1.0, form: Literal["paper", "released"] = "paper"
) -> Floats:
    """IGPO (#79, verified): all turn rewards of a group normalised together, then summed from each turn on.

    The outcome is the last turn's reward. gamma 1 is the released code's.
    form: `released` does as the code does: undiscounted returns, less the group's mean at the same token position, where a
    trajectory that has ended counts as 0, and no division. Needs a batch that was read from trajectories.

    Bias: as in the paper it is biased: the mean is taken off every turn, so that a trajectory loses by the number of its
    turns to come. `released` is only shrunk by (G-1)/G.
    """
    paid = paid_U(batch, turn_rewards_U)
    if form == "paper":
        return batch.from_turns(batch.to_go(normalized_by(batch.group_U, paid), gamma))
    return _position_centred(batch, batch.to_go(paid))


def _position_centred(batch: ScoredBatch, returns_U: Floats) -> Floats:
    """Returns less the group's mean at the token's place in its trajectory; tool output counts with the turn after it."""
    lengths_B = np.array([len(t.token_ids) for t in batch.trajectories], np.int64)
    row_T = np.repeat(np.arange(len(lengths_B)), lengths_B)
    place_T = np.arange(len(row_T)) - (np.cumsum(lengths_B) - lengths_B)[row_T]
    beyond = len(returns_U)
    next_T = np.minimum.accumulate(np.where(batch.mask_T, batch.turn_T, beyond)[::-1])[::-1]
    owner_T = np.append(batch.row_U, -1)[next_T]
    returns_T = np.where(owner_T == row_T, np.append(returns_U, 0.0)[next_T], 0.0)
    keys = batch.group_B[row_T] * int(lengths_B.max(initial=1)) + place_T
    mean_T = np.bincount(keys, returns_T)[keys] / batch.size_B[row_T]
    return np.where(batch.mask_T, returns_T - mean_T, 0.0)


def matchtir(batch: ScoredBatch, *, turn_rewards_U: Floats, gamma: Share = 0.9) -> Floats:
    """MatchTIR (#135, verified): half the trajectory's z in its group, half its turn's z at the same index.

    A turn's value is its discounted return. Turns at the same index may stand in states that have nothing to do with
    each other. The matching of calls that pays the turns is a reward.

    Bias: biased: both halves divide by a spread and keep the own share in the mean, and gamma < 1 discounts.
    """
    whole = batch.from_rows(normalized_B(batch, batch.rewards_B))
    return (whole + batch.from_turns(_turn_group_U(batch, turn_rewards_U, "return", gamma))) / 2


def toolpo(batch: ScoredBatch, *, turn_rewards_U: Floats, weight: NotNegative = 1.0) -> Floats:
    """ToolPO of DeepAgent (#130, secondary): r_succ - mean on all tokens, plus r_action - mean on those of calls.

    r_action is the sum of the turn rewards, r_succ the rest; nothing is divided by a spread. The tokens of a call are all
    those of a turn with calls; `toolpo_spans` takes the call's own. Memory folds count where they are calls.
    weight: of the action part (ours; 1 is the authors').

    Bias: the first part is shrunk by (G-1)/G. The second is unbiased only where other turns don't change what the calls
    earn: their tokens have no share in it.
    """
    action_B = batch.sum_turns(turn_rewards_U)
    succeeded_B = batch.rewards_B - action_B
    called = batch.from_turns((batch.calls_U > 0).astype(np.float64))
    whole = batch.from_rows(succeeded_B - batch.mean_B(succeeded_B))
    return whole + weight * called * batch.from_rows(action_B - batch.mean_B(action_B))


def capo(
    batch: ScoredBatch, *, turn_rewards_U: Floats, outcome: NotNegative = 2.0, process: NotNegative = 1.0
) -> Floats:
    """CAPO (#210, secondary): C [right] - P [token of a wrong step] for each token, normalised over the group's tokens.

    A turn is wrong where it earned less than 0, by however much; what was earned by the whole stands for [right].
    C > P is essential: a right answer by way of a wrong step must stay above 0.

    Bias: biased: mean and std are taken over tokens, so that they depend on the trajectory's own length, and a step is
    blamed for itself alone.
    """
    right_U = outcome_B(batch, turn_rewards_U)[batch.row_U]
    values_U = outcome * right_U - process * (turn_rewards_U < 0)
    return batch.from_turns(normalized_by(batch.group_U, values_U, batch.tokens_U.astype(np.float64)))


def tp_grpo(batch: ScoredBatch, *, turn_rewards_U: Floats, threshold: Share = 0.5, weight: Positive = 1.0) -> Floats:
    """TP-GRPO (#42, derived): the outcome's z plus the thought's reward; wrong thoughts of groups that mostly fail cost nothing.

    A thought is a run of turns with the same label, the sign of their rewards, and earns their mean: a long one is not
    paid by the turn. Below `threshold` of trajectories with an outcome above 0, negative thoughts count as 0.
    threshold, weight and adding the two are ours; the judge that labels turns is a reward. Off-policy data are not covered.

    Bias: biased: a thought is paid for itself alone, wrong ones are treated by the group's accuracy, and `group`'s own.
    """
    outcome = outcome_B(batch, turn_rewards_U)
    labels = np.sign(turn_rewards_U)
    begins = np.append(True, (labels[1:] != labels[:-1]) | (batch.index_U[1:] == 0))[: len(labels)]
    earned_U = mean_by(np.cumsum(begins) - 1, turn_rewards_U)
    accuracy_B = batch.mean_B((outcome > 0).astype(np.float64))
    spared_U = (earned_U < 0) & (accuracy_B[batch.row_U] < threshold)
    return batch.from_rows(normalized_B(batch, outcome)) + weight * batch.from_turns(np.where(spared_U, 0.0, earned_U))


def recurring(batch: ScoredBatch, *, turn_rewards_U: Floats, gamma_ep: Share = 1.0) -> Floats:
    """Credit across attempts (#82, derived): attempt j of a recurring world gets the sum over k >= j of gamma_ep^(k-j) R_k.

    All turns of an attempt get its sum, less the group's mean at the same attempt. A turn without calls ends an attempt, as
    in the environment `recurring`; R_k is what its turns were paid, and the last one also gets what the whole earned.
    `gamma_ep` 0 takes each attempt for itself, the ablation that the claim is about; the form of the comparison is ours.

    Bias: with gamma_ep 1 none but the shrinkage by (n-1)/n, n being those that got to the attempt; below it is the gradient
    of a discounted return.
    """
    ends_U = (batch.calls_U == 0).astype(np.int64)  # E below: attempts of all trajectories
    before_U = np.cumsum(ends_U) - ends_U
    attempt_U = before_U - before_U[batch.first_B[batch.row_U]]
    attempts_B = attempt_U[batch.last_B] + 1
    first_B = np.cumsum(attempts_B) - attempts_B
    place_U = first_B[batch.row_U] + attempt_U
    earned_E = sums(place_U, paid_U(batch, turn_rewards_U), int(attempts_B.sum()))
    returns_E = discounted(earned_E, attempts_B, gamma_ep)
    row_E = np.repeat(np.arange(len(attempts_B)), attempts_B)
    index_E = np.arange(len(row_E)) - first_B[row_E]
    keys_E = batch.group_B[row_E] * int(attempts_B.max(initial=1)) + index_E
    return batch.from_turns((returns_E - mean_by(keys_E, returns_E))[place_U])
