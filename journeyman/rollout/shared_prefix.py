"""Prompts that begin alike: what they share is read once for all their rows.

The queries of all rows that share a prefix attend to one row's copy of it, and each row's own to the rest of its row;
log-sum-exps merge both exactly (Hydragen, arXiv 2402.05099). Prefixes nest: a system prompt of all rows, then the
problem of a group. Dimensions as in `kv_cache`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from journeyman.rollout.prefix_index import BLOCK


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """Positions that neighbouring tokens of a step see in one row."""

    slot: int
    start: int
    stop: int
    """Positions of the row."""
    first: int
    last: int
    """Tokens of the step, the last one + 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrangement:
    """Rows in an order in which those that share a prefix are neighbours."""

    order: tuple[int, ...]
    """Places of the rows as they were given."""
    skips: tuple[int, ...]
    """How many positions of each row, as they were given, `shared` covers."""
    shared: tuple[Shared, ...]


def arrange(
    slots: Sequence[int],
    prompts: Sequence[tuple[int, ...]],
    chains: Sequence[Sequence[int]],
    counts: Sequence[int],
    least: int,
) -> Arrangement:
    """Find the prefixes that save reading more than `least` positions; a longer one lies within a shorter one.

    For each row whose tokens a step computes: its slot; its prompt; `prefix_index.chain` of as much of that as the
    cache holds already, without the step's own tokens; and how many those are.
    """
    order, skips, shared, placed = [], [0] * len(slots), [], 0
    waiting = [(list(range(len(slots))), 0, 0)] if slots else []  # rows, blocks they skip, blocks they have in common
    while waiting:
        members, skip, depth = waiting.pop()
        branches: dict[int, list[int]] = {}
        if (len(members) - 1) * (max(len(chains[place]) for place in members) - skip) * BLOCK > least:
            depth = _common([chains[place] for place in members], depth)
            start, stop = skip * BLOCK, depth * BLOCK
            wanted = prompts[members[0]][start:stop]
            same = [place for place in members if prompts[place][start:stop] == wanted]  # not the hashes alone
            if len(same) == len(members) and (len(members) - 1) * (stop - start) > least:
                last = placed + sum(counts[place] for place in members)
                shared.append(Shared(slot=slots[members[0]], start=start, stop=stop, first=placed, last=last))
                skip = depth
            for place in same:
                if len(chains[place]) > depth:
                    branches.setdefault(chains[place][depth], []).append(place)
        groups = [group for group in branches.values() if len(group) > 1]
        waiting += [(group, skip, depth) for group in groups]
        for place in sorted({*members}.difference(*groups)):
            skips[place] = skip * BLOCK
            order.append(place)
            placed += counts[place]
    return Arrangement(order=tuple(order), skips=tuple(skips), shared=tuple(shared))


def _common(chains: Sequence[Sequence[int]], depth: int) -> int:
    """How many blocks are the same in all; the first `depth` are known to be."""
    stop, first = min(map(len, chains)), chains[0]
    while depth < stop:
        middle = (depth + stop + 1) // 2
        if all(chain[middle - 1] == first[middle - 1] for chain in chains):
            depth = middle
        else:
            stop = middle - 1
    return depth


def attend_with_sums(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None = None,
    scaling: float | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention on a CPU, B x K x Q x D, and the log-sum-exp of each query's scores, B x K x Q."""
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        queries, keys, values, attn_mask=mask, scale=scaling
    )


def add_shared(
    out_TKGD: torch.Tensor,
    sums_TKG: torch.Tensor,
    queries_TKGD: torch.Tensor,
    cached: tuple[torch.Tensor, torch.Tensor],
    shared: Sequence[Shared],
    scaling: float | None,
) -> torch.Tensor:
    """Attention to what `shared` leaves out, and its log-sum-exps, become attention to all; T x K x G x D.

    `cached` are keys and values of all rows, S x K x L x D.
    """
    groups = queries_TKGD.shape[2]
    queries, out = (states.transpose(0, 1).flatten(1, 2) for states in (queries_TKGD, out_TKGD))
    sums = sums_TKG.transpose(0, 1).flatten(1, 2)
    for part in shared:
        tokens = slice(part.first * groups, part.last * groups)
        keys, values = (states[None, part.slot, :, part.start : part.stop] for states in cached)
        seen, seen_sums = attend_with_sums(queries[None, :, tokens], keys, values, scaling=scaling)
        own = sums[:, tokens]
        out[:, tokens].lerp_(seen[0], torch.sigmoid(seen_sums[0] - own).unsqueeze(2))
        sums[:, tokens] = torch.logaddexp(own, seen_sums[0])
    return out.unflatten(1, (-1, groups)).transpose(0, 1)
