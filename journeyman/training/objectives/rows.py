"""Objectives of whole rows and pairs of them: functions of summed log-probabilities.

They couple rows that a micro-batch parts. The learner therefore looks at the whole batch first, without gradients; what
such a loss is worth there, and its derivative by each row's log-probability, is then exactly what its gradient takes.
"""

from typing import TYPE_CHECKING

from journeyman.config.objective import (
    DpoObjective,
    ImplicitRewardObjective,
    IpoObjective,
    KtoObjective,
    PacsObjective,
    RegressionObjective,
)
from journeyman.training.objectives.base import RowBatch, Sums, TokenBatch

if TYPE_CHECKING:
    from torch import Tensor


def pacs(batch: RowBatch, config: PacsObjective) -> "tuple[Tensor, Sums]":
    """Cross-entropy of the verdict with what a row gained on the others of its group (PACS, #158, verified).

    u = beta * log pi / pi_old of the row, A = u minus the mean of the group's other rows, loss = -log sigmoid(A) where
    the reward is above 0.5, else -log sigmoid(-A); right and wrong rows of a group weigh the same in sum. Mean over
    rows. Rows without a reward or without another one in their group are left out.
    """
    import torch

    judged_B = ~batch.reward_B.isnan()
    u_B = config.beta * (batch.logprob_B - batch.old_B)
    size_B = group_sums(judged_B.to(u_B.dtype), batch.group_B)
    others_B = (group_sums(u_B * judged_B, batch.group_B) - u_B) / (size_B - 1).clamp(min=1)
    used_B = judged_B & (size_B > 1)
    right_B = batch.reward_B > 0.5
    alike_B = torch.where(
        right_B,
        group_sums((right_B & judged_B).to(u_B.dtype), batch.group_B),
        group_sums((~right_B & judged_B).to(u_B.dtype), batch.group_B),
    ).clamp(min=1)
    balance_B = size_B / (torch.where(alike_B < size_B, 2, 1) * alike_B)
    return _verdicts(u_B - others_B, right_B, used_B, balance_B * batch.weight_B)


def implicit_reward(batch: RowBatch, config: ImplicitRewardObjective) -> "tuple[Tensor, Sums]":
    """Cross-entropy of the verdict with beta log pi / pi_ref of the row (Implicit PRM, #83, verified; PRIME, #49, verified).

    What it trains tells the reward of every token: beta times its log-ratio. Mean over rows with a reward.
    """
    told_B = config.beta * (batch.logprob_B - batch.reference_B)
    return _verdicts(told_B, batch.reward_B > 0.5, ~batch.reward_B.isnan(), batch.weight_B)


def _verdicts(told_B: "Tensor", right_B: "Tensor", used_B: "Tensor", weight_B: "Tensor") -> "tuple[Tensor, Sums]":
    import torch

    loss_B = torch.nn.functional.binary_cross_entropy_with_logits(told_B, right_B.to(told_B.dtype), reduction="none")
    count = used_B.sum().clamp(min=1)
    with torch.no_grad():
        sums = {"policy/implicit_accuracy": (((told_B > 0) == right_B) & used_B).sum() / count}
    return loss_B * used_B * weight_B / count, sums


def dpo(batch: RowBatch, config: DpoObjective) -> "tuple[Tensor, Sums]":
    """-log sigmoid(beta * margin) over pairs of a group (DPO, arXiv 2305.18290, secondary).

    Margin: log pi / pi_ref of the row with the higher reward, minus that of the other. Mean over all pairs of unequal
    rewards; groups of equal ones yield none. With `average` of log-ratios by token (Tulu 3, #186, secondary).
    """
    import torch

    margin_BB = _margins(_ratios(batch, average=config.average))
    return _pairs(-torch.nn.functional.logsigmoid(config.beta * margin_BB), margin_BB, batch)


def ipo(batch: RowBatch, config: IpoObjective) -> "tuple[Tensor, Sums]":
    """(margin - 1 / (2 beta))^2 over pairs of a group (IPO, arXiv 2310.12036, secondary).

    Margin as in `dpo`; with `average` of log-ratios by token, as TRL has it after the authors.
    """
    margin_BB = _margins(_ratios(batch, average=config.average))
    return _pairs((margin_BB - 1 / (2 * config.beta)).square(), margin_BB, batch)


def _ratios(batch: RowBatch, *, average: bool) -> "Tensor":
    ratio_B = batch.logprob_B - batch.reference_B
    return ratio_B / batch.length_B.clamp(min=1) if average else ratio_B


def _margins(ratio_B: "Tensor") -> "Tensor":
    return ratio_B[:, None] - ratio_B[None, :]


def _pairs(loss_BB: "Tensor", margin_BB: "Tensor", batch: RowBatch) -> "tuple[Tensor, Sums]":
    """The mean over pairs, as parts of the better row."""
    import torch

    better_BB = batch.reward_B[:, None] > batch.reward_B[None, :]
    pair_BB = better_BB & (batch.group_B[:, None] == batch.group_B[None, :])
    count = pair_BB.sum().clamp(min=1)
    weight_BB = batch.weight_B[:, None] * batch.weight_B[None, :]
    with torch.no_grad():
        sums = {"policy/implicit_accuracy": ((margin_BB > 0) & pair_BB).sum() / count}
    return (torch.where(pair_BB, loss_BB, 0.0) * weight_BB).sum(1) / count, sums


def kto(batch: RowBatch, config: KtoObjective) -> "tuple[Tensor, Sums]":
    """Good rows above, bad rows below the policy's mean log-ratio (KTO, arXiv 2402.01306, secondary).

    desirable * (1 - sigmoid(beta (q - z))) for rows of reward above 0.5, undesirable * (1 - sigmoid(beta (z - q))) for
    the others; q = log pi / pi_ref, z = max(0, mean of q) without gradient. There z is estimated from answers to other
    prompts, here from the batch's own rows (ours). Mean over rows with a reward.
    """
    import torch

    ratio_B, used_B = batch.logprob_B - batch.reference_B, ~batch.reward_B.isnan()
    count = used_B.sum().clamp(min=1)
    zero = ((ratio_B * used_B).sum() / count).clamp(min=0).detach()
    good_B = batch.reward_B > 0.5
    sign_B = torch.where(good_B, 1.0, -1.0)
    side_B = torch.where(good_B, config.desirable, config.undesirable)
    loss_B = side_B * (1 - torch.sigmoid(config.beta * sign_B * (ratio_B - zero)))
    with torch.no_grad():
        sums = {"policy/implicit_accuracy": (((ratio_B > zero) == good_B) & used_B).sum() / count}
    return loss_B * used_B * batch.weight_B / count, sums


def regression(batch: RowBatch, config: RegressionObjective) -> "tuple[Tensor, Sums]":
    """(b * d - A)^2 / b over rows, d the mean of log pi / pi_ref over a row's tokens (WebRL, #223, verified).

    A is the row's mean advantage. b = `sure_beta` where the reference is sure of a row of A >= 0 (the geometric mean
    of its probabilities is at least `sure[0]`), or less sure than `sure[1]` of another one; else `beta`. There it is at
    most |A / d|, so that a row is not drawn beyond its advantage. Mean over rows. Not covered: the likelihood of
    successes that the authors' release adds.
    """
    import torch

    ratio_B, advantage_B = _ratios(batch, average=True), batch.advantage_B
    sure_B = (batch.reference_B / batch.length_B.clamp(min=1)).exp()
    sharp_B = torch.where(advantage_B >= 0, sure_B >= config.sure[0], sure_B < config.sure[1])
    most_B = (advantage_B / ratio_B.detach()).abs().nan_to_num(nan=config.sure_beta, posinf=config.sure_beta)
    sharper_B = most_B.clamp(min=config.beta, max=config.sure_beta)
    beta_B = torch.where(sharp_B, sharper_B, config.beta)
    used_B = (advantage_B > 0) | (not config.positive_only)
    loss_B = (beta_B * ratio_B - advantage_B).square() / beta_B * used_B
    with torch.no_grad():
        agree_B = ((ratio_B > 0) == (advantage_B > 0)) & used_B
        sums = {"policy/implicit_accuracy": agree_B.sum() / used_B.sum().clamp(min=1)}
    return loss_B * batch.weight_B / used_B.sum().clamp(min=1), sums


def group_sums(values_B: "Tensor", group_B: "Tensor") -> "Tensor":
    """Each row's group's sum."""
    groups, place_B = group_B.unique(return_inverse=True)
    return values_B.new_zeros(len(groups)).index_add(0, place_B, values_B)[place_B]


def marked(batch: TokenBatch) -> "Tensor":
    """A micro-batch's part of a loss of rows: its value from `term_B`, its gradient from the derivatives in `marks_BT`."""
    now_BT = (batch.logprobs_BT - batch.logprobs_BT.detach()) * batch.mask_BT
    return (batch.marks_BT * now_BT).sum() + batch.term_B.sum()
