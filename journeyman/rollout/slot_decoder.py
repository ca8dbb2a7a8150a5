"""Steps of a batch whose rows come and go: what the torch sampler does between two looks at its callers."""

from collections.abc import Iterable

import torch
from transformers import PreTrainedModel

from journeyman.rollout.draw import draw, spread_seed, uniforms
from journeyman.rollout.kv_cache import SlotCache, StepPlan
from journeyman.rollout.prefix_index import BLOCK, PrefixIndex, chain
from journeyman.rollout.step_model import step_model
from journeyman.rollout.step_plan import Batch, Row, lay_out, moves, plan_decode, plan_prefill

_TOKEN, _POSITION, _INDEX, _LIMIT, _SEED, _STOPS = range(6)
"""Columns of the rows' state: pending token, its position, index of the token to draw, most tokens, seed, stop ids."""

_STOP_COLUMNS = 4
"""To begin with."""

_SPARE = 2
"""Slots for each spare row."""

_PATIENCE = 8
"""Steps in a row with many holes before rows are moved: rows that continue after a tool's answer fill most."""

_PREFILL_TOKENS = 8192
"""Most prompt tokens of a step, padding included; a longer prompt comes alone."""


class SlotDecoder:
    """Decodes up to `slots` rows at once.

    A finished row's keys and values stay in its slot; when that is needed, they move to one of the spare rows behind
    the slots, of which there are half as many. So a trajectory that waits for a slow tool finds its own again.

    Everything but the constructor is called inside `torch.inference_mode`.
    """

    def __init__(self, model: PreTrainedModel, *, slots: int, max_length: int) -> None:
        config = model.config.get_text_config()
        heads, shared = config.num_attention_heads, config.num_key_value_heads or config.num_attention_heads
        self._forward = step_model(model, max_length)
        self._groups = heads // shared
        spare = slots // _SPARE
        self._cache = SlotCache(
            rows=slots + spare,
            layers=config.num_hidden_layers,
            max_length=max_length,
            dtype=model.dtype,
            device=model.device,
        )
        self._index = PrefixIndex()
        self._free = dict.fromkeys(range(slots))
        """Slots without a row; the one that has been free for longest comes first."""
        self._spare = dict.fromkeys(range(slots, slots + spare))
        """The cache's other rows; the one that was written first comes first."""
        self._rows: dict[int, Row] = {}
        """Active rows by slot, in the order of the batch."""
        self._new: list[Row] = []
        """Admitted rows whose prompt has more than one token to compute."""
        self._pending: set[int] = set()
        """Hashes of blocks that the next step computes."""
        self.prompt_tokens = 0
        """Prompt tokens computed so far: those that the cache did not hold."""
        self._time = 0
        self._holey = 0
        """Steps in a row with many holes between the rows."""
        self._batch: Batch | None = None
        self._device = model.device
        self._state = torch.zeros(slots, _STOPS + _STOP_COLUMNS, dtype=torch.long, device=self._device)
        self._temperatures = torch.zeros(slots, device=self._device)
        self._tokens_out = torch.zeros(slots, max_length, dtype=torch.long, device=self._device)
        self._logprobs_out = torch.zeros(slots, max_length, device=self._device)

    @property
    def full(self) -> bool:
        """Whether no row can be admitted."""
        return not self._free

    def prepare(self, row: Row) -> bool:
        """Hash the prompt; True when it goes on where a finished row ended."""
        row.hashes = chain(row.request.prompt_ids)
        slot, length = self._index.match(row.request.prompt_ids, row.hashes)
        return (slot in self._free or slot in self._spare) and length == self._index.length(slot)

    def forget(self) -> None:
        """Drop what was computed with other weights."""
        self._index.clear()

    def interrupt(self) -> list[Row]:
        """Take every row out of the batch as far as it is."""
        rows = self._finish(list(range(len(self._rows)))) if self._rows else []
        new, self._new = self._new, []
        self._free.update(dict.fromkeys(row.slot for row in new))
        self._pending.clear()
        self._batch = None
        return rows + new

    def abandon(self) -> None:
        """Drop every row, and what was computed."""
        for slot in (*self._rows, *(row.slot for row in self._new)):
            self._free[slot] = None
        self._rows, self._new, self._batch = {}, [], None
        self._pending.clear()
        self._index.clear()

    def remove(self, row: Row) -> None:
        """Drop an active row."""
        assert row in self._rows.values()
        del self._rows[row.slot]
        self._free[row.slot] = self._batch = None
        self._index.drop(row.slot)

    def admit(self, rows: Iterable[Row]) -> list[Row]:
        """Give free slots to `rows`, the first first; those that are not admitted yet come back.

        A row waits when there is no slot, and also when another one that is admitted in the same step computes what it
        can share a step later.
        """
        left, admitted = [], []
        for row in rows:
            (admitted if self._free and self._admit(row) else left).append(row)
        if admitted:
            self._write_state(admitted)
        return left

    def _admit(self, row: Row) -> bool:
        prompt = row.request.prompt_ids
        source, cached = self._index.match(prompt, row.hashes)
        cached = min(cached, len(prompt) - 1)
        block = cached // BLOCK
        if block < len(row.hashes) and row.hashes[block] in self._pending:
            return False
        counts = [len(prompt) - cached, *(len(other.request.prompt_ids) - other.cached for other in self._new)]
        if self._new and counts[0] > 1 and max(counts) * len(counts) > _PREFILL_TOKENS:
            return False
        in_place = source in self._free and cached >= self._index.length(source) - 1
        row.slot = source if in_place else next(iter(self._free))
        del self._free[row.slot]
        if not in_place:
            self._keep(row.slot, source)
        row.cached, row.start = cached, self._time
        self._cache.reserve(len(prompt))
        if cached and source != row.slot:
            self._cache.copy(source, row.slot, cached)
        self.prompt_tokens += len(prompt) - cached
        self._index.drop(row.slot)
        self._batch = None
        if cached == len(prompt) - 1:
            self._index.put(row.slot, prompt[:cached], row.hashes[:block])
            self._rows[row.slot] = row
        else:
            self._new.append(row)
            self._pending.update(row.hashes[block:])
        return True

    def _keep(self, slot: int, source: int) -> None:
        """Copy what an idle slot holds to the spare row that was written first, which must not be `source`."""
        length = self._index.length(slot)
        spare = next((row for row in self._spare if row != source), None)
        if not length or spare is None:
            return
        self._spare[spare] = self._spare.pop(spare)
        self._cache.copy(slot, spare, length)
        self._index.drop(spare)
        self._index.swap(slot, spare)

    def _write_state(self, rows: list[Row]) -> None:
        most = max(len(row.request.stop_ids) for row in rows)
        if most > self._state.shape[1] - _STOPS:
            wider = self._state.new_full((self._state.shape[0], _STOPS + most), -1)
            wider[:, : self._state.shape[1]] = self._state
            self._state = wider
        width, values = self._state.shape[1] - _STOPS, []
        for row in rows:
            request = row.request
            stops = (*request.stop_ids, *(-1,) * (width - len(request.stop_ids)))
            last = len(request.prompt_ids) - 1
            values.append((request.prompt_ids[-1], last, 0, row.limit, spread_seed(request.seed), *stops))
        slots = self._tensor([row.slot for row in rows])
        self._state.index_copy_(0, slots, self._tensor(values))
        temperatures = torch.tensor([row.request.temperature for row in rows], dtype=torch.float32, device=self._device)
        self._temperatures.index_copy_(0, slots, temperatures)

    def _tensor(self, values: list) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.long, device=self._device)

    def step(self) -> list[Row]:
        """Draw a token for each active row; those that are finished leave the batch and come back."""
        self._compact()
        new, self._new = self._new, []
        batch = self._batch or lay_out(self._rows, new, self._time, self._cache)
        self._rows = {slot: self._rows[slot] for slot in batch.slots}
        logits_BV = self._compute(batch, new)
        for row in new:
            self._rows[row.slot] = row
            self._index.put(row.slot, row.request.prompt_ids, row.hashes)
        self._pending.clear()
        self._batch = None if new else batch
        done = self._draw(batch, logits_BV)
        self._time += 1
        return self._finish(done) if done else []

    def _compact(self) -> None:
        """Move rows together when there are many slots without one between them."""
        pairs = moves(self._rows, [row.slot for row in self._new])
        self._holey = self._holey + 1 if pairs else 0
        if self._holey <= _PATIENCE:
            return
        self._holey = 0
        slots, others = self._tensor([pair[0] for pair in pairs]), self._tensor([pair[1] for pair in pairs])
        lengths = [max(self._rows[slot].base + self._time, self._index.length(other)) for slot, other in pairs]
        self._cache.swap(slots, others, min(max(lengths), self._cache.capacity))
        for tensor in (self._state, self._temperatures, self._tokens_out, self._logprobs_out):
            tensor[others] = tensor[slots]
        for slot, other in pairs:
            row = self._rows.pop(slot)
            row.slot = other
            self._rows[other] = row
            self._index.swap(slot, other)
        renamed = {other: slot for slot, other in pairs}
        self._free = {renamed.get(slot, slot): None for slot in self._free}
        self._batch = None

    def _compute(self, batch: Batch, new: list[Row]) -> torch.Tensor:
        """Logits after the pending token of each active row, and after the prompt of each new one."""
        cache, decodes = self._cache, len(self._rows)
        cache.reserve(max((base + self._time for *_, base in batch.segments), default=0))
        slots_B = batch.slots_B[:decodes]
        state = self._state.index_select(0, slots_B)
        tokens_T, positions_T = state[:, _TOKEN], state[:, _POSITION]
        writes_T = slots_B * cache.capacity + positions_T
        decode = plan_decode(batch, self._time, self._state[:, _POSITION], cache) if decodes else None
        keep, prefill, shared = None, None, batch.shared
        if new:
            prompts = plan_prefill(new, decodes, self._groups, cache)
            tokens_T = torch.cat((tokens_T, prompts.tokens_T))
            positions_T = torch.cat((positions_T, prompts.positions_T))
            writes_T = torch.cat((writes_T, prompts.writes_T))
            keep = torch.cat((torch.arange(decodes, device=self._device), prompts.ends_B))
            prefill, shared = prompts.prefill, shared + prompts.shared
        plan = StepPlan(cache=cache, writes_T=writes_T, decodes=decodes, decode=decode, prefill=prefill, shared=shared)
        return self._forward(tokens_T, positions_T, plan, keep)

    def _draw(self, batch: Batch, logits_BV: torch.Tensor) -> list[int]:
        """Draw the tokens, write them down; which rows of the batch are finished."""
        slots_B = batch.slots_B
        state = self._state.index_select(0, slots_B)
        indices_B = state[:, _INDEX]
        temperatures_B = self._temperatures.index_select(0, slots_B)
        chances_B = uniforms(state[:, _SEED], indices_B)
        tokens_B, logprobs_B = draw(logits_BV, temperatures_B, chances_B, greedy=batch.greedy)
        at = slots_B * self._tokens_out.shape[1] + indices_B
        self._tokens_out.view(-1).index_copy_(0, at, tokens_B)
        self._logprobs_out.view(-1).index_copy_(0, at, logprobs_B)
        state[:, _TOKEN] = tokens_B
        state[:, _POSITION : _INDEX + 1] += 1
        self._state.index_copy_(0, slots_B, state)
        done_B = (state[:, _STOPS:] == tokens_B.unsqueeze(1)).any(1) | (state[:, _INDEX] >= state[:, _LIMIT])
        return done_B.nonzero().flatten().tolist()

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
            # The last token, be it the prompt's own, has not been computed.
            held = (*row.request.prompt_ids, *row.token_ids)[:-1]
            self._index.put(row.slot, held, chain(held, row.hashes))
        self._batch = None
        return finished
