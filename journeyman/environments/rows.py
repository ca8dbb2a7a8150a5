"""Environments whose problems are rows of a data set."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from journeyman.problem import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Apart:
    """A row that can't be used: counted and kept apart, never dropped in silence."""

    row: int
    """Position in the data set, from 0."""
    reason: str
    """One of few fixed phrases."""
    detail: str = ""
    """What in the row it is about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What became of the rows."""

    problems: tuple[Problem, ...]
    """In the order of the rows."""
    apart: tuple[Apart, ...]

    def counts(self) -> dict[str, int]:
        """Rows read, problems made of them, and rows kept apart, in all and by reason."""
        reasons = Counter(row.reason for row in self.apart)
        totals = {
            "rows": len(self.problems) + len(self.apart),
            "problems": len(self.problems),
            "apart": len(self.apart),
        }
        return totals | {f"apart: {reason}": count for reason, count in sorted(reasons.items())}


class BadRow(ValueError):
    """Why a row can't be used: a fixed phrase, and what in the row it is about."""

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason, self.detail = reason, detail
        super().__init__(reason, detail)


def read_each(rows: Iterable[Mapping[str, Any]], make: Callable[[Mapping[str, Any]], Problem]) -> Reading:
    """A problem of each row; those for which `make` raises `BadRow` are kept apart."""
    problems, apart = list[Problem](), list[Apart]()
    for number, row in enumerate(rows):
        try:
            problems.append(make(row))
        except BadRow as bad:
            apart.append(Apart(row=number, reason=bad.reason, detail=bad.detail))
    return Reading(problems=tuple(problems), apart=tuple(apart))


@runtime_checkable
class RowReader(Protocol):
    """An environment that reads rows."""

    columns: Sequence[str]
    """Columns that every row must have."""

    def read(self, rows: Iterable[Mapping[str, Any]]) -> Reading:
        """A problem of each row that can be used."""
        ...
