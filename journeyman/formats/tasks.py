"""Data sets whose worlds read them: GSM8K, and tau2's tasks with the domain's database and policy beside them."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from journeyman.environments.gsm8k import Gsm8k
from journeyman.errors import DataError, UserError
from journeyman.formats.base import BadRow, Made, Reader, Row, object_of
from journeyman.formats.files import rows_of

if TYPE_CHECKING:
    from journeyman.environments.tau2.desk import Desk

TASKS = "tasks.json"


def open_gsm8k(path: Path) -> tuple[Iterator[Row], Reader]:
    world = Gsm8k()

    def read(row: Row) -> Made:
        reading = world.read([{"question": None, "answer": None, **object_of(row)}])
        if reading.apart:
            raise BadRow(reading.apart[0].reason, reading.apart[0].detail)
        return Made(problems=reading.problems)

    return rows_of(path), read


def open_tau2(path: Path) -> tuple[Iterator[Row], Reader]:
    """The tasks of a domain's folder, of several domains in a folder, or of a task file with its domain around it."""
    files = [path] if path.is_file() else sorted(path.rglob(TASKS)) if path.is_dir() else []
    if not files:
        raise DataError(f"no {TASKS}", place=str(path), remedy="give the folder of a domain")
    desk = cache(_desk)  # a domain's database is read once
    return (row for file in files for row in rows_of(file)), lambda row: _read_tau2(row, desk)


def _desk(folder: Path) -> "Desk":
    from journeyman.environments.tau2.desk import Desk

    return Desk(folder)


def _read_tau2(row: Row, desk: Callable[[Path], "Desk"]) -> Made:
    """A problem of the family `desk`. Raises `BadRow`."""
    from pydantic import ValidationError

    from journeyman.environments.tau2.task import Task

    value, folder = object_of(row), row.file.parent.resolve()
    try:
        problem = desk(folder).problem_of(Task.model_validate(value))
    except ValidationError as error:
        first = error.errors()[0]
        raise BadRow("not a task", f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except UserError as error:
        raise BadRow("no world for the domain", error.message) from None
    return Made(problems=(replace(problem, world={"folder": str(folder)}),))
