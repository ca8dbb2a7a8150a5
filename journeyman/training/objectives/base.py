"""What an objective sees and gives.

Dimensions: B row, T token that has one before it, S = T + 1 place between tokens (place s predicts token s; the last one
is after all tokens), V vocabulary, U turn of a row. Every loss is a sum, to be divided by the whole batch's count of
learned tokens: so it is the same under any micro-batching. What is a mean over something else carries the factor.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from journeyman.training.handle import Row

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Counts over the whole batch, for the means of which a micro-batch holds a part."""

    tokens: int
    """Learned tokens."""
    rows: int
    """Rows with a learned token."""
    turns: int
    """Turns with a learned token; those of different rows are different."""
    judged: int
    """Rows with a reward that were not cut off."""
    right: int
    """Those of them whose reward is above 0.5."""
    entropy_nats: float = 0.0
    """Of a learned token, as the policy was when it was sampled: the mean of -log p; 0 where rows have no log p."""

    @classmethod
    def of(cls, rows: Sequence[Row]) -> "Totals":
        learned = [row for row in rows if any(row.mask[1:])]
        rewards = [row.reward for row in learned if row.reward is not None and not row.truncated]
        return cls(
            tokens=sum(sum(row.mask[1:]) for row in learned),
            rows=len(learned),
            turns=sum(_turns(row) for row in learned),
            judged=len(rewards),
            right=sum(reward > 0.5 for reward in rewards),
            entropy_nats=_surprise(learned),
        )


def _surprise(rows: Sequence[Row]) -> float:
    """The mean of -log p of learned tokens: what they were drawn from has it as its entropy in the mean."""
    known = [(row.mask[1:], (row.old_logprobs or row.logprobs)[1:]) for row in rows if row.old_logprobs or row.logprobs]
    learned = [p for mask, logprobs in known for m, p in zip(mask, logprobs, strict=True) if m]
    return -math.fsum(learned) / len(learned) if learned else 0.0


def _turns(row: Row) -> int:
    return len({turn for turn, learned in zip(row.turns[1:], row.mask[1:], strict=True) if learned}) if row.turns else 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenBatch:
    """What an objective sees of a micro-batch."""

    logprobs_BT: "Tensor"
    """The learner's now, with gradient."""
    old_logprobs_BT: "Tensor"
    """The learner's before the step's first update; the sampler's where they were not recomputed."""
    sampler_logprobs_BT: "Tensor"
    reference_logprobs_BT: "Tensor"
    """The reference policy's; 0 where the objective doesn't ask for them."""
    old_means_BT: "Tensor"
    """Mean over the vocabulary of the old log-probabilities; NaN where the learner's now stand for them."""
    advantages_BT: "Tensor"
    mask_BT: "Tensor"
    """1.0 where a token is learned from."""
    weights_BT: "Tensor"
    """What a token weighs in its row."""
    turns_BT: "Tensor"
    """int64: ascending numbers of the turns; -1 where the mask is 0."""
    marks_BT: "Tensor"
    """What the survey of the whole batch says of a token; 0 where there was none."""
    logs_BSV: "Tensor"
    """The learner's log-probabilities of all tokens now, with gradient."""
    temperature_B: "Tensor"
    weight_B: "Tensor"
    reward_B: "Tensor"
    """NaN where there is none."""
    truncated_B: "Tensor"
    """1.0 where the attempt was cut off."""
    term_B: "Tensor"
    """What the survey says of a row."""
    totals: Totals
    reference_logs_BSV: "Tensor | None" = None
    """The reference policy's, where the objective asks for them."""
    flows_BS: "Tensor | None" = None
    """The head of flows, where the objective asks for it: log-flow of the tokens up to a place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowBatch:
    """What an objective of whole rows sees: the batch undivided. Log-probabilities are summed over learned tokens."""

    logprob_B: "Tensor"
    """The learner's now, with gradient."""
    old_B: "Tensor"
    reference_B: "Tensor"
    length_B: "Tensor"
    """Learned tokens."""
    advantage_B: "Tensor"
    """Mean over learned tokens; 1 for rows without advantages."""
    reward_B: "Tensor"
    """NaN where there is none."""
    group_B: "Tensor"
    """int64: rows of one problem share it."""
    weight_B: "Tensor"


Sums = dict[str, "Tensor"]
TokenObjective = Callable[[TokenBatch, Any], "tuple[Tensor, Sums]"]
"""-> (loss summed over learned tokens, sums over learned tokens by metric name)."""
RowObjective = Callable[[RowBatch, Any], "tuple[Tensor, Sums]"]
"""-> (each row's part of the loss, metrics by name). The loss is the sum of the parts."""
Objective = TokenObjective | RowObjective
