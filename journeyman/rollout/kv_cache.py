"""The torch sampler's KV cache: one row a slot, and attention over rows of different lengths.

The tokens of a step travel through the model as one sequence without padding. `attend` writes their keys and values
into the rows and lets each token see its own row. Dimensions: B rows of a step, S rows of the cache, L positions,
T tokens of the step, Q queries, H heads, K key/value heads, G heads that share a key/value head, D head size.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional as F

from journeyman.rollout.shared_prefix import Shared, add_shared, attend_with_sums

_ROUND = 16
"""Attention lengths are rounded up to this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Neighbouring rows whose decoded tokens are attended to at once."""

    start: int
    stop: int
    """Rows of the cache."""
    skip: int
    """Positions at the beginning that are `StepPlan.shared` for all of these rows."""
    length: int
    """Positions up to the longest row's end, rounded up."""
    offset: int
    """Where the segment begins among the rows of all segments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decode:
    """The rows of a step that compute one token each."""

    segments: tuple[Segment, ...]
    mask_SL: torch.Tensor
    """0 where a row may look, else -inf, in the model's dtype; rows of all segments x 1 x 1 x longest length."""
    places_B: torch.Tensor | None
    """Where each token's row stands among the rows of all segments; None: they are the same, in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefill:
    """The rows of a step that compute several tokens."""

    reads_BL: torch.Tensor
    """row * capacity + position of what the rows have in the cache beyond `StepPlan.shared`, with the step's tokens."""
    tokens_BT: torch.Tensor
    """Index of each row's tokens in the step, padded with its last."""
    mask_BQL: torch.Tensor
    """0 where a query may look, else -inf; B x 1 x T * G x L, the G heads of a token next to each other."""
    flat: torch.Tensor
    """Where the tokens that are not padding stand in `tokens_BT.flatten()`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPlan:
    """Which tokens a step computes, where they are written and what they see."""

    cache: "SlotCache"
    writes_T: torch.Tensor
    """row * capacity + position of each token."""
    decodes: int
    """The first so many tokens belong to rows with one token each; the others to `prefill`."""
    decode: Decode | None
    prefill: Prefill | None
    shared: tuple[Shared, ...] = ()
    """What `decode` and `prefill` leave out because several rows see it."""


class SlotCache:
    """Keys and values of every layer for a fixed number of rows; grows in length as needed, up to `max_length`."""

    def __init__(self, *, rows: int, layers: int, max_length: int, dtype: torch.dtype, device: torch.device) -> None:
        self.rows, self.layers, self.max_length = rows, layers, max_length
        self.capacity = 0
        self.dtype, self.device = dtype, device
        self._shape: tuple[int, int] | None = None
        self._data: torch.Tensor | None = None  # layers, keys and values, S, L, K, D
        self._flat: list[torch.Tensor] = []  # of each layer: keys and values, S * L, K, D

    def reserve(self, length: int) -> None:
        """Make room for rows of `length` tokens."""
        if length > self.capacity:
            self.capacity = min(self.max_length, max(length, self.capacity * 3 // 2, 128))
            self._allocate()

    def _allocate(self) -> None:
        if self._shape is None:
            return
        old = self._data
        size = (self.layers, 2, self.rows, self.capacity, *self._shape)
        self._data = torch.empty(size, dtype=self.dtype, device=self.device)
        held = 0 if old is None else old.shape[3]
        if old is not None:
            self._data[:, :, :, :held] = old
        # What is masked is multiplied by 0, so it must be finite.
        self._data[:, :, :, held:] = 0
        self._flat = list(self._data.flatten(2, 3).unbind())

    @property
    def row_bytes(self) -> int:
        """Size of a layer's keys and values of one position."""
        keys, size = self._shape or (1, 64)
        return 2 * keys * size * self.dtype.itemsize

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of a row to another."""
        assert self._data is not None
        self._data[:, :, target, :length] = self._data[:, :, source, :length]

    def swap(self, rows: torch.Tensor, others: torch.Tensor, length: int) -> None:
        """Exchange the first `length` positions of rows with those of as many others."""
        if self._data is not None:
            both, turned = torch.cat((rows, others)), torch.cat((others, rows))
            for data in self._data.flatten(0, 1):
                data[both, :length] = data[turned, :length]

    def write(self, layer: int, keys_TKD: torch.Tensor, values_TKD: torch.Tensor, writes_T: torch.Tensor) -> None:
        if self._shape is None:
            self._shape = (keys_TKD.shape[1], keys_TKD.shape[2])
            self._allocate()
        self._flat[layer][0].index_copy_(0, writes_T, keys_TKD)
        self._flat[layer][1].index_copy_(0, writes_T, values_TKD)

    def read(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of all rows: S x K x L x D, views."""
        assert self._data is not None
        keys, values = self._data[layer].transpose(2, 3).unbind()
        return keys, values

    def gather(self, layer: int, reads_BL: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of some positions: B x K x L x D, copies."""
        found = self._flat[layer].index_select(1, reads_BL.flatten()).unflatten(1, reads_BL.shape)
        keys, values = found.transpose(2, 3).unbind()
        return keys, values

    def round_up(self, length: int) -> int:
        """`length`, rounded up so that shapes repeat; never beyond the capacity."""
        return min(self.capacity, -(-length // _ROUND) * _ROUND)


def attend(
    plan: StepPlan,
    layer: int,
    queries_THD: torch.Tensor,
    keys_TKD: torch.Tensor,
    values_TKD: torch.Tensor,
    scaling: float | None,
) -> torch.Tensor:
    """Cached attention of a step's tokens; T x H * D.

    The heads that share keys and values are the queries of one attention, which reads these once.
    """
    plan.cache.write(layer, keys_TKD, values_TKD, plan.writes_T)
    queries_TKGD = queries_THD.unflatten(1, (keys_TKD.shape[1], -1))
    parts = []
    if plan.decode:
        parts.append(_decode(plan, plan.decode, layer, queries_TKGD[: plan.decodes], scaling))
    if plan.prefill:
        parts.append(_prefill(plan, plan.prefill, layer, queries_TKGD, scaling))
    out, *sums = _joined(parts)
    if plan.shared:
        out = add_shared(out, sums[0], queries_TKGD, plan.cache.read(layer), plan.shared, scaling)
    return out.flatten(1)


def _decode(
    plan: StepPlan, decode: Decode, layer: int, queries_BKGD: torch.Tensor, scaling: float | None
) -> tuple[torch.Tensor, ...]:
    """As `_attention`: B x K x G x D, B x K x G."""
    keys, values = plan.cache.read(layer)
    if decode.places_B is not None:
        spread = queries_BKGD.new_zeros(decode.mask_SL.shape[0], *queries_BKGD.shape[1:])
        queries_BKGD = spread.index_copy_(0, decode.places_B, queries_BKGD)
    parts = []
    for segment in decode.segments:
        stop = segment.offset + segment.stop - segment.start
        seen = slice(segment.skip, segment.length)
        part = _attention(
            plan,
            queries_BKGD[segment.offset : stop],
            keys[segment.start : segment.stop, :, seen],
            values[segment.start : segment.stop, :, seen],
            decode.mask_SL[segment.offset : stop, :, :, seen],
            scaling,
        )
        parts.append(part)
    found = _joined(parts)
    if decode.places_B is None:
        return found
    return tuple(states.index_select(0, decode.places_B) for states in found)


def _prefill(
    plan: StepPlan, prefill: Prefill, layer: int, queries_TKGD: torch.Tensor, scaling: float | None
) -> tuple[torch.Tensor, ...]:
    """As `_attention`: T x K x G x D and T x K x G of `prefill`'s tokens."""
    keys, values = plan.cache.gather(layer, prefill.reads_BL)
    queries = queries_TKGD[prefill.tokens_BT].transpose(1, 2).flatten(2, 3)  # B, K, T * G, D
    found = _attention(plan, queries, keys, values, prefill.mask_BQL, scaling)
    split = (states.unflatten(2, (-1, queries_TKGD.shape[2])).transpose(1, 2).flatten(0, 1) for states in found)
    return tuple(states.index_select(0, prefill.flat) for states in split)


def _attention(
    plan: StepPlan,
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor,
    scaling: float | None,
) -> tuple[torch.Tensor, ...]:
    """B x K x Q x D, and the log-sum-exp of each query's scores, B x K x Q, if something else is to be added to them."""
    if plan.shared:
        return attend_with_sums(queries, keys, values, mask, scaling)
    return (F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, scale=scaling),)


def _joined(parts: list[tuple[torch.Tensor, ...]]) -> tuple[torch.Tensor, ...]:
    return parts[0] if len(parts) == 1 else tuple(torch.cat(states) for states in zip(*parts, strict=True))
