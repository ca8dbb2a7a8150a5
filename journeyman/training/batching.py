"""Rows to padded micro-batches: sorted by length, bounded in tokens. Dimensions: B row, T token."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from journeyman.training.handle import Row

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class MicroBatch:
    """Padded on the right; the last four are aligned with the predicted token: column t is about `ids_BT[:, t + 1]`."""

    ids_BT: "Tensor"
    """int64, B x T; padding is 0."""
    advantages_BT: "Tensor"
    sampler_logprobs_BT: "Tensor"
    old_logprobs_BT: "Tensor"
    mask_BT: "Tensor"
    """float32, B x (T - 1)."""
    temperature_B: "Tensor"


def microbatches(rows: Sequence[Row], most_tokens: int, device: "torch.device") -> list[MicroBatch]:
    """Split rows into padded batches of at most `most_tokens` tokens (at least one row each), short rows first."""
    ordered = sorted(rows, key=lambda row: len(row.token_ids))
    batches: list[list[Row]] = []
    for row in ordered:
        if batches and (len(batches[-1]) + 1) * len(row.token_ids) <= most_tokens:
            batches[-1].append(row)
        else:
            batches.append([row])
    return [collate(batch, device) for batch in batches]


def collate(rows: Sequence[Row], device: "torch.device") -> MicroBatch:
    """Pad rows to one length."""
    import torch

    length = max(len(row.token_ids) for row in rows)

    def padded(values: Sequence[Sequence[float]], dtype: "torch.dtype") -> "Tensor":
        return torch.tensor([[*v, *[0] * (length - len(v))] for v in values], dtype=dtype, device=device)

    sampler = [row.logprobs or (0.0,) * len(row.token_ids) for row in rows]
    old = [row.old_logprobs or s for row, s in zip(rows, sampler, strict=True)]
    advantages = [row.advantages or (1.0,) * len(row.token_ids) for row in rows]
    return MicroBatch(
        ids_BT=padded([row.token_ids for row in rows], torch.int64),
        advantages_BT=padded(advantages, torch.float32)[:, 1:],
        sampler_logprobs_BT=padded(sampler, torch.float32)[:, 1:],
        old_logprobs_BT=padded(old, torch.float32)[:, 1:],
        mask_BT=padded([row.mask for row in rows], torch.float32)[:, 1:],
        temperature_B=torch.tensor([row.temperature for row in rows], dtype=torch.float32, device=device),
    )
