"""What comes before a step's first gradient: which rows are learned from, and what couples them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from journeyman.config.objective import (
    BaseObjective,
    PolicyGradient,
    R0Objective,
    SuperHfObjective,
)
from journeyman.training.batching import Surveyed
from journeyman.training.handle import Row
from journeyman.training.objectives.base import RowBatch, RowObjective, Totals
from journeyman.training.objectives.policy_gradient import covariant, hinge_advantages

if TYPE_CHECKING:
    from torch import Tensor

Logprobs = Sequence[Sequence[float]]
"""T-1 numbers a row: of its tokens from the second on."""


def prepare(rows: Sequence[Row], config: BaseObjective) -> list[Row]:
    """The rows that the objective learns from; r0 also changes their advantages."""
    if isinstance(config, PolicyGradient) and config.overlong_filter:
        rows = [row for row in rows if not row.truncated]
    if isinstance(config, SuperHfObjective):
        rows = [row for row in rows if not row.advantages or max(row.advantages) > 0]
    return _valid(rows, config) if isinstance(config, R0Objective) and rows else list(rows)


def _valid(rows: Sequence[Row], config: R0Objective) -> list[Row]:
    import torch

    sums = [_learned_sum(row, row.reference_logprobs[1:]) for row in rows]
    means_B = torch.tensor([s / max(1, sum(row.mask[1:])) for s, row in zip(sums, rows, strict=True)])
    extra = hinge_advantages(means_B, torch.tensor([row.group for row in rows]), config).tolist()
    return [
        replace(row, advantages=tuple(a + e * m for a, m in zip(row.advantages, row.mask, strict=True)))
        for row, e in zip(rows, extra, strict=True)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """Rows with what was found about them, and metrics of the whole batch."""

    rows: list[Surveyed]
    metrics: dict[str, float]


def survey_rows(rows: Sequence[Row], logprobs: Logprobs, objective: RowObjective, config: BaseObjective) -> Survey:
    """A loss of rows at their log-probabilities: each row's part of it, and its derivative on each learned token."""
    import torch

    batch = row_batch(rows, logprobs)
    with torch.enable_grad():
        parts_B, metrics = objective(batch, config)
        [slope_B] = torch.autograd.grad(parts_B.sum(), batch.logprob_B, allow_unused=False)
    tokens = Totals.of(rows).tokens
    found = zip(rows, (slope_B * tokens).tolist(), (parts_B.detach() * tokens).tolist(), strict=True)
    return Survey(
        rows=[Surveyed(row=row, marks=[slope * m for m in row.mask], term=part) for row, slope, part in found],
        metrics={name: float(value) for name, value in metrics.items()},
    )


def row_batch(rows: Sequence[Row], logprobs: Logprobs) -> RowBatch:
    """Sums over learned tokens in float64; `logprobs` are the learner's now."""
    import torch

    def column(values: Sequence[float]) -> "Tensor":
        return torch.tensor(values, dtype=torch.float64)

    old = [row.old_logprobs or row.logprobs or (0.0,) * len(row.token_ids) for row in rows]
    reference = [row.reference_logprobs or (0.0,) * len(row.token_ids) for row in rows]
    return RowBatch(
        logprob_B=column([_learned_sum(row, own) for row, own in zip(rows, logprobs, strict=True)]).requires_grad_(),
        old_B=column([_learned_sum(row, own[1:]) for row, own in zip(rows, old, strict=True)]),
        reference_B=column([_learned_sum(row, own[1:]) for row, own in zip(rows, reference, strict=True)]),
        length_B=column([sum(row.mask[1:]) for row in rows]),
        advantage_B=column([_learned_mean(row) for row in rows]),
        reward_B=column([float("nan") if row.reward is None else row.reward for row in rows]),
        group_B=torch.tensor([row.group for row in rows]),
        weight_B=column([row.weight for row in rows]),
    )


def _learned_sum(row: Row, logprobs: Sequence[float]) -> float:
    return sum(p for p, learned in zip(logprobs, row.mask[1:], strict=True) if learned)


def _learned_mean(row: Row) -> float:
    return _learned_sum(row, row.advantages[1:]) / max(1, sum(row.mask[1:])) if row.advantages else 1.0


def survey_covariance(rows: Sequence[Row], logprobs: Logprobs, config: PolicyGradient, seed: int) -> Survey:
    """Which tokens of the batch are marked: the same under any micro-batching."""
    import torch

    assert config.covariance is not None
    mask_N = torch.tensor([m for row in rows for m in row.mask[1:]], dtype=torch.bool)
    logprobs_N = torch.tensor([p for own in logprobs for p in own], dtype=torch.float64)
    advantages_N = torch.tensor(
        [a for row in rows for a in (row.advantages or (1.0,) * len(row.mask))[1:]], dtype=torch.float64
    )
    generator = torch.Generator().manual_seed(seed)
    marks_N = torch.zeros(len(mask_N))
    marks_N[mask_N] = covariant(logprobs_N[mask_N], advantages_N[mask_N], config.covariance, generator).float()
    marks = marks_N.split([len(row.mask) - 1 for row in rows])
    return Survey(
        rows=[Surveyed(row=row, marks=[0.0, *own.tolist()]) for row, own in zip(rows, marks, strict=True)], metrics={}
    )
