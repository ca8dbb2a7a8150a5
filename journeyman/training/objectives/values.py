"""Objectives that take the policy's log-probabilities for values or flows."""

from typing import TYPE_CHECKING

from journeyman.config.objective import FlowObjective, RoverObjective
from journeyman.training.objectives.base import Sums, TokenBatch
from journeyman.training.objectives.parts import turn_index, turn_means, turn_sums

if TYPE_CHECKING:
    from torch import Tensor


def rover(batch: TokenBatch, config: RoverObjective) -> "tuple[Tensor, Sums]":
    """Squared error of log pi / pi_old as the uniform policy's action value (ROVER, #177, verified).

    Target: the advantage (reward minus the group's mean: credit `group_mean`) plus, without gradient, the mean over the
    vocabulary of log pi / pi_old in the next state that the policy acts in; 0 after the last. Mean over tokens. On a
    batch's first update the second term is 0. Not covered: tools that answer by chance, for which values are expectations.
    """
    import torch

    means_BT = batch.logs_BSV[:, :-1].detach().mean(-1)
    old_BT = torch.where(batch.old_means_BT.isnan(), means_BT, batch.old_means_BT)
    ahead_BT = torch.nn.functional.pad(means_BT - old_BT, (0, 1))
    width = batch.mask_BT.shape[1]
    columns_T = torch.arange(width, device=batch.mask_BT.device)
    here_BT = torch.where(batch.mask_BT > 0, columns_T, width)
    next_BT = torch.nn.functional.pad(here_BT.flip(1).cummin(1).values.flip(1)[:, 1:], (0, 1), value=width)
    target_BT = batch.advantages_BT + ahead_BT.gather(1, next_BT)
    error_BT = (batch.logprobs_BT - batch.old_logprobs_BT - target_BT).square()
    return (error_BT * batch.mask_BT * batch.weight_B[:, None]).sum(), {}


def flow(batch: TokenBatch, config: FlowObjective) -> "tuple[Tensor, Sums]":
    """Detailed balance with partial energies between turns (FL-GFlowNet, #174, verified), in a tree.

    Of a turn from s to s': (log F(s) + log pi(turn) - log F(s') - beta r)^2, mean over turns; F is a head on the last
    hidden state, and log F = 0 at the end (their file leaves it free), so that at zero loss a trace has a probability
    in proportion to exp(beta * its rewards), with `to_reference` times pi_ref. r is the row's reward on its last turn,
    or what the credit put on a turn's tokens. A row that was cut off has valid terms, and F of the head at its end.
    The head's gradient doesn't reach the policy. Not covered: a trajectory in several rows is as many traces.
    """
    import torch

    assert batch.flows_BS is not None
    index_BT, begins_BT = turn_index(batch.turns_BT)
    logprob_BU = turn_sums(batch.logprobs_BT, index_BT)
    flow_BU = turn_sums(batch.flows_BS[:, :-1], torch.where(begins_BT, index_BT, -1))
    count_B1 = index_BT.amax(1, keepdim=True) + 1
    turns_U = torch.arange(logprob_BU.shape[1], device=index_BT.device)
    last_BU = turns_U == count_B1 - 1
    columns_T = torch.arange(index_BT.shape[1], device=index_BT.device)
    end_B1 = torch.where(batch.mask_BT > 0, columns_T + 1, 0).amax(1, keepdim=True)
    end_flow_B1 = batch.flows_BS.gather(1, end_B1) * batch.truncated_B[:, None]
    after_BU = torch.where(last_BU, end_flow_B1, torch.nn.functional.pad(flow_BU[:, 1:], (0, 1)))
    if config.rewards == "turns":
        gained_BU = turn_sums(torch.where(begins_BT, turn_means(batch.advantages_BT, index_BT), 0.0), index_BT)
    else:
        gained_BU = torch.where(last_BU, batch.reward_B.nan_to_num()[:, None], 0.0)
    residual_BU = flow_BU + logprob_BU - after_BU - config.beta * gained_BU
    if config.to_reference:
        residual_BU = residual_BU - turn_sums(batch.reference_logprobs_BT, index_BT)
    known_BU = (turns_U < count_B1) & ~(last_BU & (config.rewards == "outcome") & batch.reward_B.isnan()[:, None])
    error_BU = residual_BU.square() * known_BU * batch.weight_B[:, None]
    return error_BU.sum() * batch.totals.tokens / max(1, batch.totals.turns), {}


def outcome_mixture(flows_Y: "Tensor", rewards_Y: "Tensor", policies_YA: "Tensor") -> "Tensor":
    """Policy for a new reward from one that is conditioned on outcomes (OC-GFN, #184, secondary).

    pi_r(a) = sum_y r(y) F(y) pi(a | y) / sum_y r(y) F(y): Y outcomes, A actions of one state; rewards are not negative
    and one of a reachable outcome is positive. The reward-free training before it is `nll` on attempts whose prompt is
    rewritten to name what they reached, and `dpo` against those that reached something else. Not covered: that
    relabelling, the network that amortises the sum, and the flows' own training.
    """
    weights_Y = rewards_Y * flows_Y
    return weights_Y @ policies_YA / weights_Y.sum()
