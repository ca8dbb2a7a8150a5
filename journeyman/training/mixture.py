"""Which rows a supervised step learns from: epochs in seeded order, by phase and by share of the rows' kinds."""

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate

from journeyman.config import PhaseConfig
from journeyman.errors import DataError
from journeyman.seeds import derive
from journeyman.training.handle import Row

BUCKET = 16
"""Batches that are sorted by length together: little padding, batches still mixed."""


class Batches:
    """The batch of every step; a function of what it was made from and of the step alone.

    Early experience (#3, derived) is two phases for world modelling, first `world_model` and then `trajectory`, and one
    mixture of `reflection` and `trajectory` for self-reflection. The shares there are not known: all are the user's.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        kinds: Sequence[str],
        phases: Sequence[PhaseConfig],
        *,
        steps: int,
        size: int,
        seed: int,
    ) -> None:
        """`kinds`: one a row. Raises `DataError` where a mixture names a kind that no row has."""
        self._rows, self._size, self._seed = rows, size, seed
        whole = sum(phase.share for phase in phases)
        self._ends = [round(steps * share / whole) for share in accumulate(phase.share for phase in phases)]
        self._sources = [_sources(rows, kinds, spread(phase.mixture, Counter(kinds), size), size) for phase in phases]

    def __getitem__(self, step: int) -> list[Row]:
        phase = next((i for i, end in enumerate(self._ends) if step < end), len(self._ends) - 1)
        begun = self._ends[phase - 1] if phase else 0
        sources = self._sources[phase]
        if not sources:
            return batch_at(self._rows, step - begun, self._size, self._seed)
        seeds = {kind: derive(self._seed, phase, kind) for kind in sources}
        return [
            row
            for kind, (rows, count) in sources.items()
            for row in _drawn(rows, (step - begun) * count, count, seeds[kind])
        ]

    @property
    def phases(self) -> list[int]:
        """Steps of each phase."""
        return [end - begun for begun, end in zip([0, *self._ends], self._ends, strict=False)]


def spread(mixture: Mapping[str, float], counts: Mapping[str, int], size: int) -> dict[str, float]:
    """A mixture in which a kind that stands for several has its share parted among them, by `sqrt_weights`.

    So that rare types of signals are learned, too (#199, derived). Where its part of a batch of `size` has no room for
    one row of each, the rows of such a kind come as they are.
    """
    parted, whole = dict[str, float](), sum(mixture.values())
    for name, share in mixture.items():
        own = {kind: count for kind, count in counts.items() if kind.startswith(f"{name}/") and kind not in mixture}
        if name in counts or not own or size * share < len(own) * whole:
            parted[name] = share
        else:
            parted |= {kind: share * weight for kind, weight in sqrt_weights(own).items()}
    return parted


def sqrt_weights(counts: Mapping[str, int]) -> dict[str, float]:
    """Shares of a mixture by kind, proportional to the square root of how many there are; they add up to 1 (ours)."""
    total = sum(map(math.sqrt, counts.values()))
    return {kind: math.sqrt(count) / total if total else 0.0 for kind, count in counts.items()}


def _sources(
    rows: Sequence[Row], kinds: Sequence[str], mixture: Mapping[str, float], size: int
) -> dict[str, tuple[list[Row], int]]:
    """Kind to its rows, and how many of a batch it has; empty without a mixture."""
    of_kind: dict[str, list[Row]] = {kind: [] for kind in mixture}
    for row, kind in zip(rows, kinds, strict=True):
        named = [name for name in mixture if kind == name or kind.startswith(f"{name}/")]
        if named:
            of_kind[max(named, key=len)].append(row)
    missing = [kind for kind, own in of_kind.items() if not own]
    if missing:
        there = ", ".join(sorted(set(kinds)))
        raise DataError(
            f"the mixture asks for {', '.join(missing)}, of which there is no row",
            place="sft.mixture",
            remedy=f"there is {there}; name these, or have the synthesize stage make the others",
        )
    counts = rounded(mixture, size) if mixture else {}
    return {kind: (own, counts[kind]) for kind, own in of_kind.items()}


def rounded(shares: Mapping[str, float], size: int) -> dict[str, int]:
    """Whole rows of a batch by share: one for each, the others by largest remainder, the first before the later."""
    whole, free = sum(shares.values()), size - len(shares)
    wanted = {kind: max(0.0, size * share / whole - 1) for kind, share in shares.items()}
    scale = free / sum(wanted.values()) if free else 0.0
    counts = {kind: 1 + math.floor(extra * scale + 1e-9) for kind, extra in wanted.items()}
    by_remainder = sorted(shares, key=lambda kind: counts[kind] - 1 - wanted[kind] * scale)
    for kind in by_remainder[: size - sum(counts.values())]:
        counts[kind] += 1
    return counts


def _drawn(rows: Sequence[Row], start: int, count: int, seed: int) -> list[Row]:
    """So many rows from a place on, in epochs of seeded order."""
    orders: dict[int, list[int]] = {}
    drawn = []
    for place in range(start, start + count):
        epoch, at = divmod(place, len(rows))
        if epoch not in orders:
            orders[epoch] = random.Random(derive(seed, epoch)).sample(range(len(rows)), len(rows))
        drawn.append(rows[orders[epoch][at]])
    return drawn


def batch_at(rows: Sequence[Row], step: int, size: int, seed: int) -> list[Row]:
    """The batch of a step: epochs in a seeded order, rows of like length together. A function of its arguments alone."""
    per_epoch = -(-len(rows) // size)
    epoch, place = divmod(step, per_epoch)
    rng = random.Random(derive(seed, epoch))
    order = rng.sample(range(len(rows)), len(rows))
    chunk = size * BUCKET
    buckets = [sorted(order[i : i + chunk], key=lambda j: len(rows[j].token_ids)) for i in range(0, len(order), chunk)]
    batches = [bucket[i : i + size] for bucket in buckets for i in range(0, len(bucket), size)]
    rng.shuffle(batches)
    return [rows[i] for i in batches[place]]
