"""ToolRL's data set (rlla, #4)."""

from collections.abc import Iterator
from pathlib import Path

from journeyman.environments.rlla_rows import rlla_problem
from journeyman.formats.base import Made, Reader, Row, object_of
from journeyman.formats.files import rows_of


def open_rlla(path: Path) -> tuple[Iterator[Row], Reader]:
    return rows_of(path), read_rlla


def read_rlla(row: Row) -> Made:
    """A problem. Raises `BadRow`."""
    return Made(problems=(rlla_problem(object_of(row), source=row.source),))
