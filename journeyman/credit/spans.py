"""Credit for stretches of text: calls, sentences, items of a list, each on the tokens that wrote it."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from journeyman.credit.base import Bools, Floats, Ints, ScoredBatch, discounted, places, sums
from journeyman.credit.group import leave_one_out_B
from journeyman.expressions import NotNegative, Positive, Share


@dataclass(frozen=True, slots=True, kw_only=True)
class Spans:
    """S rewarded stretches of a batch, in tokens."""

    row_S: Ints
    """Index in B of the trajectory; ascending."""
    first_S: Ints
    """Index in T of the first learned token that wrote a part of it; -1: none did, and its reward is nobody's."""
    last_S: Ints
    """Index in T of the last one; -1: none."""
    reward_S: Floats
    rank_S: Ints
    """Place among its trajectory's stretches of this kind, from 1."""
    kind_S: NDArray[np.str_]

    def chosen(self, which_S: Bools | Ints) -> "Spans":
        """Some of them: a mask, or indices."""
        return Spans(
            row_S=self.row_S[which_S],
            first_S=self.first_S[which_S],
            last_S=self.last_S[which_S],
            reward_S=self.reward_S[which_S],
            rank_S=self.rank_S[which_S],
            kind_S=self.kind_S[which_S],
        )

    def sum_rows(self, batch: ScoredBatch) -> Floats:
        """What the stretches of each trajectory earned: B numbers."""
        return sums(self.row_S, self.reward_S, len(batch.turns_B))

    def on_tokens(self, batch: ScoredBatch, values_S: Floats) -> Floats:
        """One number a stretch, added up on its learned tokens: T numbers."""
        learned = self.last_S >= 0
        lengths = (self.last_S - self.first_S + 1)[learned]
        tokens = places(self.first_S[learned], lengths)
        spread_T = sums(tokens, np.repeat(values_S[learned], lengths), len(batch.mask_T))
        return np.where(batch.mask_T, spread_T, 0.0)


def fine_grained(
    batch: ScoredBatch, *, spans: Spans, gamma: Share = 1.0, baseline: Literal["none", "leave_one_out"] = "none"
) -> Floats:
    """Fine-Grained RLHF (#165, verified) without a critic: a stretch is paid at its last token; tokens get what is still to come.

    What the stretches didn't earn, turn rewards too, is paid at the trajectory's last token. Only learned tokens count
    as time: the masked ones of tools are skipped. Stretches of several kinds that end at one token add.
    Whitening the rewards, and the authors' KL term, are not covered.
    baseline (ours): the mean reward of the group's other trajectories, on every token.

    Bias: none with gamma 1, where what stretches earn depends on nothing that is written after them.
    """
    learned, row = _learned(batch)
    paid = _paid(batch, spans)[learned]
    values_T = np.zeros(len(batch.mask_T))
    values_T[learned] = discounted(paid, np.bincount(row, minlength=len(batch.turns_B)), gamma)
    others = leave_one_out_B(batch, batch.rewards_B) if baseline == "leave_one_out" else np.zeros(len(batch.turns_B))
    return values_T - batch.from_rows(others)


def fine_grained_gae(
    batch: ScoredBatch, *, spans: Spans, values_T: Floats, gamma: Share = 1.0, lambda_: Share = 0.95
) -> Floats:
    """Fine-Grained RLHF (#165, verified) as its authors train: rewards as in `fine_grained`, GAE over the learned tokens.

    `values_T`: the critic's value of the place before each learned token; 0 after the last one. gamma and lambda are theirs.

    Bias: that of the critic's errors where lambda is below 1; none with gamma and lambda 1.
    """
    learned, row = _learned(batch)
    values = values_T[learned]
    goes_on = np.append(row[1:] == row[:-1], False)[: len(row)]
    errors = (
        _paid(batch, spans)[learned] + gamma * np.where(goes_on, np.append(values[1:], 0.0)[: len(row)], 0.0) - values
    )
    advantages_T = np.zeros(len(batch.mask_T))
    advantages_T[learned] = discounted(errors, np.bincount(row, minlength=len(batch.turns_B)), gamma * lambda_)
    return advantages_T


def _learned(batch: ScoredBatch) -> tuple[Ints, Ints]:
    """(index in T, index in B) of every learned token."""
    learned = np.flatnonzero(batch.mask_T)
    return learned, batch.row_U[batch.turn_T[learned]]


def _paid(batch: ScoredBatch, spans: Spans) -> Floats:
    """Rewards at the tokens that earned them, what is left of each trajectory's at its last learned one: T numbers."""
    placed = spans.last_S >= 0
    paid_T = sums(spans.last_S[placed], spans.reward_S[placed], len(batch.mask_T))
    learned, row = _learned(batch)
    ends = learned[np.append(row[1:] != row[:-1], True)[: len(row)]]
    rest_B = batch.rewards_B - spans.sum_rows(batch)
    paid_T[ends] += rest_B[batch.row_U[batch.turn_T[ends]]]
    return paid_T


def toolpo_spans(batch: ScoredBatch, *, spans: Spans, kind: str = "call", weight: NotNegative = 1.0) -> Floats:
    """ToolPO of DeepAgent (#130, secondary): r_succ - mean on all tokens, plus r_action - mean on the calls' own tokens.

    r_action is the sum of what stretches of the kind earned, r_succ the rest; nothing is divided by a spread. `toolpo` takes
    whole turns.
    weight: of the action part (ours; 1 is the authors').

    Bias: as for `toolpo`: the action part is unbiased only where no other token changes what the calls earn.
    """
    calls = spans.chosen(spans.kind_S == kind)
    action_B = calls.sum_rows(batch)
    succeeded_B = batch.rewards_B - action_B
    called_T = calls.on_tokens(batch, np.ones(len(calls.row_S))) > 0
    whole = batch.from_rows(succeeded_B - batch.mean_B(succeeded_B))
    return whole + weight * called_T * batch.from_rows(action_B - batch.mean_B(action_B))


def rank_grpo(
    batch: ScoredBatch,
    *,
    spans: Spans,
    form: Literal["log_decay", "exp_inf"] = "log_decay",
    kind: str = "item",
    epsilon: Positive = 1e-4,
) -> Floats:
    """Rank-GRPO (#195, verified): an item's tokens get the z, over the group at its rank, of what the list earned from there on.

    The items are a trajectory's stretches of one kind in order (list items, parallel calls), a stretch's reward is its hit.
    form: `log_decay`, sum over ranks j >= k of hit_j / log2(j + 1); `exp_inf`, the item's own hit. Who has no item at a rank
    takes part with 0. Other tokens get 0: the source's constants for what overflows the list and for its end are not
    covered, nor its ratio per item, which is the objective's. Its std is the sample's, here the population's.

    Bias: biased by the spread and the own share in the mean; `exp_inf` also passes over what an item does to later ones.
    """
    items = spans.chosen(spans.kind_S == kind)
    items = items.chosen(np.lexsort((items.rank_S, items.row_S)))
    earned_S = items.reward_S
    if form == "log_decay":
        lengths_B = np.bincount(items.row_S, minlength=len(batch.turns_B))
        earned_S = discounted(items.reward_S / np.log2(items.rank_S + 1), lengths_B, 1.0)
    most = int(items.rank_S.max(initial=0)) + 1
    keys_S = batch.group_B[items.row_S] * most + items.rank_S
    size_S, present_S = batch.size_B[items.row_S], np.bincount(keys_S)[keys_S]
    mean_S = np.bincount(keys_S, earned_S)[keys_S] / size_S
    squares_S = np.bincount(keys_S, (earned_S - mean_S) ** 2)[keys_S] + (size_S - present_S) * mean_S**2
    return items.on_tokens(batch, (earned_S - mean_S) / (np.sqrt(squares_S / size_S) + epsilon))
