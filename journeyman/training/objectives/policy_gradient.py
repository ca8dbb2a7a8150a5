"""Policy gradients: GRPO and what is made of it."""

from typing import TYPE_CHECKING

from journeyman.config.objective import ClipCovariance, KlCovariance, LaserObjective, PolicyGradient, R0Objective
from journeyman.training.objectives.base import Sums, TokenBatch
from journeyman.training.objectives.parts import (
    SURROGATES,
    chi_square,
    entropy,
    entropy_coefficient,
    kept,
    kl,
    log_ratio,
    token_scale,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor


def grpo(batch: TokenBatch, config: PolicyGradient) -> "tuple[Tensor, Sums]":
    """Clipped policy gradient with clip-higher (DAPO, arXiv 2503.14476, verified) and truncated importance weights.

    rho = pi / pi_old is clipped to [1 - clip_low, 1 + clip_high]; w = min(pi_old / pi_sampler, cap) corrects for a
    sampler that computes in other precision, and is exactly 1 where the two agree. Negative advantages are scaled by
    `negative_scale`. Clipping and truncation are separate. Its other parts are off by default: see `parts`.

    TAPO (#6, derived) is this with `negative_scale` 1: the mean over tokens, no KL. CAD-RL (#71, secondary) stretches the
    trust region to (0.6, 1.8) by `clip_low` 0.4 and `clip_high` 0.8, and weighs tokens by `normalisation: {type:
    weighted}`. GUI-G1 (#125, verified) is `normalisation: {type: constant, length: 64}` with a row weight by difficulty.
    Self-imitation (SPEAR, #12, verified) is this on replayed rows of positive advantage, with its weight as the row's; its
    Clip-Cov is `covariance: {type: clip, share: 0.02, high: 40}`. Where answers tie, noise decides among them without some
    entropy (policy cliff, #110, secondary): `entropy_bounds` keep it.
    """
    import torch

    advantages_BT = torch.where(
        batch.advantages_BT < 0, batch.advantages_BT * config.negative_scale, batch.advantages_BT
    )
    log_ratio_BT = log_ratio(batch, config)
    gain_BT, clipped_BT = SURROGATES[config.surrogate](batch, log_ratio_BT, advantages_BT, config)
    importance_BT = torch.exp(batch.old_logprobs_BT - batch.sampler_logprobs_BT)
    loss_BT = -(importance_BT.clamp(max=config.importance_cap) * gain_BT)
    with torch.no_grad():
        sums: Sums = {
            "policy/importance_ratio_mean": (
                torch.exp(batch.logprobs_BT - batch.sampler_logprobs_BT) * batch.mask_BT
            ).sum(),
            "policy/clip_fraction": (clipped_BT * batch.mask_BT).sum(),
            "policy/truncated_fraction": ((importance_BT > config.importance_cap) * batch.mask_BT).sum(),
        }
    loss_BT = _on_covariant(loss_BT, batch, config, sums) + _penalties(batch, log_ratio_BT, config, sums)
    scale_BT = token_scale(batch, config)
    if config.reject:
        keep_BT = kept(batch, config.reject)
        sums["policy/rejected_fraction"] = ((1 - keep_BT) * batch.mask_BT).sum()
        scale_BT = scale_BT * keep_BT
    loss = (loss_BT * scale_BT).sum()
    if config.chi_square:
        distance_B = chi_square(batch, config.chi_square.cap) * batch.weight_B * batch.mask_BT.amax(1)
        loss = loss + config.chi_square.coefficient * distance_B.sum() * batch.totals.tokens / batch.totals.rows
    return loss, sums


def _on_covariant(loss_BT: "Tensor", batch: TokenBatch, config: PolicyGradient, sums: Sums) -> "Tensor":
    """The loss where marked tokens lose their gradient (Clip-Cov) or are held near the old policy (KL-Cov)."""
    import torch

    if config.covariance is None:
        return loss_BT
    sums["policy/covariance_fraction"] = (batch.marks_BT * batch.mask_BT).sum()
    if isinstance(config.covariance, ClipCovariance):
        return torch.where(batch.marks_BT > 0, loss_BT.detach(), loss_BT)
    distance_BT = (batch.logprobs_BT - batch.old_logprobs_BT).abs()
    return loss_BT + config.covariance.coefficient * batch.marks_BT * distance_BT


def _penalties(batch: TokenBatch, log_ratio_BT: "Tensor", config: PolicyGradient, sums: Sums) -> "Tensor | float":
    """What is added to each token's loss."""
    penalty_BT: Tensor | float = 0.0
    if config.kl:
        kl_BT = kl(batch, config.kl)
        sums["policy/reference_kl_nats"] = (kl_BT.detach() * batch.mask_BT).sum()
        penalty_BT = config.kl.coefficient * (kl_BT * log_ratio_BT.exp() if config.kl.weighted else kl_BT)
    bonus = config.entropy
    if config.entropy_bounds:
        bonus += entropy_coefficient(batch.totals.entropy_nats, config.entropy_bounds)
        sums["policy/entropy_coefficient"] = bonus * batch.mask_BT.sum()
    if bonus:
        penalty_BT = penalty_BT - bonus * entropy(batch.logs_BSV[:, :-1])
    return penalty_BT


def covariant(
    logprobs_N: "Tensor", advantages_N: "Tensor", config: ClipCovariance | KlCovariance, generator: "torch.Generator"
) -> "Tensor":
    """Which of a batch's N learned tokens to mark: those whose log-probability and advantage move together.

    Clip-Cov and KL-Cov (arXiv 2505.22617, secondary; the former in SPEAR, #12, verified). The covariance of a token is
    (log pi - its mean) (A - its mean), the means over the batch. Clip-Cov draws from those between `low` and `high`,
    KL-Cov takes the highest. At least one where there is one.
    """
    import torch

    covariance_N = (logprobs_N - logprobs_N.mean()) * (advantages_N - advantages_N.mean())
    count = max(1, int(config.share * len(covariance_N)))
    if isinstance(config, KlCovariance):
        found = covariance_N.topk(min(count, len(covariance_N))).indices
    else:
        within = torch.nonzero((covariance_N >= config.low) & (covariance_N <= config.high)).squeeze(1)
        found = within[torch.randperm(len(within), generator=generator)[:count]]
    return torch.zeros(len(covariance_N), dtype=torch.bool).index_fill(0, found, True)


def r0(batch: TokenBatch, config: R0Objective) -> "tuple[Tensor, Sums]":
    """Policy gradient held near the base by its weights and by validity, without a loss of imitation (R0, #172, derived).

    J = sum of normalised rewards (credit's) - weight_anchor |theta - theta_0|^2 - validity max(0, floor - m), m the
    row's mean log pi_0. Text has no gradient through m, so that `hinge_advantages` puts it in the advantages, against
    its group's mean; the learner adds the first to its gradient. Not covered: that several rewards are named.
    """
    return grpo(batch, config)


def hinge_advantages(means_B: "Tensor", group_B: "Tensor", config: R0Objective) -> "Tensor":
    """What is added to a row's advantages for its mean log pi_0: -validity (hinge - its group's mean hinge)."""
    from journeyman.training.objectives.rows import group_sums

    hinge_B = (config.floor - means_B).clamp(min=0)
    return -config.validity * (hinge_B - group_sums(hinge_B, group_B) / group_sums(hinge_B * 0 + 1, group_B))


def laser_self(batch: TokenBatch, config: LaserObjective) -> "tuple[Tensor, Sums]":
    """Policy gradient, and a squared error that makes the last token tell the reward (LaSeR, #217, verified).

    s = beta (log pi(z | row up to its last learned token) - c), z a token that no answer has, c its log-probability by
    the initial policy; loss += self_weight * mean over judged rows of w (s - r)^2, with right and wrong rows of equal
    weight in sum (classes at r = 0.5). Rows that were cut off are left out. Not covered: s as a part of the advantage.
    """
    import torch

    loss, sums = grpo(batch, config)
    assert config.token is not None, "the learner puts in its padding token"
    columns_T = torch.arange(batch.mask_BT.shape[1], device=batch.mask_BT.device)
    place_B = torch.where(batch.mask_BT > 0, columns_T + 1, 0).amax(1)
    logprob_B = batch.logs_BSV[torch.arange(len(place_B), device=place_B.device), place_B, config.token]
    factor_B = batch.temperature_B if config.times_temperature else 1.0
    told_B = config.beta * (factor_B * logprob_B - config.reference_logprob)
    judged_B = ~batch.reward_B.isnan() & (batch.truncated_B == 0) & (place_B > 0)
    totals = batch.totals
    weight_B = torch.where(
        batch.reward_B > 0.5,
        _balance(totals.right, totals.judged),
        _balance(totals.judged - totals.right, totals.judged),
    )
    error_B = torch.where(judged_B, told_B - batch.reward_B.nan_to_num(), 0.0).square() * weight_B * batch.weight_B
    per_judged = totals.tokens / max(1, totals.judged)
    with torch.no_grad():
        sums["policy/self_reward_error"] = error_B.sum() * per_judged
    return loss + config.self_weight * error_B.sum() * per_judged, sums


def _balance(own: int, both: int) -> float:
    """The weight of a class, so that the classes that occur weigh the same in sum."""
    classes = 1 if own == both else 2
    return both / (classes * own) if own else 1.0
