"""Which rows of the KV cache begin with which tokens."""

from dataclasses import dataclass

BLOCK = 16
"""Tokens a hash stands for."""


@dataclass(slots=True)
class _Row:
    ids: tuple[int, ...]
    chain: list[int]


def chain(ids: tuple[int, ...], known: list[int] | None = None) -> list[int]:
    """One hash for each whole block of `ids`, of all tokens up to its end; `known` is the chain of a prefix."""
    hashes = list(known or ())
    for start in range(len(hashes) * BLOCK, len(ids) - BLOCK + 1, BLOCK):
        hashes.append(hash((hashes[-1] if hashes else 0, ids[start : start + BLOCK])))
    return hashes


class PrefixIndex:
    """Finds the row with the longest common prefix by whole blocks, in a few dictionary look-ups."""

    def __init__(self) -> None:
        self._rows: dict[int, _Row] = {}
        self._owners: dict[int, int] = {}

    def put(self, row: int, ids: tuple[int, ...], hashes: list[int]) -> None:
        """The cache holds keys and values of `ids` in `row`, and of nothing else; `hashes` is their chain."""
        self.drop(row)
        self._rows[row] = _Row(ids, hashes)
        self._owners.update(dict.fromkeys(hashes, row))

    def drop(self, row: int) -> None:
        """Forget what is in `row`."""
        entry = self._rows.pop(row, None)
        for value in entry.chain if entry else ():
            if self._owners.get(value) == row:
                del self._owners[value]

    def swap(self, row: int, other: int) -> None:
        """The two rows have exchanged their contents."""
        first, second = self._rows.pop(row, None), self._rows.pop(other, None)
        moved = [(entry, old, new) for entry, old, new in ((first, row, other), (second, other, row)) if entry]
        owned = [[value for value in entry.chain if self._owners.get(value) == old] for entry, old, _ in moved]
        for (entry, _, new), hashes in zip(moved, owned, strict=True):
            self._rows[new] = entry
            self._owners.update(dict.fromkeys(hashes, new))

    def clear(self) -> None:
        self._rows.clear()
        self._owners.clear()

    def length(self, row: int) -> int:
        """Tokens known to be in `row`."""
        return len(self._rows[row].ids) if row in self._rows else 0

    def match(self, ids: tuple[int, ...], hashes: list[int]) -> tuple[int, int]:
        """Row with the longest prefix of `ids`, and how many tokens that is; (-1, 0) without one.

        The tokens are compared, so two prefixes of one hash are never taken for each other. What a row shares beyond
        its last common block is found too.
        """
        for count in range(len(hashes), 0, -1):
            row = self._owners.get(hashes[count - 1])
            if row is None:
                continue
            there, length = self._rows[row].ids, count * BLOCK
            if there[:length] != ids[:length]:
                continue
            limit = min(len(there), len(ids))
            while length < limit and there[length] == ids[length]:
                length += 1
            return row, length
        return -1, 0
