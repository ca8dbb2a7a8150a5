"""What is known of each kept trajectory without reading it: columns of N entries, the oldest first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from journeyman.errors import DataError

COLUMNS: Mapping[str, type[np.generic]] = {
    "segment": np.int32,
    "row": np.int32,
    "problem": np.int64,
    "policy_version": np.int32,
    "step": np.int32,
    "advantage": np.float64,
    "reward": np.float64,
    "perplexity": np.float64,
    "calls": np.int32,
    "uses": np.int32,
}
"""The file and its row that hold the trajectory, a number for its problem, the version of the oldest weights that
sampled a token of it, the step that added it, mean advantage on its learned tokens and reward at that time, perplexity
under the policy that sampled it, its tool calls, and how often it was replayed."""


@dataclass(frozen=True, slots=True)
class Index:
    """N trajectories by column. `uses` is counted in place."""

    columns: Mapping[str, NDArray[Any]]

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, float]] = ()) -> "Index":
        return cls({name: np.array([row[name] for row in rows], dtype=kind) for name, kind in COLUMNS.items()})

    @classmethod
    def read(cls, path: Path) -> "Index":
        """The inverse of `write`; all arrays are its own. Raises `DataError` where the columns are others."""
        import pyarrow.parquet as pq

        table = pq.read_table(path)
        found = {field.name: field.type.to_pandas_dtype() for field in table.schema}
        if found != COLUMNS:
            other = ", ".join(sorted(n for n in {*found, *COLUMNS} if found.get(n) != COLUMNS.get(n)))
            raise DataError(f"an index of another shape: {other}", place=str(path), remedy="start the stage anew")
        return cls({name: table[name].to_numpy().astype(kind) for name, kind in COLUMNS.items()})

    def write(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table(dict(self.columns)), path, compression="zstd")

    def __len__(self) -> int:
        return len(self["row"])

    def __getitem__(self, column: str) -> NDArray[Any]:
        return self.columns[column]

    def joined(self, newer: "Index") -> "Index":
        return Index({name: np.concatenate([self[name], newer[name]]) for name in COLUMNS})

    def where(self, chosen: NDArray[Any] | slice) -> "Index":
        """By marks, places or a slice."""
        return Index({name: values[chosen] for name, values in self.columns.items()})
