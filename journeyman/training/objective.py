"""Objectives: log-probabilities, advantages and mask to a loss. They know nothing of rewards or environments.

Dimensions: B row, T token. Every loss is a sum over tokens, to be divided by the whole batch's count of learned tokens:
so it is the same under any micro-batching.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from journeyman.config import ObjectiveConfig

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenBatch:
    """What an objective sees of a micro-batch."""

    logprobs_BT: "Tensor"
    """The learner's now, with gradient."""
    old_logprobs_BT: "Tensor"
    """The learner's before the step's first update; the sampler's where they were not recomputed."""
    sampler_logprobs_BT: "Tensor"
    advantages_BT: "Tensor"
    mask_BT: "Tensor"
    """1.0 where a token is learned from."""


Objective = Callable[[TokenBatch, ObjectiveConfig], "tuple[Tensor, dict[str, Tensor]]"]
"""-> (loss summed over learned tokens, sums over learned tokens by metric name)."""


def nll(batch: TokenBatch, config: ObjectiveConfig) -> "tuple[Tensor, dict[str, Tensor]]":
    """Negative log-likelihood, weighted by the advantage: SFT with weight 1, rejection fine-tuning with 0 or 1."""
    weights_BT = batch.advantages_BT.clamp(min=0) * batch.mask_BT
    return -(weights_BT * batch.logprobs_BT).sum(), {}


def grpo(batch: TokenBatch, config: ObjectiveConfig) -> "tuple[Tensor, dict[str, Tensor]]":
    """Clipped policy gradient with clip-higher (DAPO, arXiv 2503.14476) and truncated importance weights.

    rho = pi / pi_old is clipped to [1 - clip_low, 1 + clip_high]; w = min(pi_old / pi_sampler, cap) corrects for a
    sampler that computes in other precision, and is exactly 1 where the two agree. Negative advantages are scaled by
    `negative_scale`. Clipping and truncation are separate.
    """
    import torch

    advantages_BT = torch.where(
        batch.advantages_BT < 0, batch.advantages_BT * config.negative_scale, batch.advantages_BT
    )
    ratio_BT = torch.exp(batch.logprobs_BT - batch.old_logprobs_BT)
    clipped_BT = ratio_BT.clamp(1 - config.clip_low, 1 + config.clip_high)
    gain_BT, clipped_gain_BT = ratio_BT * advantages_BT, clipped_BT * advantages_BT
    importance_BT = torch.exp(batch.old_logprobs_BT - batch.sampler_logprobs_BT)
    weight_BT = importance_BT.clamp(max=config.importance_cap)
    loss = -(weight_BT * torch.minimum(gain_BT, clipped_gain_BT) * batch.mask_BT).sum()
    with torch.no_grad():
        sums = {
            "policy/importance_ratio_mean": (
                torch.exp(batch.logprobs_BT - batch.sampler_logprobs_BT) * batch.mask_BT
            ).sum(),
            "policy/clip_fraction": ((clipped_gain_BT < gain_BT) * batch.mask_BT).sum(),
            "policy/truncated_fraction": ((importance_BT > config.importance_cap) * batch.mask_BT).sum(),
        }
    return loss, sums


OBJECTIVES: dict[str, Objective] = {"grpo": grpo, "nll": nll}
