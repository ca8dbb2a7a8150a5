"""Steps of a batch whose rows come and go: what the torch sampler does between two looks at its callers."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from transformers import PreTrainedModel

from journeyman.rollout.draw import draw, spread_seed, uniforms
from journeyman.rollout.kv_cache import Prefill, SlotCache, StepPlan
from journeyman.rollout.prefix_index import BLOCK, PrefixIndex, chain
from journeyman.rollout.sampler import SampleRequest

_TOKEN, _POSITION, _INDEX, _LIMIT, _SEED, _STOPS = range(6)
"""Columns of the rows' state: pending token, its position, index of the token to draw, most tokens, seed, stop ids."""

_FIRST_STOPS = 4


@dataclass(slots=True, eq=False)
class Row:
    """A request on its way."""

    request: SampleRequest
    limit: int
    """Most new tokens: what is asked for, cut to what fits."""
    hashes: list[int] = field(default_factory=list)
    """`chain` of the prompt."""
    slot: int = -1
    cached: int = 0
    """Tokens of the prompt that the cache held on admission."""
    start: int = 0
    """Step that draws the first token."""
    token_ids: tuple[int, ...] = ()
    """The completion, when it is finished."""
    logprobs: tuple[float, ...] = ()


class SlotDecoder:
    """Decodes up to `slots` rows at once. A finished row's keys and values stay until its slot is needed."""

    def __init__(self, model: PreTrainedModel, *, slots: int, max_length: int) -> None:
        config = model.config.get_text_config()
        self._model, self._device = model, model.device
        self._cache = SlotCache(
            rows=slots, layers=config.num_hidden_layers, max_length=max_length, dtype=model.dtype, device=model.device
        )
        self._index = PrefixIndex()
        self._free = dict.fromkeys(range(slots))
        """Slots without a row; the one that has been free for longest comes first."""
        self._rows: dict[int, Row] = {}
        """Active rows by slot, in the order of the batch."""
        self._new: list[Row] = []
        """Admitted rows whose prompt has more than one token to compute."""
        self._pending: set[int] = set()
        """Hashes of blocks that the next step computes."""
        self._time = 0
        self._slots_B = torch.empty(0, dtype=torch.long, device=self._device)
        self._shift = 0
        self._state = torch.zeros(slots, _STOPS + _FIRST_STOPS, dtype=torch.long, device=self._device)
        self._temperatures = torch.zeros(slots, device=self._device)
        self._tokens_out = torch.zeros(slots, max_length, dtype=torch.long, device=self._device)
        self._logprobs_out = torch.zeros(slots, max_length, device=self._device)
        self._positions = torch.arange(max_length, device=self._device)

    @property
    def active(self) -> int:
        """Rows that are being sampled."""
        return len(self._rows) + len(self._new)

    def prepare(self, row: Row) -> bool:
        """Hash the prompt; True when all of an idle row is the beginning of it."""
        row.hashes = chain(row.request.prompt_ids)
        slot, length = self._index.match(row.request.prompt_ids, row.hashes)
        return slot in self._free and length == self._index.length(slot)

    def forget(self) -> None:
        """Drop what was computed with other weights."""
        self._index.clear()

    def abandon(self) -> None:
        """Drop every row, and what was computed."""
        for slot in (*self._rows, *(row.slot for row in self._new)):
            self._free[slot] = None
        self._rows, self._new = {}, []
        self._pending.clear()
        self._index.clear()

    def remove(self, row: Row) -> None:
        """Drop an active row."""
        if row in self._new:
            self._new.remove(row)
        else:
            del self._rows[row.slot]
            self._changed()
        self._index.drop(row.slot)
        self._free[row.slot] = None

    def admit(self, rows: Sequence[Row]) -> list[Row]:
        """Give free slots to `rows`, the first first; those that are not admitted yet come back.

        A row waits when there is no slot, and also when another one that is admitted in the same step computes what it
        can share a step later.
        """
        left, admitted = [], []
        for row in rows:
            if self._free and self._admit(row):
                admitted.append(row)
            else:
                left.append(row)
        if admitted:
            self._write_state(admitted)
            self._changed()
        return left

    def _admit(self, row: Row) -> bool:
        prompt = row.request.prompt_ids
        source, cached = self._index.match(prompt, row.hashes)
        cached = min(cached, len(prompt) - 1)
        if any(value in self._pending for value in row.hashes[cached // BLOCK : cached // BLOCK + 1]):
            return False
        in_place = source in self._free and cached >= self._index.length(source) - 1
        row.slot = source if in_place else next(iter(self._free))
        del self._free[row.slot]
        row.cached, row.start = cached, self._time
        self._cache.reserve(len(prompt))
        if cached and source != row.slot:
            self._cache.copy(source, row.slot, cached)
        self._index.drop(row.slot)
        if cached == len(prompt) - 1:
            self._index.put(row.slot, prompt[:cached], row.hashes[: cached // BLOCK])
            self._rows[row.slot] = row
        else:
            self._new.append(row)
            self._pending.update(row.hashes[cached // BLOCK :])
        return True

    def _write_state(self, rows: list[Row]) -> None:
        most = max(len(row.request.stop_ids) for row in rows)
        if most > self._state.shape[1] - _STOPS:
            wider = self._state.new_full((self._state.shape[0], _STOPS + most), -1)
            wider[:, : self._state.shape[1]] = self._state
            self._state = wider
        width = self._state.shape[1] - _STOPS
        values = []
        for row in rows:
            request = row.request
            stops = (*request.stop_ids, *(-1 for _ in range(width - len(request.stop_ids))))
            last = len(request.prompt_ids) - 1
            values.append((request.prompt_ids[-1], last, 0, row.limit, spread_seed(request.seed), *stops))
        slots = self._tensor([row.slot for row in rows])
        self._state.index_copy_(0, slots, self._tensor(values))
        heat = torch.tensor([row.request.temperature for row in rows], dtype=torch.float32, device=self._device)
        self._temperatures.index_copy_(0, slots, heat)

    def _tensor(self, values: list) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.long, device=self._device)

    def _changed(self) -> None:
        """The batch has other rows than before."""
        self._slots_B = self._tensor(list(self._rows))
        self._shift = max((len(row.request.prompt_ids) - row.start for row in self._rows.values()), default=0)

    def step(self) -> list[Row]:
        """Draw a token for each active row; those that are finished leave the batch and come back."""
        new, self._new = self._new, []
        plan, inputs, positions, keep = self._plan(new)
        output = self._model(
            input_ids=inputs.unsqueeze(0),
            position_ids=positions.unsqueeze(0),
            use_cache=False,
            logits_to_keep=keep,
            plan=plan,
        )
        for row in new:
            self._rows[row.slot] = row
            self._index.put(row.slot, row.request.prompt_ids, row.hashes)
        self._pending.clear()
        if new:
            self._changed()
        done = self._draw(output.logits[0])
        self._time += 1
        return self._finish(done) if done else []

    def _plan(self, new: list[Row]) -> tuple[StepPlan, torch.Tensor, torch.Tensor, torch.Tensor | int]:
        """What to compute: the pending token of each active row, and what is left of the new rows' prompts."""
        decodes = len(self._rows)
        longest = self._shift + self._time if decodes else 0
        self._cache.reserve(longest)
        length = self._cache.round_up(longest)
        span = 1 + max(self._rows, default=-1)
        state = self._state.index_select(0, self._slots_B)
        tokens, positions = state[:, _TOKEN], state[:, _POSITION]
        seen = self._positions[:length] <= self._state[:span, _POSITION].unsqueeze(1)
        mask = torch.zeros(span, length, dtype=self._model.dtype, device=self._device).masked_fill_(~seen, -torch.inf)
        writes = self._slots_B * self._cache.capacity + positions
        keep, prefills = 0, ()
        if new:
            more_tokens, more_positions, more_writes, ends, prefills = self._plan_prefill(new, decodes)
            tokens = torch.cat((tokens, more_tokens))
            positions = torch.cat((positions, more_positions))
            writes = torch.cat((writes, more_writes))
            keep = torch.cat((self._positions[:decodes], ends))
        plan = StepPlan(
            cache=self._cache,
            writes_T=writes,
            decodes=decodes,
            span=span,
            rows_B=None if list(self._rows) == list(range(span)) else self._slots_B,
            mask_BL=mask[:, None, None],
            prefills=prefills,
        )
        return plan, tokens, positions, keep

    def _plan_prefill(self, new: list[Row], decodes: int):
        tokens, positions, writes, ends, padded, flat = [], [], [], [], [], []
        most = max(len(row.request.prompt_ids) - row.cached for row in new)
        for place, row in enumerate(new):
            prompt = row.request.prompt_ids
            first, count = decodes + len(tokens), len(prompt) - row.cached
            tokens += prompt[row.cached :]
            positions += range(row.cached, len(prompt))
            writes += range(row.slot * self._cache.capacity + row.cached, row.slot * self._cache.capacity + len(prompt))
            ends.append(first + count - 1)
            padded.append([*range(first, first + count), *[first + count - 1] * (most - count)])
            flat += range(place * most, place * most + count)
        longest = self._cache.round_up(max(len(row.request.prompt_ids) for row in new))
        positions_T, tokens_BT = self._tensor(positions), self._tensor(padded)
        prefill = Prefill(
            rows_B=self._tensor([row.slot for row in new]),
            tokens_BT=tokens_BT,
            mask_BTL=self._positions[:longest] <= positions_T[tokens_BT - decodes].unsqueeze(2),
            flat=self._tensor(flat),
            at=torch.arange(decodes, decodes + len(tokens), device=self._device),
        )
        return self._tensor(tokens), positions_T, self._tensor(writes), self._tensor(ends), (prefill,)

    def _draw(self, logits_BV: torch.Tensor) -> list[int]:
        """Draw the tokens, write them down; which rows of the batch are finished."""
        slots = self._slots_B
        state = self._state.index_select(0, slots)
        indices = state[:, _INDEX]
        tokens, logprobs = draw(logits_BV, self._temperatures.index_select(0, slots), uniforms(state[:, _SEED], indices))
        at = slots * self._tokens_out.shape[1] + indices
        self._tokens_out.view(-1).index_copy_(0, at, tokens)
        self._logprobs_out.view(-1).index_copy_(0, at, logprobs)
        state[:, _TOKEN] = tokens
        state[:, _POSITION : _INDEX + 1] += 1
        self._state.index_copy_(0, slots, state)
        done = (state[:, _STOPS:] == tokens.unsqueeze(1)).any(1) | (state[:, _INDEX] >= state[:, _LIMIT])
        return done.nonzero().flatten().tolist()

    def _finish(self, done: list[int]) -> list[Row]:
        rows = list(self._rows.values())
        finished = [rows[place] for place in done]
        most = max(self._time - row.start for row in finished)
        slots = self._tensor([row.slot for row in finished])
        tokens = self._tokens_out[:, :most].index_select(0, slots).tolist()
        logprobs = self._logprobs_out[:, :most].index_select(0, slots).tolist()
        for row, ids, values in zip(finished, tokens, logprobs, strict=True):
            count = self._time - row.start
            row.token_ids, row.logprobs = tuple(ids[:count]), tuple(values[:count])
            del self._rows[row.slot]
            self._free[row.slot] = None
            held = (*row.request.prompt_ids, *row.token_ids[:-1])
            self._index.put(row.slot, held, chain(held, row.hashes))
        self._changed()
        return finished
