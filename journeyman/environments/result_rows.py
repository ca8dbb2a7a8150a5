"""Whether two results of queries are the same, and results as they stand in an answer."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

NUMBER_TOLERANCE = 0.005
"""Between numbers that are not whole: #167. Never more than a hundredth of the number (ours)."""
MAX_MATCHED = 200
"""Rows up to which each is looked for among all others (ours); longer results are compared in their sorted order."""
_SEPARATORS = re.compile(r"\s*[,;]\s*")

Row = Sequence[Any]


def text_of(rows: Sequence[Row]) -> str:
    """Rows as the tool `sql` shows them."""
    return "\n".join(" | ".join("null" if v is None else str(v) for v in row) for row in rows) or "no rows"


def same_rows(reference: Sequence[Row], given: Sequence[Row], *, ordered: bool) -> bool:
    """The same rows as often as in the reference; in the same order where that was asked for."""
    if len(reference) != len(given):
        return False
    if ordered:
        return all(same_row(one, other) for one, other in zip(reference, given, strict=True))
    if Counter(map(_key, reference)) == Counter(map(_key, given)):
        return True
    paired = zip(sorted(reference, key=_key), sorted(given, key=_key), strict=True)
    return all(same_row(one, other) for one, other in paired) or (
        len(reference) <= MAX_MATCHED and rows_found(reference, given) == len(reference)
    )


def rows_found(reference: Sequence[Row], given: Sequence[Row]) -> int:
    """How many rows of the reference are among the given, each given one taken once."""
    left, found = list(given), 0
    for row in reference:
        place = next((i for i, other in enumerate(left) if same_row(row, other)), None)
        if place is not None:
            del left[place]
            found += 1
    return found


def same_row(reference: Row, given: Row) -> bool:
    return len(reference) == len(given) and all(map(same_cell, reference, given))


def same_cell(reference: Any, given: Any) -> bool:
    """Equal as numbers within the tolerance, else as text but for case and surrounding space."""
    if reference is None or given is None:
        return _plain(reference) == _plain(given)
    one, other = _number(reference), _number(given)
    if one is None or other is None:
        return _plain(reference) == _plain(given)
    margin = 0.0 if one.is_integer() else min(NUMBER_TOLERANCE, 0.01 * abs(one))
    return abs(one - other) <= max(margin, 1e-6)


def read_rows(answer: str, reference: Sequence[Row]) -> list[tuple[str, ...]]:
    """An answer's text as rows, of as many cells as the reference's have: a line each, cells between bars.

    One line may hold what the reference has in one column or in one row, between commas.
    """
    lines = [line.strip() for line in answer.strip().splitlines() if line.strip()]
    width = len(reference[0]) if reference else 1
    if len(lines) == 1 and len(reference) > 1 and width == 1:
        return [(part,) for part in _SEPARATORS.split(lines[0])]
    if width == 1:
        return [(line,) for line in lines]
    rows = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines]
    if len(rows) == 1 and len(rows[0]) == 1:
        return [tuple(_SEPARATORS.split(lines[0]))]
    return rows


def _key(row: Row) -> tuple[str, ...]:
    return tuple(_plain(value) for value in row)


def _plain(value: Any) -> str:
    if value is None:
        return "null"
    number = _number(value)
    return f"{number:.15g}" if number is not None else str(value).strip().casefold()


def _number(value: Any) -> float | None:
    """A finite number; text of one, with thousands' commas, counts. Truth values don't."""
    if isinstance(value, bool):
        return None
    try:
        number = float(value.replace(",", "") if isinstance(value, str) else value)
    except (ValueError, OverflowError):
        return None
    return number if abs(number) < float("inf") else None
