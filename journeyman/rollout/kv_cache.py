"""The torch sampler's KV cache: one row a slot, and attention over rows of different lengths.

The tokens of a step travel through the model as one sequence without padding (shape 1 x tokens). `attend`, which stands
in for the model's attention function, writes their keys and values into the rows and lets each token see its own row.
Legend of dimensions: B rows of a step, S rows of the cache, L positions, T tokens of the step, H heads, K key/value heads,
G heads that share a key/value head, D head size.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional as F
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

ATTENTION = "journeyman_slots"
"""Name of `attend` for `attn_implementation`."""

_ROUND = 32
"""Attention lengths are rounded up to this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefill:
    """New rows of a step that have several tokens to compute, of about the same number."""

    rows_B: torch.Tensor
    """Rows of the cache."""
    tokens_BT: torch.Tensor
    """Index of each row's tokens in the step, padded with its last."""
    mask_BTL: torch.Tensor
    """True where a token may look."""
    flat: torch.Tensor
    """Where the tokens that are not padding stand in `tokens_BT.flatten()`."""
    at: torch.Tensor
    """Their indices in the step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPlan:
    """Which tokens a step computes, where they are written and what they see."""

    cache: "SlotCache"
    writes_T: torch.Tensor
    """row * capacity + position of each token."""
    decodes: int
    """The first so many tokens belong to rows with one token each."""
    span: int
    """These rows are among the first `span` of the cache."""
    rows_B: torch.Tensor | None
    """Which they are; None: all `span`, in order."""
    mask_BL: torch.Tensor
    """0 where a decoded row may look, else -inf; shape span x 1 x 1 x length, in the model's dtype."""
    prefills: tuple[Prefill, ...] = ()


class SlotCache:
    """Keys and values of every layer for a fixed number of rows; its length grows as it is needed, up to `max_length`."""

    def __init__(self, *, rows: int, layers: int, max_length: int, dtype: torch.dtype, device: torch.device) -> None:
        self.rows, self.layers, self.max_length = rows, layers, max_length
        self.capacity = 0
        self._dtype, self._device = dtype, device
        self._shape: tuple[int, int] | None = None
        self._data: torch.Tensor | None = None  # 2, layers, S, L, K, D
        self._flat: list[tuple[torch.Tensor, torch.Tensor]] = []

    def reserve(self, length: int) -> None:
        """Make room for rows of `length` tokens."""
        if length > self.capacity:
            self.capacity = min(self.max_length, max(length, 2 * self.capacity, 128))
            self._allocate()

    def _allocate(self) -> None:
        if self._shape is None:
            return
        old = self._data
        size = (2, self.layers, self.rows, self.capacity, *self._shape)
        self._data = torch.zeros(size, dtype=self._dtype, device=self._device)
        if old is not None:
            self._data[:, :, :, : old.shape[3]] = old
        flat = self._data.view(2, self.layers, self.rows * self.capacity, *self._shape)
        self._flat = [(flat[0, layer], flat[1, layer]) for layer in range(self.layers)]

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of a row to another."""
        assert self._data is not None
        self._data[:, :, target, :length] = self._data[:, :, source, :length]

    def write(self, layer: int, keys: torch.Tensor, values: torch.Tensor, writes_T: torch.Tensor) -> None:
        """Store keys and values, both 1 x K x T x D."""
        if self._shape is None:
            self._shape = (keys.shape[1], keys.shape[3])
            self._allocate()
        flat_keys, flat_values = self._flat[layer]
        flat_keys.index_copy_(0, writes_T, keys[0].transpose(0, 1))
        flat_values.index_copy_(0, writes_T, values[0].transpose(0, 1))

    def read(self, layer: int, span: int, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of the first `span` rows: span x K x length x D, views."""
        assert self._data is not None
        keys, values = self._data[0, layer, :span, :length], self._data[1, layer, :span, :length]
        return keys.transpose(1, 2), values.transpose(1, 2)

    def gather(self, layer: int, rows_B: torch.Tensor, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of some rows: B x K x length x D, copies."""
        keys, values = self.read(layer, self.rows, length)
        return keys.index_select(0, rows_B), values.index_select(0, rows_B)

    def round_up(self, length: int) -> int:
        """`length`, rounded up so that shapes repeat; never beyond the capacity."""
        return min(self.capacity, -(-length // _ROUND) * _ROUND)


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    plan: StepPlan | None = None,
    **kwargs,
) -> tuple[torch.Tensor, None]:
    """Attention function for `transformers`: query 1 x H x T x D to 1 x T x H x D. Without a plan it is sdpa's."""
    if plan is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    layer = module.layer_idx
    assert isinstance(layer, int)
    plan.cache.write(layer, key, value, plan.writes_T)
    query_TKGD = query[0].transpose(0, 1).unflatten(1, (key.shape[1], -1))
    parts = []
    if plan.decodes:
        parts.append(_decode(plan, layer, query_TKGD[: plan.decodes], scaling))
    if plan.prefills:
        out = query_TKGD.new_empty(query_TKGD.shape[0], query.shape[1], value.shape[3])
        if parts:
            out[: plan.decodes] = parts[0]
        for prefill in plan.prefills:
            out.index_copy_(0, prefill.at, _prefill(plan.cache, layer, query_TKGD, prefill, scaling))
        return out.unsqueeze(0), None
    return parts[0].unsqueeze(0), None


def _decode(plan: StepPlan, layer: int, query_BKGD: torch.Tensor, scaling: float | None) -> torch.Tensor:
    """One token a row. The heads that share keys and values are the queries of one attention, which reads these once."""
    keys, values = plan.cache.read(layer, plan.span, plan.mask_BL.shape[-1])
    if plan.rows_B is not None:
        spread = query_BKGD.new_zeros(plan.span, *query_BKGD.shape[1:])
        query_BKGD = spread.index_copy_(0, plan.rows_B, query_BKGD)
    out = F.scaled_dot_product_attention(query_BKGD, keys, values, attn_mask=plan.mask_BL, scale=scaling)
    if plan.rows_B is not None:
        out = out.index_select(0, plan.rows_B)
    return out.flatten(1, 2)


def _prefill(
    cache: SlotCache, layer: int, query_TKGD: torch.Tensor, prefill: Prefill, scaling: float | None
) -> torch.Tensor:
    keys, values = cache.gather(layer, prefill.rows_B, prefill.mask_BTL.shape[-1])
    tokens, groups = prefill.tokens_BT.shape[1], query_TKGD.shape[2]
    query = query_TKGD[prefill.tokens_BT].permute(0, 2, 3, 1, 4).flatten(2, 3)  # B, K, G * T, D
    mask = prefill.mask_BTL.repeat(1, groups, 1).unsqueeze(1)
    out = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask, scale=scaling)
    out = out.unflatten(2, (groups, tokens)).permute(0, 3, 1, 2, 4).flatten(2, 3)  # B, T, H, D
    return out.flatten(0, 1).index_select(0, prefill.flat)


AttentionInterface.register(ATTENTION, attend)
