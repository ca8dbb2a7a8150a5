"""Packing: rows of different length share sequences, so that no padding is computed; no row sees another.

Dimensions: B row, T place in its row; P packed sequence, L place in it. Only the network knows of it: what goes in and
comes out is B x T. A packed sequence is as long as the longest row, so that attention, which is quadratic in it, never
costs more than with padding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Packed:
    """Where the tokens of padded rows stand in packed sequences."""

    positions_PL: "Tensor"
    """int64: each row counts from 0, and what is left over behind the last row counts from 0 again.

    Where a sequence's positions don't rise by one, `transformers` lets attention begin anew.
    """
    source_PL: "Tensor"
    """int64: place in the flattened rows that a packed token is taken from."""
    target_BT: "Tensor"
    """int64: place in the flattened sequences of a row's token; 0 for padding."""

    def pack(self, ids_BT: "Tensor") -> "Tensor":
        """P x L ids."""
        return ids_BT.flatten()[self.source_PL]

    def unpack(self, values_PLX: "Tensor") -> "Tensor":
        """B x T values; at the padding stands what no row should look at."""
        flat = values_PLX.flatten(0, 1).index_select(0, self.target_BT.flatten())
        return flat.view(*self.target_BT.shape, *values_PLX.shape[2:])


def bins(lengths: Sequence[int]) -> list[list[int]]:
    """Rows by packed sequence, each as long as the longest row at most: first fit, long rows first."""
    most = max(lengths, default=0)
    made: list[list[int]] = []
    room: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        place = next((place for place, left in enumerate(room) if left >= lengths[row]), len(made))
        if place == len(made):
            made.append([])
            room.append(most)
        made[place].append(row)
        room[place] -= lengths[row]
    return made


def packed(lengths: Sequence[int], device: "torch.device") -> Packed | None:
    """The packing of rows that are padded to the longest of them; None where no two share a sequence."""
    import torch

    sequences, width = bins(lengths), max(lengths, default=0)
    if len(sequences) == len(lengths):
        return None
    positions_PL = torch.arange(width).repeat(len(sequences), 1)
    source_PL = torch.zeros(len(sequences), width, dtype=torch.int64)
    target_BT = torch.zeros(len(lengths), width, dtype=torch.int64)
    for number, rows in enumerate(sequences):
        start = 0
        for row in rows:
            stop = start + lengths[row]
            positions_PL[number, start:stop] = torch.arange(lengths[row])
            source_PL[number, start:stop] = row * width + torch.arange(lengths[row])
            target_BT[row, : lengths[row]] = number * width + torch.arange(start, stop)
            start = stop
        positions_PL[number, start:] = torch.arange(width - start)
    return Packed(positions_PL=positions_PL.to(device), source_PL=source_PL.to(device), target_BT=target_BT.to(device))
