"""What an import format is: files of rows in, problems and trajectories out, nothing lost."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from journeyman.environments.rows import BadRow
from journeyman.problem import Problem
from journeyman.trajectory import Trajectory


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row as a file has it."""

    file: Path
    line: int
    """Where it begins, from 1; of a Parquet file the row's number."""
    value: Any
    """What JSON made of it; the raw text where `error` says why it is none."""
    error: str = ""

    @property
    def source(self) -> dict[str, Any]:
        """Where a problem or trajectory comes from, for its provenance."""
        return {"file": self.file.name, "line": self.line}


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What a row gave."""

    problems: tuple[Problem, ...] = ()
    trajectories: tuple[Trajectory, ...] = ()


Reader = Callable[[Row], Made]
"""A row to what it gives. Raises `BadRow`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A format by name."""

    name: str
    about: str
    """What it is, in a line."""
    open: Callable[[Path], tuple[Iterator[Row], Reader]]
    """The rows of a file or folder, and how to read them. Raises `DataError` where there are none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Apart:
    """A row that can't be used."""

    row: Row
    reason: str
    detail: str = ""

    def to_json(self) -> Mapping[str, Any]:
        place = {"file": str(self.row.file), "line": self.row.line}
        return {**place, "reason": self.reason, "detail": self.detail, "row": self.row.value}


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What became of all rows."""

    rows: int
    problems: tuple[Problem, ...] = field(default=())
    trajectories: tuple[Trajectory, ...] = field(default=())
    apart: tuple[Apart, ...] = field(default=())


def text_of(row: Mapping[str, Any], key: str) -> str:
    """A text that must be there. Raises `BadRow`."""
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        raise BadRow(f"no {key}")
    return value


def object_of(row: Row) -> dict[str, Any]:
    """The row, where it is an object. Raises `BadRow`."""
    if not isinstance(row.value, dict):
        raise BadRow("not an object")
    return row.value


__all__ = ["Apart", "BadRow", "Format", "Imported", "Made", "Reader", "Row", "object_of", "text_of"]
