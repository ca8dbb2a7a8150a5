"""Objectives that make rows likelier."""

from typing import TYPE_CHECKING

from journeyman.config.objective import DistillObjective, NllObjective, SuperHfObjective
from journeyman.training.objectives.base import Sums, TokenBatch

if TYPE_CHECKING:
    from torch import Tensor


def nll(batch: TokenBatch, config: NllObjective) -> "tuple[Tensor, Sums]":
    """Negative log-likelihood, weighted by the advantage: SFT with weight 1, rejection fine-tuning with 0 or 1.

    Tokens weigh in their row what it says (key tokens, #7, verified); divided by the count of learned tokens all the same.

    OC-GFN (#184, secondary) begins with it, on attempts that are relabelled with what they reached: `outcome_mixture`.
    """
    return -(_weights(batch) * batch.logprobs_BT).sum(), {}


def distill(batch: TokenBatch, config: DistillObjective) -> "tuple[Tensor, Sums]":
    """Likelihood, and the divergence from a teacher's distributions (knowledge distillation, arXiv 1503.02531, secondary).

    Of a token (1 - weight) * nll + weight * t^2 * KL(teacher || learner), both distributions at temperature t; weighted
    as in `nll`. The teacher is the learner's reference. Not covered: a teacher with another vocabulary.
    """
    import torch

    assert batch.reference_logs_BSV is not None
    teacher_BTV, learner_BTV = (
        torch.log_softmax(logs_BSV[:, :-1] / config.temperature, dim=-1)
        for logs_BSV in (batch.reference_logs_BSV, batch.logs_BSV)
    )
    kl_BT = (teacher_BTV.exp() * (teacher_BTV - learner_BTV)).sum(-1)
    loss_BT = (1 - config.weight) * -batch.logprobs_BT + config.weight * config.temperature**2 * kl_BT
    return (_weights(batch) * loss_BT).sum(), {"policy/reference_kl_nats": (kl_BT.detach() * batch.mask_BT).sum()}


def _weights(batch: TokenBatch) -> "Tensor":
    return batch.advantages_BT.clamp(min=0) * batch.mask_BT * batch.weights_BT * batch.weight_B[:, None]


def superhf(batch: TokenBatch, config: SuperHfObjective) -> "tuple[Tensor, Sums]":
    """Likelihood of the rows with positive advantage, and a divergence from the initial policy (SuperHF, #154, verified).

    A row's loss is CE + kl * max(0, KL), both means over its learned tokens; CE is weighted by the advantage, KL = sum
    over the vocabulary of pi_0 (log pi_0 - log pi), from the initial policy to the learner. Mean over rows; with
    `kl_reduction` `sum` the KL is summed over rows, as the authors' code does, and grows with the batch.
    """
    assert batch.reference_logs_BSV is not None
    kept_BT = batch.mask_BT * (batch.advantages_BT > 0)
    length_B = kept_BT.sum(1).clamp(min=1)
    reference_BTV = batch.reference_logs_BSV[:, :-1]
    kl_BT = (reference_BTV.exp() * (reference_BTV - batch.logs_BSV[:, :-1])).sum(-1)
    kl_B = ((kl_BT * kept_BT).sum(1) / length_B).clamp(min=0) * batch.weight_B
    ce_B = -(batch.advantages_BT * batch.logprobs_BT * kept_BT).sum(1) / length_B * batch.weight_B
    per_row = batch.totals.tokens / batch.totals.rows
    per_kl = batch.totals.tokens if config.kl_reduction == "sum" else per_row
    return per_row * ce_B.sum() + per_kl * config.kl * kl_B.sum(), {
        "policy/reference_kl_nats": per_row * kl_B.detach().sum()
    }
