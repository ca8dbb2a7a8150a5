"""The parts that policy gradients are put together from. Each is a function of tensors."""

from typing import TYPE_CHECKING

from journeyman.config.objective import (
    ConstantLength,
    EntropyBounds,
    KlPenalty,
    PolicyGradient,
    Rejection,
    SequenceMean,
    WeightedMean,
)
from journeyman.training.objectives.base import TokenBatch

if TYPE_CHECKING:
    from torch import Tensor


def turn_index(turns_BT: "Tensor") -> "tuple[Tensor, Tensor]":
    """(place of each token's turn among the turns of its row, whether the token begins it); -1, False off the mask."""
    import torch

    learned_BT = turns_BT >= 0
    columns_T = torch.arange(turns_BT.shape[1], device=turns_BT.device)
    last_BT = torch.where(learned_BT, columns_T, -1).cummax(dim=1).values
    before_BT = torch.nn.functional.pad(last_BT[:, :-1], (1, 0), value=-1)
    same_BT = (turns_BT.gather(1, before_BT.clamp(min=0)) == turns_BT) & (before_BT >= 0)
    begins_BT = learned_BT & ~same_BT
    return torch.where(learned_BT, begins_BT.long().cumsum(dim=1) - 1, -1), begins_BT


def turn_sums(values_BT: "Tensor", index_BT: "Tensor") -> "Tensor":
    """B x U sums over turns; what has index -1 is left out."""
    import torch

    turns = int(index_BT.max()) + 1 if index_BT.numel() else 0
    kept_BT = torch.where(index_BT >= 0, values_BT, torch.zeros_like(values_BT))
    return values_BT.new_zeros(len(values_BT), max(1, turns)).scatter_add(1, index_BT.clamp(min=0), kept_BT)


def turn_means(values_BT: "Tensor", index_BT: "Tensor") -> "Tensor":
    """Each token's turn's mean."""
    import torch

    counts_BU = turn_sums(torch.ones_like(values_BT), index_BT).clamp(min=1)
    return (turn_sums(values_BT, index_BT) / counts_BU).gather(1, index_BT.clamp(min=0))


def log_ratio(batch: TokenBatch, config: PolicyGradient) -> "Tensor":
    """log pi / pi_old of each token, or its mean over the row or the turn.

    Sequence: GSPO (arXiv 2507.18071). Turn: the item of Rank-GRPO (#195). With `ratio_gradient` `token` a token has the
    mean's value and its own gradient (GSPO-token): the same in sum where the advantages of the mean's tokens are equal.
    """
    import torch

    own_BT = batch.logprobs_BT - batch.old_logprobs_BT
    if config.ratio == "token":
        return own_BT
    turns_BT = turn_index(batch.turns_BT)[0]
    mean_BT = turn_means(own_BT, turns_BT if config.ratio == "turn" else torch.where(batch.mask_BT > 0, 0, -1))
    return mean_BT.detach() + own_BT - own_BT.detach() if config.ratio_gradient == "token" else mean_BT


def clip(batch: TokenBatch, log_ratio_BT: "Tensor", advantages_BT: "Tensor", config: PolicyGradient):
    """PPO's pessimistic bound: min(rho A, clip(rho, 1 - clip_low, 1 + clip_high) A); with `dual_clip` c at least c A.

    (gain, whether the gradient is gone). Bounds of #71, clip(rho, 0.6, 1.8), are clip_low 0.4 and clip_high 0.8.
    """
    import torch

    ratio_BT = torch.exp(log_ratio_BT)
    clipped_BT = ratio_BT.clamp(1 - config.clip_low, 1 + config.clip_high)
    free_BT, bounded_BT = ratio_BT * advantages_BT, clipped_BT * advantages_BT
    gain_BT, gone_BT = torch.minimum(free_BT, bounded_BT), bounded_BT < free_BT
    if config.dual_clip is None:
        return gain_BT, gone_BT
    floor_BT = torch.where(advantages_BT < 0, config.dual_clip * advantages_BT, -torch.inf)
    return torch.maximum(gain_BT, floor_BT), gone_BT | (gain_BT < floor_BT)


def cispo(batch: TokenBatch, log_ratio_BT: "Tensor", advantages_BT: "Tensor", config: PolicyGradient):
    """CISPO (arXiv 2506.13585): the clipped ratio, without gradient, times A log pi. (gain, whether it was clipped).

    No token loses its gradient. There only the upper bound was used: that is `clip_low` 1.
    """
    import torch

    ratio_BT = torch.exp(log_ratio_BT).detach()
    clipped_BT = ratio_BT.clamp(1 - config.clip_low, 1 + config.clip_high)
    return clipped_BT * advantages_BT * batch.logprobs_BT, clipped_BT != ratio_BT


def plain(batch: TokenBatch, log_ratio_BT: "Tensor", advantages_BT: "Tensor", config: PolicyGradient):
    """rho A, unclipped. (gain, False)."""
    import torch

    return torch.exp(log_ratio_BT) * advantages_BT, torch.zeros_like(advantages_BT, dtype=torch.bool)


SURROGATES = {"clip": clip, "cispo": cispo, "plain": plain}


def kept(batch: TokenBatch, config: Rejection) -> "Tensor":
    """1.0 for tokens that are learned from, by how far sampler and learner are apart; all of them where they agree.

    A rejected token counts as a learned one with loss 0.
    """
    import torch

    log_BT = (batch.old_logprobs_BT - batch.sampler_logprobs_BT) * batch.mask_BT
    keep_BT = torch.ones_like(log_BT, dtype=torch.bool)
    if config.token:
        keep_BT &= (log_BT.exp() >= config.token[0]) & (log_BT.exp() <= config.token[1])
    if config.sequence:
        mean_B = torch.exp(log_BT.sum(1) / batch.mask_BT.sum(1).clamp(min=1))
        keep_BT &= ((mean_B >= config.sequence[0]) & (mean_B <= config.sequence[1]))[:, None]
    if config.veto is not None:
        keep_BT &= ~(log_BT.exp() < config.veto).any(dim=1, keepdim=True)
    return keep_BT.to(log_BT.dtype)


def token_scale(batch: TokenBatch, config: PolicyGradient) -> "Tensor":
    """What each token's loss is multiplied by, so that the sum over all tokens by their count is the mean asked for."""
    scale_BT = batch.mask_BT * batch.weight_B[:, None]
    per_row, how = batch.totals.tokens / max(1, batch.totals.rows), config.normalisation
    if isinstance(how, SequenceMean):
        return scale_BT * per_row / batch.mask_BT.sum(1, keepdim=True).clamp(min=1)
    if isinstance(how, ConstantLength):
        return scale_BT * per_row / how.length
    if isinstance(how, WeightedMean):
        weights_BT = batch.weights_BT * batch.mask_BT
        sum_B1 = weights_BT.sum(1, keepdim=True)
        return scale_BT * per_row * batch.weights_BT / sum_B1.masked_fill(sum_B1 == 0, 1)
    return scale_BT


def kl(batch: TokenBatch, config: KlPenalty) -> "Tensor":
    """Estimate of KL(pi || pi_ref) at each token, x = log pi_ref - log pi.

    k1 = -x, whose gradient is zero in the mean; k2 = x^2 / 2; k3 = e^x - x - 1, never negative; `k3+` has the value of
    k3 and the gradient of k2, which is that of the divergence on-policy.
    """
    x_BT = (batch.reference_logprobs_BT - batch.logprobs_BT) * batch.mask_BT
    if config.estimator == "k1":
        return -x_BT
    k2_BT, k3_BT = x_BT.square() / 2, x_BT.exp() - x_BT - 1
    if config.estimator == "k2":
        return k2_BT
    return k3_BT if config.estimator == "k3" else k3_BT.detach() + k2_BT - k2_BT.detach()


def chi_square(batch: TokenBatch, cap: float) -> "Tensor":
    """exp(log pi / pi_ref of the whole row) - 1 of each row, an estimate of chi^2(pi, pi_ref) (#78, derived).

    The log-ratio is capped, for the variance. Its gradient is half that of the divergence on-policy. Not covered: the
    square root, which needs the mean over the batch.
    """
    sums_B = ((batch.logprobs_BT - batch.reference_logprobs_BT) * batch.mask_BT).sum(1)
    return sums_B.clamp(max=cap).exp() - 1


def entropy(logs_BTV: "Tensor") -> "Tensor":
    """In nats, of each token's distribution."""
    return -(logs_BTV.exp() * logs_BTV).sum(-1)


def entropy_coefficient(nats: float, bounds: EntropyBounds) -> float:
    """Of the entropy bonus, by how far the policy's entropy is beyond a bound: 0 between them, below 0 above (ours).

    It goes by the whole batch before the step, so that it is the same under any micro-batching and needs no state.
    """
    if nats < bounds.low:
        return bounds.gain * (bounds.low - nats)
    return bounds.gain * min(0.0, bounds.high - nats) if bounds.high is not None else 0.0
