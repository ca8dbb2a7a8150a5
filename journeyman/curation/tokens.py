"""The words of many texts as numbers: in normal form, hashed, batch by batch, for what compares runs of words."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from journeyman.curation.normal_form import words_sql

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

Hashes = npt.NDArray[np.uint64]
BATCH = 4096
"""Rows read at once."""
_PRIME = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """A batch of B texts with W words in all."""

    positions_B: npt.NDArray[np.int64]
    """Which rows they are of."""
    offsets: npt.NDArray[np.int64]
    """B + 1 entries: the words of text b are `hashes_W[offsets[b]:offsets[b + 1]]`."""
    hashes_W: Hashes

    @property
    def counts_B(self) -> npt.NDArray[np.int64]:
        return np.diff(self.offsets)

    def runs(self, length: int, *, shorter: bool = False) -> tuple[Hashes, npt.NDArray[np.int64]]:
        """(hashes of all runs of `length` words, text by text; B + 1 offsets of them).

        `shorter`: a text with fewer words is one run by itself; else it has none. A text without words has none.
        """
        counts = self.counts_B
        runs = np.maximum(counts - length + 1, 0)
        whole = max(0, len(self.hashes_W) - length + 1)
        rolled = _rolled([self.hashes_W[step : whole + step] for step in range(length)])
        if shorter and (few := (counts > 0) & (runs == 0)).any():
            runs += few
            starts, ends = self.offsets[:-1][few], self.offsets[1:][few]
            padded = [np.where(starts + step < ends, self._word(starts + step), np.uint64(0)) for step in range(length)]
            rolled = np.concatenate((rolled, np.zeros(len(self.hashes_W) - len(rolled), dtype=np.uint64)))
            rolled[starts] = _rolled(padded)
        offsets = np.concatenate(([0], np.cumsum(runs)))
        return rolled[np.arange(offsets[-1]) - np.repeat(offsets[:-1] - self.offsets[:-1], runs)], offsets

    def _word(self, places: npt.NDArray[np.int64]) -> Hashes:
        return self.hashes_W[np.minimum(places, len(self.hashes_W) - 1)]


def _rolled(words: Sequence[Hashes]) -> Hashes:
    """One hash out of several, place by place."""
    found = np.zeros(len(words[0]), dtype=np.uint64)
    for word in words:
        found ^= word
        found *= _PRIME
        found ^= found >> np.uint64(29)
    return found


def words_of(database: "duckdb.DuckDBPyConnection", table: str, text: str) -> Iterator[Words]:
    """The words of an SQL expression over a table with a column `position`, in normal form."""
    hashed = f"list_transform({words_sql(text)}, lambda word: hash(word))"
    # A connection with an open result takes no other query: the reader has one of its own.
    with database.cursor() as reading, ThreadPoolExecutor(1) as ahead:
        batches = iter(reading.sql(f"SELECT position, {hashed} AS words FROM {table}").to_arrow_reader(BATCH))
        # The next batch is read while the last one is worked on.
        waiting = ahead.submit(next, batches, None)
        while (batch := waiting.result()) is not None:
            waiting = ahead.submit(next, batches, None)
            yield _words(batch)


def _words(batch: "pa.RecordBatch") -> Words:
    lists = batch.column("words")
    offsets = lists.offsets.to_numpy().astype(np.int64)
    hashes = lists.values.to_numpy(zero_copy_only=False)[offsets[0] : offsets[-1]]
    return Words(
        positions_B=batch.column("position").to_numpy().astype(np.int64),
        offsets=offsets - offsets[0],
        hashes_W=hashes.astype(np.uint64, copy=False),
    )


def insert(
    database: "duckdb.DuckDBPyConnection",
    table: str,
    columns: Mapping[str, npt.NDArray | tuple[npt.NDArray, npt.NDArray]],
    select: str = "*",
) -> None:
    """Append arrays to a table; a pair of arrays is a column of lists: their values, and where each begins (B + 1)."""
    import pyarrow as pa

    made = {
        name: pa.LargeListArray.from_arrays(values[1], values[0]) if isinstance(values, tuple) else pa.array(values)
        for name, values in columns.items()
    }
    database.register("fresh", pa.table(made))
    database.execute(f"INSERT INTO {table} SELECT {select} FROM fresh")
    database.unregister("fresh")
