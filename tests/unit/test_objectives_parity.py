"""The same numbers as TRL's, where TRL can be imported: loss and gradient, from the same inputs."""

from collections import defaultdict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from journeyman.config import GrpoObjective
from journeyman.config.objective import (
    ConstantLength,
    DpoObjective,
    IpoObjective,
    KlPenalty,
    PolicyGradient,
    SequenceMean,
    TokenMean,
)
from journeyman.training.objectives import dpo, grpo, ipo
from tests.unit.token_batches import Token, row_batch, token_batch

trl = pytest.importorskip("trl", reason="TRL is not installed: `pip install -e '.[bench]'`")

ROWS, LENGTH = 5, 7


def drawn(seed: int) -> dict[str, torch.Tensor]:
    """Off-policy log-probabilities of rows of unequal length, with tool tokens masked in the midst."""
    draw = torch.Generator().manual_seed(seed)

    def normal(scale: float) -> torch.Tensor:
        return scale * torch.randn(ROWS, LENGTH, generator=draw, dtype=torch.float64)

    now = -1 - normal(1.0).abs()
    old = now + normal(0.3)
    mask = torch.ones(ROWS, LENGTH, dtype=torch.int64)
    mask[0, 4:] = mask[1, 6:] = mask[2, 2:4] = 0
    return {
        "now": now,
        "old": old,
        "sampler": old + normal(0.2),
        "reference": now + normal(0.4),
        "advantages": 2 * torch.randn(ROWS, generator=draw, dtype=torch.float64),
        "mask": mask,
        "entropies": normal(1.0).abs(),
    }


def theirs(numbers: dict[str, torch.Tensor], **settings: Any) -> tuple[float, torch.Tensor]:
    """GRPOTrainer's loss on a stand-in for the trainer: (loss, its derivative by the log-probabilities)."""
    now = numbers["now"].clone().requires_grad_()
    ones = torch.ones_like(numbers["mask"])
    accelerator = SimpleNamespace(num_processes=1, reduce=lambda x, reduction: x, gather=lambda x: x)
    trainer = SimpleNamespace(
        **{
            "loss_type": "dapo",
            "importance_sampling_level": "token",
            "beta": 0.0,
            "epsilon_low": 0.2,
            "epsilon_high": 0.28,
            "max_completion_length": 11,
            "use_vllm": False,
            **settings,
        },
        args=SimpleNamespace(
            use_bias_correction_kl=settings.get("bias_correction", False),
            delta=settings.get("delta"),
            steps_per_generation=1,
        ),
        accelerator=accelerator,
        model=SimpleNamespace(training=True),
        current_gradient_accumulation_steps=1,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        vllm_importance_sampling_correction=True,
        aux_loss_enabled=False,
        _entropy_bonus_enabled=False,
        _metrics={"train": defaultdict(list)},
        _get_per_token_logps_and_entropies=lambda *_, **__: (now, numbers["entropies"], None),
    )
    inputs = {
        "prompt_ids": ones,
        "prompt_mask": ones,
        "completion_ids": ones,
        "completion_mask": ones,
        "tool_mask": numbers["mask"],
        "advantages": numbers["advantages"],
        "old_per_token_logps": numbers["old"],
        "ref_per_token_logps": numbers["reference"],
        "importance_sampling_ratio": torch.exp(numbers["old"] - numbers["sampler"]).clamp(max=2.0),
        "num_items_in_batch": numbers["mask"].sum(),
    }
    loss = trl.GRPOTrainer._compute_loss(trainer, None, inputs)
    loss.backward()
    assert now.grad is not None
    return loss.item(), now.grad


def ours(numbers: dict[str, torch.Tensor], config: PolicyGradient, *, corrected: bool) -> tuple[float, torch.Tensor]:
    """`corrected`: for what the sampler computed otherwise."""
    names = {"now": "now", "old": "old", "sampler": "sampler" if corrected else "old", "reference": "reference"}
    rows = [
        [
            Token(
                **{name: float(numbers[key][b, t]) for name, key in names.items()},
                advantage=float(numbers["advantages"][b]),
                mask=int(numbers["mask"][b, t]),
            )
            for t in range(LENGTH)
        ]
        for b in range(ROWS)
    ]
    made = token_batch(rows)
    loss = grpo(made, config)[0] / made.totals.tokens
    loss.backward()
    assert made.logprobs_BT.grad is not None
    return loss.item(), made.logprobs_BT.grad


def config(**options: Any) -> GrpoObjective:
    return GrpoObjective(**{"negative_scale": 1.0, **options})


K3 = {"kl": KlPenalty(coefficient=0.04)}
CASES: dict[str, tuple[GrpoObjective, dict[str, Any]]] = {
    "grpo": (config(normalisation=SequenceMean()), {"loss_type": "grpo"}),
    "bnpo": (config(normalisation=TokenMean()), {"loss_type": "bnpo"}),
    "dapo": (config(), {"loss_type": "dapo"}),
    "dr_grpo": (config(normalisation=ConstantLength(length=11)), {"loss_type": "dr_grpo"}),
    "cispo": (config(surrogate="cispo", clip_low=1.0, clip_high=0.3), {"loss_type": "cispo", "epsilon_high": 1.3}),
    "gspo": (
        config(ratio="sequence", normalisation=SequenceMean()),
        {"loss_type": "grpo", "importance_sampling_level": "sequence"},
    ),
    "two-sided clip": (config(dual_clip=1.3), {"delta": 1.3}),
    "clip-higher": (config(clip_low=0.1, clip_high=0.5), {"epsilon_low": 0.1, "epsilon_high": 0.5}),
    "kl": (config(**K3), {"beta": 0.04}),
    "kl by sequence": (config(**K3, normalisation=SequenceMean()), {"loss_type": "grpo", "beta": 0.04}),
    "kl corrected": (
        config(kl=KlPenalty(coefficient=0.04, weighted=True)),
        {"beta": 0.04, "bias_correction": True},
    ),
    "importance": (config(importance_cap=2.0), {"use_vllm": True}),
    "importance and kl": (config(**K3), {"use_vllm": True, "beta": 0.04}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", range(3))
def test_policy_gradients_are_those_of_trl(case: str, seed: int) -> None:
    own, settings = CASES[case]
    numbers = drawn(seed)
    loss, gradient = ours(numbers, own, corrected=settings.get("use_vllm", False))
    expected, expected_gradient = theirs(numbers, **settings)
    assert loss == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-10, atol=1e-14)


def theirs_of_pairs(numbers: dict[str, torch.Tensor], loss_type: str) -> tuple[float, torch.Tensor]:
    """DPOTrainer's loss on a stand-in: the first rows are the better ones of the last."""
    now = numbers["now"].clone().requires_grad_()
    mask = numbers["mask"]
    zeros = torch.zeros_like(now)

    def forward(**_: Any) -> SimpleNamespace:
        return SimpleNamespace(log_probs=now * mask, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool())

    accelerator = SimpleNamespace(device="cpu", gather_for_metrics=lambda x: x, gather=lambda x: x)
    trainer = SimpleNamespace(
        accelerator=accelerator,
        model=SimpleNamespace(training=False),
        aux_loss_enabled=False,
        ld_alpha=None,
        precompute_ref_logps=True,
        f_divergence_type="reverse_kl",
        loss_types=[loss_type],
        loss_weights=[1.0],
        beta=0.1,
        use_weighting=False,
        _total_train_tokens=0,
        _metrics={"eval": defaultdict(list)},
    )
    padded = torch.nn.functional.pad(mask, (1, 0))
    better, worse = (numbers["reference"] * mask).sum(1).chunk(2)
    inputs = {
        "input_ids": torch.ones_like(padded),
        "completion_mask": padded,
        "ref_chosen_logps": better,
        "ref_rejected_logps": worse,
    }
    loss = trl.DPOTrainer._compute_loss(trainer, forward, inputs, False)
    loss.backward()
    assert now.grad is not None
    return loss.item(), now.grad


@pytest.mark.parametrize(
    ("loss_type", "objective", "own"),
    [("sigmoid", dpo, DpoObjective(beta=0.1)), ("ipo", ipo, IpoObjective(beta=0.1, average=True))],
)
@pytest.mark.parametrize("seed", range(3))
def test_losses_of_pairs_are_those_of_trl(loss_type: str, objective: Callable, own: Any, seed: int) -> None:
    numbers = {name: value[:4] for name, value in drawn(seed).items()}
    expected, gradient = theirs_of_pairs(numbers, loss_type)
    mask = numbers["mask"]
    made = row_batch(
        (numbers["now"] * mask).sum(1).tolist(),
        [1, 1, 0, 0],
        reference=(numbers["reference"] * mask).sum(1).tolist(),
        length=mask.sum(1).tolist(),
        group=[0, 1, 0, 1],
    )
    loss = objective(made, own)[0].sum()
    loss.backward()
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    assert made.logprob_B.grad is not None
    torch.testing.assert_close(made.logprob_B.grad[:, None] * mask, gradient, rtol=1e-10, atol=1e-14)
