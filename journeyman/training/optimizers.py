"""Optimizers by config, and the learning-rate schedule."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from journeyman.config import OptimizerConfig

if TYPE_CHECKING:
    import torch
    from torch.nn import Module, Parameter


def build_optimizers(model: "Module", config: OptimizerConfig) -> "list[torch.optim.Optimizer]":
    """AdamW for everything, or Muon for the matrices of the layers and AdamW for the rest (embedding, norms).

    With adapters only these are trained; they are matrices of the layers, so that Muon has all of them.
    """
    import torch

    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    if config.type == "adamw":
        return [_adamw((p for _, p in named), config)]
    matrices = [p for name, p in named if p.ndim == 2 and "embed" not in name and "lm_head" not in name]
    rest = [p for name, p in named if all(p is not matrix for matrix in matrices)]
    muon = torch.optim.Muon(matrices, lr=config.muon_learning_rate, weight_decay=config.weight_decay)
    return [muon, *([_adamw(rest, config)] if rest else [])]


def _adamw(parameters: "Iterable[Parameter]", config: OptimizerConfig) -> "torch.optim.Optimizer":
    import torch

    return torch.optim.AdamW(
        parameters, lr=config.learning_rate, betas=config.betas, weight_decay=config.weight_decay, fused=True
    )


def rate_factor(step: int, total: int, config: OptimizerConfig) -> float:
    """Share of the learning rate at a step (from 0): linear warm-up, flat, linear decay to `final_fraction`."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    decay_steps = config.decay_fraction * total
    left = total - step
    if decay_steps == 0 or left >= decay_steps:
        return 1.0
    return config.final_fraction + (1 - config.final_fraction) * max(0.0, left) / decay_steps
