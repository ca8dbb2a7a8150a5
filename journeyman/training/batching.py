"""Rows to padded micro-batches: sorted by length, bounded in tokens. Dimensions: B row, T token."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from journeyman.training.handle import Row

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatch:
    """Padded on the right; all but the ids are aligned with the predicted token: column t is about `ids_BT[:, t + 1]`."""

    ids_BT: "Tensor"
    """int64, B x T; padding is 0. The others are float32, B x (T - 1)."""
    advantages_BT: "Tensor"
    sampler_logprobs_BT: "Tensor"
    old_logprobs_BT: "Tensor"
    reference_logprobs_BT: "Tensor"
    """0 where the rows have none."""
    old_means_BT: "Tensor"
    """NaN where the rows have none."""
    mask_BT: "Tensor"
    weights_BT: "Tensor"
    turns_BT: "Tensor"
    """int64; -1 where the mask is 0."""
    marks_BT: "Tensor"
    """What the learner's survey of the batch says of each token."""
    temperature_B: "Tensor"
    weight_B: "Tensor"
    reward_B: "Tensor"
    """NaN where there is none."""
    truncated_B: "Tensor"
    """1.0 where the attempt was cut off."""
    term_B: "Tensor"
    """What the survey says of each row."""
    lengths: tuple[int, ...]
    """Of the rows, in tokens before padding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surveyed:
    """A row, and what the learner's survey of the batch says of it."""

    row: Row
    marks: Sequence[float] = ()
    """T entries; empty: 0 each."""
    term: float = 0.0


def microbatches(rows: Sequence[Surveyed], most_tokens: int, device: "torch.device") -> list[MicroBatch]:
    """Split rows into padded batches of at most `most_tokens` tokens (at least one row each), short rows first."""
    ordered = sorted(rows, key=lambda one: len(one.row.token_ids))
    batches: list[list[Surveyed]] = []
    for one in ordered:
        if batches and (len(batches[-1]) + 1) * len(one.row.token_ids) <= most_tokens:
            batches[-1].append(one)
        else:
            batches.append([one])
    return [collate(batch, device) for batch in batches]


def collate(surveyed: Sequence[Surveyed], device: "torch.device") -> MicroBatch:
    """Pad rows to one length."""
    import torch

    rows = [one.row for one in surveyed]
    length = max(len(row.token_ids) for row in rows)

    def padded(values: Iterable[Sequence[float]], dtype: "torch.dtype" = torch.float32, fill: float = 0) -> "Tensor":
        """A row without values is filled whole."""
        return torch.tensor([[*v, *[fill] * (length - len(v))] for v in values], dtype=dtype, device=device)

    def column(values: Iterable[float]) -> "Tensor":
        return torch.tensor(list(values), dtype=torch.float32, device=device)

    sampler = [row.logprobs or (0.0,) * len(row.token_ids) for row in rows]
    mask_BT = padded(row.mask for row in rows)
    turns_BT = padded((row.turns or (0,) * len(row.token_ids) for row in rows), torch.int64, fill=-1)
    return MicroBatch(
        ids_BT=padded((row.token_ids for row in rows), torch.int64),
        advantages_BT=padded(row.advantages or (1.0,) * len(row.token_ids) for row in rows)[:, 1:],
        sampler_logprobs_BT=padded(sampler)[:, 1:],
        old_logprobs_BT=padded(row.old_logprobs or own for row, own in zip(rows, sampler, strict=True))[:, 1:],
        reference_logprobs_BT=padded(row.reference_logprobs for row in rows)[:, 1:],
        old_means_BT=padded((row.old_means for row in rows), fill=math.nan)[:, 1:],
        mask_BT=mask_BT[:, 1:],
        weights_BT=padded(row.weights or (1.0,) * len(row.token_ids) for row in rows)[:, 1:],
        turns_BT=turns_BT.masked_fill(mask_BT == 0, -1)[:, 1:],
        marks_BT=padded(one.marks for one in surveyed)[:, 1:],
        temperature_B=column(row.temperature for row in rows),
        weight_B=column(row.weight for row in rows),
        reward_B=column(math.nan if row.reward is None else row.reward for row in rows),
        truncated_B=column(row.truncated for row in rows),
        term_B=column(one.term for one in surveyed),
        lengths=tuple(len(row.token_ids) for row in rows),
    )
