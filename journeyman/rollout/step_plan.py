"""What a step of the torch sampler computes: which rows, in which order, and what each token sees."""

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch

from journeyman.rollout.kv_cache import Decode, Prefill, Segment, SlotCache
from journeyman.rollout.prefix_index import BLOCK
from journeyman.rollout.sampler import SampleRequest
from journeyman.rollout.shared_prefix import Arrangement, Shared, arrange

_CHUNKS = 16
"""Segments begin and end at multiples of a 16th of the rows, or of 8 rows."""

_CALL_BYTES = {"cpu": 200_000, "cuda": 20_000_000}
"""What can be read from memory in the time that one more call takes."""

_SHARE_BYTES = 1_500_000
"""What must be read less for a shared prefix to be worth its calls."""

_HOLES = 8
"""So many slots without a row between the others are no reason to move rows."""


@dataclass(slots=True, eq=False)
class Row:
    """A request on its way."""

    request: SampleRequest
    limit: int
    """Most new tokens: what is asked for, cut to what fits."""
    hashes: list[int] = field(default_factory=list)
    """`prefix_index.chain` of the prompt."""
    slot: int = -1
    cached: int = 0
    """Tokens of the prompt that the cache held on admission."""
    start: int = 0
    """Step that draws the first token."""
    token_ids: tuple[int, ...] = ()
    """The completion, when it is finished."""
    logprobs: tuple[float, ...] = ()

    @property
    def base(self) -> int:
        """At step t the row has `base` + t tokens, the pending one included."""
        return len(self.request.prompt_ids) - self.start


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The rows that compute one token, laid out; good until rows come or go."""

    slots: tuple[int, ...]
    """Of the rows that are computed; those with a common prefix are neighbours."""
    slots_B: torch.Tensor
    """The same, and new rows after them."""
    segments: tuple[tuple[int, int, int, int], ...]
    """First slot, last slot + 1, positions that all its rows skip, and base of the longest row of each."""
    covered_S: torch.Tensor
    """The slots of all segments."""
    shared: tuple[Shared, ...]
    skips_S: torch.Tensor | None
    """How many positions of these slots `shared` covers; None: of none any."""
    places_B: torch.Tensor | None
    """As `Decode.places_B`."""
    greedy: bool
    """Whether a row has temperature 0."""


def lay_out(rows: Mapping[int, Row], new: Sequence[Row], time: int, cache: SlotCache) -> Batch:
    """`new` rows are only drawn from in this step; `rows` are also computed."""
    device = cache.device
    cached = [len(row.request.prompt_ids) - 1 for row in rows.values()]
    old, arrangement = list(rows), _arrange(list(rows.values()), cached, [1] * len(rows), cache)
    slots, skips = [old[place] for place in arrangement.order], dict(zip(old, arrangement.skips, strict=True))
    lengths = {slot: row.base + time for slot, row in rows.items()}
    parts = segments(lengths, _CALL_BYTES[device.type] // cache.row_bytes, skips)
    covered = [slot for start, stop, _ in parts for slot in range(start, stop)]
    places = {slot: place for place, slot in enumerate(covered)}
    order = [places[slot] for slot in slots]
    as_tensor = partial(torch.tensor, dtype=torch.long, device=device)
    return Batch(
        slots=tuple(slots),
        slots_B=as_tensor([*slots, *(row.slot for row in new)]),
        segments=tuple(
            (start, stop, min(skips[slot] for slot in range(start, stop) if slot in skips), length - time)
            for start, stop, length in parts
        ),
        covered_S=as_tensor(covered),
        shared=arrangement.shared,
        skips_S=as_tensor([skips.get(slot, 0) for slot in covered]) if arrangement.shared else None,
        places_B=None if order == list(range(len(covered))) else as_tensor(order),
        greedy=any(row.request.temperature == 0 for row in (*rows.values(), *new)),
    )


def _arrange(rows: Sequence[Row], cached: Sequence[int], counts: Sequence[int], cache: SlotCache) -> Arrangement:
    """`cached`: how many tokens of each row's prompt stand before the step's own; `counts`: how many those are."""
    # Merging is written for the CPU's attention alone: on a GPU every row reads all of its own.
    least = _SHARE_BYTES // cache.row_bytes if cache.device.type == "cpu" else sys.maxsize
    chains = [
        row.hashes if len(row.hashes) * BLOCK <= count else row.hashes[: count // BLOCK]
        for row, count in zip(rows, cached, strict=True)
    ]
    return arrange([row.slot for row in rows], [row.request.prompt_ids for row in rows], chains, counts, least)


def segments(
    lengths: Mapping[int, int], call: int, skips: Mapping[int, int] | None = None
) -> list[tuple[int, int, int]]:
    """Runs of neighbouring slots and the longest row of each, such that little is read beyond the rows' ends.

    `lengths` has the active slots; `call` is what a run costs beside its positions; `skips` says how many positions at
    its beginning a row doesn't read: a run reads from the first that one of its rows does.
    """
    span = 1 + max(lengths, default=-1)
    chunk = max(8, -(-span // _CHUNKS))
    longest = [0] * -(-span // chunk)
    earliest = [max(lengths.values(), default=0)] * len(longest)
    for slot, length in lengths.items():
        longest[slot // chunk] = max(longest[slot // chunk], length)
        earliest[slot // chunk] = min(earliest[slot // chunk], skips.get(slot, 0) if skips else 0)
    best: list[tuple[float, list[tuple[int, int, int]]]] = [(0, [])]  # of the chunks before
    for stop in range(1, len(longest) + 1):
        options = [best[-1]] if longest[stop - 1] == 0 else []
        most, least = 0, earliest[stop - 1]
        for start in range(stop - 1, -1, -1):
            most, least = max(most, longest[start]), min(least, earliest[start])
            cost = best[start][0] + call + (stop - start) * chunk * max(0, most - least)
            if not options or cost < options[0][0]:
                options = [(cost, [*best[start][1], (start * chunk, min(span, stop * chunk), most)])]
        best.append(options[0])
    return best[-1][1]


def moves(active: Collection[int], held: Collection[int]) -> list[tuple[int, int]]:
    """Which active slots should exchange their contents with which idle ones, so that the batch has few holes.

    `held` slots are neither idle nor can they be moved.
    """
    count = len(active) + len(held)
    if 1 + max((*active, *held), default=-1) - count <= max(_HOLES, count // 4):
        return []
    occupied = {*active, *held}
    holes = [slot for slot in range(count) if slot not in occupied]
    return list(zip(sorted((slot for slot in active if slot >= count), reverse=True), holes, strict=False))


def plan_decode(batch: Batch, time: int, positions_S: torch.Tensor, cache: SlotCache) -> Decode:
    """`positions_S`: position of the pending token of each row of the cache."""
    parts, offset = [], 0
    for start, stop, skip, base in batch.segments:
        parts.append(Segment(start=start, stop=stop, skip=skip, length=cache.round_up(base + time), offset=offset))
        offset += stop - start
    places = torch.arange(max(part.length for part in parts), device=cache.device)
    unseen = places > positions_S.index_select(0, batch.covered_S).unsqueeze(1)
    if batch.skips_S is not None:
        unseen |= places < batch.skips_S.unsqueeze(1)
    mask = torch.zeros(unseen.shape, dtype=cache.dtype, device=cache.device).masked_fill_(unseen, -torch.inf)
    return Decode(segments=tuple(parts), mask_SL=mask[:, None, None], places_B=batch.places_B)


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptTokens:
    """What is left to compute of new rows' prompts."""

    tokens_T: torch.Tensor
    positions_T: torch.Tensor
    writes_T: torch.Tensor
    ends_B: torch.Tensor
    """Index in the step of each prompt's last token."""
    prefill: Prefill
    shared: tuple[Shared, ...]


def plan_prefill(new: Sequence[Row], decodes: int, groups: int, cache: SlotCache) -> PromptTokens:
    """The new rows' tokens stand behind `decodes` others, rows with a common prefix together.

    `groups` heads share a key/value head.
    """
    counts = [len(row.request.prompt_ids) - row.cached for row in new]
    arrangement = _arrange(new, [row.cached for row in new], counts, cache)
    skips, most = arrangement.skips, max(counts)
    longest = cache.round_up(max(len(row.request.prompt_ids) - skip for row, skip in zip(new, skips, strict=True)))
    tokens, positions, writes, flat = [], [], [], []
    ends, padded = [0] * len(new), [[]] * len(new)
    for place in arrangement.order:
        row, count, first = new[place], counts[place], decodes + len(tokens)
        prompt, start = row.request.prompt_ids, row.slot * cache.capacity
        tokens += prompt[row.cached :]
        positions += range(row.cached, len(prompt))
        writes += range(start + row.cached, start + len(prompt))
        ends[place] = first + count - 1
        padded[place] = [*range(first, first + count), *[first + count - 1] * (most - count)]
        flat += range(place * most, place * most + count)
    as_tensor = partial(torch.tensor, dtype=torch.long, device=cache.device)
    positions_T, tokens_BT, slots_B = as_tensor(positions), as_tensor(padded), as_tensor([row.slot for row in new])
    places_BL = as_tensor(skips).unsqueeze(1) + torch.arange(longest, device=cache.device)
    sights_BQ = positions_T[tokens_BT - decodes].repeat_interleave(groups, dim=1)
    unseen_BQL = places_BL.unsqueeze(1) > sights_BQ.unsqueeze(2)
    mask_BQL = torch.zeros(unseen_BQL.shape, dtype=cache.dtype, device=cache.device)
    prefill = Prefill(
        reads_BL=slots_B.unsqueeze(1) * cache.capacity + places_BL.clamp(max=cache.capacity - 1),
        tokens_BT=tokens_BT,
        mask_BQL=mask_BQL.masked_fill_(unseen_BQL, -torch.inf).unsqueeze(1),
        flat=as_tensor(flat),
    )
    return PromptTokens(
        tokens_T=as_tensor(tokens),
        positions_T=positions_T,
        writes_T=as_tensor(writes),
        ends_B=as_tensor(ends),
        prefill=prefill,
        shared=tuple(
            replace(part, first=part.first + decodes, last=part.last + decodes) for part in arrangement.shared
        ),
    )
